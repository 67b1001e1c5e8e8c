package connmgr_test

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests let values of decaying tags grow by bumps and shrink with time.
// What the presets make of values is in decay_presets_test.go, and callbacks
// that call back or panic are in decay_callbacks_test.go.

func TestABumpTakesEffectAtOnce(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("connected")
	tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
	for _, p := range []connmgr.NodeID{"connected", "stranger"} {
		m.TagPeer(p, "plain", 1)
		bump(t, tag, p, 10)
		expectSum(t, m, p, 11)
		bump(t, tag, p, -3)
		expectSum(t, m, p, 8)
		if info, _ := m.PeerInfo(p); info.Tags["score"] != 7 || info.Value != 8 {
			t.Errorf("%v: PeerInfo has tags %v and value %d, want score 7 and value 8", p, info.Tags, info.Value)
		}
	}
}

func TestABumpDecidesWhoGoes(t *testing.T) {
	m, host := newNode(t, tight(1, 100))
	connectMany(host, 10)
	bump(t, register(t, m, "score", time.Minute, connmgr.DecayNone()), peerID(4), 1)
	trim(t, m)
	if !host.Connected(peerID(4)) {
		t.Error("the only peer with a bump was closed")
	}
}

func TestThousandsOfBumpsAreNeverRefused(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("p")
	tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
	const goroutines, each = 8, 5000
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				bump(t, tag, "p", 1)
				bump(t, tag, "stranger", 1)
			}
		})
	}
	all.Wait()
	expectSum(t, m, "p", goroutines*each)
	expectSum(t, m, "stranger", goroutines*each)
}

func TestIntervalsAreRaisedToTheResolution(t *testing.T) {
	m := newManager(t, connmgr.Config{DecayInterval: time.Hour})
	for asked, want := range map[time.Duration]time.Duration{
		-time.Second:           time.Hour,
		0:                      time.Hour,
		time.Minute:            time.Hour,
		time.Hour:              time.Hour,
		time.Hour + 1:          time.Hour + 1,
		100 * 24 * time.Hour:   100 * 24 * time.Hour,
		3*time.Hour + 5*60*1e9: 3*time.Hour + 5*time.Minute,
	} {
		tag := register(t, m, fmt.Sprint(asked), asked, connmgr.DecayNone())
		if tag.Interval() != want {
			t.Errorf("interval %v became %v, want %v", asked, tag.Interval(), want)
		}
		if tag.Name() != fmt.Sprint(asked) {
			t.Errorf("Name() = %q, want %q", tag.Name(), fmt.Sprint(asked))
		}
	}
}

func TestValuesDecayOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		host.Connect("connected")
		advance(7 * time.Second) // intervals count from the registration
		minute := register(t, m, "minute", time.Minute, connmgr.DecayFixed(1))
		slow := register(t, m, "slow", 90*time.Second, connmgr.DecayFixed(10))
		raised := register(t, m, "raised", time.Second, connmgr.DecayFixed(1000))
		start := time.Now()
		for _, p := range []connmgr.NodeID{"connected", "stranger"} {
			bump(t, minute, p, 6)
			bump(t, slow, p, 60)
			bump(t, raised, p, 6000)
		}
		for _, tt := range []struct {
			at   time.Duration
			want int
		}{
			{time.Minute - 1, 6066},
			{time.Minute, 5065},
			{90*time.Second - 1, 5065},
			{90 * time.Second, 5055},
			{2 * time.Minute, 4054},
			{3 * time.Minute, 3043},
			{6*time.Minute - 1, 1031},
			{6 * time.Minute, 20}, // two tags are used up, one has two intervals to go
			{9 * time.Minute, 0},
			{time.Hour, 0},
		} {
			advance(time.Until(start.Add(tt.at)))
			for _, p := range []connmgr.NodeID{"connected", "stranger"} {
				if got := m.Tags().Sum(p); got != tt.want {
					t.Errorf("after %v the sum of %v is %d, want %d", tt.at, p, got, tt.want)
				}
			}
		}
		if info, _ := m.PeerInfo("connected"); len(info.Tags) != 0 {
			t.Errorf("tags that decayed to nothing are still there: %v", info.Tags)
		}
	})
}

func TestAYoungValueDecaysWithTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		tag := register(t, m, "score", time.Minute, connmgr.DecayFixed(1))
		advance(59 * time.Second)
		bump(t, tag, "p", 10)
		advance(time.Second)
		expectSum(t, m, "p", 9)
	})
}

func TestDecayReachesAllPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		m, host := newNode(t, connmgr.Config{HighWater: n, GracePeriod: time.Hour})
		tag := register(t, m, "score", time.Minute, connmgr.DecayFixed(1))
		for i := range n {
			if i%2 == 0 {
				host.Connect(peerID(i))
			}
			bump(t, tag, peerID(i), i+1)
		}
		advance(time.Minute)
		for i := range n {
			expectSum(t, m, peerID(i), i)
		}
	})
}

func TestDecaySeesTheWholeStoryOfAValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		var seen []connmgr.DecayingValue
		tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
			seen = append(seen, v)
			return v.Value - 1, false
		})
		start := time.Now()
		at := func(d time.Duration) time.Time { return start.Add(d) }
		advance(10 * time.Second)
		bump(t, tag, "p", 5)
		advance(70 * time.Second)
		bump(t, tag, "p", 5)
		advance(100 * time.Second)
		want := []connmgr.DecayingValue{
			{Tag: tag, Peer: "p", Added: at(10 * time.Second), LastBump: at(10 * time.Second), BumpedTo: 5, BumpedFrom: at(10 * time.Second), Now: at(time.Minute), Value: 5},
			{Tag: tag, Peer: "p", Added: at(10 * time.Second), LastBump: at(80 * time.Second), BumpedTo: 9, BumpedFrom: at(time.Minute), Now: at(2 * time.Minute), Value: 9},
			{Tag: tag, Peer: "p", Added: at(10 * time.Second), LastBump: at(80 * time.Second), BumpedTo: 9, BumpedFrom: at(time.Minute), Now: at(3 * time.Minute), Value: 8},
		}
		if len(seen) != len(want) {
			t.Fatalf("decay ran %d times, want %d", len(seen), len(want))
		}
		for i := range want {
			if seen[i] != want[i] {
				t.Errorf("decay %d saw %+v, want %+v", i, seen[i], want[i])
			}
		}
	})
}

func TestADecayingTagAddsToAPlainOneOfTheSameName(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	tag := register(t, m, "a", time.Minute, connmgr.DecayNone())
	m.TagPeer("p", "a", 5)
	bump(t, tag, "p", 100)
	if info, _ := m.PeerInfo("p"); info.Value != 105 || info.Tags["a"] != 105 {
		t.Errorf("value %d, tag %d; want 105 for both", info.Value, info.Tags["a"])
	}
	m.UntagPeer("p", "a")
	expectSum(t, m, "p", 100)
}

func TestRegistrationsThatFail(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	register(t, m, "taken", time.Minute, connmgr.DecayNone())
	for what, try := range map[string]func() error{
		"a name that is taken": func() error {
			_, err := m.RegisterDecayingTag("taken", time.Hour, connmgr.DecayNone(), connmgr.BumpOverwrite())
			return err
		},
		"no decay function": func() error {
			_, err := m.RegisterDecayingTag("free", time.Hour, nil, connmgr.BumpOverwrite())
			return err
		},
		"no bump function": func() error {
			_, err := m.RegisterDecayingTag("free", time.Hour, connmgr.DecayNone(), nil)
			return err
		},
	} {
		if try() == nil {
			t.Errorf("registration with %s succeeded", what)
		}
	}
	register(t, m, "free", time.Minute, connmgr.DecayNone()) // the failures left nothing behind
}

func TestRemoveTakesTheTagFromOnePeer(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("connected")
	tag, other := register(t, m, "a", 0, connmgr.DecayNone()), register(t, m, "b", 0, connmgr.DecayNone())
	for _, p := range []connmgr.NodeID{"connected", "stranger", "untouched"} {
		bump(t, tag, p, 1)
		bump(t, other, p, 10)
	}
	for _, p := range []connmgr.NodeID{"connected", "stranger", "nobody"} {
		for range 2 {
			if err := tag.Remove(p); err != nil {
				t.Errorf("Remove(%v): %v", p, err)
			}
		}
	}
	expectSum(t, m, "connected", 10)
	expectSum(t, m, "stranger", 10)
	expectSum(t, m, "untouched", 11)
	if err := other.Remove("stranger"); err != nil {
		t.Error(err)
	}
	if _, known := m.PeerInfo("stranger"); known {
		t.Error("a peer whose last tag was removed is still known")
	}
}

func TestClosingATagTakesItFromEverybodyAndFreesItsName(t *testing.T) {
	m, host := newNode(t, connmgr.Config{HighWater: 10_000})
	connectMany(host, 500)
	for round := range 3 {
		tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
		for i := range 1000 {
			bump(t, tag, peerID(i), round+1)
		}
		for range 2 {
			if err := tag.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		for i := range 1000 {
			expectSum(t, m, peerID(i), 0)
		}
		if err := tag.Bump("p", 1); !errors.Is(err, connmgr.ErrTagClosed) {
			t.Errorf("Bump after Close = %v, want ErrTagClosed", err)
		}
		if err := tag.Remove("p"); !errors.Is(err, connmgr.ErrTagClosed) {
			t.Errorf("Remove after Close = %v, want ErrTagClosed", err)
		}
	}
	if s := m.Stats(); s.IdlePeers != 0 || s.Peers != 500 {
		t.Errorf("%d idle and %d connected peers are left, want 0 and 500", s.IdlePeers, s.Peers)
	}
}

func TestNoBumpSlipsPastTheClosingOfItsTag(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	for range 20 {
		tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for i := 0; ; i++ {
					if err := tag.Bump(peerID(g*100+i%100), 1); err != nil {
						if !errors.Is(err, connmgr.ErrTagClosed) {
							t.Errorf("Bump: %v", err)
						}
						return
					}
				}
			})
		}
		if err := tag.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		for i := range 400 {
			expectSum(t, m, peerID(i), 0)
		}
	}
}

func TestTooManyTagsRefuseABump(t *testing.T) {
	m := newManager(t, connmgr.Config{MaxTagsPerPeer: 2})
	tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
	m.TagPeer("p", "a", 1)
	m.TagPeer("p", "b", 1)
	if err := tag.Bump("p", 5); !errors.Is(err, connmgr.ErrTooManyTags) {
		t.Errorf("Bump = %v, want ErrTooManyTags", err)
	}
	expectSum(t, m, "p", 2)
	if s := m.Stats(); s.TagsRefused != 1 {
		t.Errorf("TagsRefused = %d, want 1", s.TagsRefused)
	}
	m.UntagPeer("p", "a")
	bump(t, tag, "p", 5)
	expectSum(t, m, "p", 6)
}

// leapClock is a clock that can be set ahead, as when a laptop wakes up.
type leapClock struct{ ahead atomic.Int64 }

func (c *leapClock) Now() time.Time                         { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *leapClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func TestMissedDecaysAreMadeUpFor(t *testing.T) {
	for leap, want := range map[time.Duration]int{
		0:                         10_000 - 1,
		30 * time.Minute:          10_000 - 31,
		30*time.Minute + 59e9:     10_000 - 31,
		500 * time.Minute:         10_000 - 501,
		20 * 365 * 24 * time.Hour: 10_000 - 1001, // more than that is not worth the wait
	} {
		synctest.Test(t, func(t *testing.T) {
			clock := new(leapClock)
			m := newManager(t, connmgr.Config{Clock: clock, EarlyTagTTL: 50 * 365 * 24 * time.Hour})
			var last time.Time
			tag := register(t, m, "score", time.Minute, func(v connmgr.DecayingValue) (int, bool) {
				if !v.Now.After(last) {
					t.Errorf("decay of %v comes after that of %v", v.Now, last)
				}
				last = v.Now
				return v.Value - 1, false
			})
			bump(t, tag, "p", 10_000)
			synctest.Wait()
			clock.ahead.Store(int64(leap))
			advance(time.Minute)
			if got := m.Tags().Sum("p"); got != want {
				t.Errorf("after a leap of %v the value is %d, want %d", leap, got, want)
			}
		})
	}
}

func TestAnIntervalLongerThanLifeNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{SilencePeriod: 24 * time.Hour, EarlyTagTTL: math.MaxInt64})
		advance(time.Second)
		decays := 0
		tag := register(t, m, "for ever", math.MaxInt64, func(v connmgr.DecayingValue) (int, bool) {
			if decays++; decays == 10 {
				_ = v.Tag.Close() // else a defect here would hang the test
			}
			return v.Value - 1, false
		})
		bump(t, tag, "p", 100)
		advance(365 * 24 * time.Hour)
		if decays != 0 {
			t.Errorf("a tag with an interval of %v decayed %d times in a year", tag.Interval(), decays)
		}
	})
}
