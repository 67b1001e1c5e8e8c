package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

func TestTimeBelongsToTheInnermostFunctionOfOurs(t *testing.T) {
	const core, here = "github.com/dep2p/connmgr.", "github.com/dep2p/connmgr/cmd/internal/bench."
	profiled := func(n int64, innermostFirst ...string) *profile.Sample {
		s := &profile.Sample{Value: []int64{1, n}}
		for _, name := range innermostFirst {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		return s
	}
	prof := &profile.Profile{Sample: []*profile.Sample{
		profiled(10, "runtime.mallocgc", core+"(*shard).grow", core+"(*Manager).TagPeer", here+"init.func1"),
		profiled(20, core+"(*shard).grow.func2", core+"(*Manager).TagPeer"),
		profiled(25, "sync.(*Mutex).Lock", here+"(*fakeConn).Stat", "github.com/dep2p/connmgr/connmgrlibp2p.conn.Stat"),
		profiled(15, "github.com/dep2p/connmgr/connmgrlibp2p.conn.Stat"),
		profiled(12, "github.com/gaissmai/bart.(*Table[...]).Lookup", core+"(*ruleSet).find"),
		profiled(8, "github.com/gaissmai/bart/internal/art.x", core+"(*ruleSet).find"),
		profiled(8, "runtime.gcBgMarkWorker"),
		profiled(2, "time.Now", here+"callsOf.func1"),
	}}
	want := []part{
		{"shard.grow", 0.30},
		{partConnections, 0.25},
		{partPrefixes, 0.20},
		{"connmgrlibp2p.conn.Stat", 0.15},
		{partRuntime, 0.08},
		{partMeasuring, 0.02},
	}
	got := partsOf(prof)
	if len(got) != len(want) {
		t.Fatalf("the parts are %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("part %d is %v, want %v", i+1, got[i], want[i])
		}
	}
	text := strings.Join(strings.Fields(breakdownTable([]breakdown{{"tags", got}}).String()), " ")
	for _, line := range []string{"| tags | shard.grow | 30 % |", "| | " + partRuntime + " | 8 % |", "| | all else | 2 % |"} {
		if !strings.Contains(text, line) {
			t.Errorf("the table lacks %q: %s", line, text)
		}
	}
}

func TestWhatIsNotMetIsBrokenDown(t *testing.T) {
	b, err := breakDown(t.Context(), "gate-empty", 200*time.Millisecond, func(string) {})
	if err != nil || len(b.parts) == 0 {
		t.Errorf("the breakdown of 200 ms of work is %+v (error %v), want parts", b, err)
	}
	for _, name := range unmet() {
		if !HasProfile(name) {
			t.Errorf("%q is to be broken down, and cannot be profiled", name)
		}
	}
}
