package bench

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// This file says what our time is made of at the kinds of work whose bounds are not met.

// breakdown is a kind of work, and what its time is made of.
type breakdown struct {
	what  string
	parts []part // the largest first
}

// part is a part of the processor time, 0 to 1.
type part struct {
	name  string
	share float64
}

// What a part is called that is none of our functions.
const (
	partConnections = "the connections: Stat, Close"
	partPrefixes    = "bart's prefix tables"
	partMeasuring   = "the measurement itself"
	partRuntime     = "Go's runtime: garbage, goroutines"
)

// unmet are the workloads of the bounds that the project does not meet yet.
func unmet() (names []string) {
	for _, b := range bounds {
		if b.reached != 0 && !slices.Contains(names, b.profile) {
			names = append(names, b.profile)
		}
	}
	return names
}

// breakDown does a kind of work for as long as d and says what the time was spent on.
func breakDown(ctx context.Context, name string, d time.Duration, progress func(string)) (breakdown, error) {
	w, err := named(name)
	if err != nil {
		return breakdown{}, err
	}
	s, err := w.sample(ctx, d, progress)
	return breakdown{what: w.what, parts: partsOf(s.prof)}, err
}

// partsOf adds up a profile. A sample belongs to the innermost function of ours on its
// stack: waiting for memory, locking, allocating are part of what needs them.
func partsOf(prof *profile.Profile) (parts []part) {
	if prof == nil {
		return nil
	}
	times, all := make(map[string]int64), int64(0)
	for _, s := range prof.Sample {
		t := s.Value[len(s.Value)-1] // samples, nanoseconds
		times[partOf(s.Location)] += t
		all += t
	}
	for name, t := range times {
		parts = append(parts, part{name, float64(t) / float64(all)})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.name, b.name))
	})
	return parts
}

const modulePath = "github.com/dep2p/connmgr"

func partOf(stack []*profile.Location) string {
	for _, at := range stack {
		for _, line := range at.Line { // several, where functions are inlined
			if line.Function == nil {
				continue
			}
			name := line.Function.Name
			switch in := packageOf(name); {
			case strings.Contains(name, "bench.(*fakeConn)."):
				return partConnections
			case in == modulePath+"/cmd/internal/bench":
				return partMeasuring
			case strings.HasPrefix(in, "github.com/gaissmai/bart"):
				return partPrefixes
			case in == modulePath || strings.HasPrefix(in, modulePath+"/"):
				return plainName(name)
			}
		}
	}
	return partRuntime
}

// inner is what a compiler appends to a function's name for those written inside it.
var inner = regexp.MustCompile(`(\.func[0-9]+|\.gowrap[0-9]+|\.[0-9]+|-fm|-range[0-9]+|\.deferwrap[0-9]+)+$`)

// plainName is a function's name without the path of its package and what is inside it,
// and a method's as Type.Method.
func plainName(function string) string {
	function = strings.NewReplacer("[...]", "", "(*", "", ")", "").Replace(function)
	function = function[strings.LastIndexByte(function, '/')+1:]
	return strings.TrimPrefix(inner.ReplaceAllString(function, ""), "connmgr.")
}

// smallestPart is the least share that has a line of its own.
const smallestPart = 0.03

// breakdownTable shows the parts that matter.
func breakdownTable(breakdowns []breakdown) table {
	t := table{
		title: "What our time is made of", head: []string{"work", "part", "share"},
		below: "Shares of processor time, from profiles. Time spent in the library and the runtime counts for the function that asked for it.",
	}
	for _, b := range breakdowns {
		rest, what := 0.0, b.what
		for _, p := range b.parts {
			if p.share < smallestPart {
				rest += p.share
				continue
			}
			t.rows = append(t.rows, []string{what, p.name, percent(p.share)})
			what = ""
		}
		t.rows = append(t.rows, []string{what, "all else", percent(rest)})
	}
	return t
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
