package connmgr_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are the defects that were reproduced in go-libp2p's BasicConnMgr
// and in DeP2P's first connection manager (field notes), one by one. None of them
// may ever be one of ours. Where a part of the manager has tests of its own, the
// story here is the short one that its users told.

// BasicConnMgr: ForceTrim compares the number selected with a target that it has
// already decremented.
func TestDefectForceTrimNeverClosesProtectedConnections(t *testing.T) {
	for _, tt := range []struct{ low, plain, protected, wantProtected int }{
		{2, 0, 10, 2},
		{2, 5, 5, 2},
		{2, 9, 1, 1}, // unprotected ones first: one of those and the friend stay
		{0, 5, 5, 0},
		{6, 5, 5, 5},
		{1, 1, 1, 1},
	} {
		m, host := newNode(t, tight(tt.low, 100))
		for i := range tt.plain {
			host.Connect("plain " + peerID(i))
		}
		for i := range tt.protected {
			m.Protect("friend "+peerID(i), "x")
			host.Connect("friend " + peerID(i))
		}
		res, err := m.ForceTrim(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		left := 0
		for i := range tt.protected {
			left += len(host.Conns("friend " + peerID(i)))
		}
		if host.Len() != tt.low || left != tt.wantProtected {
			t.Errorf("%d plain and %d protected: %d connections are left, %d protected; want %d and %d",
				tt.plain, tt.protected, host.Len(), left, tt.low, tt.wantProtected)
		}
		if total := tt.plain + tt.protected; res.Freed != total-tt.low || len(res.Closed) != res.Freed || len(host.Closed()) != res.Freed {
			t.Errorf("freed %d, listed %d, closed %d; want %d, each counted once", res.Freed, len(res.Closed), len(host.Closed()), total-tt.low)
		}
	}
}

// BasicConnMgr: background trims never set LastTrim.
func TestDefectBackgroundTrimsLeaveNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 3))
		advance(time.Minute)
		connectMany(host, 4)
		synctest.Wait()
		if last := m.Stats().LastTrim; !last.Started.Equal(time.Now()) || last.Freed != 3 {
			t.Errorf("LastTrim is %+v, want the trim that has just freed 3", last)
		}
	})
}

// BasicConnMgr: background trims skip the trim mutex.
func TestDefectBackgroundTrimsRunBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 64), time.Second/2)
		asked := begin(context.Background(), m.Trim)
		for i := range 64 {
			host.Connect("more " + peerID(i)) // lifts the count above high water again
		}
		host.Connect("one more")
		synctest.Wait()
		if s := m.Stats(); s.Closing != closedAtOnce || len(s.Trims) != 0 {
			t.Errorf("%d connections are being closed, trims that ended %v; want the %d of the one trim and none", s.Closing, s.Trims, closedAtOnce)
		}
		<-asked
		advance(time.Minute)
		for _, c := range host.Closed() {
			if c.Conn.CloseCalls() != 1 {
				t.Errorf("%v was closed %d times", c.Peer, c.Conn.CloseCalls())
			}
		}
	})
}

// BasicConnMgr: trims start at "equal to high" where the documentation says "above".
func TestDefectTrimStartsAtHighWater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(10, 20))
		connectMany(host, 20)
		advance(time.Hour)
		if host.Len() != 20 || len(m.Stats().Trims) != 0 {
			t.Errorf("%d connections are left of 20 at high water 20, trims %v", host.Len(), m.Stats().Trims)
		}
	})
}

// BasicConnMgr: with low 10, high 20, 30 connections of which 15 are protected,
// it is stuck at 25 for good.
func TestDefectStuckAboveHighWaterBehindProtected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(10, 20)
		cfg.ManualStart = true
		m, host := newNode(t, cfg)
		for i := range 15 {
			m.Protect(peerID(i), "x")
		}
		connectMany(host, 30)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if host.Len() != 15 {
			t.Errorf("%d connections are left, want the 15 protected ones", host.Len())
		}
	})
}

// BasicConnMgr: with 5,000 connections in grace it closes none.
func TestDefectNewcomersExceedEveryLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most := 0
		_, host := newNode(t, connmgr.Config{LowWater: 10, HighWater: 20, GracePeriod: time.Minute})
		for i := range 5000 {
			host.Connect(peerID(i))
			advance(20 * time.Millisecond)
			most = max(most, host.Len())
		}
		// Five can come within the tenth of a second between two trims.
		if most > 30+5 {
			t.Errorf("up to %d connections were open, want the hard limit, 30, to hold", most)
		}
	})
}

// BasicConnMgr: tagging or even un-tagging a peer that never connects leaks a
// record for ever.
func TestDefectTagsOfStrangersLeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		for i := range 1000 {
			m.UntagPeer(peerID(i), "a")
			m.Unprotect(peerID(i), "a")
			m.Tags().Sum(peerID(i))
		}
		if s := m.Stats(); s.IdlePeers != 0 {
			t.Errorf("asking and untagging left %d records", s.IdlePeers)
		}
		for i := range 1000 {
			m.TagPeer(peerID(i), "a", 1)
			m.UpsertTag(peerID(i), "b", func(v int) int { return v })
		}
		if s := m.Stats(); s.IdlePeers != 1000 {
			t.Errorf("%d strangers are remembered for their tags, want 1000", s.IdlePeers)
		}
		advance(connmgr.DefaultEarlyTagTTL + sweepTime)
		if s := m.Stats(); s.IdlePeers != 0 {
			t.Errorf("%d strangers are remembered after EarlyTagTTL, want none", s.IdlePeers)
		}
	})
}

// BasicConnMgr: TagPeer("") panics; Bump("") takes the process down.
func TestDefectTheEmptyIDPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 10))
		tag := register(t, m, "decays", 0, connmgr.DecayFixed(1))
		m.TagPeer("", "", 1)
		bump(t, tag, "", 10)
		m.Protect("", "x")
		host.Connect("")
		advance(time.Minute)
		expectSum(t, m, "", 10)
		m.Unprotect("", "x")
		trim(t, m)
		if host.Len() != 0 || m.Stats().Panics != 0 {
			t.Errorf("%d connections are left, panics %d; want none", host.Len(), m.Stats().Panics)
		}
	})
}

// BasicConnMgr: a callback that calls back deadlocks.
func TestDefectCallbacksThatCallBackDeadlock(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	tag, err := m.RegisterDecayingTag("decays", 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
		m.UpsertTag(v.Peer, "from a bump", func(int) int { return 1 })
		return v.Value + delta
	})
	if err != nil {
		t.Fatal(err)
	}
	m.UpsertTag("p", "a", func(int) int {
		m.TagPeer("p", "from an upsert", 10)
		bump(t, tag, "p", 100)
		return 1000
	})
	expectSum(t, m, "p", 1111)
}

// BasicConnMgr: DecayExpireWhenInactive never expires.
func TestDefectInactiveTagsNeverExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		host.Connect("p")
		bump(t, register(t, m, "recent", time.Minute, connmgr.DecayExpireWhenInactive(3*time.Minute)), "p", 5)
		advance(3*time.Minute - time.Second)
		expectSum(t, m, "p", 5)
		advance(time.Second)
		expectSum(t, m, "p", 0)
	})
}

// BasicConnMgr: Bump refuses most of a burst; after Close it accepts and drops.
func TestDefectBumpsAreRefusedOrDropped(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	for range 10_000 {
		bump(t, tag, "p", 1)
	}
	expectSum(t, m, "p", 10_000)
	closeManager(t, m)
	bump(t, tag, "p", 1) // accepted, so it counts
	expectSum(t, m, "p", 10_001)
	_ = tag.Close()
	if err := tag.Bump("p", 1); !errors.Is(err, connmgr.ErrTagClosed) {
		t.Errorf("Bump of a closed tag = %v, want ErrTagClosed", err)
	}
}

// BasicConnMgr: the sort reads live values: a 5,000-connection trim makes 179,000
// calls of Stat.
func TestDefectATrimAsksConnectionsOverAndOver(t *testing.T) {
	for what, tt := range map[string]struct {
		tag  func(i int) int
		most int
	}{
		"scores far apart": {func(i int) int { return i * 100 }, 2 * 500}, // only those that go
		"scores in tens":   {func(i int) int { return i % 10 * 100 }, 2 * 1000},
		"all alike":        {func(int) int { return 0 }, 5000 + 500}, // each once, and victims again
	} {
		m, host := newNode(t, connmgr.Config{LowWater: 4500, HighWater: 10_000, GracePeriod: connmgr.Zero})
		conns := connectMany(host, 5000)
		before := 0
		for i, c := range conns {
			m.TagPeer(c.RemotePeer(), "a", tt.tag(i))
			before += c.StatCalls()
		}
		if before != 5000 {
			t.Errorf("%s: Connected asked %d times, want once per connection", what, before)
		}
		if res := trim(t, m); len(res.Closed) != 500 {
			t.Errorf("%s: closed %d, want 500", what, len(res.Closed))
		}
		calls := -before
		for _, c := range conns {
			calls += c.StatCalls()
		}
		if calls > tt.most {
			t.Errorf("%s: the trim asked connections %d times, want at most %d", what, calls, tt.most)
		}
	}
}

// BasicConnMgr: under load the order is wrong.
func TestDefectTheOrderIsWrongUnderLoad(t *testing.T) {
	m, host := newNode(t, tight(500, 10_000))
	connectMany(host, 1000)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 1000 { // the lower half never gets as high as the upper one
		m.TagPeer(peerID(i), "rank", i/500*1000)
	}
	for g := range 2 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					m.TagPeer(peerID((i*7+g)%1000), "noise", i%100)
				}
			}
		})
	}
	res := trim(t, m)
	close(stop)
	all.Wait()
	for _, v := range res.Closed {
		if v.Peer >= peerID(500) {
			t.Errorf("%v was closed, of the better half", v.Peer)
		}
	}
	if len(res.Closed)+res.Spared != 500 {
		t.Errorf("closed %d and spared %d, want 500 together", len(res.Closed), res.Spared)
	}
}

// BasicConnMgr: a peer protected between selection and closing is closed all the
// same. DeP2P: a second connection of a peer overwrites the first.
func TestDefectProtectionComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), time.Second/2)
		host.Connect(peerID(63)) // the last to go, with two connections
		done := begin(context.Background(), m.Trim)
		m.Protect(peerID(63), "x")
		if o := <-done; o.res.Spared != 1 || len(host.Conns(peerID(63))) != 2 || host.Len() != 2 {
			t.Errorf("spared %d, left %d connections, %d of the protected peer; want 1, 2, 2", o.res.Spared, host.Len(), len(host.Conns(peerID(63))))
		}
	})
}

// BasicConnMgr: GetTagInfo merges two connections from one address.
func TestDefectConnectionsAreMerged(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	first, second := host.Connect("p"), host.Connect("p")
	info, _ := m.PeerInfo("p")
	if len(info.Conns) != 2 || info.Conns[0].Conn == info.Conns[1].Conn {
		t.Errorf("PeerInfo has %+v, want both connections", info.Conns)
	}
	first.Drop()
	if info, _ := m.PeerInfo("p"); len(info.Conns) != 1 || info.Conns[0].Conn != connmgr.Conn(second) {
		t.Errorf("PeerInfo has %+v, want the second connection", info.Conns)
	}
}

// BasicConnMgr: concurrent Close can panic, and so does an empty configuration of
// decay.
func TestDefectCloseAndEmptyConfigurationPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{DecayInterval: 0, EarlyTagTTL: math.MaxInt64})
		tag := register(t, m, "decays", 0, connmgr.DecayFixed(1))
		if tag.Interval() != connmgr.DefaultDecayInterval {
			t.Errorf("the interval is %v, want %v", tag.Interval(), connmgr.DefaultDecayInterval)
		}
		bump(t, tag, "p", 10)
		advance(2 * time.Minute)
		expectSum(t, m, "p", 8)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { closeManager(t, m) })
		}
		all.Wait()
	})
}

// BasicConnMgr: closing a decaying tag and registering the name again fails.
func TestDefectANameIsTakenByAClosedTag(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	for i := range 100 {
		tag := register(t, m, "again", time.Minute, connmgr.DecayNone())
		bump(t, tag, "p", i)
		expectSum(t, m, "p", i) // nothing of its predecessors
		if err := tag.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// DeP2P: trims never run since nothing sets the host, and grace is configured but
// not enforced.
func TestDefectConfiguredButNotEnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		m := newManager(t, connmgr.Config{LowWater: 2, HighWater: 4, GracePeriod: 30 * time.Second})
		host.Notify(m) // no Host in the configuration
		connectMany(host, 5)
		advance(30*time.Second - 1)
		if host.Len() != 5 {
			t.Errorf("%d connections are left in grace, want 5", host.Len())
		}
		advance(1)
		if host.Len() != 2 {
			t.Errorf("%d connections are left after grace, want 2", host.Len())
		}
	})
}
