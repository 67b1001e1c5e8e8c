package connmgrlibp2p_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// This file holds the limits at the door on real hosts, one newcomer after another. The
// hosts' resource managers have no limits: ours do all the work.

// dialAllAtOnce has new hosts dial one host, once each and all at the same time, and
// returns when all have got in or been refused.
func dialAllAtOnce(t *testing.T, to host.Host, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		h := newDialer(t)
		introduce(h, to)
		all.Go(func() { _, _ = dialPeer(t, h, to.ID()) })
	}
	within(t, "dialling", all.Wait)
}

// getsIn dials, and reports whether the guarded host lets the connection in.
func getsIn(t *testing.T, g *connmgrlibp2p.Gater, from, guarded host.Host) (in bool) {
	t.Helper()
	before := refusals(g).total()
	from.Peerstore().AddAddrs(guarded.ID(), guarded.Addrs(), time.Hour)
	_, _ = dialPeer(t, from, guarded.ID())
	eventually(t, "the newcomer is let in or refused", func() bool {
		in = connected(guarded, from)
		return in || refusals(g).total() > before
	})
	eventually(t, "the newcomer knows", func() bool { return connected(from, guarded) == in })
	return in
}

func TestANewcomerThatRanksHigherDisplacesSomebody(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const hard = 4
		cm := newManager(t, hard, hard, connmgrlibp2p.WithHardLimit(hard))
		guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
		var conns []network.Conn
		for _, h := range connectDialers(t, guarded, hard) {
			conns = append(conns, connTo(t, h, guarded))
		}
		wantCount(t, guarded, cm, hard)

		wantIn := func(who string, h host.Host, want bool, stillOpen int) {
			t.Helper()
			if got := getsIn(t, cm.Gater(), h, guarded); got != want {
				t.Errorf("%s gets in: %v, want %v", who, got, want)
			}
			eventually(t, fmt.Sprintf("%d of the first %d are left after %s", stillOpen, hard, who), func() bool { return countOpen(conns) == stillOpen })
		}
		nobody, tagged, protected := newDialer(t), newDialer(t), newDialer(t)
		wantIn("a newcomer like the others", nobody, false, hard)
		cm.TagPeer(tagged.ID(), "useful", 1)
		wantIn("a tagged newcomer", tagged, true, hard-1)
		cm.Protect(protected.ID(), "friend")
		wantIn("a protected newcomer", protected, true, hard-2)
		wantCount(t, guarded, cm, hard)
		for _, c := range guarded.Network().Conns() {
			cm.Protect(c.RemotePeer(), "all")
		}
		late := newDialer(t)
		cm.TagPeer(late.ID(), "useful", 100)
		wantIn("a tagged newcomer among protected peers", late, false, hard-2)
		if got := cm.Gater().Core().Stats().Displaced; got != 2 {
			t.Errorf("%d peers were displaced, want 2", got)
		}
	})
}

// TestATrustedNewcomerStaysBeyondTheHardLimit lets in two peers that an allow rule is
// about, and looks at whether a trim throws them out again.
func TestATrustedNewcomerStaysBeyondTheHardLimit(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const hard = 4
		cm := newManager(t, hard, hard, connmgrlibp2p.WithHardLimit(hard))
		guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
		connectDialers(t, guarded, hard)
		wantCount(t, guarded, cm, hard)
		for range 2 {
			trusted := newDialer(t)
			must(t, cm.Gater().Core().Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: peerTarget(trusted.ID())}))
			introduce(trusted, guarded)
			c, err := dialPeer(t, trusted, guarded.ID())
			must(t, err)
			eventually(t, "the manager has seen the trusted peer", func() bool {
				return c.IsClosed() || connected(guarded, trusted)
			})
			why, known := cm.Core().Explain(connmgr.NodeID(trusted.ID()), connmgr.TriggerHardLimit)
			if !known || why.Verdict.Reason.Closed() || c.IsClosed() {
				t.Errorf("a trusted peer beyond the hard limit is closed, or would be: known %v, verdict %v, closed %v; want it to stay",
					known, why.Verdict.Reason, c.IsClosed())
			}
		}
	})
}

func TestConnectionsFromOneAddressAreLimited(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const limit = 3
		for _, withAllow := range []bool{false, true} {
			cm := newManager(t, 100, 100, connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: perAddress(limit)}))
			guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
			friend, at := newDialer(t), connmgr.AtAccept
			if withAllow {
				// With such a rule the limit waits until it is known who it is.
				must(t, cm.Gater().Core().Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: peerTarget(friend.ID())}))
				at = connmgr.AtSecured
			}
			first := connectDialers(t, guarded, limit)
			late := newDialer(t)
			if getsIn(t, cm.Gater(), late, guarded) {
				t.Errorf("connection %d from one address gets in, want %d at most", limit+1, limit)
			}
			if got := refusals(cm.Gater())[at][connmgr.OverPrefixLimit]; got != 1 {
				t.Errorf("with an allow rule: %v: the limit refused %d connections at %v, want 1: %v", withAllow, got, at, refusals(cm.Gater()))
			}
			if withAllow && !getsIn(t, cm.Gater(), friend, guarded) {
				t.Error("a trusted peer is refused, want the limit not to be about it")
			}
			must(t, first[0].Network().ClosePeer(guarded.ID()))
			eventually(t, "one is gone", func() bool { return !connected(guarded, first[0]) })
			eventually(t, "another gets its place", func() bool { return getsIn(t, cm.Gater(), late, guarded) })

			// Nobody gets in between two checkpoints.
			for _, h := range append(first, late) {
				_ = h.Close()
			}
			eventually(t, "they are gone", func() bool {
				return slices.IndexFunc(guarded.Network().Peers(), func(p peer.ID) bool { return p != friend.ID() }) < 0
			})
			stop := watch(guarded, func(c network.Conn) bool { return c.RemotePeer() != friend.ID() })
			dialAllAtOnce(t, guarded, 3*limit)
			if most, _ := stop(); most != limit {
				t.Errorf("with %d dialers at once there were %d connections from one address, want %d", 3*limit, most, limit)
			}
		}
	})
}

func TestExemptAddressesAreNotLimited(t *testing.T) {
	limits := perAddress(1)
	limits.ExemptPrivate = true
	limits.PerPrefix[0].Rate = 0.001
	cm := newManager(t, 100, 100, connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: limits}))
	guarded := newGuarded(t, cm, transports["TCP"], golibp2p.ConnectionGater(cm.Gater()))
	connectDialers(t, guarded, 4)
	wantCount(t, guarded, cm, 4)
}

func TestTheRateOfNewConnectionsFromOneAddressIsLimited(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const burst = 2
		cm := newManager(t, 100, 100, connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: connmgr.GateLimits{
			PerPrefix: []connmgr.PrefixLimit{{IPv4: 32, Rate: 2, Burst: burst}},
		}}))
		guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
		late, friend := newDialer(t), newDialer(t)
		crowd := []host.Host{newDialer(t), newDialer(t)}
		events := cm.Core().Subscribe(1000)
		defer events.Close()
		for _, h := range crowd {
			if !getsIn(t, cm.Gater(), h, guarded) {
				t.Fatalf("refused within a burst of %d", burst)
			}
		}
		if getsIn(t, cm.Gater(), late, guarded) {
			t.Fatalf("connection %d gets in at once, want a burst of %d", burst+1, burst)
		}
		var next time.Time
		for next.IsZero() {
			if e, ok := (<-events.Events()).(connmgr.EventDenied); ok {
				if e.Err.Outcome != connmgr.OverRate {
					t.Fatalf("refused for %v, want %v", e.Err, connmgr.OverRate)
				}
				next = e.Err.Until
			}
		}
		must(t, cm.Gater().Core().Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: peerTarget(friend.ID())}))
		if !getsIn(t, cm.Gater(), friend, guarded) {
			t.Error("a trusted peer is refused, want the rate not to be about it")
		}
		eventually(t, "the rate lets the next one in", func() bool {
			begun := time.Now()
			in := getsIn(t, cm.Gater(), late, guarded)
			if ended := time.Now(); in && ended.Before(next) {
				t.Fatalf("in %v before the moment that the refusal named", next.Sub(ended))
			}
			if !in && !begun.Before(next) {
				t.Fatalf("refused %v after the moment that the refusal named", begun.Sub(next))
			}
			return in
		})
	})
}

// dialAgain opens a connection past the dialer's own host, which would not open a
// second one.
func dialAgain(t *testing.T, from, to host.Host) transport.CapableConn {
	t.Helper()
	addr := to.Addrs()[0]
	c, err := from.Network().(*swarm.Swarm).TransportForDialing(addr).Dial(t.Context(), addr, to.ID())
	if err != nil {
		t.Fatalf("dialling once more: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConnectionsOfOnePeerAreLimited(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const limit = 2
		for name, dir := range map[string]network.Direction{"inbound": network.DirInbound, "outbound first": network.DirOutbound} {
			t.Run(name, func(t *testing.T) {
				cm := newManager(t, 100, 100, connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: connmgr.GateLimits{MaxPerPeer: limit}}))
				guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
				other := newNeighbour(t, listen)
				introduce(guarded, other)
				if dir == network.DirOutbound {
					mustDial(t, guarded, other)
				} else {
					mustDial(t, other, guarded)
				}
				second := dialAgain(t, other, guarded)
				wantCount(t, guarded, cm, limit)
				third := dialAgain(t, other, guarded)
				eventually(t, "the third connection is closed", third.IsClosed)
				if got := refusals(cm.Gater())[connmgr.AtUpgraded][connmgr.OverPeerLimit]; got != 1 {
					t.Errorf("the limit per peer refused %d connections, want 1", got)
				}
				wantCount(t, guarded, cm, limit)
				must(t, connect(t, newDialer(t), guarded)) // somebody else may
				wantCount(t, guarded, cm, limit+1)
				must(t, second.Close())
				wantCount(t, guarded, cm, limit)
				dialAgain(t, other, guarded)
				wantCount(t, guarded, cm, limit+1)
			})
		}
	})
}
