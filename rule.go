package connmgr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// This file says what a rule of the gate is. rules.go keeps many of them, gater.go
// asks them.

// Effect is what a rule does with what it is about.
type Effect uint8

const (
	// Deny refuses connections, and closes those that there are.
	Deny Effect = iota
	// Allow exempts from limits. An allowed prefix also opens a hole in a wider
	// prefix that is denied.
	Allow
)

// String returns "deny" or "allow".
func (e Effect) String() string {
	switch e {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	default:
		return fmt.Sprintf("Effect(%d)", e)
	}
}

// Target is what a rule is about: a peer, an address prefix, or a port. Targets
// can be compared with ==. Make one with [PeerTarget], [PrefixTarget],
// [AddrTarget] or [PortTarget]; the zero value is about nothing, and no rule can
// have it.
type Target struct {
	kind   targetKind
	port   uint16
	peer   NodeID
	prefix netip.Prefix
}

type targetKind uint8

const (
	targetNone targetKind = iota
	targetPeer
	targetPrefix
	targetPort
)

// PeerTarget is a peer, wherever it connects from.
func PeerTarget(peer NodeID) Target { return Target{kind: targetPeer, peer: peer} }

// PrefixTarget is all addresses in a prefix. Bits behind the prefix are dropped,
// and IPv4 in the clothes of IPv6 is IPv4; see [CanonicalAddr]. An invalid prefix
// gives the zero Target.
func PrefixTarget(prefix netip.Prefix) Target {
	if p, ok := canonicalPrefix(prefix); ok {
		return Target{kind: targetPrefix, prefix: p}
	}
	return Target{}
}

// AddrTarget is one address: the prefix of full length. An invalid address gives
// the zero Target.
func AddrTarget(addr netip.Addr) Target {
	addr = CanonicalAddr(addr)
	if !addr.IsValid() {
		return Target{}
	}
	return Target{kind: targetPrefix, prefix: netip.PrefixFrom(addr, addr.BitLen())}
}

// PortTarget is a port of the other side. It is judged only when we dial: the port
// that somebody dials us from is arbitrary. So an allow rule for a port exempts from
// nothing, since limits are for those who dial us.
func PortTarget(port uint16) Target { return Target{kind: targetPort, port: port} }

// Peer returns the peer, if that is what the target is.
func (t Target) Peer() (NodeID, bool) { return t.peer, t.kind == targetPeer }

// Prefix returns the address prefix, if that is what the target is.
func (t Target) Prefix() (netip.Prefix, bool) { return t.prefix, t.kind == targetPrefix }

// Port returns the port, if that is what the target is.
func (t Target) Port() (uint16, bool) { return t.port, t.kind == targetPort }

// String returns "peer" or "port" with what it is, or the prefix (an address
// without a length).
func (t Target) String() string {
	switch t.kind {
	case targetPeer:
		return "peer " + t.peer.String()
	case targetPrefix:
		if t.prefix.IsSingleIP() {
			return t.prefix.Addr().String()
		}
		return t.prefix.String()
	case targetPort:
		return "port " + strconv.Itoa(int(t.port))
	case targetNone:
		return "nothing"
	default:
		return "nothing"
	}
}

// Rule denies or allows. Two rules are the same one if effect, target and origin
// are; adding a rule again changes its expiry and its reason.
type Rule struct {
	Effect Effect
	Target Target
	// Expires is when the rule ends; zero means never. It is kept to the nanosecond
	// and must be between the years 1970 and 2262.
	Expires time.Time
	// Reason is for people. It is one line.
	Reason string
	// Origin says where the rule comes from, such as the name of a block list, so
	// that all rules from there can be replaced together. It is one line, and may be
	// empty.
	Origin string
}

// Same reports whether two rules are the same one: of the same effect, target and
// origin.
func (r Rule) Same(other Rule) bool {
	return r.Effect == other.Effect && r.Target == other.Target && r.Origin == other.Origin
}

// Expired reports whether the rule has ended at a time. At the moment of its
// expiry it has.
func (r Rule) Expired(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// String returns the rule in one line, such as "deny 10.0.0.0/8 until
// 2026-12-24T18:00:00Z (port scans, from watchdog)".
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", r.Effect, r.Target)
	if !r.Expires.IsZero() {
		fmt.Fprintf(&b, " until %s", r.Expires.UTC().Format(time.RFC3339))
	}
	reason, origin := safeText(r.Reason), safeText(r.Origin)
	switch {
	case reason != "" && origin != "":
		fmt.Fprintf(&b, " (%s, from %s)", reason, origin)
	case reason != "":
		fmt.Fprintf(&b, " (%s)", reason)
	case origin != "":
		fmt.Fprintf(&b, " (from %s)", origin)
	}
	return b.String()
}

// safeText returns a text as it is, or quoted if it has what a terminal would obey:
// reasons and origins come from lists that others write.
func safeText(text string) string {
	if printable(text) {
		return text
	}
	return strconv.Quote(text)
}

// These bound what is in a rule, in bytes: rules come from lists that others write.
const (
	maxRuleText = 1024 // of a reason or an origin
	maxRulePeer = 4096 // of a peer ID
)

// Validate returns an error that says what is wrong with a rule, or nil.
func (r Rule) Validate() error {
	if r.Effect > Allow {
		return fmt.Errorf("connmgr: rule about %v: effect is %d, must be Deny (%d) or Allow (%d)", r.Target, r.Effect, Deny, Allow)
	}
	if r.Target.kind == targetNone {
		return fmt.Errorf("connmgr: rule to %v has no valid peer, prefix or port", r.Effect)
	}
	if n := len(r.Target.peer); n > maxRulePeer {
		return fmt.Errorf("connmgr: rule about a peer whose ID has %d bytes, must have at most %d", n, maxRulePeer)
	}
	if !r.Expires.IsZero() {
		if year := r.Expires.UTC().Year(); year < 1970 || year > 2261 {
			return fmt.Errorf("connmgr: rule about %v: expires in the year %d, must be between 1970 and 2261", r.Target, year)
		}
	}
	for _, text := range []struct{ field, value string }{{"reason", r.Reason}, {"origin", r.Origin}} {
		if len(text.value) > maxRuleText {
			return fmt.Errorf("connmgr: rule about %v: %s has %d bytes, must have at most %d", r.Target, text.field, len(text.value), maxRuleText)
		}
		if strings.ContainsAny(text.value, "\r\n") {
			return fmt.Errorf("connmgr: rule about %v: %s %q has a line break, must be one line", r.Target, text.field, text.value)
		}
	}
	return nil
}

// nat64 is the well-known prefix of IPv4 addresses seen through a translator.
// Source: RFC 6052.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// CanonicalAddr returns an address in the form in which rules and limits know it:
// IPv4-mapped IPv6 is IPv4, and the zone is dropped.
func CanonicalAddr(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}

// embedded4 returns the IPv4 address inside a NAT64 address. It is judged as well.
func embedded4(addr netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// canonicalPrefix does for a prefix what CanonicalAddr does for an address.
func canonicalPrefix(p netip.Prefix) (netip.Prefix, bool) {
	if !p.IsValid() {
		return netip.Prefix{}, false
	}
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4In6() {
		if bits < 96 { // wider than all of IPv4: a prefix of IPv6 like any other
			return p.Masked(), true
		}
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits).Masked(), true
}
