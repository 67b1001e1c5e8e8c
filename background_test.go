package connmgr_test

import (
	"errors"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests never ask for a trim and see when the manager trims by itself.

func TestATrimStartsAboveHighWaterNotAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(3, 6))
		connectMany(host, 6)
		advance(time.Hour)
		if host.Len() != 6 || len(m.Stats().Trims) != 0 {
			t.Fatalf("at high water %d of 6 connections are left, trims %v; want none", host.Len(), m.Stats().Trims)
		}
		host.Connect("one more")
		synctest.Wait() // no time passes
		if host.Len() != 3 {
			t.Errorf("above high water %d connections are left, want low water, 3, at once", host.Len())
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerHighWater] != 1 || s.LastTrim.Trigger != connmgr.TriggerHighWater {
			t.Errorf("trims %v, last %v; want one for high water", s.Trims, s.LastTrim.Trigger)
		}
	})
}

func TestConnectedReturnsAtOnceThoughItSetsOffATrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 3))
		hung := connectMany(host, 3, connmgrtest.HangOnClose())
		start := time.Now()
		host.Connect("one more")
		synctest.Wait()
		if took := time.Since(start); took != 0 || m.Stats().Closing != 3 {
			t.Errorf("Connected took %v and %d connections are being closed, want no time and 3", took, m.Stats().Closing)
		}
		for _, c := range hung {
			c.Release()
		}
	})
}

func TestAutomaticTrimsKeepSilenceBetweenThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 5)
		cfg.SilencePeriod = time.Minute
		m, host := newNode(t, cfg)
		fill := func(prefix connmgr.NodeID) {
			for i := range 6 {
				host.Connect(prefix + peerID(i))
			}
			synctest.Wait()
		}
		advance(25 * time.Second)
		fill("a")
		if host.Len() != 1 {
			t.Fatalf("%d connections after the first trim, want 1", host.Len())
		}
		for range 59 { // the tick at 60 s from the start is within the silence
			fill("b")
			advance(time.Second)
			if host.Len() < 7 {
				t.Fatalf("a trim ran %v after the start, in the silence of the one after 25 s", time.Since(m.Stats().LastTrim.Started))
			}
			for i := range 6 {
				host.Disconnect("b" + peerID(i))
			}
		}
		fill("c")
		advance(time.Second)
		if host.Len() != 1 {
			t.Errorf("%d connections when the silence is over, want 1", host.Len())
		}
	})
}

func TestTheTickFindsWhatCameInTheSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 3))
		connectMany(host, 4)
		synctest.Wait()
		connectMany(host, 4) // too early for another trim, and the last to come
		advance(connmgr.DefaultSilencePeriod)
		if host.Len() > 3 {
			t.Errorf("%d connections after the silence, want at most high water", host.Len())
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerTick]+s.Trims[connmgr.TriggerHighWater] != 2 {
			t.Errorf("trims %v, want two", s.Trims)
		}
	})
}

func TestAScoreThatDecaysDoesNotStartATrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 10))
		connectMany(host, 10)
		bump(t, register(t, m, "a", time.Minute, connmgr.DecayFixed(1)), peerID(0), 3)
		advance(time.Hour)
		if host.Len() != 10 {
			t.Errorf("%d connections left of 10, want all: the count never exceeded high water", host.Len())
		}
	})
}

func TestATrimIsTriedAgainWhenGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 4)
		cfg.GracePeriod = time.Minute
		cfg.SilencePeriod = 24 * time.Hour // neither tick nor silence can help
		m, host := newNode(t, cfg)
		connectMany(host, 9)
		advance(time.Minute - 1)
		if host.Len() != 9 {
			t.Fatalf("%d connections left in grace, want all 9", host.Len())
		}
		advance(1)
		if host.Len() != 2 {
			t.Errorf("%d connections are left when grace is over, want 2", host.Len())
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerGrace] != 1 {
			t.Errorf("trims %v, want one for the end of grace", s.Trims)
		}
	})
}

func TestATrimAskedForIsTriedAgainWhenGraceEndsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 4)
		cfg.GracePeriod = time.Minute
		cfg.SilencePeriod = 24 * time.Hour
		m, host := newNode(t, cfg)
		connectMany(host, 5)
		advance(time.Minute) // the manager has trimmed by itself, and keeps silence now
		for i := range 6 {
			host.Connect(peerID(100 + i))
		}
		advance(time.Second)
		if res := trim(t, m); len(res.Closed) != 0 || res.Cause != connmgr.CauseGrace {
			t.Fatalf("closed %v, cause %v; want none, and grace as the cause", closedPeers(res), res.Cause)
		}
		advance(59 * time.Second)
		if host.Len() != 2 {
			t.Errorf("%d connections are left when grace is over, want 2", host.Len())
		}
	})
}

func TestGraceThatEndsOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 4)
		cfg.GracePeriod = time.Minute
		cfg.SilencePeriod = 24 * time.Hour
		m, host := newNode(t, cfg)
		for i := range 60 {
			host.Connect(peerID(i))
			advance(time.Second)
		}
		// The first of 60 has just left its grace; the last does in a minute.
		advance(70 * time.Second)
		if host.Len() > 4 {
			t.Errorf("%d connections are left when the grace of all is over, want at most high water, 4", host.Len())
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerGrace] > 15 {
			t.Errorf("%d trims for 60 graces that ended within a minute, want few", s.Trims[connmgr.TriggerGrace])
		}
	})
}

func TestABurstOfNewcomersDoesNotPushOutTheEstablished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(5, 20)
		cfg.GracePeriod = time.Minute
		_, host := newNode(t, cfg)
		connectMany(host, 5)
		advance(time.Hour)
		for i := range 100 {
			host.Connect(peerID(1000 + i))
		}
		advance(time.Minute - 1)
		for i := range 5 {
			if !host.Connected(peerID(i)) {
				t.Errorf("%v was pushed out by newcomers", peerID(i))
			}
		}
	})
}

func TestTheHardLimitMindsNeitherSilenceNorGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(10, 20)
		cfg.HardLimit = 30
		cfg.GracePeriod = time.Hour
		cfg.SilencePeriod = time.Hour
		m, host := newNode(t, cfg)
		connectMany(host, 30)
		advance(time.Second)
		if host.Len() != 30 {
			t.Fatalf("at the hard limit %d of 30 are left, want all: they are in grace", host.Len())
		}
		for round := range 5 {
			for i := range 31 - host.Len() {
				host.Connect(connmgr.NodeID(rune('a'+round)) + peerID(i))
			}
			advance(time.Second / 10)
			if host.Len() != 20 {
				t.Fatalf("round %d: above the hard limit %d are left, want high water, 20, within a tenth of a second", round, host.Len())
			}
		}
		if s := m.Stats(); s.ClosedPeers[connmgr.ClosedHardLimit] != 55 {
			t.Errorf("closed %v, want 5 times 11 for the hard limit", s.ClosedPeers)
		}
	})
}

func TestAHardLimitThatCannotBeKeptIsNotTriedForEveryConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 2)
		cfg.HardLimit = 3
		m, host := newNode(t, cfg)
		for i := range 100 {
			m.Protect(peerID(i), "x")
			host.Connect(peerID(i))
			advance(time.Millisecond)
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerHardLimit] > 10 {
			t.Errorf("%d trims in vain for 100 protected connections within a tenth of a second, want few", s.Trims[connmgr.TriggerHardLimit])
		}
		advance(time.Minute)
		if s := m.Stats(); s.Trims[connmgr.TriggerHardLimit] < 12 {
			t.Error("it is not tried again at all")
		}
	})
}

func TestTheHardLimitDoesNotTrimAnewForEveryStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 1000)
		cfg.HardLimit = 1000
		cfg.GracePeriod = time.Hour
		m, host := newNode(t, cfg)
		for i := range 2000 {
			host.Connect(peerID(i))
			advance(time.Millisecond)
		}
		// A trim that frees one connection of a thousand is hardly worth it.
		if n := m.Stats().Trims[connmgr.TriggerHardLimit]; n < 5 || n > 50 {
			t.Errorf("%d trims for a thousand newcomers too many within a second, want a few", n)
		}
		advance(time.Second)
		if host.Len() != 1000 {
			t.Errorf("%d connections are left, want the limit, 1,000", host.Len())
		}
	})
}

func TestAConnectionThatWouldNotCloseIsTriedAgainWithoutBeingAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 3))
		var tries atomic.Int32
		connectMany(host, 4, connmgrtest.OnClose(func(connmgr.Reason) error {
			if tries.Add(1) <= 6 { // each fails twice
				return errors.New("not yet")
			}
			return nil
		}))
		advance(3 * connmgr.DefaultSilencePeriod)
		if host.Len() != 1 {
			t.Errorf("%d connections are open, want 1", host.Len())
		}
		if s := m.Stats(); s.CloseErrors != 6 {
			t.Errorf("CloseErrors = %d, want 6", s.CloseErrors)
		}
	})
}

func TestHighWaterOfPracticallyNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, host := newNode(t, connmgr.Config{HighWater: math.MaxInt})
		connectMany(host, 1000)
		advance(time.Hour)
		if host.Len() != 1000 {
			t.Errorf("%d connections left of 1000, want all", host.Len())
		}
	})
}

// This test is about real memory, so it needs real garbage collections.
func TestMemoryPressureTrimsByForce(t *testing.T) {
	const mib = 1 << 20
	ballast := make([]byte, 96*mib)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 40))
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 100)
		cfg.GracePeriod = 24 * time.Hour
		cfg.MemoryHighWater = 0.5
		var book logBook
		cfg.Logger = book.logger()
		m, host := newNode(t, cfg)
		connectMany(host, 10)
		for i := range 5 {
			m.Protect(peerID(i), "x")
		}
		advance(time.Minute)
		if host.Len() != 10 {
			t.Fatalf("%d of 10 connections left without any pressure", host.Len())
		}
		debug.SetMemoryLimit(128 * mib) // half of it is less than the ballast
		advance(5 * time.Second)
		if s := m.Stats(); host.Len() != 2 || s.Trims[connmgr.TriggerForce] == 0 {
			t.Errorf("under pressure %d connections are left, trims %v; want low water, 2, by force", host.Len(), s.Trims)
		}
		book.take()
		for range 3 {
			runtime.GC()
			advance(5 * time.Second)
		}
		book.expect(t, "when too few connections are left to be to blame", "level=WARN memory")

		debug.SetMemoryLimit(1 << 40)
		connectMany(host, 10)
		runtime.GC()
		advance(time.Minute)
		if host.Len() < 10 {
			t.Errorf("after the pressure %d connections are left, want newcomers to stay", host.Len())
		}
	})
	runtime.KeepAlive(ballast)
}

// Protected peers above the hard limit must not open the door to everybody else.
func TestAHardLimitHoldsForNewcomersBehindProtectedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(5, 10)
		cfg.HardLimit, cfg.GracePeriod = 15, time.Hour
		m, host := newNode(t, cfg)
		for i := range 16 {
			m.Protect(peerID(i), "x")
			host.Connect(peerID(i))
		}
		synctest.Wait()
		for i := range 5000 {
			host.Connect(peerID(100 + i))
		}
		advance(200 * time.Millisecond)
		if host.Len() != 16 {
			t.Errorf("%d connections are open behind 16 protected ones at hard limit 15, want those alone", host.Len())
		}
	})
}

// What was found wrong before grace ended is tried again then, however shortly
// after.
func TestTheEndOfGraceIsNotMissedForATrimShortlyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(5, 10)
		cfg.HardLimit, cfg.GracePeriod, cfg.SilencePeriod = math.MaxInt, 20*time.Second, time.Hour
		_, host := newNode(t, cfg)
		connectMany(host, 10)
		advance(cfg.GracePeriod - 100*time.Millisecond)
		host.Connect("one more") // a trim falls short, all being in grace
		advance(100 * time.Millisecond)
		if host.Len() != 6 {
			t.Errorf("%d connections are open when the grace of ten has ended, want low water and the newcomer", host.Len())
		}
	})
}
