package connmgrlibp2p_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
)

// This file holds what programs rely on in go-libp2p's decaying tags.

func TestDecayIntervalsAreRaisedToTheResolution(t *testing.T) {
	tests := map[string]struct {
		opts      []connmgrlibp2p.Option
		interval  time.Duration
		effective time.Duration
	}{
		"below the default":  {nil, time.Second, time.Minute},
		"above the default":  {nil, time.Hour, time.Hour},
		"below a chosen one": {resolution(10 * time.Second), time.Second, 10 * time.Second},
		"above a chosen one": {resolution(10 * time.Second), 11 * time.Second, 11 * time.Second},
		"no configuration":   {[]connmgrlibp2p.Option{connmgrlibp2p.DecayerConfig(nil)}, 0, time.Minute},
	}
	for name, test := range tests {
		cm := newManager(t, 1, 2, test.opts...)
		tag := mustRegister(t, cm, "tag", test.interval, libp2p.DecayNone(), libp2p.BumpOverwrite())
		if got := tag.Interval(); got != test.effective {
			t.Errorf("%s: an interval of %v became %v, want %v", name, test.interval, got, test.effective)
		}
		if got := tag.Name(); got != "tag" {
			t.Errorf("%s: Name is %q, want %q", name, got, "tag")
		}
	}
}

func resolution(d time.Duration) []connmgrlibp2p.Option {
	return []connmgrlibp2p.Option{connmgrlibp2p.DecayerConfig(&connmgrlibp2p.DecayerCfg{Resolution: d})}
}

func TestDefaultResolutionCanBeChanged(t *testing.T) {
	before := connmgrlibp2p.DefaultResolution
	t.Cleanup(func() { connmgrlibp2p.DefaultResolution = before })
	connmgrlibp2p.DefaultResolution = 5 * time.Second
	if got := (&connmgrlibp2p.DecayerCfg{}).WithDefaults().Resolution; got != 5*time.Second {
		t.Errorf("WithDefaults sets the resolution to %v, want 5s", got)
	}
	tag := mustRegister(t, newManager(t, 1, 2), "tag", time.Second, libp2p.DecayNone(), libp2p.BumpOverwrite())
	if got := tag.Interval(); got != 5*time.Second {
		t.Errorf("an interval of 1s became %v, want 5s", got)
	}
}

func TestADecayingTagsNameCanBeTakenOnce(t *testing.T) {
	cm := newManager(t, 1, 2)
	mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	if _, err := cm.RegisterDecayingTag("tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite()); err == nil {
		t.Error("a second tag of the same name: no error, want one")
	}
}

func TestAClosedDecayingTagIsGone(t *testing.T) {
	cm := newManager(t, 1, 2)
	dial(cm, "peer")
	cm.TagPeer("peer", "other", 1)
	tag := mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	mustBump(t, tag, "peer", 5)
	for i := range 2 {
		if err := tag.Close(); err != nil {
			t.Errorf("Close number %d: %v, want no error", i+1, err)
		}
	}
	if err := tag.Bump("peer", 1); !errors.Is(err, connmgr.ErrTagClosed) {
		t.Errorf("Bump of a closed tag: %v, want ErrTagClosed", err)
	}
	if err := tag.Remove("peer"); !errors.Is(err, connmgr.ErrTagClosed) {
		t.Errorf("Remove of a closed tag: %v, want ErrTagClosed", err)
	}
	if got := valueOf(cm, "peer"); got != 1 {
		t.Errorf("value is %d after the tag was closed, want 1 from the other tag", got)
	}
}

func TestRemovingADecayingTagTakesItFromOnePeer(t *testing.T) {
	cm := newManager(t, 1, 2)
	tag := mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	mustBump(t, tag, "one", 5)
	mustBump(t, tag, "two", 5)
	for range 2 { // the second time there is nothing to remove
		if err := tag.Remove("one"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if one, two := valueOf(cm, "one"), valueOf(cm, "two"); one != 0 || two != 5 {
		t.Errorf("values are %d and %d, want 0 and 5", one, two)
	}
}

// TestFunctionsGetTheWholeValue shows what decay and bump functions of
// go-libp2p's types are told.
func TestFunctionsGetTheWholeValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		start := time.Now()
		var decayed, bumped libp2p.DecayingValue
		tag := mustRegister(t, cm, "tag", time.Minute,
			func(v libp2p.DecayingValue) (int, bool) { decayed = v; return v.Value - 1, false },
			func(v libp2p.DecayingValue, delta int) int { bumped = v; return v.Value + delta })
		dial(cm, "peer")
		mustBump(t, tag, "peer", 10)
		passTime(30 * time.Second)
		mustBump(t, tag, "peer", 5)
		check := func(what string, got libp2p.DecayingValue, value int, visit time.Time) {
			t.Helper()
			if got.Tag != tag || got.Peer != "peer" || got.Value != value || !got.Added.Equal(start) || !got.LastVisit.Equal(visit) {
				t.Errorf("%s got %+v; want this very tag, peer %q, value %d, added %v, last visit %v", what, got, "peer", value, start, visit)
			}
		}
		check("the second bump", bumped, 10, start)
		passTime(31 * time.Second)
		check("the first decay", decayed, 15, start.Add(30*time.Second))
		if got := valueOf(cm, "peer"); got != 14 {
			t.Errorf("value is %d after two bumps and a decay, want 14", got)
		}
	})
}

// TestPresetsDecayAsTheySay runs go-libp2p's own presets.
// (DecayExpireWhenInactive has tests of its own: it does not do what it says.)
func TestPresetsDecayAsTheySay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		dial(cm, "peer")
		for name, decay := range map[string]libp2p.DecayFn{
			"none": libp2p.DecayNone(), "fixed": libp2p.DecayFixed(30), "linear": libp2p.DecayLinear(0.5),
		} {
			tag := mustRegister(t, cm, name, time.Minute, decay, libp2p.BumpSumBounded(0, 100))
			mustBump(t, tag, "peer", 70)
			mustBump(t, tag, "peer", 70)
		}
		for minute, want := range []map[string]int{
			{"none": 100, "fixed": 100, "linear": 100},
			{"none": 100, "fixed": 70, "linear": 50},
			{"none": 100, "fixed": 40, "linear": 25},
			{"none": 100, "fixed": 10, "linear": 12},
			{"none": 100, "linear": 6},
		} {
			got := cm.GetTagInfo("peer").Tags
			for _, name := range []string{"none", "fixed", "linear"} {
				if got[name] != want[name] {
					t.Errorf("minute %d: %s is %d, want %d", minute, name, got[name], want[name])
				}
			}
			if len(got) != len(want) {
				t.Errorf("minute %d: tags are %v, want %v", minute, got, want)
			}
			passTime(time.Minute)
		}
	})
}
