package connmgr_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests let values come and go, and tags be closed, at the very moment at
// which they decay.

func TestAValueThatComesAnewAtTheEndOfTheIntervalDoesNotDecayForIt(t *testing.T) {
	for _, tt := range []struct {
		what   string
		again  func(tag *connmgr.DecayingTag, p connmgr.NodeID)
		always bool // whenever the function runs, not only the first time
		remove bool // what the function decides
		want   int
	}{
		{"with another value", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { _ = tag.Remove(p); _ = tag.Bump(p, 10) }, false, false, 10},
		{"with the same value", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { _ = tag.Remove(p); _ = tag.Bump(p, 5) }, false, false, 5},
		{"over and over", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { _ = tag.Remove(p); _ = tag.Bump(p, 10) }, true, false, 10},
		{"though it was to be removed", func(tag *connmgr.DecayingTag, p connmgr.NodeID) { _ = tag.Remove(p); _ = tag.Bump(p, 10) }, false, true, 10},
		{"after two changes", func(tag *connmgr.DecayingTag, p connmgr.NodeID) {
			_ = tag.Bump(p, 1)
			_ = tag.Remove(p)
			_ = tag.Bump(p, 2)
			_ = tag.Bump(p, 3)
		}, false, false, 5},
	} {
		for _, connected := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				m, host := newNode(t, connmgr.Config{})
				if connected {
					host.Connect("p")
				}
				var runs atomic.Int32
				tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
					if runs.Add(1) == 1 || tt.always {
						tt.again(v.Tag, v.Peer)
					}
					return v.Value - 1, tt.remove
				})
				bump(t, tag, "p", 5)
				advance(time.Minute)
				if got := m.Tags().Sum("p"); got != tt.want {
					t.Errorf("%s (connected: %v): the value is %d, want %d, as it came", tt.what, connected, got, tt.want)
				}
				if runs.Load() > 1 {
					t.Errorf("%s (connected: %v): the decay function ran %d times, want 1: the new value's time has not come", tt.what, connected, runs.Load())
				}
				if tt.always || tt.remove {
					return
				}
				advance(time.Minute)
				if got := m.Tags().Sum("p"); got != tt.want-1 {
					t.Errorf("%s (connected: %v): an interval later the value is %d, want %d", tt.what, connected, got, tt.want-1)
				}
			})
		}
	}
}

// bumpCrowd gives a tag to so many peers that closing it takes a while.
func bumpCrowd(t *testing.T, tag *connmgr.DecayingTag) {
	for i := range 20_000 {
		bump(t, tag, peerID(i), 1)
	}
}

// beginClose closes a tag on another goroutine, and returns when that is under way.
func beginClose(t *testing.T, tag *connmgr.DecayingTag) (closed <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		if err := tag.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		close(done)
	}()
	for tag.Remove("nobody") == nil {
		runtime.Gosched()
	}
	return done
}

func TestWhoeverClosesATagFindsItsNameFree(t *testing.T) {
	m := newManager(t, connmgr.Config{ManualStart: true})
	for range 2 {
		tag := register(t, m, "again", time.Minute, connmgr.DecayNone())
		bumpCrowd(t, tag)
		first := beginClose(t, tag)
		if err := tag.Close(); err != nil { // the second to come
			t.Errorf("Close: %v", err)
		}
		again, err := m.RegisterDecayingTag("again", time.Minute, connmgr.DecayNone(), connmgr.BumpOverwrite())
		if err != nil {
			t.Fatalf("the tag's name is taken when Close has returned, since another one is under way: %v", err)
		}
		if info, known := m.PeerInfo(peerID(0)); known {
			t.Errorf("when Close has returned a peer still has %v", info.Tags)
		}
		<-first
		_ = again.Close()
	}
}

// askedClock is the system's clock. It counts how often it is asked for the time,
// and calls a hook when it is asked.
type askedClock struct {
	asked atomic.Int64
	hook  atomic.Pointer[func()]
}

func (c *askedClock) Now() time.Time {
	c.asked.Add(1)
	if hook := c.hook.Swap(nil); hook != nil {
		(*hook)()
	}
	return time.Now()
}

func (c *askedClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func TestATagThatIsBeingClosedWhenItIsDueIsNotWaitedForBusily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := new(askedClock)
		m := newManager(t, connmgr.Config{Clock: clock, SilencePeriod: 24 * time.Hour}) // nobody else asks
		tag := register(t, m, "due", time.Minute, connmgr.DecayNone())
		bumpCrowd(t, tag)
		advance(time.Minute - 1)
		var asked int64
		closed := make(chan struct{})
		hook := func() { // the tag is due, and by the time that is known it is being closed
			done := beginClose(t, tag)
			before := clock.asked.Load()
			go func() {
				<-done
				asked = clock.asked.Load() - before
				close(closed)
			}()
		}
		clock.hook.Store(&hook)
		advance(1)
		<-closed
		if asked > 10 {
			t.Errorf("the clock was asked %d times while the tag was being closed, want the manager to sleep", asked)
		}
	})
}
