package connmgr_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
)

// This file measures lists of a million lines: go test -bench List -run '^$' .

// benchmarkLists are forms of lines, by name.
var benchmarkLists = []struct {
	name string
	line func(i int) string
}{
	{"CIDR", func(i int) string { return fmt.Sprintf("%s.0/24\n", three(i)) }},
	{"DROP", func(i int) string { return fmt.Sprintf("%s.0/24 ; SBL%d\n", three(i), i/10) }},
	{"until", func(i int) string { return fmt.Sprintf("%s.0/24 until 2027-01-01T00:00:00Z # ladder\n", three(i)) }},
	{"IPv6", func(i int) string { return fmt.Sprintf("2001:db8:%x:%x::/64\n", i>>8, i&255) }},
	{"P2P", func(i int) string { return fmt.Sprintf("Some Net:%s.0-%s.255\n", three(i), three(i)) }},
}

// three returns the first three bytes of an address.
func three(i int) string { return fmt.Sprintf("%d.%d.%d", 1+i>>16, i>>8&255, i&255) }

func benchmarkList(line func(int) string, lines int) string {
	var text strings.Builder
	for i := range lines {
		text.WriteString(line(i))
	}
	return text.String()
}

func BenchmarkListRead(b *testing.B) {
	const lines = 1_000_000
	for _, list := range benchmarkLists {
		b.Run(list.name, func(b *testing.B) {
			text := benchmarkList(list.line, lines)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if rules, err := (connmgr.ListFormat{}).Read(strings.NewReader(text), ""); err != nil || len(rules) != lines {
					b.Fatalf("got %d rules and the error %v, want %d", len(rules), err, lines)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
		})
	}
}

func BenchmarkListWrite(b *testing.B) {
	const lines = 1_000_000
	for _, list := range benchmarkLists {
		b.Run(list.name, func(b *testing.B) {
			rules := readList(b, connmgr.ListFormat{}, benchmarkList(list.line, lines))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if err := (connmgr.ListFormat{}).Write(io.Discard, slices.Values(rules)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
		})
	}
}

func TestReadingALineCostsNoAllocation(t *testing.T) {
	const lines = 20_000
	for _, list := range benchmarkLists {
		text := benchmarkList(list.line, lines)
		allocs := testing.AllocsPerRun(3, func() { readList(t, connmgr.ListFormat{}, text) })
		most := lines / 100.0
		if list.name == "DROP" {
			most += lines / 10 // a reason for every ten lines
		}
		if allocs > most {
			t.Errorf("%s: reading %d lines allocates %v times, want at most %v", list.name, lines, allocs, most)
		}
	}
}
