package guard

import (
	"net/netip"
	"strconv"
	"strings"
)

// This file decides whether a request is meant for us, by the header Host. A page of a
// stranger can make its own name resolve to a loopback address, after it was loaded (DNS
// rebinding); then a browser takes us for that page's server, and lets it read the
// answers. Its requests still carry its name.

// host is what a Host header names: an address or, if that is not valid, a name in lower
// case without the dot at the end.
type host struct {
	addr netip.Addr
	name string
}

// parseHost reads a Host header: a name or an address, and perhaps a port, which does not
// matter. It takes what browsers and HTTP clients send, and nothing that another parser
// might understand in another way: no user, no zone, no escapes, no second port.
func parseHost(s string) (host, bool) {
	if s == "" || len(s) > 260 {
		return host{}, false
	}
	if inside, ok := strings.CutPrefix(s, "["); ok {
		literal, port, ok := strings.Cut(inside, "]")
		if !ok || port != "" && !isPort(port) {
			return host{}, false
		}
		addr, err := netip.ParseAddr(literal)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return host{}, false
		}
		return host{addr: addr.Unmap()}, true
	}
	name := s
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !isPort(s[i:]) {
			return host{}, false
		}
		name = s[:i]
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isName(name) {
		return host{}, false
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return host{addr: addr}, true
	}
	return host{name: name}, true
}

// isPort reports whether s is a colon and a port.
func isPort(s string) bool {
	if len(s) < 2 || s[0] != ':' || s[1] < '0' || s[1] > '9' { // ParseUint takes no sign, but see for yourself
		return false
	}
	_, err := strconv.ParseUint(s[1:], 10, 16)
	return err == nil
}

// isName reports whether s could be a name of the DNS, or an IPv4 address.
func isName(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// parseHosts reads the names of Config.Hosts, and returns those that are none too. An
// IPv6 address may come without brackets.
func parseHosts(names []string) (known map[host]bool, bad []string) {
	known = map[host]bool{{name: "localhost"}: true}
	for _, s := range names {
		h, ok := parseHost(s)
		if addr, err := netip.ParseAddr(s); !ok && err == nil && addr.Zone() == "" {
			h, ok = host{addr: addr.Unmap()}, true
		}
		if !ok {
			bad = append(bad, s)
			continue
		}
		known[h] = true
	}
	return known, bad
}

// isFor reports whether a request with this Host header that came in at a local address
// is for us. The address is not valid for a unix socket.
//
// localhost and loopback addresses are ours wherever a request came in: a tunnel may end
// at another address, and no name server answers for them. Names below localhost are not,
// for other programs on the same machine may go by them.
func (g *Guard) isFor(header string, local netip.Addr) bool {
	h, ok := parseHost(header)
	if !ok {
		return false
	}
	if h.addr.IsValid() && (h.addr.IsLoopback() || h.addr == local.Unmap().WithZone("")) {
		return true
	}
	return g.hosts[h]
}
