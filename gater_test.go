package connmgr_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests ask the gate's checkpoints, each alone, and read the answers.

// checkpoint is one way to ask the gate, and what it tells the gate.
type checkpoint struct {
	name                       string
	at                         connmgr.Checkpoint
	knowsPeer, knowsAddr, dial bool
	ask                        func(*connmgr.Gater, connmgr.NodeID, netip.AddrPort) error
}

var everyCheckpoint = []checkpoint{
	{"peer dial", connmgr.AtPeerDial, true, false, true, func(g *connmgr.Gater, p connmgr.NodeID, _ netip.AddrPort) error {
		return g.InterceptPeerDial(p)
	}},
	{"address dial", connmgr.AtAddrDial, true, true, true, (*connmgr.Gater).InterceptAddrDial},
	{"accept", connmgr.AtAccept, false, true, false, func(g *connmgr.Gater, _ connmgr.NodeID, a netip.AddrPort) error {
		return g.InterceptAccept(a)
	}},
	{"secured, inbound", connmgr.AtSecured, true, true, false, secured(connmgr.DirInbound)},
	{"secured, unknown", connmgr.AtSecured, true, true, false, secured(connmgr.DirUnknown)},
	{"secured, outbound", connmgr.AtSecured, true, true, true, secured(connmgr.DirOutbound)},
	{"upgraded, inbound", connmgr.AtUpgraded, true, true, false, upgraded(connmgr.DirInbound)},
	{"upgraded, unknown", connmgr.AtUpgraded, true, true, false, upgraded(connmgr.DirUnknown)},
	{"upgraded, outbound", connmgr.AtUpgraded, true, true, true, upgraded(connmgr.DirOutbound)},
}

func secured(dir connmgr.Direction) func(*connmgr.Gater, connmgr.NodeID, netip.AddrPort) error {
	return func(g *connmgr.Gater, p connmgr.NodeID, a netip.AddrPort) error { return g.InterceptSecured(dir, p, a) }
}

// upgraded asks for a connection that the host gives up afterwards.
func upgraded(dir connmgr.Direction) func(*connmgr.Gater, connmgr.NodeID, netip.AddrPort) error {
	return func(g *connmgr.Gater, p connmgr.NodeID, a netip.AddrPort) error {
		c := connmgrtest.NewConn(p, connmgrtest.Direction(dir))
		defer g.Release(p, c)
		return g.InterceptUpgraded(dir, p, a, c)
	}
}

// gateWith makes a manager without background work, with rules in force.
func gateWith(t testing.TB, rules ...connmgr.Rule) *connmgr.Gater {
	t.Helper()
	cfg := spacious()
	cfg.Gate.Rules = rules
	return newManager(t, cfg).Gater()
}

func addrPort(s string) netip.AddrPort {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 4001)
	}
	return netip.MustParseAddrPort(s)
}

func prefix(s string) connmgr.Target { return connmgr.PrefixTarget(netip.MustParsePrefix(s)) }
func addr(s string) connmgr.Target   { return connmgr.AddrTarget(netip.MustParseAddr(s)) }

func deny(t connmgr.Target) connmgr.Rule  { return connmgr.Rule{Effect: connmgr.Deny, Target: t} }
func allow(t connmgr.Target) connmgr.Rule { return connmgr.Rule{Effect: connmgr.Allow, Target: t} }

func TestEachCheckpointJudgesWhatItKnows(t *testing.T) {
	const peer = connmgr.NodeID("alice")
	from := addrPort("192.0.2.77:4001")
	ends := time.Now().Add(time.Hour)
	for _, rule := range []struct {
		target  connmgr.Target
		applies func(checkpoint) bool
		outcome connmgr.Outcome
	}{
		{connmgr.PeerTarget(peer), func(c checkpoint) bool { return c.knowsPeer }, connmgr.DeniedPeer},
		{connmgr.PeerTarget("bob"), func(checkpoint) bool { return false }, 0},
		{connmgr.PeerTarget(""), func(checkpoint) bool { return false }, 0}, // a peer not known yet is not the empty ID
		{addr("192.0.2.77"), func(c checkpoint) bool { return c.knowsAddr }, connmgr.DeniedAddr},
		{addr("192.0.2.78"), func(checkpoint) bool { return false }, 0},
		{prefix("192.0.2.64/26"), func(c checkpoint) bool { return c.knowsAddr }, connmgr.DeniedAddr},
		{prefix("0.0.0.0/0"), func(c checkpoint) bool { return c.knowsAddr }, connmgr.DeniedAddr},
		{prefix("192.0.2.128/25"), func(checkpoint) bool { return false }, 0},
		{prefix("::/0"), func(checkpoint) bool { return false }, 0},
		{connmgr.PortTarget(4001), func(c checkpoint) bool { return c.knowsAddr && c.dial }, connmgr.DeniedPort},
		{connmgr.PortTarget(4002), func(checkpoint) bool { return false }, 0},
	} {
		r := connmgr.Rule{Effect: connmgr.Deny, Target: rule.target, Expires: ends, Reason: "spam", Origin: "list"}
		denying := gateWith(t, r)
		r.Effect = connmgr.Allow
		allowing := gateWith(t, r)
		r.Effect = connmgr.Deny
		for _, cp := range everyCheckpoint {
			if err := cp.ask(allowing, peer, from); err != nil {
				t.Errorf("%s with a rule that allows %v: %v, want nil", cp.name, rule.target, err)
			}
			err := cp.ask(denying, peer, from)
			if !rule.applies(cp) {
				if err != nil {
					t.Errorf("%s with a rule that denies %v: %v, want nil", cp.name, rule.target, err)
				}
				continue
			}
			var denied *connmgr.DeniedError
			if !errors.As(err, &denied) {
				t.Errorf("%s with a rule that denies %v: %v, want a DeniedError", cp.name, rule.target, err)
				continue
			}
			if !errors.Is(err, connmgr.ErrConnectionDenied) || errors.Is(err, connmgr.ErrPeerBlocked) != (rule.outcome == connmgr.DeniedPeer) {
				t.Errorf("%s with a rule that denies %v: wraps ErrConnectionDenied %v, ErrPeerBlocked %v; want true, and the other for peers alone",
					cp.name, rule.target, errors.Is(err, connmgr.ErrConnectionDenied), errors.Is(err, connmgr.ErrPeerBlocked))
			}
			if !sameRule(denied.Rule, r) {
				t.Errorf("%s: the error names the rule %v, want %v", cp.name, denied.Rule, r)
			}
			got := *denied
			got.Rule = connmgr.Rule{}
			want := connmgr.DeniedError{Checkpoint: cp.at, Outcome: rule.outcome, HasPeer: cp.knowsPeer, Until: got.Until}
			if cp.knowsPeer {
				want.Peer = peer
			}
			if cp.knowsAddr {
				want.Addr = from
			}
			if got != want || !got.Until.Equal(ends) {
				t.Errorf("%s with a rule that denies %v: error %+v, want %+v until %v", cp.name, rule.target, got, want, ends)
			}
		}
	}
}

// sameRule compares rules with their expiry and reason.
func sameRule(a, b connmgr.Rule) bool {
	return a.Same(b) && a.Reason == b.Reason && a.Expires.Equal(b.Expires)
}

func TestARefusalReadsWell(t *testing.T) {
	until := time.Date(2126, 12, 24, 18, 0, 0, 0, time.UTC)
	inbound, outbound := everyCheckpoint[3].ask, everyCheckpoint[8].ask
	for _, tt := range []struct {
		rule connmgr.Rule
		ask  func(*connmgr.Gater, connmgr.NodeID, netip.AddrPort) error
		at   netip.AddrPort
		want string
	}{
		{
			connmgr.Rule{Target: connmgr.PeerTarget("alice"), Expires: until, Reason: "spam"},
			inbound,
			netip.AddrPort{},
			"connmgr: peer blocked: alice at secured: deny peer alice until 2126-12-24T18:00:00Z (spam)",
		},
		{
			connmgr.Rule{Target: prefix("10.1.2.3/8"), Origin: "watchdog"},
			inbound, addrPort("10.9.9.9:80"),
			"connmgr: connection denied: alice 10.9.9.9:80 at secured: deny 10.0.0.0/8 (from watchdog)",
		},
		{
			connmgr.Rule{Target: addr("2001:db8::1"), Reason: "scans", Origin: "watchdog"},
			everyCheckpoint[2].ask, addrPort("[2001:db8::1]:0"),
			"connmgr: connection denied: 2001:db8::1 at accept: deny 2001:db8::1 (scans, from watchdog)",
		},
		{
			connmgr.Rule{Target: connmgr.PortTarget(25)},
			outbound, addrPort("10.9.9.9:25"),
			"connmgr: connection denied: alice 10.9.9.9:25 at upgraded: deny port 25",
		},
		{
			connmgr.Rule{Target: connmgr.PeerTarget("alice")},
			everyCheckpoint[0].ask,
			netip.AddrPort{},
			"connmgr: peer blocked: alice at peer dial: deny peer alice",
		},
	} {
		err := tt.ask(gateWith(t, tt.rule), "alice", tt.at)
		if err == nil || err.Error() != tt.want {
			t.Errorf("the error is\n\t%v, want\n\t%s", err, tt.want)
		}
	}
}

// expectDenied asks the gate about an address, and checks that the rule about want
// refuses it, none if that is the zero Target.
func expectDenied(t *testing.T, g *connmgr.Gater, at string, want connmgr.Target) {
	t.Helper()
	err := g.InterceptAccept(addrPort(at))
	var denied *connmgr.DeniedError
	switch {
	case want == connmgr.Target{}:
		if err != nil {
			t.Errorf("%s: %v, want it to pass", at, err)
		}
	case !errors.As(err, &denied) || denied.Rule.Target != want || denied.Rule.Effect != connmgr.Deny:
		t.Errorf("%s: %v, want the rule that denies %v", at, err, want)
	}
}

func TestTheMostSpecificPrefixDecides(t *testing.T) {
	var passes connmgr.Target
	g := gateWith(
		t,
		deny(prefix("10.0.0.0/8")), allow(prefix("10.1.0.0/16")), deny(prefix("10.1.2.0/24")), allow(addr("10.1.2.3")),
		allow(prefix("172.16.0.0/12")), deny(addr("172.16.0.1")),
		allow(prefix("198.51.100.0/24")), deny(prefix("198.51.100.0/24")), // of equal length, deny wins
		deny(prefix("203.0.113.0/24")), from(allow(prefix("203.0.113.0/24")), "another"), from(allow(prefix("203.0.113.0/24")), "a third"),
		allow(prefix("203.0.113.128/25")), from(deny(prefix("203.0.113.128/25")), "another"), from(allow(prefix("203.0.113.128/25")), "a third"),
		deny(prefix("::/0")), allow(prefix("2001:db8::/32")), deny(prefix("2001:db8:0:0:8000::/65")),
	)
	for _, tt := range []struct {
		at   string
		want connmgr.Target
	}{
		{"9.255.255.255", passes},
		{"10.0.0.1", prefix("10.0.0.0/8")},
		{"10.255.255.255", prefix("10.0.0.0/8")},
		{"10.1.0.1", passes},
		{"10.1.2.2", prefix("10.1.2.0/24")},
		{"10.1.2.3", passes},
		{"10.1.3.3", passes},
		{"11.0.0.0", passes},
		{"172.16.0.1", addr("172.16.0.1")},
		{"172.16.0.2", passes},
		{"198.51.100.9", prefix("198.51.100.0/24")},
		{"203.0.113.9", prefix("203.0.113.0/24")},
		{"203.0.113.200", prefix("203.0.113.128/25")},
		{"2001:db9::1", prefix("::/0")},
		{"2001:db8::1", passes},
		{"2001:db8::8000:0:0:1", prefix("2001:db8:0:0:8000::/65")},
	} {
		expectDenied(t, g, tt.at, tt.want)
	}
}

func TestAnAddressIsTheSameInEveryDress(t *testing.T) {
	var passes connmgr.Target
	for _, tt := range []struct {
		rule, at string
		denied   bool
	}{
		{"192.0.2.0/24", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.0/120", "192.0.2.1", true},
		{"::ffff:192.0.2.0/120", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1/128", "192.0.2.2", false},
		{"::ffff:0:0/96", "192.0.2.1", true}, // all of IPv4
		{"::ffff:0:0/95", "192.0.2.1", false},
		{"::/0", "192.0.2.1", false}, // all of IPv6
		{"::/0", "::ffff:192.0.2.1", false},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"192.0.2.99/24", "192.0.2.1", true}, // bits behind the prefix mean nothing
		{"fe80::/64", "fe80::1%eth0", true},
		{"fe80::1/128", "fe80::1%7", true},
		{"192.0.2.0/24", "64:ff9b::192.0.2.1", true}, // through a translator
		{"192.0.2.0/24", "64:ff9b::192.0.2.1%eth0", true},
		{"192.0.2.0/24", "64:ff9b::192.0.3.1", false},
		{"192.0.2.0/24", "64:ff9c::192.0.2.1", false},
		{"192.0.2.0/24", "64:ff9b:0:0:0:1:192.0.2.1", false},
		{"64:ff9b::192.0.2.0/120", "64:ff9b::192.0.2.1", true},
		{"64:ff9b::192.0.2.0/120", "192.0.2.1", false},
	} {
		target, want := prefix(tt.rule), passes
		if tt.denied {
			want = target
		}
		expectDenied(t, gateWith(t, deny(target)), tt.at, want)
	}
}

func TestATranslatedAddressIsDeniedIfEitherSideIs(t *testing.T) {
	const at = "64:ff9b::192.0.2.1"
	wrapped, inside := prefix("64:ff9b::/96"), prefix("192.0.2.0/24")
	expectDenied(t, gateWith(t, allow(wrapped), deny(inside)), at, inside)
	expectDenied(t, gateWith(t, deny(wrapped), allow(inside)), at, wrapped)
	expectDenied(t, gateWith(t, deny(wrapped), deny(inside)), at, wrapped)
	expectDenied(t, gateWith(t, allow(wrapped), allow(inside)), at, connmgr.Target{})
	expectDenied(t, gateWith(t, deny(prefix("::/0")), allow(inside)), at, prefix("::/0"))
}

func TestAnUnknownAddressIsNotJudged(t *testing.T) {
	g := gateWith(t, deny(prefix("0.0.0.0/0")), deny(prefix("::/0")), deny(connmgr.PortTarget(0)), deny(connmgr.PortTarget(4001)))
	for _, cp := range everyCheckpoint {
		if err := cp.ask(g, "behind a relay", netip.AddrPort{}); err != nil {
			t.Errorf("%s: %v, want a connection of unknown address to pass", cp.name, err)
		}
	}
}

func TestADenyOfAnyKindIsNotOutweighed(t *testing.T) {
	const peer = connmgr.NodeID("alice")
	targets := []connmgr.Target{connmgr.PeerTarget(peer), addr("192.0.2.77"), connmgr.PortTarget(4001)}
	outcomes := []connmgr.Outcome{connmgr.DeniedPeer, connmgr.DeniedAddr, connmgr.DeniedPort}
	for i, denied := range targets {
		rules := []connmgr.Rule{deny(denied)}
		for _, other := range targets {
			if other != denied {
				rules = append(rules, allow(other))
			}
		}
		var err *connmgr.DeniedError
		if g := gateWith(t, rules...); !errors.As(g.InterceptAddrDial(peer, addrPort("192.0.2.77")), &err) || err.Outcome != outcomes[i] {
			t.Errorf("with %v denied and the others allowed: %v, want %v", denied, err, outcomes[i])
		}
	}
}

func TestLookupNamesTheRulesThatDecide(t *testing.T) {
	soon, later := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	g := gateWith(
		t,
		with(denyPeer("bad"), soon, "one"), with(denyPeer("bad"), later, "two"), with(denyPeer("bad"), soon, "three"),
		allow(connmgr.PeerTarget("bad")), allow(connmgr.PeerTarget("good")),
		deny(prefix("10.0.0.0/8")), allow(prefix("10.1.0.0/16")), deny(connmgr.PortTarget(25)), allow(connmgr.PortTarget(80)),
	)
	for _, tt := range []struct {
		peer             connmgr.NodeID
		at               string
		peerRule, origin string
		addrRule, port   string
		denied, trusted  bool
	}{
		{"bad", "11.0.0.1:1", "deny peer bad", "two", "", "", true, false},
		{"good", "11.0.0.1:1", "allow peer good", "", "", "", false, true},
		{"good", "10.0.0.1:1", "allow peer good", "", "deny 10.0.0.0/8", "", true, false},
		{"", "10.1.0.1:25", "", "", "allow 10.1.0.0/16", "deny port 25", true, true}, // who dials us is not judged by port
		{"", "10.1.0.1:0", "", "", "allow 10.1.0.0/16", "", false, true},
		{"", "11.0.0.1:80", "", "", "", "allow port 80", false, false},
		{"", "[64:ff9b::10.0.0.1]:1", "", "", "deny 10.0.0.0/8", "", true, false},
		{"nobody", "11.0.0.1:1", "", "", "", "", false, false},
	} {
		r := g.Lookup(tt.peer, addrPort(tt.at))
		says := func(what string, got *connmgr.Rule, want string) {
			if got != nil && want == fmt.Sprint(got.Effect, " ", got.Target) || got == nil && want == "" {
				return
			}
			t.Errorf("%v at %s: %s is decided by %v, want %q", tt.peer, tt.at, what, got, want)
		}
		says("the peer", r.Peer, tt.peerRule)
		says("the address", r.Addr, tt.addrRule)
		says("the port", r.Port, tt.port)
		if r.Peer != nil && r.Peer.Origin != tt.origin {
			t.Errorf("%v: the rule is from %q, want the one that ends last, from %q", tt.peer, r.Peer.Origin, tt.origin)
		}
		if r.Denied() != tt.denied || r.Trusted() != tt.trusted {
			t.Errorf("%v at %s: denied %v, trusted %v; want %v, %v", tt.peer, tt.at, r.Denied(), r.Trusted(), tt.denied, tt.trusted)
		}
	}
	if r := g.Lookup("good", netip.AddrPort{}); r.Addr != nil || r.Port != nil || !r.Trusted() {
		t.Errorf("Lookup without an address = %+v, want the peer's rule alone", r)
	}
}

// leaping is a clock that leaps ahead by an hour after having been asked a number of
// times.
type leaping struct {
	start time.Time
	left  atomic.Int32
}

func (c *leaping) Now() time.Time {
	if c.left.Add(-1) < 0 {
		return c.start.Add(time.Hour)
	}
	return c.start
}

func (c *leaping) After(time.Duration) <-chan time.Time { return nil }

func TestARefusalNamesItsRuleThoughItEndsMeanwhile(t *testing.T) {
	for asked := range int32(6) {
		clock := &leaping{start: time.Now()}
		clock.left.Store(1 << 20)
		cfg := spacious()
		cfg.Clock = clock
		ends := with(denyPeer("alice"), clock.start.Add(time.Minute), "")
		cfg.Gate.Rules = []connmgr.Rule{ends}
		g := newManager(t, cfg).Gater()
		clock.left.Store(asked)
		err := g.InterceptPeerDial("alice")
		var denied *connmgr.DeniedError
		if errors.As(err, &denied) && (!sameRule(denied.Rule, ends) || !denied.Until.Equal(ends.Expires)) {
			t.Errorf("a rule ends while it decides: %v until %v, want the rule %v", err, denied.Until, ends)
		} else if asked > 0 && err == nil {
			t.Errorf("a rule that ends after it was asked decides nothing")
		}
	}
}
