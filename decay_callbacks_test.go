package connmgr_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests give decaying tags functions that call back into the manager, and
// functions that panic.

// once calls f when it is called for the first time.
func once(f func()) func() {
	ran := false
	return func() {
		if !ran {
			ran = true
			f()
		}
	}
}

func TestABumpFunctionMayCallBack(t *testing.T) {
	m, host := newNode(t, tight(1, 100))
	other := register(t, m, "other", 0, connmgr.DecayNone())
	for _, tt := range []struct {
		name string
		call func(tag *connmgr.DecayingTag, p connmgr.NodeID)
		want int // the peer's sum after a bump by 1
	}{
		{"the same value", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { bump(t, tag, p, 10) }, 11},
		{"the same value away", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { bump(t, tag, p, 10); _ = tag.Remove(p) }, 1},
		{"the tag for another peer", func(tag *connmgr.DecayingTag, _ connmgr.NodeID) { bump(t, tag, "x", 10) }, 1},
		{"another decaying tag", func(_ *connmgr.DecayingTag, p connmgr.NodeID) { bump(t, other, p, 10) }, 11},
		{"a plain tag", func(_ *connmgr.DecayingTag, p connmgr.NodeID) { m.TagPeer(p, "plain", 10) }, 11},
		{"an upsert", func(_ *connmgr.DecayingTag, p connmgr.NodeID) {
			m.UpsertTag(p, "plain", func(v int) int { return v + 10 })
		}, 11},
		{"a connection", func(_ *connmgr.DecayingTag, p connmgr.NodeID) { host.Connect(p) }, 1},
		{"a new tag", func(_ *connmgr.DecayingTag, p connmgr.NodeID) {
			bump(t, register(t, m, "new for "+string(p), 0, connmgr.DecayNone()), p, 10)
		}, 11},
		{"questions", func(_ *connmgr.DecayingTag, p connmgr.NodeID) { m.PeerInfo(p); m.DryRun(connmgr.TriggerForce) }, 1},
		{"a trim", func(*connmgr.DecayingTag, connmgr.NodeID) { trim(t, m) }, 1},
	} {
		for _, connected := range []bool{true, false} {
			p := connmgr.NodeID(fmt.Sprint(tt.name, connected))
			if connected {
				host.Connect(p)
			}
			var tag *connmgr.DecayingTag
			call := once(func() { tt.call(tag, p) })
			tag, err := m.RegisterDecayingTag(string(p), 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
				call()
				return v.Value + delta
			})
			if err != nil {
				t.Fatal(err)
			}
			bump(t, tag, p, 1)
			if got := m.Tags().Sum(p); got != tt.want {
				t.Errorf("calling back for %s (connected: %v): sum %d, want %d", tt.name, connected, got, tt.want)
			}
			host.Disconnect(p)
		}
	}
}

func TestABumpIsWorkedOutAnewFromWhatHappenedMeanwhile(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	var tag *connmgr.DecayingTag
	call := once(func() { bump(t, tag, "p", 10) })
	bounded := connmgr.BumpSumBounded(0, 15)
	tag, err := m.RegisterDecayingTag("score", 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
		call()
		return bounded(v, delta)
	})
	if err != nil {
		t.Fatal(err)
	}
	bump(t, tag, "p", 10)
	expectSum(t, m, "p", 15) // not 20
}

func TestABumpFunctionThatClosesItsTagFails(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	tag, err := m.RegisterDecayingTag("score", 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
		_ = v.Tag.Close()
		return v.Value + delta
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tag.Bump("p", 1); !errors.Is(err, connmgr.ErrTagClosed) {
		t.Errorf("Bump = %v, want ErrTagClosed", err)
	}
	if _, known := m.PeerInfo("p"); known {
		t.Error("the failed bump left a record behind")
	}
}

func TestABumpFunctionThatAlwaysBumpsComesToAnEnd(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	depth, runs := 0, 0
	tag, err := m.RegisterDecayingTag("score", 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
		if depth == 0 {
			depth++
			runs++
			bump(t, v.Tag, v.Peer, 1000)
			depth--
		}
		return v.Value + delta
	})
	if err != nil {
		t.Fatal(err)
	}
	bump(t, tag, "p", 1)
	expectSum(t, m, "p", 1000*runs+1)
}

func TestPanicInABumpReachesTheCallerAndLeavesNoLock(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("connected")
	tag, err := m.RegisterDecayingTag("score", 0, connmgr.DecayNone(), func(v connmgr.DecayingValue, delta int) int {
		if delta < 0 {
			panic("boom")
		}
		return v.Value + delta
	})
	if err != nil {
		t.Fatal(err)
	}
	bump(t, tag, "connected", 5)
	for _, p := range []connmgr.NodeID{"connected", "stranger"} {
		expectPanic(t, "boom", func() { _ = tag.Bump(p, -1) })
		if s := m.Stats(); s.Panics != 0 || s.IdlePeers != 0 {
			t.Errorf("%v: background panics %d, idle records %d; want 0, 0", p, s.Panics, s.IdlePeers)
		}
	}
	bump(t, tag, "connected", 5)
	expectSum(t, m, "connected", 10)
	bump(t, tag, "stranger", 5)
	expectSum(t, m, "stranger", 5)
}

func TestADecayFunctionMayCallBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(m *connmgr.Manager, v connmgr.DecayingValue)
		want int // the peer's sum after decay took 1 off 5
	}{
		{"the same value", func(_ *connmgr.Manager, v connmgr.DecayingValue) { _ = v.Tag.Bump(v.Peer, 10) }, 14},
		{"the same value away", func(_ *connmgr.Manager, v connmgr.DecayingValue) { _ = v.Tag.Remove(v.Peer) }, 0},
		{"its own tag", func(_ *connmgr.Manager, v connmgr.DecayingValue) { _ = v.Tag.Close() }, 0},
		{"another peer", func(_ *connmgr.Manager, v connmgr.DecayingValue) { _ = v.Tag.Bump("x", 10) }, 4},
		{"a plain tag", func(m *connmgr.Manager, v connmgr.DecayingValue) { m.TagPeer(v.Peer, "plain", 10) }, 14},
		{"an upsert", func(m *connmgr.Manager, v connmgr.DecayingValue) {
			m.UpsertTag(v.Peer, "plain", func(v int) int { return v + 10 })
		}, 14},
		{"a new tag", func(m *connmgr.Manager, v connmgr.DecayingValue) {
			if tag, err := m.RegisterDecayingTag("new", 0, connmgr.DecayNone(), connmgr.BumpOverwrite()); err == nil {
				_ = tag.Bump(v.Peer, 10)
			}
		}, 14},
		{"questions", func(m *connmgr.Manager, v connmgr.DecayingValue) { m.PeerInfo(v.Peer); m.Stats() }, 4},
		{"a trim", func(m *connmgr.Manager, _ connmgr.DecayingValue) { m.TrimOpenConns(nil) }, 4}, //nolint:staticcheck // nil is allowed
	} {
		for _, connected := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				m, host := newNode(t, tight(1, 100))
				if connected {
					host.Connect("p")
				}
				var call func()
				var seen connmgr.DecayingValue
				call = once(func() { tt.call(m, seen) })
				tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
					if v.Peer == "p" {
						seen = v
						call()
					}
					return v.Value - 1, false
				})
				bump(t, tag, "p", 5)
				advance(time.Minute + time.Second)
				if got := m.Tags().Sum("p"); got != tt.want {
					t.Errorf("calling back for %s (connected: %v): sum %d, want %d", tt.name, connected, got, tt.want)
				}
			})
		}
	}
}

func TestABumpDuringDecayIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		runs := 0
		tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
			if runs++; runs == 1 {
				_ = v.Tag.Bump(v.Peer, 10)
			}
			return v.Value, v.Value <= 5 // was to be removed, but for the bump
		})
		bump(t, tag, "p", 5)
		advance(time.Minute)
		if got := m.Tags().Sum("p"); got != 15 || runs != 2 {
			t.Errorf("after %d runs the value is %d; want a second run on the new value, and 15", runs, got)
		}
	})
}

func TestADecayFunctionThatAlwaysBumpsComesToAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		runs := 0
		tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
			runs++
			_ = v.Tag.Bump(v.Peer, 1000)
			return v.Value - 1, false
		})
		bump(t, tag, "p", 5)
		advance(time.Minute)
		expectSum(t, m, "p", 5+1000*runs-1)
	})
}

func TestPanicsInDecayAreLoggedOnceCountedAndLeaveTheValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		m := newManager(t, connmgr.Config{Logger: book.logger()})
		panics := register(t, m, "panics", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
			if v.Value > 100 {
				panic("boom")
			}
			return v.Value - 1, false
		})
		works := register(t, m, "works", time.Minute, connmgr.DecayFixed(1))
		for i := range 200 {
			bump(t, panics, peerID(i), 50)
			bump(t, works, peerID(i), 1000)
		}
		bump(t, panics, "bad", 200)
		advance(10 * time.Minute)
		for i := range 200 {
			expectSum(t, m, peerID(i), 1030)
		}
		expectSum(t, m, "bad", 200)
		book.expect(t, "after ten panics", "level=ERROR boom panics")
		if s := m.Stats(); s.Panics != 10 {
			t.Errorf("Stats.Panics = %d, want 10", s.Panics)
		}
		second := register(t, m, "second", time.Minute, func(connmgr.DecayingValue) (int, bool) { panic(strings.Repeat("!", 3)) })
		bump(t, second, "p", 1)
		advance(10 * time.Minute)
		book.expect(t, "after ten panics of another tag", "level=ERROR !!! second")
	})
}
