package connmgr_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests look at trims of thousands: a victim that hangs takes no other with it. And
// at the last check of a victim, which saves it if its score has risen above the cut,
// whatever it has risen by.

const manyVictims = 3000

// victimsThatHang makes a manager whose next trim closes everybody in order, and in which
// the peers with certain numbers hang in their Close.
func victimsThatHang(t *testing.T, hangs ...int) (m *connmgr.Manager, host *connmgrtest.Host, conns []*connmgrtest.Conn) {
	t.Helper()
	m, host = newNode(t, tight(0, 1<<20))
	for i := range manyVictims {
		var options []connmgrtest.Option
		if slices.Contains(hangs, i) {
			options = append(options, connmgrtest.HangOnClose())
		}
		conns = append(conns, host.Connect(peerID(i), options...))
		m.TagPeer(peerID(i), "rank", i)
	}
	return m, host, conns
}

// expectClosedOnce checks that each connection that is closed is in the result with its
// rank, and that none was closed twice.
func expectClosedOnce(t *testing.T, res connmgr.TrimResult, conns []*connmgrtest.Conn, hangs ...int) {
	t.Helper()
	closed := make(map[connmgr.NodeID]int)
	last := 0
	for _, v := range res.Closed {
		if v.Rank <= last || v.Conns != 1 || v.Reason != connmgr.ClosedLowScore {
			t.Errorf("%+v is in the result behind number %d", v, last)
		}
		last = v.Rank
		closed[v.Peer] = v.Rank
	}
	for i, c := range conns {
		calls := c.CloseCalls()
		switch rank, listed := closed[c.RemotePeer()]; {
		case calls > 1:
			t.Errorf("%v was closed %d times", c.RemotePeer(), calls)
		case slices.Contains(hangs, i):
		case listed != (calls == 1), listed && rank != i+1:
			t.Errorf("%v was closed %d times, and is in the result: %v, as number %d; want number %d", c.RemotePeer(), calls, listed, rank, i+1)
		}
	}
}

func TestAConnectionThatHangsTakesNobodyWithIt(t *testing.T) {
	for what, hangs := range map[string][]int{
		"one of the first":          {5},
		"two of the first":          {3, 9},
		"as many as there can be":   {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		"one here and there":        {1, 18, 35, 52, 69, 86, 103, 120, 137, 154, 171, 188, 205, 222, 239, 250},
		"the very last":             {manyVictims - 1},
		"two of those near the end": {manyVictims - 8, manyVictims - 7},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, host, conns := victimsThatHang(t, hangs...)
			o := <-begin(context.Background(), m.Trim)
			if o.err != nil || o.res.Hanging != len(hangs) || len(o.res.Closed) != manyVictims-len(hangs) || o.res.Spared+o.res.Failed != 0 {
				t.Errorf("%s hangs: closed %d, hanging %d, spared %d, failed %d, err %v; want %d, %d and no more",
					what, len(o.res.Closed), o.res.Hanging, o.res.Spared, o.res.Failed, o.err, manyVictims-len(hangs), len(hangs))
			}
			expectClosedOnce(t, o.res, conns, hangs...)
			if o.took > 4*time.Second {
				t.Errorf("%s hangs: the trim took %v", what, o.took)
			}
			for _, i := range hangs {
				conns[i].Release()
			}
			synctest.Wait()
			if s := m.Stats(); host.Len() != 0 || s.Conns != 0 || s.Closing != 0 || s.HangingPeers != 0 {
				t.Errorf("%s hung: %d connections are open, %d known, %d closing, %d hanging; want none", what, host.Len(), s.Conns, s.Closing, s.HangingPeers)
			}
		})
	}
}

func TestAConnectionThatHangsDelaysNobodyBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host, conns := victimsThatHang(t, 5, 100)
		done := begin(context.Background(), m.Trim)
		if host.Len() != 2 {
			t.Errorf("%d connections are open as long as 2 hang, want all others closed at once", host.Len())
		}
		conns[5].Release()
		conns[100].Release()
		<-done
	})
}

func TestATrimThatStopsLeavesTheRestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make([]int, 16) // a worker each
		for i := range hangs {
			hangs[i] = 16*i + i
		}
		m, host, conns := victimsThatHang(t, hangs...)
		ctx, cancel := context.WithCancel(context.Background())
		done := begin(ctx, m.Trim)
		cancel()
		o := <-done
		if !errors.Is(o.err, context.Canceled) {
			t.Errorf("Trim = %v, want the error of its context", o.err)
		}
		advance(2 * time.Second) // whoever waits no longer is told less than the trim did
		for _, c := range conns {
			if c.CloseCalls() > 1 {
				t.Errorf("%v was closed %d times", c.RemotePeer(), c.CloseCalls())
			}
			c.Release()
		}
		synctest.Wait()
		open := host.Len()
		if open == 0 {
			t.Fatal("the test is wrong: all are closed in spite of the context")
		}
		if o := <-begin(context.Background(), m.Trim); o.err != nil || len(o.res.Closed) != open {
			t.Errorf("the next trim closed %d, err %v; want the %d that were left", len(o.res.Closed), o.err, open)
		}
		for _, c := range conns {
			if c.CloseCalls() != 1 {
				t.Errorf("%v was closed %d times", c.RemotePeer(), c.CloseCalls())
			}
		}
	})
}

// A trim that the manager's end stops says so if somebody did not have his turn.
func TestATrimThatCloseStopsSaysSo(t *testing.T) {
	for _, wait := range []time.Duration{0, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			m, host, conns := victimsThatHang(t, 5, 100)
			done := begin(context.Background(), m.Trim)
			advance(wait)
			_ = m.Close()
			o := <-done
			expectClosedOnce(t, o.res, conns, 5, 100)
			left := host.Len() - 2
			if (left > 0) != errors.Is(o.err, connmgr.ErrClosed) {
				t.Errorf("closed after %v: %d victims have not had their turn, and Trim = %v", wait, left, o.err)
			}
			conns[5].Release()
			conns[100].Release()
		})
	}
}

func TestAVictimThatHasRisenAboveTheCutIsSparedWhateverItRoseBy(t *testing.T) {
	for what, tt := range map[string]struct {
		streams int // at the time of the plan
		score   int
		act     func(m *connmgr.Manager, host *connmgrtest.Host, victim *connmgrtest.Conn)
	}{
		"by tags and streams together, neither of which would do": {0, 50, func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) {
			m.TagPeer("victim", "a", 95)
			v.SetStreams(1)
		}},
		"by tags, with the streams that it had": {1, 50, func(m *connmgr.Manager, _ *connmgrtest.Host, _ *connmgrtest.Conn) {
			m.TagPeer("victim", "a", 95)
		}},
		"by the streams of another connection": {0, 90, func(_ *connmgr.Manager, host *connmgrtest.Host, _ *connmgrtest.Conn) {
			host.Connect("victim", connmgrtest.Streams(1))
		}},
		"by the streams of a connection that took the other's place": {0, 90, func(_ *connmgr.Manager, host *connmgrtest.Host, v *connmgrtest.Conn) {
			host.Connect("victim", connmgrtest.Streams(1))
			v.Drop()
		}},
		"by becoming outbound and busy": {0, 75, func(_ *connmgr.Manager, host *connmgrtest.Host, _ *connmgrtest.Conn) {
			host.Connect("victim", connmgrtest.Outbound(), connmgrtest.Streams(1))
		}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := tight(1, 1000)
				cfg.ActiveBonus, cfg.OutboundBonus = 20, 10
				m, host := newNode(t, cfg)
				host.Connect("best")
				m.TagPeer("best", "a", 100) // the lowest that stays
				victim := host.Connect("victim", connmgrtest.Streams(tt.streams))
				m.TagPeer("victim", "a", tt.score)
				res := heldTrim(t, m, host, func() { tt.act(m, host, victim) })
				if !host.Connected("victim") || res.Spared != 1 {
					t.Errorf("connected %v, spared %d; want true, 1", host.Connected("victim"), res.Spared)
				}
			})
		})
	}
}

// Where streams can save nobody, a victim is asked once: it is planned for by then.
func TestAVictimIsNotAskedAgainWhereStreamsCannotSaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(10, 1000)
		cfg.ActiveBonus = 5
		m, host := newNode(t, cfg)
		conns := connectMany(host, 100)
		for i := range conns {
			m.TagPeer(peerID(i), "rank", 10*i)
		}
		trim(t, m)
		for i, c := range conns[:90] {
			if calls := c.StatCalls(); calls > 2 { // when it came, and by the plan
				t.Errorf("%v was asked %d times, want twice", peerID(i), calls)
			}
		}
	})
}
