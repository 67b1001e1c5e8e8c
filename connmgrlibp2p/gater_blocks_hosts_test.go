package connmgrlibp2p_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// This file blocks what is connected, on real hosts, with the gater of a manager and
// with a gater by itself.

// guardedBy makes a host with a gater that is the manager's or by itself.
var guardedBy = map[string]func(t *testing.T, listen string) (host.Host, *connmgrlibp2p.Gater){
	"manager": func(t *testing.T, listen string) (host.Host, *connmgrlibp2p.Gater) {
		cm := newManager(t, 100, 100)
		return newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater())), cm.Gater()
	},
	"alone": func(t *testing.T, listen string) (host.Host, *connmgrlibp2p.Gater) {
		g := newAlone(t, connmgr.GateConfig{})
		return newGuarded(t, newBasic(t, 100, 100), listen, golibp2p.ConnectionGater(g)), g
	},
	"basic": func(t *testing.T, listen string) (host.Host, *connmgrlibp2p.Gater) {
		g := newBasicAlone(t)
		return newGuarded(t, newBasic(t, 100, 100), listen, golibp2p.ConnectionGater(g)), g
	},
}

func TestABlockClosesWhatIsConnected(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		for name, newGuardedBy := range guardedBy {
			t.Run(name, func(t *testing.T) {
				guarded, g := newGuardedBy(t, listen)
				other := newNeighbour(t, listen)
				introduce(guarded, other)
				for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
					from, to := other, guarded
					if dir == network.DirOutbound {
						from, to = guarded, other
					}
					targets := []connmgr.Target{peerTarget(other.ID()), connmgr.AddrTarget(loopback), netTarget("127.0.0.0/8")}
					if name != "manager" { // these wait a while before they close
						targets = targets[int(dir):][:1]
					}
					for _, target := range targets {
						mustDial(t, from, to)
						theirs := connTo(t, other, guarded)
						must(t, g.Core().Block(t.Context(), target, 0, "test"))
						if connected(guarded, other) {
							t.Errorf("%v, block of %v: there is a connection when Block has returned, want it closed", dir, target)
						}
						wantToldGated(t, theirs)
						wantApart(t, guarded, other)

						// Nobody gets back in, whoever dials.
						if c, err := dialPeer(t, guarded, other.ID()); err == nil {
							t.Errorf("%v, block of %v: dialled again: %v", dir, target, c)
						}
						_, _ = dialPeer(t, other, guarded.ID())
						wantApart(t, guarded, other)
						unblock(t, g, target)
						if dir == network.DirOutbound { // at once: go-libp2p must not wait since it was refused
							if _, err := guarded.Network().DialPeer(t.Context(), other.ID()); err != nil {
								t.Errorf("dialling right after %v was unblocked: %v", target, err)
							}
						}
						must(t, mustDial(t, from, to).Close())
						wantApart(t, guarded, other)
					}
				}
			})
		}
	})
}

func TestTheReasonOfABlockIsTold(t *testing.T) {
	cm := newManager(t, 100, 100)
	guarded := newGuarded(t, cm, transports["TCP"], golibp2p.ConnectionGater(cm.Gater()))
	other := newNeighbour(t, transports["TCP"])
	introduce(guarded, other)
	mustDial(t, other, guarded)
	events := cm.Core().Subscribe(100)
	defer events.Close()
	must(t, cm.Gater().BlockPeer(other.ID()))
	for {
		select {
		case e := <-events.Events():
			closed, ok := e.(connmgr.EventClosed)
			if !ok {
				continue
			}
			if closed.Peer != connmgr.NodeID(other.ID()) || closed.Reason != connmgr.ClosedBlocked || closed.Trigger != connmgr.TriggerRule || closed.Conns != 1 {
				t.Errorf("EventClosed is %+v, want 1 connection of the other host closed for %v, set off by %v", closed, connmgr.ClosedBlocked, connmgr.TriggerRule)
			}
			return
		case <-time.After(patience):
			t.Fatal("no EventClosed came")
		}
	}
}

func TestBlockingAtGoLibp2pLeavesConnectionsOpen(t *testing.T) {
	// What ours does is TestABlockClosesWhatIsConnected's.
	t.Run(gaterTwin, func(t *testing.T) {
		g := newBasicGater(t)
		guarded := newGuarded(t, newBasic(t, 100, 100), transports["TCP"], golibp2p.ConnectionGater(g))
		other := newNeighbour(t, transports["TCP"])
		introduce(guarded, other)
		c := mustDial(t, other, guarded)
		must(t, g.BlockPeer(other.ID()))
		must(t, g.BlockAddr(loopback.AsSlice()))
		must(t, g.BlockSubnet(parseCIDR(t, "127.0.0.0/8")))
		s, err := c.NewStream(t.Context())
		if err != nil {
			t.Fatalf("a new stream after the block: %v, was possible", err)
		}
		_ = s.Reset()
		if !connected(guarded, other) {
			t.Error("the connection is closed after the block, was open")
		}
	})
}

func TestABlockOfARealHostEndsAtItsMoment(t *testing.T) {
	for name, newGuardedBy := range guardedBy {
		t.Run(name, func(t *testing.T) {
			guarded, g := newGuardedBy(t, transports["TCP"])
			other := newNeighbour(t, transports["TCP"])
			introduce(guarded, other)
			mustDial(t, other, guarded)
			const long = 300 * time.Millisecond
			must(t, g.Core().Block(t.Context(), peerTarget(other.ID()), long, "test"))
			if connected(guarded, other) {
				t.Error("there is a connection when Block has returned, want it closed")
			}
			rule := g.Core().Lookup(connmgr.NodeID(other.ID()), netip.AddrPort{}).Peer
			if rule == nil {
				t.Fatal("no rule is in force right after the block")
			}
			end := rule.Expires
			refused := 0
			eventually(t, "the block ends", func() bool {
				begun := time.Now()
				_, err := dialPeer(t, guarded, other.ID())
				switch ended := time.Now(); {
				case err == nil && ended.Before(end):
					t.Fatalf("dialled %v before the end of the block", end.Sub(ended))
				case err != nil && !begun.Before(end):
					t.Fatalf("refused %v after the end of the block: %v", begun.Sub(end), err)
				case err != nil:
					refused++
				}
				return err == nil
			})
			if refused == 0 {
				t.Error("no dial was refused, want all before the end of the block")
			}
		})
	}
}

// TestAManagerAndItsGaterAreOneThingToSetUp has the two lines of a user, and nothing
// else changed.
func TestAManagerAndItsGaterAreOneThingToSetUp(t *testing.T) {
	cm, err := connmgrlibp2p.NewConnManager(100, 400)
	must(t, err)
	guarded, err := golibp2p.New(
		golibp2p.ListenAddrStrings(transports["TCP"], transports["QUIC"]),
		golibp2p.ConnectionManager(cm),
		golibp2p.ConnectionGater(cm.Gater()),
	)
	must(t, err)
	other := newDialer(t)
	must(t, connect(t, other, guarded))
	wantCount(t, guarded, cm, 1)
	must(t, cm.Gater().BlockPeer(other.ID()))
	wantCount(t, guarded, cm, 0)
	wantApart(t, guarded, other)
	closeHost(t, guarded)
	wantClosedForGood(t, cm)
}
