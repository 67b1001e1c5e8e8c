package connmgr_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests have connections that close later than a trim waits for them, only
// in part, or with an error though they are gone. What is closed in the end has a
// verdict: it is counted and told like any other.

// newNodeOrHosted is newHosted or newNode.
func newNodeOrHosted(t testing.TB, cfg connmgr.Config, hosted bool) (*connmgr.Manager, *connmgrtest.Host) {
	t.Helper()
	if hosted {
		return newHosted(t, cfg)
	}
	return newNode(t, cfg)
}

// takes makes a connection take a while to close, or to fail to.
func takes(d time.Duration, err error) connmgrtest.Option {
	return connmgrtest.OnClose(func(connmgr.Reason) error {
		<-time.After(d)
		return err
	})
}

// closedEvents returns the peers that a subscriber has been told of as closed
// since it was asked last.
func closedEvents(sub *connmgr.Subscription) (closed []connmgr.EventClosed) {
	for len(sub.Events()) > 0 {
		if e, ok := (<-sub.Events()).(connmgr.EventClosed); ok {
			closed = append(closed, e)
		}
	}
	return closed
}

func TestALateVerdictIsThatOfTheTrimThatClosed(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNodeOrHosted(t, tight(0, 100), hosted)
			host.Connect("slow", takes(time.Minute, nil), connmgrtest.LoseDisconnected())
			host.Connect("slow")
			host.Connect("friend")
			m.Protect("friend", "x")
			m.TagPeer("slow", "a", 7)
			sub := m.Subscribe(1000)
			start := time.Now()
			if o := <-begin(context.Background(), m.ForceTrim); o.res.Hanging != 1 {
				t.Fatalf("the test is wrong: %d peers hang, want the slow one", o.res.Hanging)
			}
			connectMany(host, 50) // other trims go on meanwhile
			if res := trim(t, m); len(res.Closed) != 50 {
				t.Fatalf("the test is wrong: the next trim closed %d, want 50", len(res.Closed))
			}
			closedEvents(sub)

			advance(2 * time.Minute)
			want := connmgr.EventClosed{
				Verdict: connmgr.Verdict{Peer: "slow", Reason: connmgr.ClosedForced, Score: 7, Rank: 1, Conns: 2},
				Trigger: connmgr.TriggerForce,
				At:      start.Add(time.Minute),
			}
			if got := closedEvents(sub); len(got) != 1 || got[0] != want {
				t.Errorf("with host %v: told %+v, want once %+v", hosted, got, want)
			}
			s := m.Stats()
			if s.ClosedPeers[connmgr.ClosedForced] != 1 || s.ClosedPeers[connmgr.ClosedForcedProtected] != 1 || s.ClosedPeers[connmgr.ClosedLowScore] != 50 {
				t.Errorf("with host %v: closed %v; want 1 by force, 1 though protected, 50 for low score", hosted, s.ClosedPeers)
			}
			if s.HangingPeers != 0 || s.CloseErrors != 0 {
				t.Errorf("with host %v: hanging %d, errors %d; want none", hosted, s.HangingPeers, s.CloseErrors)
			}
		})
	}
}

func TestACloseThatFailsLateHasNoVerdictAndIsTriedAgain(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNodeOrHosted(t, tight(0, 100), hosted)
			c := host.Connect("p", takes(5*time.Second, errors.New("no way")))
			sub := m.Subscribe(1000)
			trim(t, m)
			advance(time.Minute)
			if s := m.Stats(); len(s.ClosedPeers) != 0 || s.CloseErrors != 1 || s.HangingPeers != 0 || s.Closing != 0 || s.Conns != 1 {
				t.Errorf("with host %v: closed %v, errors %d, hanging %d, closing %d, open %d; want none, 1, 0, 0, 1",
					hosted, s.ClosedPeers, s.CloseErrors, s.HangingPeers, s.Closing, s.Conns)
			}
			if got := closedEvents(sub); len(got) != 0 {
				t.Errorf("with host %v: told %+v, though it is open", hosted, got)
			}
			c.SetOnClose(nil)
			if res := trim(t, m); len(res.Closed) != 1 || host.Len() != 0 {
				t.Errorf("with host %v: the next trim closed %v, want it tried again", hosted, closedPeers(res))
			}
		})
	}
}

func TestTheVerdictOfAPeerWaitsForItsSlowestConnection(t *testing.T) {
	for _, tt := range []struct {
		what  string
		err   error // of the connection that hangs, in the end
		conns int
	}{
		{"closes", nil, 3},
		{"fails", errors.New("no way"), 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNode(t, tight(0, 100))
			first := host.Connect("p")
			host.Connect("p", takes(time.Minute, tt.err))
			last := host.Connect("p")
			sub := m.Subscribe(1000)
			done := begin(context.Background(), m.Trim)
			if first.Open() || last.Open() {
				t.Errorf("one that %s late: its siblings are open (%v, %v), want them closed at once", tt.what, first.Open(), last.Open())
			}
			<-done
			if got := closedEvents(sub); len(got) != 0 {
				t.Errorf("one that %s late: told %+v before all is known", tt.what, got)
			}
			advance(2 * time.Minute)
			if got := closedEvents(sub); len(got) != 1 || got[0].Peer != "p" || got[0].Conns != tt.conns {
				t.Errorf("one that %s late: told %+v, want one verdict with %d connections", tt.what, got, tt.conns)
			}
			if s := m.Stats(); s.ClosedPeers[connmgr.ClosedLowScore] != 1 || s.Conns != 3-tt.conns {
				t.Errorf("one that %s late: closed %v, open %d; want 1 and %d", tt.what, s.ClosedPeers, s.Conns, 3-tt.conns)
			}
		})
	}
}

// A stranger can open as many connections as he likes and let as many hang.
func TestManyThatHangDoNotKeepTheOthersOfTheirPeerOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		var hung []*connmgrtest.Conn
		for range 2 * closedAtOnce {
			hung = append(hung, host.Connect("p", connmgrtest.HangOnClose()))
		}
		for range 50 {
			host.Connect("p")
		}
		trim(t, m)
		advance(time.Minute)
		if host.Len() != len(hung) {
			t.Errorf("a minute after the trim %d connections are open, want the %d that hang", host.Len(), len(hung))
		}
		for _, c := range hung {
			c.Release()
		}
		synctest.Wait()
		if host.Len() != 0 {
			t.Errorf("when none hangs any more %d connections are open, want none", host.Len())
		}
	})
}

func TestOnePeerWithThousandsOfConnectionsIsClosedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 2000
		m, host := newNode(t, tight(0, 10_000))
		var closing, most, goroutines atomic.Int64
		for range conns {
			host.Connect("p", connmgrtest.OnClose(func(connmgr.Reason) error {
				atLeast(&most, closing.Add(1))
				atLeast(&goroutines, int64(runtime.NumGoroutine()))
				<-time.After(time.Millisecond)
				closing.Add(-1)
				return nil
			}))
		}
		before := runtime.NumGoroutine()
		res := trim(t, m)
		if len(res.Closed) != 1 || res.Closed[0].Conns != conns || host.Len() != 0 {
			t.Errorf("closed %+v and left %d connections, want one peer with all its %d", res.Closed, host.Len(), conns)
		}
		if most.Load() > closedAtOnce {
			t.Errorf("%d connections were being closed at the same time, want at most %d", most.Load(), closedAtOnce)
		}
		// One that is done counts until it has ended, which takes a while on a busy machine.
		if more := goroutines.Load() - int64(before); more > 10*closedAtOnce {
			t.Errorf("closing one peer took %d goroutines, want few", more)
		}
	})
}

func atLeast(most *atomic.Int64, n int64) {
	for {
		old := most.Load()
		if n <= old || most.CompareAndSwap(old, n) {
			return
		}
	}
}

func TestTheOthersDoNotWaitLongBehindHundredsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		const hanging = 512
		hung := connectMany(host, hanging, connmgrtest.HangOnClose())
		for i := range hung {
			m.TagPeer(peerID(i), "first to go", -1)
		}
		for i := range 50 {
			host.Connect(peerID(1000 + i))
		}
		o := <-begin(context.Background(), m.Trim)
		if o.took > 6*time.Second || o.res.Hanging != hanging || len(o.res.Closed) != 50 {
			t.Errorf("the trim took %v, hanging %d, closed %d; want a few seconds, %d, 50", o.took, o.res.Hanging, len(o.res.Closed), hanging)
		}
		for _, c := range hung {
			c.Release()
		}
		synctest.Wait()
		if s := m.Stats(); s.ClosedPeers[connmgr.ClosedLowScore] != hanging+50 || s.HangingPeers != 0 {
			t.Errorf("in the end closed %v, hanging %d; want all %d and 0", s.ClosedPeers, s.HangingPeers, hanging+50)
		}
	})
}

// Many a protocol reports trouble with its farewell, such as a broken pipe, from
// the Close of a connection that is gone then.
func TestAnErrorFromAConnectionThatIsGoneIsNoFailure(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var book logBook
			cfg := tight(0, 100)
			cfg.Logger = book.logger()
			m, host := newNodeOrHosted(t, cfg, hosted)
			for _, p := range []connmgr.NodeID{"one", "two", "two"} {
				c := host.Connect(p)
				c.SetOnClose(func(connmgr.Reason) error {
					c.Drop()
					return errors.New("broken pipe")
				})
			}
			sub := m.Subscribe(1000)
			res := trim(t, m)
			if len(res.Closed) != 2 || res.Failed != 0 || res.Spared != 0 {
				t.Errorf("with host %v: closed %+v, failed %d, spared %d; want both peers closed", hosted, res.Closed, res.Failed, res.Spared)
			}
			for _, v := range res.Closed {
				if want := map[connmgr.NodeID]int{"one": 1, "two": 2}[v.Peer]; v.Conns != want {
					t.Errorf("with host %v: %d connections of %v were closed, want %d", hosted, v.Conns, v.Peer, want)
				}
			}
			if got := closedEvents(sub); len(got) != 2 {
				t.Errorf("with host %v: told %+v, want both peers", hosted, got)
			}
			if s := m.Stats(); s.CloseErrors != 0 || s.ClosedPeers[connmgr.ClosedLowScore] != 2 || s.Conns != 0 || s.Closing != 0 {
				t.Errorf("with host %v: errors %d, closed %v, open %d, closing %d; want 0, 2, 0, 0", hosted, s.CloseErrors, s.ClosedPeers, s.Conns, s.Closing)
			}
			book.expect(t, "after the trim", "level=INFO closed_peers=2 total=3")
		})
	}
}
