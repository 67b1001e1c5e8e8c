package connmgr_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests load a million prefixes, as somebody does who subscribes to public
// block lists, and change one; the benchmarks say what a rule costs. Run the latter
// with
//
//	go test -run '^$' -bench 'Rules|Check' .

// manyPrefixes returns n different prefixes like those of block lists: most are IPv4,
// half of them single addresses (half of those next to one another), the others up to
// a /16; of IPv6 a /32 to a /64. Of a larger n the first are the same.
func manyPrefixes(n int) []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, n)
	seen := make(map[netip.Prefix]bool, n)
	for i := uint64(0); len(prefixes) < n; i++ {
		h := i * 0x9e3779b97f4a7c15 // spreads over all 64 bits
		var p netip.Prefix
		switch i % 8 {
		case 0, 1:
			p = netip.PrefixFrom(v4(1<<24|uint32(i)), 32)
		case 2, 3:
			p = netip.PrefixFrom(v4(uint32(h>>32)), 32)
		case 4, 5:
			p = netip.PrefixFrom(v4(uint32(h>>32)), 24)
		case 6:
			p = netip.PrefixFrom(v4(uint32(h>>32)), 16+int(h>>20%13))
		default:
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], h>>3|1<<61)
			p = netip.PrefixFrom(netip.AddrFrom16(b), 32+8*int(h>>20%5))
		}
		if p = p.Masked(); !seen[p] {
			seen[p] = true
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

func v4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func denyAll(prefixes []netip.Prefix) []connmgr.Rule {
	rules := make([]connmgr.Rule, len(prefixes))
	for i, p := range prefixes {
		rules[i] = deny(connmgr.PrefixTarget(p))
	}
	return rules
}

// raceDetector reports whether the race detector is on: what follows takes ten times
// as long then, and there is nothing in it to detect.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestAMillionPrefixes(t *testing.T) {
	if testing.Short() || raceDetector() {
		t.Skip("takes some seconds, and nothing runs at the same time")
	}
	const n = 1_000_000
	prefixes := manyPrefixes(n + 1000)
	later := prefixes[n:]
	prefixes = prefixes[:n]
	g := gateWith(t)
	start := time.Now()
	diff := replace(t, g, "list", denyAll(prefixes)...)
	took := time.Since(start)
	t.Logf("Replace by %d prefixes took %v", n, took)
	if want := (connmgr.RuleDiff{Added: n}); diff != want || g.Stats().Rules != n {
		t.Errorf("Replace = %+v, and %d rules are in force; want %+v", diff, g.Stats().Rules, want)
	}
	if took > time.Minute {
		t.Errorf("Replace took %v, want a few seconds, at most a minute on a busy machine", took)
	}
	for i := 0; i < n; i += 9973 {
		if g.InterceptAccept(netip.AddrPortFrom(prefixes[i].Addr(), 1)) == nil {
			t.Errorf("%v is not denied", prefixes[i])
		}
	}

	// The time of one call is what the machine makes of it; that of most is ours.
	for _, tt := range []struct {
		what   string
		change func(i int)
	}{
		{"adding a prefix", func(i int) { add(t, g, deny(connmgr.AddrTarget(v4(0xcb007100|uint32(i))))) }},
		{"adding a peer", func(i int) { add(t, g, deny(connmgr.PeerTarget(peerID(i)))) }},
		{"adding a port", func(i int) { add(t, g, deny(connmgr.PortTarget(uint16(i)))) }},
		{"removing one of the million", func(i int) {
			if n, err := g.Remove(context.Background(), from(deny(connmgr.PrefixTarget(prefixes[i*999])), "list")); n != 1 || err != nil {
				t.Errorf("Remove = %d, %v; want 1", n, err)
			}
		}},
	} {
		times := make([]time.Duration, 101)
		for i := range times {
			start := time.Now()
			tt.change(i)
			times[i] = time.Since(start)
		}
		slices.Sort(times)
		median := times[len(times)/2]
		t.Logf("%s took %v in the median, at most %v", tt.what, median, times[len(times)-1])
		if median > time.Millisecond {
			t.Errorf("%s takes %v in the median, want less than a millisecond", tt.what, median)
		}
	}

	// The next list lacks the first 500, of which one has been removed already, and has
	// 1,000 more, and the other 100 that were removed.
	start = time.Now()
	diff = replace(t, g, "list", denyAll(append(slices.Clone(prefixes[500:]), later...))...)
	t.Logf("Replace by a list that differs in 1,500 took %v", time.Since(start))
	if want := (connmgr.RuleDiff{Added: 1100, Removed: 499, Kept: n - 600}); diff != want {
		t.Errorf("the next list: %+v, want %+v", diff, want)
	}
}

func TestMemoryOfRulesIsGivenBack(t *testing.T) {
	prefixes := manyPrefixes(20_000)
	g := gateWith(t)
	before := heapInUse()
	for range 3 {
		replace(t, g, "list", denyAll(prefixes)...)
		for i := range 100 {
			add(t, g, deny(connmgr.PeerTarget(peerID(i))))
			_, _ = g.Unblock(context.Background(), connmgr.PeerTarget(peerID(i)))
		}
		replace(t, g, "list")
	}
	if after := heapInUse(); after > before+200_000 {
		t.Errorf("rules that are gone hold %d bytes", after-before)
	}
	runtime.KeepAlive(g)
	runtime.KeepAlive(prefixes)
}

// BenchmarkRulesMemory reports the memory of a rule about a prefix, all of the same
// origin and reason.
func BenchmarkRulesMemory(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			prefixes := manyPrefixes(n)
			for b.Loop() {
				g := gateWith(b)
				before := heapInUse()
				replace(b, g, "list", denyAll(prefixes)...)
				b.ReportMetric(float64(heapInUse()-before)/float64(n), "B/rule")
				runtime.KeepAlive(g)
			}
			runtime.KeepAlive(prefixes)
		})
	}
}

// BenchmarkRulesAdd adds a rule to many.
func BenchmarkRulesAdd(b *testing.B) {
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := gateWith(b)
			replace(b, g, "list", denyAll(manyPrefixes(n))...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				add(b, g, deny(connmgr.AddrTarget(v4(0xcb000000|uint32(i)&0xffff))))
			}
		})
	}
}

// BenchmarkCheck asks about connections that pass.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := gateWith(b)
			replace(b, g, "list", denyAll(manyPrefixes(n))...)
			passing := passingAddrs(b, g, 1024)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := g.InterceptSecured(connmgr.DirInbound, "peer", passing[i%len(passing)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// passingAddrs returns addresses that no rule denies, IPv4 and IPv6.
func passingAddrs(t testing.TB, g *connmgr.Gater, n int) (passing []netip.AddrPort) {
	t.Helper()
	for i := uint32(0); len(passing) < n && i < 1<<20; i++ {
		a := v4(i * 0x9e3779b1)
		if i%4 == 0 {
			b := a.As4()
			a = netip.AddrFrom16([16]byte{0x20, 0x01, b[0], b[1], b[2], b[3], 15: 1})
		}
		if at := netip.AddrPortFrom(a, 65_000); !g.Lookup("", at).Denied() {
			passing = append(passing, at)
		}
	}
	if len(passing) < n {
		t.Fatalf("only %d addresses pass, want %d", len(passing), n)
	}
	return passing
}
