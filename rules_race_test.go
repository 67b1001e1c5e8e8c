package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests change rules from several goroutines, while others ask, connect, and
// save. They are made for the race detector, but look at what comes out as well.

// whileBusy calls f from n goroutines, again and again, until work returns.
func whileBusy(n int, f func(i int), work func()) {
	var all sync.WaitGroup
	var done atomic.Bool
	for i := range n {
		all.Go(func() {
			for !done.Load() {
				f(i)
			}
		})
	}
	work()
	done.Store(true)
	all.Wait()
}

func TestNobodySeesHalfAReplacement(t *testing.T) {
	const peer, inside = connmgr.NodeID("p"), "10.0.0.1"
	wrapped := addrPort("64:ff9b::" + inside)
	// Each pair of lists says the same in other words.
	lists := [][]connmgr.Rule{
		{deny(connmgr.PeerTarget(peer)), deny(addr(inside))},
		{deny(prefix(wrapped.Addr().String() + "/128"))},
	}
	for i := range 300 { // so that it takes a while, and both ways of making the next set are used
		lists[1] = append(lists[1], deny(prefix(fmt.Sprintf("192.%d.%d.0/24", i/256, i%256))))
	}
	g := gateWith(t)
	replace(t, g, "list", lists[0]...)
	ask := func(int) {
		if g.InterceptSecured(connmgr.DirInbound, peer, wrapped) == nil {
			t.Error("a connection passed that the old list denies, and the new one")
		}
		r := g.Lookup(peer, addrPort(inside))
		if (r.Peer == nil) != (r.Addr == nil) {
			t.Errorf("a Lookup found the rules %v and %v, want both or none", r.Peer, r.Addr)
		}
		if n := len(slices.Collect(g.Rules())); n != len(lists[0]) && n != len(lists[1]) {
			t.Errorf("a list has %d rules, want %d or %d", n, len(lists[0]), len(lists[1]))
		}
	}
	whileBusy(2, ask, func() {
		for i := range 200 {
			replace(t, g, "list", lists[(i+1)%2]...)
			runtime.Gosched()
		}
	})
}

// checkpointsAtOnce asks all checkpoints about somebody.
func checkpointsAtOnce(g *connmgr.Gater, i int) {
	for _, cp := range everyCheckpoint {
		_ = cp.ask(g, peerID(i%20), addrPort(fmt.Sprintf("10.0.0.%d", i%20)))
	}
}

func TestInTheEndTheStoreHasWhatIsInForce(t *testing.T) {
	for _, failing := range []bool{false, true} {
		m, store := gateWithStore(t)
		g := m.Gater()
		sub := m.Subscribe(1)
		var saves atomic.Int64
		store.OnSave(func([]connmgr.RuleChange) error {
			runtime.Gosched() // so that others come meanwhile
			if n := saves.Add(1); failing && n%3 == 0 {
				return errors.New("disk full")
			} else if failing && n%7 == 0 {
				panic("boom")
			}
			return nil
		})
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 9))
				for range 400 {
					r := from(deny(prefix(fmt.Sprintf("10.0.0.%d/32", rng.IntN(20)))), "")
					if rng.IntN(2) == 0 {
						r = from(denyPeer(string(peerID(rng.IntN(20)))), "list")
					}
					var err error
					switch rng.IntN(6) {
					case 0, 1:
						r.Reason = fmt.Sprint(rng.IntN(3))
						err = g.Add(context.Background(), r)
					case 2:
						_, err = g.Remove(context.Background(), r, denyPeer(string(peerID(rng.IntN(20)))))
					case 3:
						_, err = g.Unblock(context.Background(), r.Target)
					case 4:
						_, err = g.Replace(context.Background(), "list", []connmgr.Rule{from(r, ""), denyPeer(string(peerID(rng.IntN(20))))})
					case 5:
						checkpointsAtOnce(g, rng.IntN(20))
						select {
						case e := <-sub.Events(): // reads all that there is in it
							if rules, ok := e.(connmgr.EventRules); ok && len(rules.Changes) == 0 || fmt.Sprint(e) == "" {
								t.Error("told of a change of no rules")
							}
						default:
						}
					}
					if err != nil && !failing {
						t.Errorf("error: %v", err)
					}
				}
			})
		}
		all.Wait()
		store.FailSaves(nil)
		add(t, g, denyPeer("the last")) // takes along what could not be saved
		expectStored(t, m, store)
		if n := int(saves.Load()); !failing && n == 0 {
			t.Error("nothing was saved")
		}
	}
}

func TestACallThatReturnedIsSavedThoughTheManagerCloses(t *testing.T) {
	for range 20 {
		m, store := gateWithStore(t)
		store.OnSave(func([]connmgr.RuleChange) error { runtime.Gosched(); return nil })
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range 20 {
					r := denyPeer(fmt.Sprint(i, " ", n))
					add(t, m.Gater(), r)
					if !slices.ContainsFunc(store.Rules(), r.Same) {
						t.Errorf("Add of %v returned before it was saved", r)
					}
				}
			})
		}
		all.Go(func() { closeManager(t, m) })
		all.Wait()
		if n := len(store.Rules()); n != 80 {
			t.Errorf("the store has %d rules, want 80", n)
		}
		expectStored(t, m, store)
	}
}

func TestNoConnectionOfABlockedPeerStaysWheneverItCame(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNodeOrHosted(t, tight(1000, 2000), hosted)
			g := m.Gater()
			var all sync.WaitGroup
			for i := range 3 {
				all.Go(func() {
					for n := range 100 {
						id := peerID((n + i) % 10)
						c := connmgrtest.NewConn(id)
						if g.InterceptUpgraded(connmgr.DirInbound, id, addrPort("10.0.0.1"), c) == nil {
							g.Release(id, c)
						}
						host.Connect(id, at(fmt.Sprintf("10.0.%d.%d", i, n)))
					}
				})
			}
			all.Go(func() {
				for n := range 50 {
					block(t, m, connmgr.PeerTarget(peerID(n%10)))
					if n%20 < 10 {
						_, _ = g.Unblock(context.Background(), connmgr.PeerTarget(peerID(n%10)))
					}
					_ = replace(t, g, "list", deny(prefix(fmt.Sprintf("10.0.0.0/%d", 24+n%4))))
				}
			})
			all.Wait()
			advance(2 * connmgr.DefaultSilencePeriod) // a host asked meanwhile may have told of some that were going
			denied := 0
			for _, c := range host.Connections() {
				if c := c.(*connmgrtest.Conn); g.Lookup(c.RemotePeer(), c.RemoteAddrPort()).Denied() {
					denied++
				}
			}
			if denied > 0 {
				t.Errorf("%d of %d open connections are denied by a rule in force", denied, host.Len())
			}
			if s := m.Stats(); s.Conns != host.Len() || s.Closing != 0 {
				t.Errorf("%d connections and %d being closed, want %d and none", s.Conns, s.Closing, host.Len())
			}
		})
	}
}

// Two who change the same rule again and again end with the store of one mind.
func TestTheLastWordIsSaved(t *testing.T) {
	m, store := gateWithStore(t)
	whileBusy(2, func(i int) {
		if i == 0 {
			add(t, m.Gater(), denyPeer("alice"))
			return
		}
		_, _ = m.Gater().Remove(context.Background(), denyPeer("alice"))
	}, func() {
		for range 500 {
			checkpointsAtOnce(m.Gater(), 1)
			runtime.Gosched()
		}
	})
	expectStored(t, m, store)
}
