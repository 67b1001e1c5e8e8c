package connmgrprom

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests fail when the core grows something that a scrape does not tell of.

// A caller of newer core counts under a constant that has no word here.
func TestWhatHasNoWordIsCountedAsOther(t *testing.T) {
	counts := map[connmgr.Reason]uint64{connmgr.ClosedForced: 1, 200: 2, 201: 3}
	got := tallied(counts, connmgr.Reason.Closed)
	if got.counts[other] != 5 || got.counts["forced"] != 1 || got.counts["blocked"] != 0 {
		t.Errorf("counted %v, want 5 other, 1 forced, 0 blocked", got.counts)
	}
	if n := len(got.words); n != len(got.counts) || slices.Contains(got.words, "protected") {
		t.Errorf("words %v, want each of %v once, and none of those who are kept", got.words, got.counts)
	}
}

// Each field of the statistics is exported by metrics.go, or listed here as one that is
// not. A new one belongs into one of the two.
func TestEveryStatisticIsExportedOrLeftOutOnPurpose(t *testing.T) {
	for _, tt := range []struct {
		of      any
		leftOut map[string]string
		in      func(r *reading) any // where a reading has it
	}{
		{connmgr.Stats{}, map[string]string{
			"LastTrim": "its fields are below",
		}, func(r *reading) any { return &r.stats }},
		{connmgr.GateStats{}, nil, func(r *reading) any { return &r.gate }},
		{connmgr.Limits{}, nil, func(r *reading) any { return &r.limits }},
		{connmgr.TrimResult{}, map[string]string{
			"Figures":   "its fields are below",
			"Trigger":   "connmgr_trims_total has it",
			"GraceEnds": "soon over",
			"Closed":    "names peers",
			"Spared":    "connmgr_spared_peers_total has it",
			"Failed":    "connmgr_close_errors_total has it",
			"Hanging":   "connmgr_hanging_peers has it",
		}, func(r *reading) any { return &r.stats.LastTrim }},
		{connmgr.Figures{}, map[string]string{
			"Total": "connmgr_open_connections has it",
			"Freed": "what was planned; connmgr_closed_peers_total has what came of it",
		}, func(r *reading) any { return &r.stats.LastTrim.Figures }},
	} {
		kind := reflect.TypeOf(tt.of)
		for i := range kind.NumField() {
			name := kind.Field(i).Name
			r := new(reading)
			blank := exported(r)
			setSomething(reflect.ValueOf(tt.in(r)).Elem().Field(i))
			changes := exported(r) != blank
			if _, left := tt.leftOut[name]; changes == left {
				t.Errorf("%v.%s: exported %v, listed as left out %v; want one of the two", kind, name, changes, left)
			}
		}
	}
}

// exported is everything that comes out of a reading.
func exported(r *reading) string {
	var b strings.Builder
	for _, m := range metrics {
		m.read(r, func(v float64, labels ...string) { fmt.Fprintln(&b, m.name, labels, v) })
	}
	return b.String()
}

// setSomething gives a field some value that is not zero.
func setSomething(v reflect.Value) {
	switch {
	case v.CanInt():
		v.SetInt(1)
	case v.CanUint():
		v.SetUint(1)
	case v.Kind() == reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		setSomething(value)
		key := reflect.New(v.Type().Key()).Elem()
		if key.Type() == reflect.TypeFor[connmgr.Reason]() {
			key.SetUint(uint64(connmgr.ClosedLowScore))
		}
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 0)))
	}
}
