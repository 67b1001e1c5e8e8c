package bench

import (
	"strings"
	"testing"
	"time"
)

func TestWhatWasReachedFallsShortOfItsBound(t *testing.T) {
	for _, b := range bounds {
		if b.reached == 0 {
			continue
		}
		if (verdict{bound: b, measured: b.reached}).met() {
			t.Errorf("%s: %v has been reached, and the bound is %v: it is kept, and reached is to be taken away", b.work, b.reached, b.limit)
		}
	}
}

func TestEveryBoundOnTimeHasAProfile(t *testing.T) {
	for _, b := range bounds {
		timed := b.metric != allocsOfOurs && !strings.HasPrefix(b.key, "memory/")
		if timed != HasProfile(b.profile) {
			t.Errorf("%s (metric %d): the profile is %q; want one that exists if it is about time, and none if not", b.work, b.metric, b.profile)
		}
	}
}

func TestEveryBoundIsMeasuredInEveryMode(t *testing.T) {
	for _, m := range []mode{modeFull, modeQuick, modeCheck} {
		plan := planOf(m)
		for _, b := range bounds {
			found := map[string]bool{}
			for _, p := range plan {
				for _, key := range p.keys {
					found[key] = true
				}
			}
			if !found[b.key] || b.than != "" && !found[b.than] {
				t.Errorf("mode %d measures nothing for the bound %q", m, b.work)
			}
		}
	}
}

func TestLatencyBoundsAreAboutOurCallsDuringATrim(t *testing.T) {
	var latency []latencyRow
	for i, l := range []latencyRow{
		{manager: theirs.name, trimming: true}, {manager: ours.name}, {manager: ours.name, trimming: true},
	} {
		for kind, call := range callNames {
			l.call, l.p999 = call, time.Duration(100*i+kind)
			latency = append(latency, l)
		}
	}
	rows := slowestOfThousand(latency)
	for key, want := range map[string]figure{"latency/tag": 200 + callTag, "latency/connect": 200 + callConnected} {
		if r, ok := find(rows, key); !ok || r.ours != want {
			t.Errorf("%s is %v (found %t), want %v", key, r.ours, ok, want)
		}
	}
}
