package connmgrlibp2p_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file tries the defects of go-libp2p's trims on the drop-in. A twin subtest
// shows that go-libp2p's manager, in the version that go.mod names, has the defect.

func TestForceTrimReachesLowWaterAndClosesProtectedPeersLast(t *testing.T) {
	tests := []struct {
		unprotected, protected, low int
		// How many connections are left, and at go-libp2p.
		left, leftAtGoLibp2p int
	}{
		// go-libp2p closes no protected connection if it selected at least as many
		// others as are still to go.
		{unprotected: 10, protected: 10, low: 5, left: 5, leftAtGoLibp2p: 10},
		// If it selected fewer, it starts over and counts them a second time.
		{unprotected: 2, protected: 20, low: 5, left: 5, leftAtGoLibp2p: 7},
	}
	for _, test := range tests {
		run := func(t *testing.T, cm manager, want int) {
			others := dialMany(cm, "other", test.unprotected)
			friends := dialMany(cm, "friend", test.protected)
			for _, c := range friends {
				cm.Protect(c.peer, "friend")
				cm.TagPeer(c.peer, "friend", 1)
			}
			cm.ForceTrim()
			wantClosed(t, "unprotected", others, test.unprotected)
			if got := len(others) + len(friends) - countClosed(others) - countClosed(friends); got != want {
				t.Errorf("%d unprotected and %d protected connections, low water %d: %d are left, want %d",
					test.unprotected, test.protected, test.low, got, want)
			}
		}
		run(t, newManager(t, test.low, 100), test.left)
		t.Run(twin, func(t *testing.T) { run(t, newBasic(t, test.low, 100), test.leftAtGoLibp2p) })
	}
}

func TestBackgroundTrimsSetLastTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 5, 10, connmgrlibp2p.WithGracePeriod(0))
		if last := cm.GetInfo().LastTrim; !last.IsZero() {
			t.Errorf("LastTrim is %v before the first trim, want zero", last)
		}
		// One more than high water: the trim that this sets off is the only one.
		conns := dialMany(cm, "peer", 11)
		start := time.Now()
		passTime(11 * time.Second)
		wantClosed(t, "by itself", conns, 6)
		if last := cm.GetInfo().LastTrim; !last.Equal(start) {
			t.Errorf("LastTrim is %v, want %v, when the background trim was", last, start)
		}
	})
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cm := newBasic(t, 5, 10, basic.WithGracePeriod(0))
			conns := dialMany(cm, "peer", 20)
			passTime(11 * time.Second)
			wantClosed(t, "by itself", conns, 15)
			if last := cm.GetInfo().LastTrim; !last.IsZero() {
				t.Errorf("LastTrim is %v after a background trim, was zero", last)
			}
		})
	})
}

func TestTrimsStartAboveHighWaterNotAtIt(t *testing.T) {
	run := func(t *testing.T, cm manager, atHigh int) {
		conns := dialMany(cm, "peer", 10)
		passTime(time.Minute)
		wantClosed(t, "at high water", conns, atHigh)
	}
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 5, 10, connmgrlibp2p.WithGracePeriod(0))
		run(t, cm, 0)
		more := dial(cm, "one-more")
		synctest.Wait()
		if got := cm.GetInfo().ConnCount; got != 5 || more == nil {
			t.Errorf("%d connections are left above high water, want 5", got)
		}
	})
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 5, 10, basic.WithGracePeriod(0)), 5) })
	})
}

func TestProtectedConnectionsCountAgainstTheWatermarks(t *testing.T) {
	run := func(t *testing.T, cm manager, left int) {
		conns := dialMany(cm, "friend", 15)
		for _, c := range conns {
			cm.Protect(c.peer, "friend")
		}
		conns = append(conns, dialMany(cm, "other", 15)...)
		passTime(time.Hour)
		wantClosed(t, "with 15 of 30 protected, an hour later", conns, 30-left)
		if got := countClosed(conns[:15]); got != 0 {
			t.Errorf("%d protected connections are closed, want none", got)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		// 20 are to go, but no more than 15 may.
		run(t, newManager(t, 10, 20, connmgrlibp2p.WithGracePeriod(0)), 15)
	})
	t.Run("with go-libp2p's budget", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			run(t, newManager(t, 10, 20, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithBudget(connmgr.BudgetTrimmable)), 25)
		})
	})
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 10, 20, basic.WithGracePeriod(0)), 25) })
	})
}

func TestAHardLimitBoundsNewcomersInGrace(t *testing.T) {
	const newcomers = 5000
	// left returns how many of the newcomers are there after a while, still in
	// their grace period.
	left := func(cm manager) int {
		conns := dialMany(cm, "newcomer", newcomers)
		passTime(50 * time.Second)
		return newcomers - countClosed(conns)
	}
	synctest.Test(t, func(t *testing.T) {
		// Trims go down to high water; how many came since the last one is chance.
		if got := left(newManager(t, 100, 400, connmgrlibp2p.WithHardLimit(600))); got < 400 || got > 600 {
			t.Errorf("%d of %d newcomers are left, want 400 to 600", got, newcomers)
		}
	})
	t.Run("1.5 times high water by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if got := left(newManager(t, 100, 400)); got < 400 || got > 600 {
				t.Errorf("%d of %d newcomers are left, want 400 to 600", got, newcomers)
			}
		})
	})
	for _, none := range []struct {
		what   string
		option connmgrlibp2p.Option
	}{
		{"none with go-libp2p's budget", connmgrlibp2p.WithBudget(connmgr.BudgetTrimmable)},
		{"none if asked for", connmgrlibp2p.WithHardLimit(math.MaxInt)},
	} {
		t.Run(none.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := left(newManager(t, 100, 400, none.option)); got != newcomers {
					t.Errorf("%d of %d newcomers are left, want all", got, newcomers)
				}
			})
		})
	}
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if got := left(newBasic(t, 100, 400)); got != newcomers {
				t.Errorf("%d of %d newcomers are left, were all", got, newcomers)
			}
		})
	})
}

func TestATrimAsksFewConnectionsForTheirStreams(t *testing.T) {
	const conns = 5000
	statCalls := func(t *testing.T, cm libp2p.ConnManager) (calls int64) {
		n := 0
		all := dialMany(cm, "peer", conns, func(c *fakeConn) {
			n++
			c.streams = n * 7919 % 101 // in no order
		})
		for _, c := range all {
			c.statCalls.Store(0)
		}
		trim(t, cm)
		wantClosed(t, "after the trim", all, conns/2)
		for _, c := range all {
			calls += c.statCalls.Load()
		}
		return calls
	}
	if got := statCalls(t, newManager(t, conns/2, 2*conns, connmgrlibp2p.WithGracePeriod(0))); got > conns {
		t.Errorf("a trim of %d connections calls Stat %d times, want at most once each", conns, got)
	}
	t.Run(twin, func(t *testing.T) {
		if got := statCalls(t, newBasic(t, conns/2, 2*conns, basic.WithGracePeriod(0))); got < 10*conns {
			t.Errorf("a trim of %d connections calls Stat %d times, was more than %d", conns, got, 10*conns)
		}
	})
}

// TestTheOrderHoldsWhileStreamsComeAndGo has connections whose streams change
// between two questions, as they do under load, and that call back when asked,
// which would hang go-libp2p's manager: it asks under its locks.
func TestTheOrderHoldsWhileStreamsComeAndGo(t *testing.T) {
	const conns, low = 1000, 600
	cm := newManager(t, low, 2*conns, connmgrlibp2p.WithGracePeriod(0))
	asked := 0
	all := dialMany(cm, "peer", conns, func(c *fakeConn) {
		c.onStat = func() {
			asked++
			c.streams = (c.streams + 1) % 3
			cm.GetTagInfo(c.peer)
		}
	})
	for i, c := range all {
		cm.TagPeer(c.peer, "worth", i%4)
	}
	asked = 0
	within(t, "a trim while streams change", func() { trim(t, cm) })
	if asked == 0 {
		t.Error("no connection was asked for its streams, so the test shows nothing")
	}
	wantClosed(t, "down to low water", all, conns-low)
	for i, c := range all {
		// 250 are worth nothing, so they go, and 150 of the 250 that are worth 1.
		if worth := i % 4; worth == 0 && !c.closed.Load() || worth > 1 && c.closed.Load() {
			t.Fatalf("closed is %v for a peer worth %d, while 100 peers worth 1 stay", c.closed.Load(), worth)
		}
	}
}

// closeWorkers is how many connections the core closes at the same time.
const closeWorkers = 16

func TestAPeerProtectedAfterSelectionIsSpared(t *testing.T) {
	spared(t, func(cm libp2p.ConnManager, c *fakeConn) { cm.Protect(c.peer, "just in time") })
}

func TestAPeerWhoseScoreRisesAfterSelectionIsSpared(t *testing.T) {
	spared(t, func(cm libp2p.ConnManager, c *fakeConn) { cm.TagPeer(c.peer, "just in time", 1000) })
}

// spared selects 100 peers for closing, does something to all of them during the
// first Close, and expects that those live whose turn has not come.
func spared(t *testing.T, save func(libp2p.ConnManager, *fakeConn)) {
	t.Helper()
	run := func(t *testing.T, cm libp2p.ConnManager) []*fakeConn {
		var conns []*fakeConn
		var once sync.Once
		conns = dialMany(cm, "peer", 100, func(c *fakeConn) {
			c.onClose = func() {
				once.Do(func() {
					for _, c := range conns {
						save(cm, c)
					}
				})
			}
		})
		dial(cm, "last")
		cm.TagPeer("last", "worth", 1)
		trim(t, cm)
		return conns
	}
	cm := newManager(t, 1, 200, connmgrlibp2p.WithGracePeriod(0))
	conns := run(t, cm)
	if got := countClosed(conns); got < 1 || got > closeWorkers {
		t.Errorf("%d of 100 connections are closed, want those alone whose Close was under way: 1 to %d", got, closeWorkers)
	}
	if got := int(cm.Core().Stats().SparedPeers); got != 100-countClosed(conns) {
		t.Errorf("%d peers are counted as spared, want %d", got, 100-countClosed(conns))
	}
	t.Run(twin, func(t *testing.T) {
		wantClosed(t, "selected before", run(t, newBasic(t, 1, 200, basic.WithGracePeriod(0))), 100)
	})
}

func TestConcurrentCloseIsSafe(t *testing.T) {
	for range 100 {
		cm := newManager(t, 1, 2)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := cm.Close(); err != nil {
					t.Errorf("Close, called 8 times at once: %v", err)
				}
			})
		}
		all.Wait()
	}
	t.Run(twin, func(t *testing.T) { crashes(t, "concurrent Close", "close of closed channel") })
}

func TestAnEmptyDecayerCfgMeansTheDefaults(t *testing.T) {
	cm := newManager(t, 1, 2, connmgrlibp2p.DecayerConfig(&connmgrlibp2p.DecayerCfg{}))
	tag := mustRegister(t, cm, "tag", time.Second, libp2p.DecayNone(), libp2p.BumpOverwrite())
	if got := tag.Interval(); got != time.Minute {
		t.Errorf("interval is %v, want the default resolution, 1m", got)
	}
	wantRefused(t, "a negative resolution", 1, 2, connmgrlibp2p.DecayerConfig(&connmgrlibp2p.DecayerCfg{Resolution: -1}))
	t.Run(twin, func(t *testing.T) { crashes(t, "empty DecayerCfg", "non-positive interval") })
}

func TestAConnectionThatHangsInCloseDelaysNoOther(t *testing.T) {
	run := func(t *testing.T, cm manager, want int) {
		release := make(chan struct{})
		worst := dial(cm, "worst", func(c *fakeConn) { c.onClose = func() { <-release } })
		cm.TagPeer("worst", "bad", -1) // so it is the first to go
		conns := dialMany(cm, "peer", 10)
		ended := make(chan struct{})
		go func() {
			cm.TrimOpenConns(context.WithoutCancel(t.Context()))
			close(ended)
		}()
		passTime(2 * time.Second)
		wantClosed(t, "while another hangs in its Close", conns, want)
		select {
		case <-ended:
			if want == 0 {
				t.Error("the trim has ended, did wait for the connection that hangs")
			}
		default:
			if want > 0 {
				t.Error("the trim still waits for the connection that hangs, after 2 s")
			}
		}
		close(release)
		<-ended
		synctest.Wait()
		wantClosed(t, "released", []*fakeConn{worst}, 1)
	}
	synctest.Test(t, func(t *testing.T) { run(t, newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0)), 9) })
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 1, 100, basic.WithGracePeriod(0)), 0) })
	})
}
