package connmgrlibp2p_test

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file tries the defects of go-libp2p's tags on the drop-in. A twin subtest
// shows that go-libp2p's manager, in the version that go.mod names, has the defect.

func TestTagsOfPeersThatNeverConnectAreForgotten(t *testing.T) {
	run := func(t *testing.T, cm manager, remembered bool) {
		decaying := mustRegister(t, cm, "decaying", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
		cm.TagPeer("tagged", "tag", 1)
		cm.UpsertTag("upserted", "tag", func(int) int { return 1 })
		mustBump(t, decaying, "bumped", 1)
		cm.TagPeer("untagged", "tag", 1)
		cm.UntagPeer("untagged", "tag")
		if err := decaying.Remove("removed"); err != nil {
			t.Errorf("Remove of a tag that the peer does not have: %v", err)
		}
		passTime(2 * time.Minute) // the default grace period, and some
		for _, p := range []peer.ID{"tagged", "upserted", "bumped", "untagged", "removed"} {
			if info := cm.GetTagInfo(p); (info != nil) != remembered {
				t.Errorf("two minutes later GetTagInfo(%q) is %+v, want it remembered: %v", string(p), info, remembered)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 10, 20)
		run(t, cm, false)
		if s := cm.Core().Stats(); s.IdlePeers != 0 {
			t.Errorf("%d idle peers are remembered, want none", s.IdlePeers)
		}
	})
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 10, 20), true) })
	})
}

func TestEarlyTagsOfAProtectedPeerAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 10, 20)
		cm.Protect("friend", "mine")
		cm.TagPeer("friend", "tag", 5)
		passTime(time.Hour)
		if got := valueOf(cm, "friend"); got != 5 {
			t.Errorf("value is %d after an hour of protection, want 5", got)
		}
		cm.Unprotect("friend", "mine")
		passTime(2 * time.Minute)
		if info := cm.GetTagInfo("friend"); info != nil {
			t.Errorf("GetTagInfo is %+v two minutes after the protection, want nil", info)
		}
	})
}

func TestTheEmptyPeerIDIsLikeAnyOther(t *testing.T) {
	cm := newManager(t, 1, 2)
	tag := mustRegister(t, cm, "decaying", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
	cm.TagPeer("", "tag", 1)
	mustBump(t, tag, "", 2)
	dial(cm, "")
	if got := valueOf(cm, ""); got != 3 {
		t.Errorf("value is %d, want 3", got)
	}
	t.Run(twin, func(t *testing.T) {
		crashes(t, "TagPeer of the empty ID", "index out of range")
		crashes(t, "Bump of the empty ID", "index out of range")
	})
}

func TestCallbacksMayCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		touch := func(p peer.ID) {
			cm.GetTagInfo(p)
			cm.TagPeer(p, "touched", 1)
			cm.Protect(p, "touched")
		}
		tag := mustRegister(t, cm, "decaying", time.Minute,
			func(v libp2p.DecayingValue) (int, bool) { touch(v.Peer); return v.Value - 1, false },
			func(v libp2p.DecayingValue, delta int) int { touch(v.Peer); return v.Value + delta })
		dial(cm, "peer")
		cm.UpsertTag("peer", "tag", func(v int) int { touch("peer"); return v + 10 })
		mustBump(t, tag, "peer", 100)
		passTime(time.Minute)
		if got, want := valueOf(cm, "peer"), 10+99+1; got != want {
			t.Errorf("value is %d after an upsert, a bump, a decay and a tag from inside them, want %d", got, want)
		}
	})
	t.Run(twin, func(t *testing.T) {
		hangs(t, "callback of UpsertTag")
		hangs(t, "bump function that calls back")
	})
}

// presets holds go-libp2p's preset where the compiler cannot see through it.
var presets = []func(time.Duration) libp2p.DecayFn{libp2p.DecayExpireWhenInactive}

func TestExpireWhenInactiveExpires(t *testing.T) {
	const after = 10 * time.Minute
	ways := map[string]libp2p.DecayFn{
		"inlined":     libp2p.DecayExpireWhenInactive(after),
		"not inlined": presets[0](after),
		"measured by time.Since": func(v libp2p.DecayingValue) (int, bool) {
			return v.Value, time.Since(v.LastVisit) >= after
		},
	}
	for name, decay := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cm := newManager(t, 1, 2)
				tag := mustRegister(t, cm, "tag", time.Minute, decay, libp2p.BumpSumUnbounded())
				dial(cm, "peer")
				mustBump(t, tag, "peer", 5)
				passTime(5*time.Minute + 30*time.Second)
				mustBump(t, tag, "peer", 5) // active again, and expires at 15:30
				passTime(9*time.Minute + 45*time.Second)
				if got := cm.GetTagInfo("peer").Tags["tag"]; got != 10 {
					t.Errorf("value is %d a little less than %v after the last bump, want 10", got, after)
				}
				passTime(time.Minute)
				if tags := cm.GetTagInfo("peer").Tags; len(tags) != 0 {
					t.Errorf("tags are %v a little more than %v after the last bump, want none", tags, after)
				}
			})
		})
		t.Run(name+"/"+twin, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cm := newBasic(t, 1, 2)
				tag := mustRegister(t, cm, "tag", time.Minute, decay, libp2p.BumpSumUnbounded())
				dial(cm, "peer")
				mustBump(t, tag, "peer", 10)
				passTime(24 * time.Hour)
				if _, there := cm.GetTagInfo("peer").Tags["tag"]; !there {
					t.Error("the tag expired, was there for ever")
				}
			})
		})
	}
}

// TestAFunctionAroundThePresetIsNotMended shows the limit: the drop-in mends the
// preset itself, since nobody can tell what somebody's own function is to do.
func TestAFunctionAroundThePresetIsNotMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		preset := libp2p.DecayExpireWhenInactive(time.Minute)
		tag := mustRegister(t, cm, "tag", time.Minute, func(v libp2p.DecayingValue) (int, bool) { return preset(v) }, libp2p.BumpOverwrite())
		dial(cm, "peer")
		mustBump(t, tag, "peer", 5)
		passTime(time.Hour)
		if value, there := cm.GetTagInfo("peer").Tags["tag"]; !there || value != 0 {
			t.Errorf("the tag is %d (there: %v) after an hour, want 0 and there: what the preset says", value, there)
		}
	})
}

// TestThePresetWasTriedInlinedAndNot says so if a compiler makes the two the same,
// since the drop-in knows the preset by its name.
func TestThePresetWasTriedInlinedAndNot(t *testing.T) {
	name := func(f libp2p.DecayFn) string { return runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name() }
	inlined, called := name(libp2p.DecayExpireWhenInactive(1)), name(presets[0](1))
	for _, n := range []string{inlined, called} {
		if !strings.Contains(n, "DecayExpireWhenInactive") {
			t.Errorf("the preset's name is %q, want DecayExpireWhenInactive in it", n)
		}
	}
	if inlined == called {
		t.Skipf("this build inlines nothing, or all: the preset is %q either way", called)
	}
}

func TestNoBumpOfABurstIsRefused(t *testing.T) {
	const burst = 10_000
	cm := newManager(t, 1, 2)
	tag := mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
	for range burst {
		mustBump(t, tag, "peer", 1)
	}
	if got := valueOf(cm, "peer"); got != burst {
		t.Errorf("value is %d right after %d bumps by 1, want %d", got, burst, burst)
	}
	t.Run(twin, func(t *testing.T) {
		cm := newBasic(t, 1, 2)
		start := make(chan struct{})
		tag := mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), func(v libp2p.DecayingValue, delta int) int {
			<-start // one bump is under way for as long as the burst lasts
			return v.Value + delta
		})
		refused := 0
		for range burst {
			if tag.Bump("peer", 1) != nil {
				refused++
			}
		}
		close(start)
		if refused < burst-200 {
			t.Errorf("%d of %d bumps were refused, were all but the 128 of its queue", refused, burst)
		}
	})
}

func TestABumpAfterCloseIsNotDropped(t *testing.T) {
	run := func(t *testing.T, cm manager, want int) {
		tag := mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
		if err := cm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		mustBump(t, tag, "peer", 5)
		if got := valueOf(cm, "peer"); got != want {
			t.Errorf("value is %d after a bump that was accepted, want %d", got, want)
		}
	}
	run(t, newManager(t, 1, 2), 5)
	t.Run(twin, func(t *testing.T) { run(t, newBasic(t, 1, 2), 0) })
}

func TestGetTagInfoTellsTwoConnectionsFromOneAddressApart(t *testing.T) {
	const addr = "/ip4/192.0.2.1/tcp/4001"
	run := func(t *testing.T, cm manager, keys ...string) {
		start := time.Now()
		for range 3 {
			dial(cm, "peer", func(c *fakeConn) { c.addr = addr })
			passTime(time.Second)
		}
		conns := cm.GetTagInfo("peer").Conns
		if len(conns) != len(keys) {
			t.Errorf("Conns is %v after three connections, want the keys %q", conns, keys)
		}
		if len(keys) == 1 {
			return
		}
		for i, key := range keys {
			if want := start.Add(time.Duration(i) * time.Second); !conns[key].Equal(want) {
				t.Errorf("Conns[%q] is %v, want %v: the oldest has the bare address", key, conns[key], want)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) { run(t, newManager(t, 5, 10), addr, addr+" #2", addr+" #3") })
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 5, 10), addr) })
	})
}

func TestAClosedDecayingTagsNameCanBeTakenAtOnce(t *testing.T) {
	// reused returns how often a name could be taken again right after Close.
	reused := func(t *testing.T, cm manager, tries int) (n int) {
		for range tries {
			tag, err := cm.RegisterDecayingTag("tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
			if err != nil {
				continue
			}
			n++
			if err := tag.Close(); err != nil {
				t.Errorf("Close of a tag: %v", err)
			}
		}
		return n
	}
	const tries = 1000
	if got := reused(t, newManager(t, 1, 2), tries); got != tries {
		t.Errorf("the name could be taken %d times of %d, want every time", got, tries)
	}
	t.Run(twin, func(t *testing.T) {
		if got := reused(t, newBasic(t, 1, 2), tries); got == tries {
			t.Errorf("the name could be taken %d times of %d, was in use for a while after Close", got, tries)
		}
	})
}

// TestLastVisitIsTheLastBump shows the difference behind the expiry that never
// came.
func TestLastVisitIsTheLastBump(t *testing.T) {
	run := func(t *testing.T, cm manager, want time.Duration) {
		bumped := time.Now()
		var last time.Duration
		tag := mustRegister(t, cm, "tag", time.Minute, func(v libp2p.DecayingValue) (int, bool) {
			last = v.LastVisit.Sub(bumped)
			return v.Value, false
		}, libp2p.BumpOverwrite())
		dial(cm, "peer")
		mustBump(t, tag, "peer", 1)
		passTime(10*time.Minute + time.Second)
		if last != want {
			t.Errorf("in the tenth decay LastVisit is %v after the only bump, want %v", last, want)
		}
	}
	synctest.Test(t, func(t *testing.T) { run(t, newManager(t, 1, 2), 0) })
	t.Run(twin, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newBasic(t, 1, 2), 9*time.Minute) })
	})
}

func TestATagDecaysWhenItsIntervalEnds(t *testing.T) {
	run := func(t *testing.T, cm manager, want []time.Duration) {
		start := time.Now()
		var got []time.Duration
		tag := mustRegister(t, cm, "tag", 90*time.Second, func(v libp2p.DecayingValue) (int, bool) {
			got = append(got, time.Since(start))
			return v.Value, false
		}, libp2p.BumpOverwrite())
		dial(cm, "peer")
		mustBump(t, tag, "peer", 1)
		passTime(200 * time.Second)
		if !slices.Equal(got, want) {
			t.Errorf("with an interval of 90 s the tag decayed after %v, want %v", got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		run(t, newManager(t, 1, 2), []time.Duration{90 * time.Second, 180 * time.Second})
	})
	t.Run(twin, func(t *testing.T) { // it looks once per resolution, which is a minute
		synctest.Test(t, func(t *testing.T) {
			run(t, newBasic(t, 1, 2), []time.Duration{120 * time.Second, 180 * time.Second})
		})
	})
}
