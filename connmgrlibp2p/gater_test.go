package connmgrlibp2p_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
	ma "github.com/multiformats/go-multiaddr"
)

// This file asks the gater's checkpoints directly, through go-libp2p's interface:
// what each of them is told, and what an answer costs.

// gaterTwin names the subtest in which go-libp2p's own gater is tried. If it fails,
// go-libp2p has changed, and docs/migration.md must change with it.
const gaterTwin = "BasicConnectionGater is different"

// newGate makes the gater of a manager that does not trim.
func newGate(t *testing.T, cfg connmgr.GateConfig) *connmgrlibp2p.Gater {
	t.Helper()
	return newManager(t, 10_000, 10_000, connmgrlibp2p.WithGate(cfg)).Gater()
}

// newBasicGater makes go-libp2p's own gater.
func newBasicGater(t *testing.T) *conngater.BasicConnectionGater {
	t.Helper()
	g, err := conngater.NewBasicConnectionGater(nil)
	if err != nil {
		t.Fatalf("go-libp2p's NewBasicConnectionGater: %v", err)
	}
	return g
}

// denying is a configuration with rules that deny targets.
func denying(targets ...connmgr.Target) (cfg connmgr.GateConfig) {
	for _, target := range targets {
		cfg.Rules = append(cfg.Rules, connmgr.Rule{Effect: connmgr.Deny, Target: target})
	}
	return cfg
}

func peerTarget(p peer.ID) connmgr.Target { return connmgr.PeerTarget(connmgr.NodeID(p)) }

func addrTarget(addr string) connmgr.Target { return connmgr.AddrTarget(netip.MustParseAddr(addr)) }

func netTarget(prefix string) connmgr.Target {
	return connmgr.PrefixTarget(netip.MustParsePrefix(prefix))
}

// unblock takes back what denies a target.
func unblock(t *testing.T, g *connmgrlibp2p.Gater, target connmgr.Target) {
	t.Helper()
	if n, err := g.Core().Unblock(t.Context(), target); n != 1 || err != nil {
		t.Fatalf("Unblock(%v): %d, %v; want 1 rule taken out", target, n, err)
	}
}

// remote is a connection of which only the other side's address is known. nil is none.
type remote struct{ addr ma.Multiaddr }

func (r remote) LocalMultiaddr() ma.Multiaddr  { return nil }
func (r remote) RemoteMultiaddr() ma.Multiaddr { return r.addr }

func remoteAt(addr string) network.ConnMultiaddrs { return remote{ma.StringCast(addr)} }

// gateCheck is one way in which go-libp2p asks a gater.
type gateCheck struct {
	name                       string
	at                         connmgr.Checkpoint
	knowsPeer, knowsAddr, dial bool
	ask                        func(g libp2p.ConnectionGater, p peer.ID, addr string) bool
}

var gateChecks = []gateCheck{
	{"peer dial", connmgr.AtPeerDial, true, false, true, func(g libp2p.ConnectionGater, p peer.ID, _ string) bool {
		return g.InterceptPeerDial(p)
	}},
	{"address dial", connmgr.AtAddrDial, true, true, true, func(g libp2p.ConnectionGater, p peer.ID, addr string) bool {
		return g.InterceptAddrDial(p, ma.StringCast(addr))
	}},
	{"accept", connmgr.AtAccept, false, true, false, func(g libp2p.ConnectionGater, _ peer.ID, addr string) bool {
		return g.InterceptAccept(remoteAt(addr))
	}},
	{"secured, inbound", connmgr.AtSecured, true, true, false, askSecured(network.DirInbound)},
	{"secured, unknown", connmgr.AtSecured, true, true, false, askSecured(network.DirUnknown)},
	{"secured, outbound", connmgr.AtSecured, true, true, true, askSecured(network.DirOutbound)},
	{"upgraded, inbound", connmgr.AtUpgraded, true, true, false, askUpgraded(network.DirInbound)},
	{"upgraded, unknown", connmgr.AtUpgraded, true, true, false, askUpgraded(network.DirUnknown)},
	{"upgraded, outbound", connmgr.AtUpgraded, true, true, true, askUpgraded(network.DirOutbound)},
}

func askSecured(dir network.Direction) func(libp2p.ConnectionGater, peer.ID, string) bool {
	return func(g libp2p.ConnectionGater, p peer.ID, addr string) bool {
		return g.InterceptSecured(dir, p, remoteAt(addr))
	}
}

func askUpgraded(dir network.Direction) func(libp2p.ConnectionGater, peer.ID, string) bool {
	return func(g libp2p.ConnectionGater, p peer.ID, addr string) bool {
		c := &liveConn{peer: p, addr: ma.StringCast(addr), direction: dir}
		defer c.closed.Store(true)
		allow, reason := g.InterceptUpgraded(c)
		return allow && reason == 0
	}
}

const (
	stranger     = peer.ID("stranger")
	strangerHome = "/ip4/192.0.2.7/tcp/4001"
)

func TestEachCheckpointJudgesWhatItIsTold(t *testing.T) {
	for _, check := range gateChecks {
		for _, rule := range []struct {
			target connmgr.Target
			denies bool
			as     connmgr.Outcome
		}{
			{peerTarget(stranger), check.knowsPeer, connmgr.DeniedPeer},
			{addrTarget("192.0.2.7"), check.knowsAddr, connmgr.DeniedAddr},
			{netTarget("192.0.2.0/24"), check.knowsAddr, connmgr.DeniedAddr},
			// The port from which somebody dials us is arbitrary.
			{connmgr.PortTarget(4001), check.knowsAddr && check.dial, connmgr.DeniedPort},
			{peerTarget("another"), false, 0},
			{addrTarget("192.0.2.8"), false, 0},
			{connmgr.PortTarget(4002), false, 0},
		} {
			g := newGate(t, denying(rule.target))
			if got := check.ask(g, stranger, strangerHome); got == rule.denies {
				t.Errorf("with a deny of %v, %s allows: %v, want %v", rule.target, check.name, got, !rule.denies)
			}
			want := map[connmgr.Outcome]uint64{connmgr.Passed: 1}
			if rule.denies {
				want = map[connmgr.Outcome]uint64{rule.as: 1}
			}
			if got := g.Core().Stats().Checks; len(got) != 1 || !maps.Equal(got[check.at], want) {
				t.Errorf("with a deny of %v, after %s: Checks are %v, want %v at %v and nothing else", rule.target, check.name, got, want, check.at)
			}
		}
	}
}

func TestAddressesAreJudgedByWhatTheyMean(t *testing.T) {
	for _, test := range []struct {
		deny, addr string
		denied     bool
	}{
		{"192.0.2.0/24", "/ip6/::ffff:192.0.2.7/tcp/1", true},
		{"::ffff:192.0.2.0/120", "/ip4/192.0.2.7/tcp/1", true},
		{"192.0.2.0/24", "/ip6/64:ff9b::192.0.2.7/tcp/1", true}, // NAT64
		{"64:ff9b::/96", "/ip6/64:ff9b::192.0.2.7/tcp/1", true},
		{"64:ff9b::/96", "/ip4/192.0.2.7/tcp/1", false},
		{"fe80::/10", "/ip6zone/eth0/ip6/fe80::7/tcp/1", true},
		{"192.0.2.7/32", "/ip4/192.0.2.7/tcp/443/wss", true},
		{"192.0.2.7/32", "/ip4/192.0.2.7/udp/1/quic-v1/webtransport", true},
		{"0.0.0.0/0", "/dns4/example.com/tcp/443/wss", false}, // judged once it is resolved
		{"0.0.0.0/0", "/dnsaddr/example.com", false},
		{"0.0.0.0/0", "/ip6/2001:db8::1/tcp/1", false},
		{"0.0.0.0/0", "/unix/tmp/socket", false},
		{"192.0.2.7/32", "/ip4/192.0.2.7/tcp/1/p2p-circuit", false}, // the relay's
	} {
		g := newGate(t, denying(netTarget(test.deny)))
		for _, check := range gateChecks {
			if !check.knowsAddr {
				continue
			}
			if got := check.ask(g, stranger, test.addr); got == test.denied {
				t.Errorf("with a deny of %s, %s allows %s: %v, want %v", test.deny, check.name, test.addr, got, !test.denied)
			}
		}
	}
}

func TestAConnectionWithoutAddressesIsJudgedByItsPeer(t *testing.T) {
	g := newGate(t, denying(peerTarget(stranger), netTarget("0.0.0.0/0"), netTarget("::/0"), connmgr.PortTarget(0)))
	for _, addrs := range []network.ConnMultiaddrs{nil, remote{}} {
		for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
			if g.InterceptSecured(dir, stranger, addrs) {
				t.Errorf("InterceptSecured(%v, a denied peer, %v) allows, want it refused", dir, addrs)
			}
			if !g.InterceptSecured(dir, "somebody", addrs) {
				t.Errorf("InterceptSecured(%v, somebody, %v) refuses, want it allowed: no address is known", dir, addrs)
			}
		}
		if !g.InterceptAccept(addrs) {
			t.Errorf("InterceptAccept(%v) refuses, want it allowed: nothing is known", addrs)
		}
	}
	if allow, reason := g.InterceptUpgraded(nil); !allow || reason != 0 {
		t.Errorf("InterceptUpgraded(nil) is %v, %v; want true, 0", allow, reason)
	}
}

// TestAnAllowOfTheRelaysAddressTrustsNobodyBehindIt has two connections of one peer,
// where one is the limit.
func TestAnAllowOfTheRelaysAddressTrustsNobodyBehindIt(t *testing.T) {
	for addr, trusted := range map[string]bool{
		strangerHome:                  true,
		strangerHome + "/p2p-circuit": false,
	} {
		g := newGate(t, connmgr.GateConfig{
			Limits: connmgr.GateLimits{MaxPerPeer: 1},
			Rules:  []connmgr.Rule{{Effect: connmgr.Allow, Target: addrTarget("192.0.2.7")}},
		})
		for i, want := range []bool{true, trusted} {
			c := newLiveConn(stranger, network.DirInbound)
			c.addr = ma.StringCast(addr)
			if got := passes(g, c); got != want {
				t.Errorf("connection %d from %s passes: %v, want %v", i+1, addr, got, want)
			}
		}
	}
}

func TestTheGaterOfAManagerIsTheSameEveryTime(t *testing.T) {
	cm := newManager(t, 10, 20)
	if first, second := cm.Gater(), cm.Gater(); first == nil || first != second {
		t.Error("Gater returned two values, want the same every time")
	}
	if cm.Gater().Core() != cm.Core().Gater() {
		t.Error("Gater().Core() is not the gater of Core(), want the same")
	}
	if err := cm.Gater().Close(); err != nil {
		t.Errorf("Close of a manager's gater: %v, want nothing done", err)
	}
	c := dial(cm, "peer")
	if err := cm.Gater().BlockPeer("peer"); err != nil {
		t.Fatal(err)
	}
	if !c.closed.Load() {
		t.Error("after Close of the gater a block closes no connection, want Close to do nothing")
	}
}

// TestABlockThatComesDuringADialStopsIt blocks between two checkpoints.
func TestABlockThatComesDuringADialStopsIt(t *testing.T) {
	type gater interface {
		libp2p.ConnectionGater
		BlockPeer(peer.ID) error
	}
	blockInBetween := func(t *testing.T, g gater) gater {
		if !g.InterceptPeerDial(stranger) {
			t.Fatal("InterceptPeerDial refuses before the block")
		}
		if err := g.BlockPeer(stranger); err != nil {
			t.Fatal(err)
		}
		return g
	}
	later := slices.DeleteFunc(slices.Clone(gateChecks), func(c gateCheck) bool { return !c.dial || !c.knowsAddr })
	g := blockInBetween(t, newGate(t, connmgr.GateConfig{}))
	for _, check := range later {
		if check.ask(g, stranger, strangerHome) {
			t.Errorf("a peer that was blocked after peer dial passes at %s, want it refused", check.name)
		}
	}
	t.Run(gaterTwin, func(t *testing.T) {
		g := blockInBetween(t, newBasicGater(t))
		for _, check := range later {
			if !check.ask(g, stranger, strangerHome) {
				t.Errorf("a peer that was blocked after peer dial is refused at %s, passed", check.name)
			}
		}
	})
}

// TestABlockThatComesRightBeforeTheHostReportsAConnectionClosesIt blocks behind the
// last checkpoint.
func TestABlockThatComesRightBeforeTheHostReportsAConnectionClosesIt(t *testing.T) {
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
		cm := newManager(t, 10, 20)
		c := newLiveConn(stranger, dir)
		if !passes(cm.Gater(), c) {
			t.Fatal("refused before the block")
		}
		must(t, cm.Gater().BlockPeer(stranger))
		if c.closed.Load() {
			t.Errorf("%v: closed before go-libp2p has reported it: go-libp2p would take it for open for ever", dir)
		}
		cm.Notifee().Connected(nil, c)
		eventually(t, "the connection is closed", c.closed.Load)
	}
}

// TestChecksAllocateNothing allows one exception: an inbound connection that is ready
// gets its place, and the place has to say whose it is.
func TestChecksAllocateNothing(t *testing.T) {
	for _, rules := range []int{0, 100_000} {
		t.Run(fmt.Sprintf("%d rules", rules), func(t *testing.T) {
			own := newGate(t, connmgr.GateConfig{Rules: manyPrefixes(rules)})
			if got := own.Core().Stats().Rules; got != rules {
				t.Fatalf("there are %d rules, want %d", got, rules)
			}
			g := libp2p.ConnectionGater(own)
			addr, p := ma.StringCast("/ip4/192.0.2.7/tcp/4001"), peer.ID("somebody")
			at := network.ConnMultiaddrs(&remote{addr})
			in := network.Conn(&quickConn{peer: p, addr: addr, direction: network.DirInbound})
			out := network.Conn(&quickConn{peer: p, addr: addr, direction: network.DirOutbound})
			for _, check := range []struct {
				name    string
				allowed float64
				ask     func() bool
			}{
				{"InterceptPeerDial", 0, func() bool { return g.InterceptPeerDial(p) }},
				{"InterceptAddrDial", 0, func() bool { return g.InterceptAddrDial(p, addr) }},
				{"InterceptAccept", 0, func() bool { return g.InterceptAccept(at) }},
				{"InterceptSecured, inbound", 0, func() bool { return g.InterceptSecured(network.DirInbound, p, at) }},
				{"InterceptSecured, outbound", 0, func() bool { return g.InterceptSecured(network.DirOutbound, p, at) }},
				{"InterceptUpgraded, inbound", 1, func() bool { allow, _ := g.InterceptUpgraded(in); return allow }},
				{"InterceptUpgraded, outbound", 0, func() bool { allow, _ := g.InterceptUpgraded(out); return allow }},
			} {
				if got := testing.AllocsPerRun(100, func() {
					if !check.ask() {
						t.Fatalf("%s refuses, want it to pass", check.name)
					}
				}); got > check.allowed {
					t.Errorf("%s allocates %v times, want at most %v", check.name, got, check.allowed)
				}
			}
		})
	}
}

// manyPrefixes returns rules that deny n prefixes of IPv4, and nothing near 192.0.2.0.
func manyPrefixes(n int) []connmgr.Rule {
	rules := make([]connmgr.Rule, n)
	for i := range rules {
		addr := netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0})
		rules[i] = connmgr.Rule{Target: connmgr.PrefixTarget(netip.PrefixFrom(addr, 24))}
	}
	return rules
}

// quickConn is a connection whose methods allocate nothing.
type quickConn struct {
	network.Conn
	peer      peer.ID
	addr      ma.Multiaddr
	direction network.Direction
}

func (c *quickConn) RemotePeer() peer.ID           { return c.peer }
func (c *quickConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *quickConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: c.direction}}
}

func TestABlockOfSomeTimeEndsByItself(t *testing.T) {
	g := newGate(t, connmgr.GateConfig{})
	const short = 50 * time.Millisecond
	if err := g.Core().Block(context.Background(), peerTarget(stranger), short, "noise"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if g.InterceptPeerDial(stranger) && time.Since(begun) < short/2 {
		t.Error("the peer may be dialled right after the block, want it refused")
	}
	eventually(t, "the block ends", func() bool { return g.InterceptPeerDial(stranger) })
}
