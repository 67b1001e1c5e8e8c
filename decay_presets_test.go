package connmgr_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests look at what the ready-made decay and bump functions make of
// values, alone and in a manager over a long time.

func TestDecayPresets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		decay  connmgr.DecayFunc
		value  int
		want   int
		remove bool
	}{
		{"none", connmgr.DecayNone(), 5, 5, false},
		{"none", connmgr.DecayNone(), 0, 0, false},
		{"none", connmgr.DecayNone(), -5, -5, false},
		{"fixed", connmgr.DecayFixed(3), 10, 7, false},
		{"fixed", connmgr.DecayFixed(3), 4, 1, false},
		{"fixed, used up", connmgr.DecayFixed(3), 3, 0, true},
		{"fixed, below zero", connmgr.DecayFixed(3), 1, -2, true},
		{"fixed that grows without bound", connmgr.DecayFixed(math.MinInt), 5, math.MaxInt, false},
		{"half-life of nothing", connmgr.DecayHalfLife(0), 5, 0, true},
		{"half-life of less than nothing", connmgr.DecayHalfLife(-time.Hour), math.MaxInt, 0, true},
		{"linear, far below zero", connmgr.DecayLinear(-1e300), 10, math.MinInt, true},
		{"fixed, at the limit", connmgr.DecayFixed(math.MaxInt), math.MinInt, math.MinInt, true},
		{"linear", connmgr.DecayLinear(0.5), 10, 5, false},
		{"linear rounds down", connmgr.DecayLinear(0.5), 3, 1, false},
		{"linear, used up", connmgr.DecayLinear(0.5), 1, 0, true},
		{"linear, negative", connmgr.DecayLinear(0.5), -10, -5, true},
		{"linear with factor 0", connmgr.DecayLinear(0), 10, 0, true},
		{"linear with factor 1", connmgr.DecayLinear(1), 10, 10, false},
		{"linear that grows", connmgr.DecayLinear(1e300), 10, math.MaxInt, false},
		{"linear with no number", connmgr.DecayLinear(math.NaN()), 10, 0, true},
	} {
		after, remove := tt.decay(connmgr.DecayingValue{Value: tt.value})
		if remove != tt.remove || after != tt.want {
			t.Errorf("%s: %d becomes %d (remove: %v), want %d (%v)", tt.name, tt.value, after, remove, tt.want, tt.remove)
		}
	}
}

func TestBumpPresets(t *testing.T) {
	for _, tt := range []struct {
		name               string
		bump               connmgr.BumpFunc
		value, delta, want int
	}{
		{"unbounded", connmgr.BumpSumUnbounded(), 5, 3, 8},
		{"unbounded", connmgr.BumpSumUnbounded(), 5, -30, -25},
		{"unbounded saturates", connmgr.BumpSumUnbounded(), math.MaxInt, 1, math.MaxInt},
		{"unbounded saturates", connmgr.BumpSumUnbounded(), math.MinInt, -1, math.MinInt},
		{"bounded", connmgr.BumpSumBounded(0, 15), 5, 3, 8},
		{"bounded above", connmgr.BumpSumBounded(0, 15), 5, 30, 15},
		{"bounded below", connmgr.BumpSumBounded(0, 15), 5, -30, 0},
		{"bounded, no overflow", connmgr.BumpSumBounded(0, 15), math.MaxInt, math.MaxInt, 15},
		{"bounded the wrong way round", connmgr.BumpSumBounded(15, 0), 5, 3, 0},
		{"overwrite", connmgr.BumpOverwrite(), 5, 3, 3},
	} {
		if got := tt.bump(connmgr.DecayingValue{Value: tt.value}, tt.delta); got != tt.want {
			t.Errorf("%s: %d bumped by %d is %d, want %d", tt.name, tt.value, tt.delta, got, tt.want)
		}
	}
}

func TestBoundedBumpsLikeThoseOfGossip(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	tag, err := m.RegisterDecayingTag("deliveries", 10*time.Minute, connmgr.DecayFixed(1), connmgr.BumpSumBounded(0, 15))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		bump(t, tag, "p", 1)
	}
	expectSum(t, m, "p", 15)
}

// After n half-lives a value is 2^-n of what it was, whatever the interval.
func TestHalfLifeIsExactOverLongTimesWhateverTheInterval(t *testing.T) {
	const (
		value    = 1 << 20
		halfLife = time.Hour
		common   = 210 * time.Minute // a multiple of all intervals
	)
	for _, interval := range []time.Duration{time.Minute, 7 * time.Minute, 30 * time.Minute, common} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNode(t, connmgr.Config{})
			host.Connect("p")
			bump(t, register(t, m, "score", interval, connmgr.DecayHalfLife(halfLife)), "p", value)
			for elapsed := common; elapsed <= 25*time.Hour; elapsed += common {
				advance(common)
				want := int(math.Round(value * math.Exp2(-elapsed.Hours())))
				if got := m.Tags().Sum("p"); got != want {
					t.Errorf("interval %v: after %v the value is %d, want %d", interval, elapsed, got, want)
				}
			}
			if info, _ := m.PeerInfo("p"); len(info.Tags) != 0 {
				t.Errorf("interval %v: less than a half is left, but the tag is not removed: %v", interval, info.Tags)
			}
		})
	}
}

func TestHalfLifeGoesOnFromTheLastBump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		tag := register(t, m, "score", 10*time.Minute, connmgr.DecayHalfLife(10*time.Minute))
		bump(t, tag, "p", 1000)
		bump(t, tag, "debtor", -1000)
		advance(10 * time.Minute)
		expectSum(t, m, "p", 500)
		expectSum(t, m, "debtor", -500)
		bump(t, tag, "p", 100)
		advance(10 * time.Minute)
		expectSum(t, m, "p", 300)
		advance(10 * time.Minute)
		expectSum(t, m, "p", 150)
		expectSum(t, m, "debtor", -125)
	})
}

// A peer that gets one point per second cannot have more than what the half-life
// allows: points per half-life / ln 2. Bumps must not hold decay up.
func TestBumpsDoNotHoldUpDecay(t *testing.T) {
	for _, interval := range []time.Duration{time.Minute, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			const halfLife = 10 * time.Minute
			m, host := newNode(t, connmgr.Config{})
			host.Connect("p")
			tag := register(t, m, "score", interval, connmgr.DecayHalfLife(halfLife))
			for range 3 * time.Hour / time.Second {
				bump(t, tag, "p", 1)
				advance(time.Second)
			}
			got, steady := m.Tags().Sum("p"), halfLife.Seconds()/math.Ln2
			if float64(got) < 0.7*steady || float64(got) > 1.3*steady {
				t.Errorf("interval %v: the value is %d after three hours of steady bumps, want about %.0f", interval, got, steady)
			}
		})
	}
}

func TestExpireWhenInactive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		host.Connect("busy")
		tag := register(t, m, "recent", time.Minute, connmgr.DecayExpireWhenInactive(10*time.Minute))
		for range 5 {
			bump(t, tag, "busy", 1)
			advance(9*time.Minute + 59*time.Second)
		}
		expectSum(t, m, "busy", 5)
		bump(t, tag, "busy", 0) // a bump is activity whatever it does
		advance(9*time.Minute + 59*time.Second)
		expectSum(t, m, "busy", 5)
		advance(time.Minute)
		expectSum(t, m, "busy", 0)
		if info, _ := m.PeerInfo("busy"); len(info.Tags) != 0 {
			t.Errorf("the tag has not been bumped for too long, but it is there: %v", info.Tags)
		}
		bump(t, tag, "busy", 1)
		expectSum(t, m, "busy", 1)
	})
}

func TestDecayNoneKeepsValuesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		host.Connect("p")
		bump(t, register(t, m, "score", time.Minute, connmgr.DecayNone()), "p", 5)
		advance(24 * time.Hour)
		expectSum(t, m, "p", 5)
	})
}

func TestLinearDecayInAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		bump(t, register(t, m, "score", time.Minute, connmgr.DecayLinear(0.9)), "p", 10)
		got := fmt.Sprint(m.Tags().Sum("p"))
		for range 10 {
			advance(time.Minute)
			got += fmt.Sprint(" ", m.Tags().Sum("p"))
		}
		if want := "10 9 8 7 6 5 4 3 2 1 0"; got != want {
			t.Errorf("a factor of 0.9 takes 10 through %s, want %s", got, want)
		}
	})
}
