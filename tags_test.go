package connmgr_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/dep2p/connmgr"
)

// These tests tag peers: values, sums, callbacks, and the bound on tags. How
// long tags are kept is in retention_test.go.

func TestATagReplacesItsEarlierValue(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	m.TagPeer("p", "a", 5)
	m.TagPeer("p", "b", -2)
	expectSum(t, m, "p", 3)
	m.TagPeer("p", "a", 50)
	expectSum(t, m, "p", 48)
	m.TagPeer("p", "a", 0)
	expectSum(t, m, "p", -2)
	m.UntagPeer("p", "b")
	expectSum(t, m, "p", 0)
	if info, ok := m.PeerInfo("p"); !ok || len(info.Tags) != 1 {
		t.Errorf("PeerInfo = %+v, %v; want the tag with value 0", info, ok)
	}
	m.UntagPeer("p", "a")
	if _, ok := m.PeerInfo("p"); ok {
		t.Error("a peer without any tag is still known")
	}
}

func TestTagsOfOnePeerDoNotTouchAnother(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	m.TagPeer("p", "a", 1)
	m.TagPeer("q", "a", 10)
	m.UntagPeer("q", "a")
	expectSum(t, m, "p", 1)
	expectSum(t, m, "q", 0)
}

func TestUntaggingWhatIsNotThere(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	m.UntagPeer("stranger", "a")
	host.Connect("p")
	m.UntagPeer("p", "a")
	m.TagPeer("p", "b", 1)
	m.UntagPeer("p", "a")
	expectSum(t, m, "p", 1)
	if s := m.Stats(); s.IdlePeers != 0 {
		t.Errorf("untagging a stranger made %d records", s.IdlePeers)
	}
}

func TestManyTagsComeAndGoInAnyOrder(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("p")
	for _, order := range [][]int{
		{0, 1, 2, 3, 4, 5, 6},
		{6, 5, 4, 3, 2, 1, 0},
		{3, 0, 6, 1, 5, 2, 4},
		{1, 0, 2, 6, 3, 5, 4},
	} {
		want := map[string]int{}
		check := func() {
			t.Helper()
			sum := 0
			for _, v := range want {
				sum += v
			}
			expectSum(t, m, "p", sum)
			info, _ := m.PeerInfo("p")
			if len(info.Tags) != len(want) {
				t.Errorf("order %v: tags are %v, want %v", order, info.Tags, want)
			}
			for name, value := range want {
				if info.Tags[name] != value {
					t.Errorf("order %v: tags are %v, want %v", order, info.Tags, want)
				}
			}
		}
		for i := range order {
			name := fmt.Sprint("tag", i)
			want[name] = 1 << i
			m.TagPeer("p", name, 1<<i)
			check()
		}
		for _, i := range order {
			name := fmt.Sprint("tag", i)
			delete(want, name)
			m.UntagPeer("p", name)
			check()
		}
	}
}

func TestAPeerWithVeryManyTags(t *testing.T) {
	const n = 200
	m := newManager(t, connmgr.Config{MaxTagsPerPeer: n})
	name := func(i int) string { return fmt.Sprint("tag ", i) }
	for _, add := range []int{1000, 0} { // the second time, all are there
		for i := range n {
			m.TagPeer("p", name(i), i+add)
		}
	}
	expectSum(t, m, "p", n*(n-1)/2)
	m.TagPeer("p", "one too many", 1)
	if refused := m.Stats().TagsRefused; refused != 1 {
		t.Errorf("%d tags were refused, want 1", refused)
	}
	for i := 0; i < n; i += 2 {
		m.UntagPeer("p", name(i))
	}
	expectSum(t, m, "p", n*n/4)
	info, _ := m.PeerInfo("p")
	for i := range n {
		if v, has := info.Tags[name(i)]; has != (i%2 == 1) || has && v != i {
			t.Errorf("%s is %d (there: %v), want the odd ones alone, with their values", name(i), v, has)
		}
	}
}

func TestTagStoreIsAViewOfTheSameTable(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	store := m.Tags()
	store.Set("p", "a", 5)
	m.TagPeer("p", "b", 2)
	bump(t, register(t, m, "c", 0, connmgr.DecayNone()), "p", 100)
	if info, _ := m.PeerInfo("p"); info.Value != 107 || store.Sum("p") != 107 || m.Tags().Sum("p") != 107 {
		t.Errorf("PeerInfo %d, Sum %d, want 107", info.Value, store.Sum("p"))
	}
	m.UntagPeer("p", "a")
	store.Remove("p", "b")
	store.Remove("p", "c") // a decaying tag is no business of the tag store
	store.Remove("nobody", "b")
	if got := store.Sum("p"); got != 100 {
		t.Errorf("Sum = %d, want 100", got)
	}
	if got := store.Sum("nobody"); got != 0 {
		t.Errorf("Sum of an unknown peer = %d, want 0", got)
	}
}

func TestUpsertSeesTheValueOrZero(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("connected")
	for _, p := range []connmgr.NodeID{"connected", "stranger"} {
		var seen []int
		double := func(v int) int {
			seen = append(seen, v)
			return 2*v + 1
		}
		for range 4 {
			m.UpsertTag(p, "a", double)
		}
		if !slices.Equal(seen, []int{0, 1, 3, 7}) {
			t.Errorf("%v: the callback saw %v, want 0 1 3 7", p, seen)
		}
		expectSum(t, m, p, 15)
	}
}

func TestUpsertMayCallBack(t *testing.T) {
	m, host := newNode(t, tight(1, 100))
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	for _, tt := range []struct {
		name string
		call func(p connmgr.NodeID)
		want int // the peer's sum afterwards, with upsert adding 1 to the tag "a"
	}{
		{"the same tag", func(p connmgr.NodeID) { m.TagPeer(p, "a", 10) }, 11},
		{"the same tag away", func(p connmgr.NodeID) { m.UntagPeer(p, "a") }, 1},
		{"another tag", func(p connmgr.NodeID) { m.TagPeer(p, "b", 10) }, 11},
		{"another upsert", func(p connmgr.NodeID) { m.UpsertTag(p, "b", func(int) int { return 10 }) }, 11},
		{"a bump", func(p connmgr.NodeID) { _ = tag.Bump(p, 10) }, 11},
		{"another peer", func(connmgr.NodeID) { m.TagPeer("other", "a", 10) }, 1},
		{"a protection", func(p connmgr.NodeID) { m.Protect(p, "x"); m.Unprotect(p, "x") }, 1},
		{"questions", func(p connmgr.NodeID) { m.PeerInfo(p); m.Stats(); m.Explain(p, connmgr.TriggerForce) }, 1},
		{"a trim", func(connmgr.NodeID) { trim(t, m) }, 1},
	} {
		for _, connected := range []bool{true, false} {
			p := connmgr.NodeID(fmt.Sprint(tt.name, connected))
			if connected {
				host.Connect(p)
			}
			ran := 0
			m.UpsertTag(p, "a", func(v int) int {
				if ran++; ran == 1 {
					tt.call(p)
				}
				return v + 1
			})
			if got := m.Tags().Sum(p); got != tt.want {
				t.Errorf("calling back for %s (connected: %v): sum %d, want %d", tt.name, connected, got, tt.want)
			}
			host.Disconnect(p)
		}
	}
}

func TestUpsertThatAlwaysChangesItsOwnTagComesToAnEnd(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	runs := 0
	m.UpsertTag("p", "a", func(v int) int {
		runs++
		m.TagPeer("p", "a", v+1000)
		return v + 1
	})
	if got, want := m.Tags().Sum("p"), 1000*runs+1; got != want {
		t.Errorf("after %d runs of the callback the sum is %d, want all its changes added up: %d", runs, got, want)
	}
}

func TestPanicInUpsertReachesTheCallerAndLeavesNoLock(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	for _, p := range []connmgr.NodeID{"connected", "tagged", "stranger"} {
		if p == "connected" {
			host.Connect(p)
		}
		if p != "stranger" {
			m.TagPeer(p, "a", 7)
		}
		expectPanic(t, "boom", func() { m.UpsertTag(p, "a", func(int) int { panic("boom") }) })
		m.UpsertTag(p, "b", func(v int) int { return v + 1 })
		m.UntagPeer(p, "b")
		if got, want := m.Tags().Sum(p), 7; p != "stranger" && got != want {
			t.Errorf("%v: after the panic the sum is %d, want %d", p, got, want)
		}
	}
	if _, known := m.PeerInfo("stranger"); known {
		t.Error("an upsert that panicked left a record behind")
	}
	if s := m.Stats(); s.Panics != 0 {
		t.Errorf("Stats.Panics = %d; a panic that reaches its caller is not a background fault", s.Panics)
	}
}

func TestConcurrentUpsertsLoseNothing(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("connected")
	const goroutines, each = 8, 2000
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				for _, p := range []connmgr.NodeID{"connected", "stranger"} {
					m.UpsertTag(p, "a", func(v int) int { return v + 1 })
				}
			}
		})
	}
	all.Wait()
	expectSum(t, m, "connected", goroutines*each)
	expectSum(t, m, "stranger", goroutines*each)
}

func TestSumsSaturateAndComeBack(t *testing.T) {
	values := []int{math.MaxInt, math.MaxInt, math.MinInt, math.MinInt, 1, -5, math.MaxInt/4 + 1, math.MaxInt / 4}
	m := newManager(t, connmgr.Config{})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	exact := new(big.Int)
	for start := range values {
		for step := 1; step < len(values); step += 2 { // coprime to 8: visits all
			p := connmgr.NodeID(fmt.Sprint(start, "/", step))
			exact.SetInt64(0)
			check := func(what string, i, sign int) {
				t.Helper()
				exact.Add(exact, new(big.Int).Mul(big.NewInt(int64(sign)), big.NewInt(int64(values[i]))))
				if got, want := m.Tags().Sum(p), clamp(exact); got != want {
					t.Fatalf("%v: after %s value %d the sum is %d, want %d", p, what, values[i], got, want)
				}
			}
			for n := range values {
				i := (start + n*step) % len(values)
				if n == 3 {
					bump(t, tag, p, values[i])
				} else {
					m.TagPeer(p, fmt.Sprint("tag", i), values[i])
				}
				check("adding", i, 1)
			}
			for n := range values {
				i := (start + n*step) % len(values)
				if n == 3 {
					if err := tag.Remove(p); err != nil {
						t.Error(err)
					}
				} else {
					m.UntagPeer(p, fmt.Sprint("tag", i))
				}
				check("removing", i, -1)
			}
		}
	}
}

func clamp(n *big.Int) int {
	switch {
	case n.Cmp(big.NewInt(math.MaxInt)) > 0:
		return math.MaxInt
	case n.Cmp(big.NewInt(math.MinInt)) < 0:
		return math.MinInt
	}
	return int(n.Int64())
}

func TestOneTagTooManyIsDroppedAndCounted(t *testing.T) {
	m, host := newNode(t, connmgr.Config{MaxTagsPerPeer: 3})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	for i, p := range []connmgr.NodeID{"connected", "stranger"} {
		if p == "connected" {
			host.Connect(p)
		}
		bump(t, tag, p, 1)
		m.TagPeer(p, "a", 10)
		m.TagPeer(p, "b", 100)
		m.TagPeer(p, "c", 1000)                                 // dropped
		m.UpsertTag(p, "d", func(v int) int { return v + 500 }) // dropped
		expectSum(t, m, p, 111)
		if got, want := m.Stats().TagsRefused, uint64(2*i+2); got != want {
			t.Errorf("%v: TagsRefused = %d, want %d", p, got, want)
		}
		m.TagPeer(p, "a", 20) // not a new one
		m.UpsertTag(p, "b", func(v int) int { return v + 100 })
		bump(t, tag, p, 1)
		expectSum(t, m, p, 222)
		m.UntagPeer(p, "a")
		m.TagPeer(p, "c", 1000)
		expectSum(t, m, p, 1202)
	}
}

func expectSum(t testing.TB, m *connmgr.Manager, peer connmgr.NodeID, want int) {
	t.Helper()
	if got := m.Tags().Sum(peer); got != want {
		t.Errorf("the sum of the tags of %v is %d, want %d", peer, got, want)
	}
}

func expectPanic(t testing.TB, want any, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if p := recover(); p == nil || want != nil && p != want {
			t.Errorf("the caller got the panic %v, want %v (nil stands for any)", p, want)
		}
	}()
	f()
}
