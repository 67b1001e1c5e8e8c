package client

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// This file reads the address of an API, as somebody types it.

// DefaultAddress is where "connmgr run" has its API unless it is told otherwise.
const DefaultAddress = "127.0.0.1:7654"

const wantAddress = "want host:port, http://host:port, or unix:PATH"

// endpoint is where an API is.
type endpoint struct {
	name   string // as people call it
	base   string // the URL that paths are put behind; it ends in a slash
	socket string // the path of a unix socket, or ""
	clear  bool   // what is sent goes over a network and is not encrypted
}

func parseAddress(text string) (endpoint, error) {
	if text == "" {
		text = DefaultAddress
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if strings.HasPrefix(path, "///") {
			path = path[2:]
		}
		if path == "" || strings.ContainsRune(path, 0) {
			return endpoint{}, fmt.Errorf("connmgr: API address %q names no socket; %s", text, wantAddress)
		}
		return endpoint{name: clean(text), base: "http://localhost/", socket: path}, nil
	}
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
	}
	u, err := url.Parse(full)
	switch {
	case err != nil:
		return endpoint{}, fmt.Errorf("connmgr: API address %q cannot be read; %s", text, wantAddress)
	case u.Scheme != "http" && u.Scheme != "https":
		return endpoint{}, fmt.Errorf("connmgr: API address %q is of scheme %q; %s", text, u.Scheme, wantAddress)
	case u.User != nil: // it would stand in the list of processes
		return endpoint{}, fmt.Errorf("connmgr: API address of %q has a user name in it; a token comes from --token-file or CONNMGR_API_TOKEN", u.Host)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return endpoint{}, fmt.Errorf("connmgr: API address %q has a query or a fragment; %s", text, wantAddress)
	case u.Host == "":
		return endpoint{}, fmt.Errorf("connmgr: API address %q has no host; %s", text, wantAddress)
	case u.Port() == "" && full != text:
		return endpoint{}, fmt.Errorf("connmgr: API address %q has no port; %s", text, wantAddress)
	}
	if port := u.Port(); port != "" {
		if _, err := net.LookupPort("tcp", port); err != nil {
			return endpoint{}, fmt.Errorf("connmgr: API address %q: %q is no port; %s", text, port, wantAddress)
		}
	}
	u.Host = reachable(u)
	e := endpoint{name: clean(u.Host + strings.TrimRight(u.Path, "/")), clear: u.Scheme == "http" && !isLoopback(u.Hostname())}
	if u.Scheme == "https" {
		e.name = "https://" + e.name
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+"/", ""
	e.base = u.String()
	return e, nil
}

// reachable is the host of a URL, with an address of this machine where the address
// that one listens at stands, which names nobody.
func reachable(u *url.URL) string {
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && addr.IsUnspecified() && addr.Unmap().Is4():
		host = "127.0.0.1"
	case err == nil && addr.IsUnspecified():
		host = "::1"
	default:
		return u.Host
	}
	if u.Port() == "" {
		return host
	}
	return net.JoinHostPort(host, u.Port())
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
