package connmgr_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests keep checks of connections that pass from allocating, with no rules and
// with many. rules_scale_test.go has the benchmarks.

// expectNoAllocs has every checkpoint pass a peer at each of some addresses.
func expectNoAllocs(t *testing.T, what string, g *connmgr.Gater, addrs ...netip.AddrPort) {
	t.Helper()
	const peer = "peer"
	conn := connmgrtest.NewConn(peer, connmgrtest.Outbound())
	i := 0
	for name, check := range map[string]func(at netip.AddrPort) error{
		"peer dial":          func(netip.AddrPort) error { return g.InterceptPeerDial(peer) },
		"address dial":       func(at netip.AddrPort) error { return g.InterceptAddrDial(peer, at) },
		"accept":             func(at netip.AddrPort) error { return g.InterceptAccept(at) },
		"secured, inbound":   func(at netip.AddrPort) error { return g.InterceptSecured(connmgr.DirInbound, peer, at) },
		"secured, outbound":  func(at netip.AddrPort) error { return g.InterceptSecured(connmgr.DirOutbound, peer, at) },
		"upgraded, outbound": func(at netip.AddrPort) error { return g.InterceptUpgraded(connmgr.DirOutbound, peer, at, conn) },
	} {
		failed := error(nil)
		allocs := testing.AllocsPerRun(500, func() {
			i++
			if err := check(addrs[i%len(addrs)]); err != nil {
				failed = err
			}
		})
		if failed != nil {
			t.Errorf("%s, %s: %v, want it to pass", what, name, failed)
		}
		if allocs > 0 {
			t.Errorf("%s, %s: a check that passes allocates %v times, want 0", what, name, allocs)
		}
	}
}

func TestAPassAllocatesNothing(t *testing.T) {
	expectNoAllocs(t, "without rules", gateWith(t), addrPort("10.0.0.1"), netip.AddrPort{})

	n := 100_000
	if raceDetector() {
		n = 10_000
	}
	g := gateWith(t)
	rules := denyAll(manyPrefixes(n))
	for i := range n / 10 {
		rules = append(rules, denyPeer(string(peerID(i))), deny(connmgr.PortTarget(uint16(i))))
	}
	replace(t, g, "list", rules...)
	expectNoAllocs(t, fmt.Sprintf("with %d rules", len(rules)), g, passingAddrs(t, g, 100)...)
}

func TestAPassByAHoleAllocatesNothing(t *testing.T) {
	end := time.Now().Add(time.Hour)
	g := gateWith(
		t,
		with(deny(prefix("10.0.0.0/8")), end, ""), with(allow(prefix("10.1.0.0/16")), end, ""),
		with(allow(connmgr.PeerTarget("peer")), end, "x"), allow(connmgr.PeerTarget("peer")), allow(connmgr.PortTarget(4001)),
		allow(prefix("64:ff9b::/96")),
	)
	expectNoAllocs(t, "by an allow rule", g, addrPort("10.1.0.1"), addrPort("::ffff:10.1.0.1"), addrPort("64:ff9b::10.1.0.1"), addrPort("fe80::1%7"))
}

func TestAPassByRulesThatHaveEndedAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Second)
		g := gateWith(
			t,
			with(deny(addr("10.1.2.3")), end, ""), with(deny(prefix("10.1.2.0/24")), end, ""), allow(prefix("10.1.0.0/16")),
			with(deny(connmgr.PeerTarget("peer")), end, ""), with(deny(addr("2001:db8::1")), end, ""),
		)
		<-time.After(time.Second)
		expectNoAllocs(t, "by rules that have ended", g, addrPort("10.1.2.3"), addrPort("2001:db8::1"))
	})
}

// What a newcomer gets when it passes is its place in the table of peers.
func TestAnArrivalAllocatesAtMostOnce(t *testing.T) {
	m := newManager(t, spacious())
	c := &bareConn{"peer"}
	at := addrPort("10.0.0.1")
	allocs := testing.AllocsPerRun(1000, func() {
		if m.Gater().InterceptAccept(at) != nil || m.Gater().InterceptSecured(connmgr.DirInbound, "peer", at) != nil ||
			m.Gater().InterceptUpgraded(connmgr.DirInbound, "peer", at, c) != nil {
			t.Error("the newcomer was refused")
		}
		m.Connected("peer", c)
		m.Disconnected("peer", c)
	})
	if allocs > 1 {
		t.Errorf("a connection through all checkpoints allocates %v times, want at most once", allocs)
	}
}
