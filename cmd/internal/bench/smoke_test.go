package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	ma "github.com/multiformats/go-multiaddr"
)

// This file runs each measurement with few peers, so that none breaks unnoticed.

// complete fails unless all rows have figures of both, and those with bounds the keys
// that the bounds go by.
func complete(t *testing.T, rows []row, err error, want int, keys ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != want {
		t.Errorf("there are %d rows, want %d", len(rows), want)
	}
	for _, r := range rows {
		if !(r.theirs > 0) || !(r.ours > 0) {
			t.Errorf("%s: %v and %v, want figures of both", r.key, r.theirs, r.ours)
		}
	}
	for _, key := range keys {
		if _, ok := find(rows, key); !ok {
			t.Errorf("there is no row %s", key)
		}
	}
}

func TestTrimsAreMeasured(t *testing.T) {
	for _, kind := range []trimKind{spreadScores, equalScores, allAlike} {
		for _, busy := range []bool{false, true} {
			rows, err := trimCase{peers: 200, kind: kind, busy: busy, rounds: 2}.measure(t.Context())
			complete(t, rows, err, 1, "trim/"+kind.key+"/200"+map[bool]string{true: "/busy"}[busy])
			if len(rows) == 1 && !(rows[0].floor > 0) {
				t.Errorf("%s has no floor", rows[0].key)
			}
		}
	}
}

func TestATrimThatClosesTheWrongOnesIsNoFigure(t *testing.T) {
	for _, kind := range []trimKind{spreadScores, equalScores} {
		s := newTrimStage(trimCase{peers: 200, kind: kind})
		for i, c := range s.crowd.conns { // the tenth with the highest places
			if s.order[i] >= slices.Sorted(slices.Values(s.order))[180] {
				_ = c.Close()
			}
		}
		if err := s.right(); err == nil {
			t.Errorf("with %s, closing the highest tenth passes for right", kind.name)
		}
	}
	s := newTrimStage(trimCase{peers: 200, kind: allAlike})
	for _, c := range s.crowd.conns[:19] {
		_ = c.Close()
	}
	if err := s.right(); err == nil {
		t.Error("19 of 200 closed passes for a tenth")
	}
	_ = s.crowd.conns[100].Close()
	if err := s.right(); err != nil {
		t.Errorf("20 of 200 that are all alike are said to be wrong: %v", err)
	}
}

func TestCallsAreMeasured(t *testing.T) {
	rows, err := callsCase{peers: 200, calls: 400, goroutines: []int{1, 2}, rounds: 2, kinds: calls}.measure(t.Context())
	complete(t, rows, err, 2*len(calls), "tag/200/1", "tag/200/2", "connect/200/1")
}

func TestTickIsMeasured(t *testing.T) {
	rows, err := measureTick(t.Context(), 200, 2)
	complete(t, rows, err, 1)
}

func TestMemoryIsMeasured(t *testing.T) {
	rows, err := measureMemory(t.Context(), 5000)
	complete(t, rows, err, 1, "memory/5000")
	if len(rows) == 1 && (rows[0].ours < 50 || rows[0].theirs < rows[0].ours) {
		t.Errorf("a peer takes %v and %v bytes, which cannot be", rows[0].theirs, rows[0].ours)
	}
}

func TestGatesAreMeasured(t *testing.T) {
	for _, c := range []struct{ prefixes, rows int }{{0, 3}, {200, 5}} {
		rows, err := gateCase{
			prefixes: c.prefixes, kinds: gateChecks, goroutines: []int{1, 2}, rounds: 2, budget: time.Millisecond,
		}.measure(t.Context())
		complete(t, rows, err, c.rows, fmt.Sprintf("accept/outside/%d/1", c.prefixes))
	}
	rows, err := gateCase{prefixes: 10, kinds: gateChecks[:1], goroutines: []int{1}, rounds: 1, budget: time.Millisecond, oursOnly: true}.measure(t.Context())
	if err != nil || len(rows) != 1 || rows[0].theirs.measured() || rows[0].ratio().measured() || !rows[0].ours.measured() {
		t.Errorf("without theirs, the rows are %+v (error %v); want one with ours alone and no ratio", rows, err)
	}
}

func TestAGateThatDecidesWrongIsNoFigure(t *testing.T) {
	d := newDenied(50)
	c := gateCase{prefixes: 50, goroutines: []int{1}, rounds: 1, budget: time.Millisecond, oursOnly: true}
	g, end, err := ourGate.make(d.list[:25]) // half of what is denied
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if _, err := c.measureKind(t.Context(), gateChecks[1], d.callers(100, true), []libp2p.ConnectionGater{nil, g}); err == nil {
		t.Error("a gate that lets in whom it should not passes for right")
	}
}

func TestCallersAreInsideOrOutside(t *testing.T) {
	d := newDenied(500)
	for _, inside := range []bool{true, false} {
		for _, c := range d.callers(500, inside) {
			text, err := c.addr.ValueForProtocol(ma.P_IP4)
			if err != nil {
				t.Fatal(err)
			}
			within := slices.ContainsFunc(d.list, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(text)) })
			if within != inside {
				t.Fatalf("%s is within a denied prefix: %t, want %t", text, within, inside)
			}
		}
	}
}

func TestProfileIsWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate-empty.pprof")
	var out, progress strings.Builder
	if err := Profile(t.Context(), "gate-empty", 50*time.Millisecond, file, &out, &progress); err != nil {
		t.Fatal(err)
	}
	if prof := readProfile(t, file); len(prof.SampleType) == 0 {
		t.Error("the profile is of nothing")
	}
	if !strings.Contains(out.String(), "go tool pprof -top "+file) {
		t.Errorf("the output is %q, want the command that reads the profile", out.String())
	}
}

func TestEveryWorkloadWorks(t *testing.T) {
	for _, w := range workloads {
		step, end, err := w.start(200)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		returned := 0
		for range 3 {
			step(func(do func()) {
				do()
				returned++
			})
		}
		end()
		if strings.HasPrefix(w.name, "trim") && returned != 3 {
			t.Errorf("%s: after 3 trims, peers have come back %d times", w.name, returned)
		}
	}
}

func TestProfilesHoldTheWorkAlone(t *testing.T) {
	sample := func(n int64, labels map[string][]string) *profile.Sample {
		return &profile.Sample{Value: []int64{n}, Label: labels}
	}
	prof := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}},
		Sample:     []*profile.Sample{sample(1, nil), sample(2, map[string][]string{asideLabel: {"yes"}}), sample(4, nil)},
	}
	dropAside(prof)
	var sum int64
	for _, s := range prof.Sample {
		sum += s.Value[0]
	}
	if sum != 5 {
		t.Errorf("the samples that are left add up to %d, want 5: those of the work, without what was done aside", sum)
	}
}

func readProfile(t *testing.T, file string) *profile.Profile {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prof, err := profile.Parse(f)
	if err != nil {
		t.Fatalf("the profile cannot be read: %v", err)
	}
	return prof
}
