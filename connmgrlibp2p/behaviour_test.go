package connmgrlibp2p_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file holds what is different from go-libp2p's manager without being the
// mending of a defect: what docs/migration.md tells somebody who changes.

func TestAConnectionAboveHighWaterSetsOffATrimAtOnce(t *testing.T) {
	run := func(t *testing.T, cm manager, want int) {
		conns := dialMany(cm, "peer", 21)
		synctest.Wait()
		wantClosed(t, "no time after the 21st connection", conns, want)
	}
	synctest.Test(t, func(t *testing.T) { run(t, newManager(t, 10, 20, connmgrlibp2p.WithGracePeriod(0)), 11) })
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 10, 20, basic.WithGracePeriod(0)), 0) })
	})
}

func TestATrimIsTriedAgainWhenTheGracePeriodEnds(t *testing.T) {
	run := func(t *testing.T, cm manager, want int) {
		conns := dialMany(cm, "newcomer", 25)
		passTime(29 * time.Second)
		wantClosed(t, "in grace", conns, 0)
		passTime(6 * time.Second)
		wantClosed(t, "a moment after grace, with an hour between ticks", conns, want)
	}
	synctest.Test(t, func(t *testing.T) {
		run(t, newManager(t, 10, 20, connmgrlibp2p.WithGracePeriod(30*time.Second), connmgrlibp2p.WithSilencePeriod(time.Hour)), 15)
	})
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			run(t, newBasic(t, 10, 20, basic.WithGracePeriod(30*time.Second), basic.WithSilencePeriod(time.Hour)), 0)
		})
	})
}

func TestATrimStopsWhenItsContextEnds(t *testing.T) {
	run := func(t *testing.T, cm manager, want int) {
		conns := dialMany(cm, "peer", 20)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cm.TrimOpenConns(ctx)
		wantClosed(t, "with a context that has ended", conns, want)
	}
	run(t, newManager(t, 10, 100, connmgrlibp2p.WithGracePeriod(0)), 0)
	t.Run(twin, func(t *testing.T) { run(t, newBasic(t, 10, 100, basic.WithGracePeriod(0)), 10) })
}

func TestATrimReturnsWhenItsContextEndsThoughAConnectionHangs(t *testing.T) {
	cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0))
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	conns := dialMany(cm, "peer", 100, func(c *fakeConn) {
		c.onClose = func() { cancel(); <-release }
	})
	within(t, "a trim whose context ends while all connections hang", func() { cm.TrimOpenConns(ctx) })
	wantClosed(t, "hanging", conns, 0)
}

func TestAmongEqualsTheYoungGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 10, 100, connmgrlibp2p.WithGracePeriod(0))
		var conns []*fakeConn
		for i := range 30 {
			conns = append(conns, dial(cm, peerNumber("peer", i)))
			passTime(time.Second)
		}
		trim(t, cm)
		wantClosed(t, "the ten oldest", conns[:10], 0)
		wantClosed(t, "the others", conns[10:], 20)
	})
}

func TestAPeerWithAnOutboundConnectionIsNotInbound(t *testing.T) {
	// The peer that is connected both ways has two of the four connections. It is
	// younger than the inbound one and older than the outbound one.
	run := func(t *testing.T, cm manager, bothWaysClosed, inboundOrOutboundClosed int) {
		in := dial(cm, "inbound")
		passTime(time.Second)
		bothWays := []*fakeConn{dial(cm, "both-ways"), dial(cm, "both-ways", outbound)}
		passTime(time.Second)
		out := dial(cm, "outbound", outbound)
		trim(t, cm) // two connections are to go
		wantClosed(t, "connected both ways", bothWays, bothWaysClosed)
		if got := countClosed([]*fakeConn{in, out}); got < inboundOrOutboundClosed {
			t.Errorf("%d of the peers with one connection are closed, want %d", got, inboundOrOutboundClosed)
		}
	}
	synctest.Test(t, func(t *testing.T) { run(t, newManager(t, 2, 100, connmgrlibp2p.WithGracePeriod(0)), 0, 2) })
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 2, 100, basic.WithGracePeriod(0)), 2, 0) })
	})
}

// TestForceTrimKeepsTheOrder shows which of two peers that are alike but for
// their streams goes by force.
func TestForceTrimKeepsTheOrder(t *testing.T) {
	run := func(t *testing.T, cm manager, busiestGoes bool) {
		busiest := dial(cm, "busiest", func(c *fakeConn) { c.streams = 9 })
		busy := dial(cm, "busy", func(c *fakeConn) { c.streams = 1 })
		cm.ForceTrim()
		if busiest.closed.Load() != busiestGoes || busy.closed.Load() == busiestGoes {
			t.Errorf("closed is %v with 9 streams and %v with one, want the other way round", busiest.closed.Load(), busy.closed.Load())
		}
	}
	run(t, newManager(t, 1, 100), false)
	t.Run(twin, func(t *testing.T) { run(t, newBasic(t, 1, 100), true) })
}

func TestConnCountLeavesOutConnectionsThatAreClosed(t *testing.T) {
	count := func(t *testing.T, cm manager) {
		dialMany(cm, "peer", 20, silent) // the news of their end is on its way
		trim(t, cm)
	}
	cm := newManager(t, 5, 100, connmgrlibp2p.WithGracePeriod(0))
	count(t, cm)
	if got := cm.GetInfo().ConnCount; got != 5 {
		t.Errorf("ConnCount is %d right after a trim, want 5", got)
	}
	t.Run(twin, func(t *testing.T) {
		cm := newBasic(t, 5, 100, basic.WithGracePeriod(0))
		count(t, cm)
		if got := cm.GetInfo().ConnCount; got != 20 {
			t.Errorf("ConnCount is %d right after a trim, was 20", got)
		}
	})
}

func TestNotificationsAfterCloseAreIgnored(t *testing.T) {
	late := func(t *testing.T, cm manager) {
		conns := dialMany(cm, "peer", 5)
		if err := cm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		cm.Notifee().Disconnected(nil, conns[0])
		cm.Notifee().Disconnected(nil, conns[1])
		dial(cm, "late")
	}
	cm := newManager(t, 10, 20)
	late(t, cm)
	if got := cm.GetInfo().ConnCount; got != 5 {
		t.Errorf("ConnCount is %d, want 5 as at Close", got)
	}
	if got := cm.Core().Stats().LateNotifications; got != 3 {
		t.Errorf("%d late notifications are counted, want 3", got)
	}
	t.Run(twin, func(t *testing.T) {
		cm := newBasic(t, 10, 20)
		late(t, cm)
		if got := cm.GetInfo().ConnCount; got != 4 {
			t.Errorf("ConnCount is %d, was 4: it went on counting", got)
		}
	})
}

func TestUpsertTagLosesNoUpdate(t *testing.T) {
	cm := newManager(t, 1, 2)
	var runs atomic.Int32
	cm.UpsertTag("peer", "tag", func(v int) int {
		if runs.Add(1) == 1 {
			cm.TagPeer("peer", "tag", 100) // as if another goroutine came between
		}
		return v + 1
	})
	if got := valueOf(cm, "peer"); got != 101 || runs.Load() != 2 {
		t.Errorf("value is %d after %d runs of the callback, want 101 after 2: it runs again on the new value", got, runs.Load())
	}
}

func TestThereIsOneClock(t *testing.T) {
	mock := clock.NewMock()
	decayer := connmgrlibp2p.DecayerConfig(&connmgrlibp2p.DecayerCfg{Resolution: time.Second, Clock: mock})
	wantRefused(t, "WithClock and DecayerCfg.Clock are two clocks", 1, 2, connmgrlibp2p.WithClock(clock.NewMock()), decayer)
	newManager(t, 1, 2, connmgrlibp2p.WithClock(mock), decayer) // the same one is fine

	// The decayer's clock is the manager's: grace passes on it as well.
	cm := newManager(t, 1, 2, decayer, connmgrlibp2p.WithGracePeriod(10*time.Second))
	conns := dialMany(cm, "peer", 2)
	trim(t, cm)
	wantClosed(t, "in grace", conns, 0)
	mock.Add(11 * time.Second)
	trim(t, cm)
	wantClosed(t, "after grace by the decayer's clock", conns, 1)
}

func TestNegativeWatermarksAreRefused(t *testing.T) {
	for _, w := range [][2]int{{-1, 10}, {10, -1}, {math.MinInt32, math.MinInt32}} {
		wantRefused(t, fmt.Sprintf("watermarks %d", w), w[0], w[1])
	}
	t.Run(twin, func(t *testing.T) { newBasic(t, -1, -1) })
}

func TestTagsOfAPeerAreBounded(t *testing.T) {
	const bound = 4096
	cm := newManager(t, 1, 2)
	dial(cm, "peer")
	for i := range bound + 10 {
		cm.TagPeer("peer", string(peerNumber("tag", i)), 1)
	}
	if got := valueOf(cm, "peer"); got != bound {
		t.Errorf("value is %d after %d tags of value 1, want %d", got, bound+10, bound)
	}
	if got := cm.Core().Stats().TagsRefused; got != 10 {
		t.Errorf("%d tags are counted as refused, want 10", got)
	}
	tag := mustRegister(t, cm, "decaying", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	if err := tag.Bump("peer", 1); !errors.Is(err, connmgr.ErrTooManyTags) {
		t.Errorf("Bump for a peer with too many tags: %v, want ErrTooManyTags", err)
	}
	cm.TagPeer("peer", string(peerNumber("tag", 0)), 2) // a tag it has
	if got := valueOf(cm, "peer"); got != bound+1 {
		t.Errorf("value is %d after one tag rose by 1, want %d", got, bound+1)
	}
}

func TestPeersThatAreMerelyTaggedAreBounded(t *testing.T) {
	const bound = 1 << 16
	cm := newManager(t, 1, 2)
	friend := dial(cm, "friend")
	cm.TagPeer(friend.peer, "tag", 1)
	for i := range 2 * bound {
		cm.TagPeer(peerNumber("invented", i), "tag", 1)
	}
	s := cm.Core().Stats()
	if s.IdlePeers > bound || s.IdlePeers < bound*9/10 {
		t.Errorf("%d of %d tagged strangers are remembered, want about %d and no more", s.IdlePeers, 2*bound, bound)
	}
	if got := s.IdleEvicted + uint64(s.IdlePeers); got != 2*bound {
		t.Errorf("%d are remembered or counted as forgotten, want all %d", got, 2*bound)
	}
	if got := valueOf(cm, "friend"); got != 1 {
		t.Errorf("the value of a connected peer is %d, want 1: strangers must not push it out", got)
	}
}

func TestMemoryPressureTrimsByForce(t *testing.T) {
	wantRefused(t, "a share of 1.5 of the memory", 1, 2, connmgrlibp2p.WithMemoryHighWater(1.5))
	before := debug.SetMemoryLimit(1 << 40)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	runtime.GC() // the live heap is known from the first collection on
	synctest.Test(t, func(t *testing.T) {
		tiny := newManager(t, 5, 100, connmgrlibp2p.WithMemoryHighWater(1e-12)) // a byte or so
		roomy := newManager(t, 5, 100, connmgrlibp2p.WithMemoryHighWater(0.9))
		pressed, relaxed := dialMany(tiny, "peer", 50), dialMany(roomy, "peer", 50)
		passTime(3 * time.Second)
		wantClosed(t, "above the memory high water, all in grace", pressed, 45)
		wantClosed(t, "below it", relaxed, 0)
	})
}

func TestWatermarksCanBeChangedWhileTheManagerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 0, 0, connmgrlibp2p.WithGracePeriod(0)) // off
		conns := dialMany(cm, "peer", 50)
		passTime(time.Minute)
		if err := cm.Core().SetLimits(connmgr.Limits{LowWater: 10, HighWater: 20, HardLimit: 30}); err != nil {
			t.Fatal(err)
		}
		passTime(time.Minute)
		wantClosed(t, "with trimming turned on", conns, 40)
		if info := cm.GetInfo(); info.LowWater != 10 || info.HighWater != 20 {
			t.Errorf("GetInfo says low %d, high %d; want 10 and 20", info.LowWater, info.HighWater)
		}
		if err := cm.CheckLimit(connLimit(19)); err == nil {
			t.Error("CheckLimit of 19: no error, want one for the new high water of 20")
		}
		conns = append(conns, dialMany(cm, "more", 5)...)
		trim(t, cm)
		wantClosed(t, "after TrimOpenConns", conns, 45)
	})
}

func TestAHardLimitBelowTheWatermarksIsRefused(t *testing.T) {
	for _, hard := range []int{-1, 0, 19} {
		wantRefused(t, fmt.Sprintf("a hard limit of %d with a high water of 20", hard), 10, 20, connmgrlibp2p.WithHardLimit(hard))
	}
	if got := newManager(t, 10, 20, connmgrlibp2p.WithHardLimit(20)).Core().Limits().HardLimit; got != 20 {
		t.Errorf("hard limit is %d, want 20 as asked for", got)
	}
}

func TestForceTrimWorksWithTrimmingOff(t *testing.T) {
	for _, high := range []int{0, 100} {
		cm := newManager(t, 0, high)
		conns := dialMany(cm, "peer", 10)
		trim(t, cm)
		wantClosed(t, "by TrimOpenConns, which is off", conns, 0)
		cm.ForceTrim()
		wantClosed(t, "by ForceTrim", conns, 10)
	}
}

func TestCoreAnswersWhy(t *testing.T) {
	cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0))
	friend, other, third := dial(cm, "friend"), dial(cm, "other"), dial(cm, "third", outbound)
	cm.Protect("friend", "mine")
	cm.TagPeer("other", "bad", -3)
	wantReason := map[string]connmgr.Reason{
		"friend": connmgr.KeptProtected, "other": connmgr.ClosedLowScore, "third": connmgr.ClosedLowScore,
	}
	for id, want := range wantReason {
		why, known := cm.Core().Explain(connmgr.NodeID(id), connmgr.TriggerManual)
		if !known || why.Verdict.Reason != want {
			t.Errorf("the reason for %s is %q (known: %v), want %q", id, why.Verdict.Reason, known, want)
		}
	}
	why, _ := cm.Core().Explain("other", connmgr.TriggerManual)
	if why.Verdict.Rank != 1 || why.Verdict.Score != -3 {
		t.Errorf("rank %d with score %d, want 1 with -3: bonuses are off, as in go-libp2p", why.Verdict.Rank, why.Verdict.Score)
	}
	wantClosed(t, "by asking", []*fakeConn{friend, other, third}, 0)
}

func TestTrimsAreLoggedWithSlog(t *testing.T) {
	var out bytes.Buffer
	cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	dialMany(cm, "peer", 5)
	trim(t, cm)
	for _, want := range []string{"level=INFO", "connmgr: trim", "trim.trigger=manual", "trim.closed_peers=4"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log of a trim is %q, want %q in it", out.String(), want)
		}
	}
}

func TestNilDecayFunctionsAreRefused(t *testing.T) {
	cm := newManager(t, 1, 2)
	if _, err := cm.RegisterDecayingTag("a", time.Hour, nil, libp2p.BumpOverwrite()); err == nil {
		t.Error("no decay function: no error, want one")
	}
	if _, err := cm.RegisterDecayingTag("b", time.Hour, libp2p.DecayNone(), nil); err == nil {
		t.Error("no bump function: no error, want one")
	}
	t.Run(twin, func(t *testing.T) {
		if _, err := newBasic(t, 1, 2).RegisterDecayingTag("a", time.Hour, nil, nil); err != nil {
			t.Errorf("RegisterDecayingTag without functions: %v, was accepted", err)
		}
	})
}
