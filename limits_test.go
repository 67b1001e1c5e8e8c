package connmgr_test

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about the limits per peer and per address prefix, about changing them,
// and about who is exempt. The hard limit and the inbound limit are in displace_test.go,
// rates in rate_test.go.

// newLimited makes a lobby with limits at the door and no others.
func newLimited(t testing.TB, limits connmgr.GateLimits, rules ...connmgr.Rule) *lobby {
	t.Helper()
	cfg := tight(1000, 1000)
	cfg.ManualStart = true
	cfg.Gate = connmgr.GateConfig{Limits: limits, Rules: rules}
	return newLobby(t, cfg)
}

// comingFrom parses an address; "" is an unknown one.
func comingFrom(addr string) netip.AddrPort {
	if addr == "" {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.MustParseAddr(addr), 4001)
}

func TestALimitPerPeerCountsAllItsConnections(t *testing.T) {
	l := newLimited(t, connmgr.GateLimits{MaxPerPeer: 2})
	first, err := l.enter(connmgr.DirOutbound, "a", nowhere)
	expectRefusal(t, "the first, outbound", err, connmgr.Passed)
	_, err = l.arrive(connmgr.DirInbound, "a", nowhere)
	expectRefusal(t, "the second", err, connmgr.Passed)
	_, err = l.enter(connmgr.DirInbound, "a", nowhere)
	if d := expectRefusal(t, "the third", err, connmgr.OverPeerLimit); d != nil {
		if d.Limit != 2 || d.Peer != "a" || d.Checkpoint != connmgr.AtUpgraded || d.Prefix.IsValid() || !d.Until.IsZero() {
			t.Errorf("the refusal is %+v, want peer a, a limit of 2, and neither prefix nor end", d)
		}
	}
	_, err = l.enter(connmgr.DirOutbound, "a", nowhere)
	expectRefusal(t, "one that we open", err, connmgr.Passed)
	_, err = l.enter(connmgr.DirInbound, "b", nowhere)
	expectRefusal(t, "another peer", err, connmgr.Passed)
	first.leave()
	_, err = l.enter(connmgr.DirInbound, "a", nowhere)
	expectRefusal(t, "one too many still", err, connmgr.OverPeerLimit)
}

func TestLimitsPerPrefix(t *testing.T) {
	both := []connmgr.PrefixLimit{{IPv4: 32, IPv6: 56, MaxConns: 2}, {IPv4: 24, IPv6: 48, MaxConns: 3}}
	for what, tt := range map[string]struct {
		limits connmgr.GateLimits
		in     string // addresses that pass
		out    string // the one that does not, "" if all do
		prefix string // that is said to be full
		other  string // one more that passes
	}{
		"one address":              {connmgr.GateLimits{PerPrefix: both}, "5.0.0.1 5.0.0.1", "5.0.0.1", "5.0.0.1/32", "5.0.0.2"},
		"one /24":                  {connmgr.GateLimits{PerPrefix: both}, "5.0.0.1 5.0.0.2 5.0.0.3", "5.0.0.255", "5.0.0.0/24", "5.0.1.0"},
		"one /56":                  {connmgr.GateLimits{PerPrefix: both}, "2a00:1:2:301::1 2a00:1:2:3ff:f::2", "2a00:1:2:300::", "2a00:1:2:300::/56", "2a00:1:2:400::"},
		"one /48":                  {connmgr.GateLimits{PerPrefix: both}, "2a00:1:2:300:: 2a00:1:2:400:: 2a00:1:2:500::", "2a00:1:2:ffff::", "2a00:1:2::/48", "2a00:1:3::"},
		"the first that is full":   {connmgr.GateLimits{PerPrefix: both}, "5.0.0.1 5.0.0.1 5.0.0.2", "5.0.0.1", "5.0.0.1/32", "5.0.1.0"},
		"IPv4 in IPv6":             {connmgr.GateLimits{PerPrefix: both}, "::ffff:5.0.0.1 5.0.0.1", "::ffff:5.0.0.1", "5.0.0.1/32", "5.0.0.2"},
		"IPv4 behind NAT64":        {connmgr.GateLimits{PerPrefix: both}, "64:ff9b::5.0.0.1 5.0.0.1", "64:ff9b::5.0.0.1", "5.0.0.1/32", "64:ff9b::5.0.0.2"},
		"NAT64 is not one network": {connmgr.GateLimits{PerPrefix: both}, "64:ff9b::5.0.0.1 64:ff9b::5.0.0.1 64:ff9b::6.0.0.1 64:ff9b::7.0.0.1 64:ff9b::8.0.0.1", "", "", ""},
		"a zone":                   {connmgr.GateLimits{PerPrefix: both}, "fe80::1%eth0 fe80::1", "fe80::1%eth1", "fe80::/56", "fe80:1::"},
		"unknown addresses":        {connmgr.GateLimits{PerPrefix: both}, strings.Repeat(" ", 9), "", "", ""},
		"private ones are limited": {connmgr.GateLimits{PerPrefix: both}, "10.0.0.1 10.0.0.1", "10.0.0.1", "10.0.0.1/32", "10.0.0.2"},
		"private ones are exempt": {
			connmgr.GateLimits{PerPrefix: both, ExemptPrivate: true},
			strings.Repeat("10.1.2.3 172.16.0.1 192.168.1.1 127.0.0.1 169.254.0.1 ::1 fd00::1 fe80::1%eth0 ::ffff:10.1.2.3 64:ff9b::10.1.2.3 ", 4) + "5.0.0.1 5.0.0.1",
			"5.0.0.1", "5.0.0.1/32", "2a00::",
		},
		"one kind alone, IPv4": {connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 8, MaxConns: 1}}}, "2a00:: 2a00:: 5.0.0.1", "5.255.0.1", "5.0.0.0/8", "2a00::"},
		"one kind alone, IPv6": {connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv6: 128, MaxConns: 1}}}, "5.0.0.1 5.0.0.1 2a00::1", "2a00::1", "2a00::1/128", "2a00::2"},
		"no limits":            {connmgr.GateLimits{}, strings.Repeat("5.0.0.1 ", 50), "", "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLimited(t, tt.limits)
			var guests []*guest
			for _, addr := range strings.Split(strings.TrimSuffix(tt.in, " "), " ") {
				v, err := l.enter(connmgr.DirInbound, "a", comingFrom(addr))
				expectRefusal(t, addr, err, connmgr.Passed)
				if err == nil {
					guests = append(guests, v)
				}
				if _, err := l.enter(connmgr.DirOutbound, "a", comingFrom(addr)); err != nil { // these don't count
					t.Errorf("an outbound connection to %s was refused: %v", addr, err)
				}
			}
			if tt.out == "" {
				return
			}
			_, err := l.enter(connmgr.DirInbound, "b", comingFrom(tt.out))
			if d := expectRefusal(t, tt.out, err, connmgr.OverPrefixLimit); d != nil {
				if d.Prefix.String() != tt.prefix || d.Checkpoint != connmgr.AtAccept || d.Addr != comingFrom(tt.out) || !d.Until.IsZero() {
					t.Errorf("the refusal is about %v at %v, of %v until %v; want %v at accept, of %v, with no end", d.Prefix, d.Checkpoint, d.Addr, d.Until, tt.prefix, comingFrom(tt.out))
				}
				if !strings.Contains(err.Error(), tt.prefix) || !strings.Contains(err.Error(), "prefix limit") {
					t.Errorf("the error is %q, want it to name the prefix %v and the limit", err, tt.prefix)
				}
			}
			_, err = l.enter(connmgr.DirInbound, "b", comingFrom(tt.other))
			expectRefusal(t, tt.other, err, connmgr.Passed)
			for _, v := range guests {
				v.leave()
			}
			_, err = l.enter(connmgr.DirInbound, "b", comingFrom(tt.out))
			expectRefusal(t, tt.out+", when all others have left", err, connmgr.Passed)
		})
	}
}

func TestOneRefusedByAnotherLimitTakesNoPlaceInItsPrefix(t *testing.T) {
	limits := connmgr.GateLimits{MaxPerPeer: 1, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 2}}}
	l := newLimited(t, limits)
	_, err := l.enter(connmgr.DirInbound, "a", addr4(1, 1))
	expectRefusal(t, "the first", err, connmgr.Passed)
	for range 5 {
		_, err = l.enter(connmgr.DirInbound, "a", addr4(1, 2))
		expectRefusal(t, "the peer's second", err, connmgr.OverPeerLimit)
	}
	_, err = l.enter(connmgr.DirInbound, "b", addr4(1, 3))
	expectRefusal(t, "another peer of the prefix", err, connmgr.Passed)
	_, err = l.enter(connmgr.DirInbound, "c", addr4(1, 4))
	expectRefusal(t, "a third one", err, connmgr.OverPrefixLimit)
	if n := l.g.Stats().TrackedPrefixes; n != 1 {
		t.Errorf("%d prefixes are tracked, want 1", n)
	}
}

// addressless is a connection that does not know its address.
type addressless struct{ connmgr.Conn }

func TestChangedLimitsCountWhoIsThere(t *testing.T) {
	l := newLimited(t, connmgr.GateLimits{}, connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")})
	var guests []*guest
	for i, id := range []connmgr.NodeID{"a", "b", "c", "friend"} {
		v, err := l.enter(connmgr.DirInbound, id, addr4(1, i))
		expectRefusal(t, "without limits", err, connmgr.Passed)
		guests = append(guests, v)
	}
	guests = append(guests, l.mustArrive(t, "arriving"))
	if _, err := l.enter(connmgr.DirOutbound, "out", addr4(1, 9)); err != nil {
		t.Fatal(err)
	}
	unknown := addressless{connmgrtest.NewConn("unknown")}
	if err := l.g.InterceptUpgraded(connmgr.DirInbound, "unknown", netip.AddrPort{}, unknown); err != nil {
		t.Fatal(err)
	}

	limits := connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 5}}}
	for range 3 { // a change that changes nothing must not count anybody twice
		if err := l.g.SetLimits(limits); err != nil {
			t.Fatal(err)
		}
	}
	fifth, err := l.enter(connmgr.DirInbound, "d", addr4(1, 4)) // beside a, b, c and the arriving one
	expectRefusal(t, "a fifth one", err, connmgr.Passed)
	_, err = l.enter(connmgr.DirInbound, "e", addr4(1, 5))
	expectRefusal(t, "a sixth one", err, connmgr.OverPrefixLimit)

	limits.PerPrefix[0].MaxConns = 1 // the caller's slice: no effect
	fifth.leave()
	fifth, err = l.enter(connmgr.DirInbound, "d", addr4(1, 4))
	expectRefusal(t, "a fifth one, after the caller's slice was changed", err, connmgr.Passed)
	l.g.Limits().PerPrefix[0].MaxConns = 1 // likewise
	if got := l.g.Limits().PerPrefix[0].MaxConns; got != 5 {
		t.Errorf("Limits() says %d, want 5: it must return a copy", got)
	}

	limits.PerPrefix[0].MaxConns = 2
	if err := l.g.SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	if n := len(l.closedPeers()); n != 0 {
		t.Errorf("a change of limits closed %d peers, want none", n)
	}
	guests = append(guests, fifth)
	for i, v := range guests[:4] { // a, b, c and the friend, who does not count
		v.leave()
		_, err := l.enter(connmgr.DirInbound, "e", addr4(1, 6))
		expectRefusal(t, fmt.Sprint("beyond the new limit, ", i+1, " left"), err, connmgr.OverPrefixLimit)
	}
	guests[4].leave()
	_, err = l.enter(connmgr.DirInbound, "e", addr4(1, 7))
	expectRefusal(t, "below the new limit", err, connmgr.Passed)
}

func TestAConnectionThatLeavesWhileLimitsChangeDoesNotCount(t *testing.T) {
	l := newLimited(t, connmgr.GateLimits{})
	v, err := l.enter(connmgr.DirInbound, "a", addr4(1, 1))
	expectRefusal(t, "without limits", err, connmgr.Passed)
	leaving := &leavesWhenAsked{guest: v}
	l.m.Disconnected("a", v)
	l.m.Connected("a", leaving)
	leaving.then = func() { l.m.Disconnected("a", leaving) }
	if err := l.g.SetLimits(connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 1}}}); err != nil {
		t.Fatal(err)
	}
	_, err = l.enter(connmgr.DirInbound, "b", addr4(1, 2))
	expectRefusal(t, "the only one that is there", err, connmgr.Passed)
}

// leavesWhenAsked is a connection that goes when somebody asks for its address.
type leavesWhenAsked struct {
	*guest
	then func()
}

func (v *leavesWhenAsked) RemoteAddrPort() netip.AddrPort {
	if v.then != nil {
		v.then()
	}
	return v.guest.RemoteAddrPort()
}

func TestADirectionThatIsUnknownCountsAfterAChangeAsBefore(t *testing.T) {
	limits := connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 1}}}
	l := newLimited(t, limits)
	if _, err := l.enter(connmgr.DirUnknown, "a", addr4(1, 1)); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		_, err := l.enter(connmgr.DirUnknown, "b", addr4(1, 2))
		expectRefusal(t, "a second one "+when+" a change that changes nothing", err, connmgr.OverPrefixLimit)
		if err := l.g.SetLimits(limits); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllowRulesPassAllLimits(t *testing.T) {
	for what, target := range map[string]connmgr.Target{
		"peer":   connmgr.PeerTarget("friend"),
		"prefix": connmgr.PrefixTarget(netip.MustParsePrefix("5.0.1.0/28")),
	} {
		t.Run(what, func(t *testing.T) {
			cfg := fullHouse(2)
			cfg.ManualStart = true
			cfg.Gate.Limits = connmgr.GateLimits{MaxInbound: 1, MaxPerPeer: 1, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 1, Rate: 1e-3}}}
			cfg.Gate.Rules = []connmgr.Rule{{Effect: connmgr.Allow, Target: target}}
			l := newLobby(t, cfg)
			for i := range 20 {
				_, err := l.enter(connmgr.DirInbound, "friend", addr4(1, 1))
				expectRefusal(t, fmt.Sprint("trusted connection ", i+1), err, connmgr.Passed)
			}
			_, err := l.enter(connmgr.DirInbound, "stranger", addr4(1, 99))
			expectRefusal(t, "a stranger, beside 20 trusted ones at a hard limit of 2", err, connmgr.OverHardLimit)
			if n := len(l.closedPeers()); n != 0 {
				t.Errorf("%d peers were closed, want none", n)
			}
			if n := l.m.ConnCount(); n != 20 {
				t.Errorf("%d connections are counted, want all 20", n)
			}
		})
	}
}

func TestTrustedConnectionsLeaveTheirPrefixToOthers(t *testing.T) {
	limits := connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 1}}}
	l := newLimited(t, limits, connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")})
	for range 3 {
		_, err := l.enter(connmgr.DirInbound, "friend", addr4(1, 1))
		expectRefusal(t, "a friend", err, connmgr.Passed)
	}
	_, err := l.enter(connmgr.DirInbound, "stranger", addr4(1, 1))
	expectRefusal(t, "the first stranger", err, connmgr.Passed)
	_, err = l.enter(connmgr.DirInbound, "stranger", addr4(1, 1))
	if d := expectRefusal(t, "the second stranger", err, connmgr.OverPrefixLimit); d != nil && d.Checkpoint != connmgr.AtSecured {
		t.Errorf("the refusal came at %v, want secured: before, it could have been the friend", d.Checkpoint)
	}
}

func TestPresetsAreInRange(t *testing.T) {
	for what, limits := range map[string]connmgr.GateLimits{
		"public": connmgr.PublicNodeLimits(), "private": connmgr.PrivateClusterLimits(), "test": connmgr.TestLimits(), "zero": {},
	} {
		l := newLimited(t, limits)
		if got := l.g.Limits(); !reflect.DeepEqual(got, limits) {
			t.Errorf("%s: Limits() is %+v, want %+v", what, got, limits)
		}
		if err := l.g.SetLimits(limits); err != nil {
			t.Errorf("%s: SetLimits: %v", what, err)
		}
		for i := range 60 { // nothing is in the way of many nodes on one machine
			_, err := l.enter(connmgr.DirInbound, peerID(i), comingFrom("127.0.0.1"))
			expectRefusal(t, what, err, connmgr.Passed)
		}
	}
	public, one := connmgr.PublicNodeLimits(), 0
	l := newLimited(t, public)
	for i := range 60 {
		if _, err := l.enter(connmgr.DirInbound, peerID(i), addr4(1, 1)); err == nil {
			one++
		}
	}
	if one != 8 {
		t.Errorf("%d connections from one address passed the limits of a public node, want 8", one)
	}
}

func TestLimitsOutOfRangeAreErrorsThatNameTheField(t *testing.T) {
	good := connmgr.PrefixLimit{IPv4: 24, MaxConns: 1}
	bad := func(change func(*connmgr.PrefixLimit)) connmgr.GateLimits {
		p := good
		change(&p)
		return connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{good, p}}
	}
	for _, tt := range []struct {
		limits connmgr.GateLimits
		want   string // in the error
	}{
		{connmgr.GateLimits{MaxInbound: -1}, "GateLimits.MaxInbound is -1"},
		{connmgr.GateLimits{MaxPerPeer: -7}, "GateLimits.MaxPerPeer is -7"},
		{bad(func(p *connmgr.PrefixLimit) { p.IPv4 = 33 }), "GateLimits.PerPrefix[1]: IPv4 is 33"},
		{bad(func(p *connmgr.PrefixLimit) { p.IPv4 = -1 }), "IPv4 is -1"},
		{bad(func(p *connmgr.PrefixLimit) { p.IPv6 = 129 }), "IPv6 is 129"},
		{bad(func(p *connmgr.PrefixLimit) { p.IPv4 = 0 }), "IPv4 and IPv6 are both 0"},
		{bad(func(p *connmgr.PrefixLimit) { p.MaxConns = -3 }), "MaxConns is -3"},
		{bad(func(p *connmgr.PrefixLimit) { p.MaxConns = 0 }), "MaxConns and Rate are both 0"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate = -0.5 }), "Rate is -0.5"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate = math.NaN() }), "Rate is NaN"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate = math.Inf(1) }), "Rate is +Inf"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate = 1e-9 }), "Rate is 1e-09"},
		{bad(func(p *connmgr.PrefixLimit) { p.Burst = 5 }), "Burst is 5"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate, p.Burst = 1, -5 }), "Burst is -5"},
		{bad(func(p *connmgr.PrefixLimit) { p.Rate, p.Burst = 1, 1<<20+1 }), "Burst is 1048577"},
	} {
		_, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Limits: tt.limits}})
		l := newLimited(t, connmgr.PublicNodeLimits())
		for how, err := range map[string]error{"New": err, "SetLimits": l.g.SetLimits(tt.limits)} {
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "connmgr: ") {
				t.Errorf("%s with %+v: error is %v, want one that says %q", how, tt.limits, err, tt.want)
			}
		}
		if got := l.g.Limits(); !reflect.DeepEqual(got, connmgr.PublicNodeLimits()) {
			t.Errorf("after an error Limits() is %+v, want what it was", got)
		}
	}
}

func TestAClosedManagerStillJudgesButDoesNotLimit(t *testing.T) {
	l := newLimited(t, connmgr.GateLimits{MaxInbound: 1}, connmgr.Rule{Target: connmgr.PeerTarget("blocked")})
	l.dialIn(t, "a")
	closeManager(t, l.m)
	_, err := l.arrive(connmgr.DirInbound, "blocked", nowhere)
	expectRefusal(t, "a blocked peer", err, connmgr.DeniedPeer)
	_, err = l.arrive(connmgr.DirInbound, "b", nowhere)
	expectRefusal(t, "one beyond the limit", err, connmgr.Passed)
	if err := l.g.SetLimits(connmgr.GateLimits{MaxInbound: 7}); err != nil || l.g.Limits().MaxInbound != 7 {
		t.Errorf("SetLimits: %v, and Limits() is %+v", err, l.g.Limits())
	}
	if err := l.g.Block(context.Background(), connmgr.PeerTarget("a"), 0, ""); err != nil {
		t.Errorf("Block: %v", err)
	}
	if s := l.g.Stats(); s.Arriving != 0 {
		t.Errorf("%d are arriving at a closed manager, want none", s.Arriving)
	}
}
