package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAWholeNodeIsMeasuredWithBothManagers(t *testing.T) {
	const conns, rate, d = 12, 2000, time.Second
	said := 0
	r, err := measureNode(t.Context(), conns, rate, d, func(string) { said++ })
	if err != nil {
		t.Fatal(err)
	}
	if said == 0 {
		t.Error("there was no progress")
	}
	if r.conns != conns || r.rate != rate || r.cores != runtime.GOMAXPROCS(0) {
		t.Errorf("the report is on %d connections, %d tags per second and %d cores, want %d, %d and %d",
			r.conns, r.rate, r.cores, conns, rate, runtime.GOMAXPROCS(0))
	}
	if r.realStat <= 0 || r.fakeStat <= 0 {
		t.Errorf("Stat takes %v ns of a real connection and %v ns of a fake one, want more", r.realStat, r.fakeStat)
	}
	if len(r.shares) != len(contenders) {
		t.Fatalf("there are %d managers in the report, want %d", len(r.shares), len(contenders))
	}
	for i, s := range r.shares {
		if s.manager != contenders[i].name {
			t.Errorf("manager %d is called %q, want %q", i, s.manager, contenders[i].name)
		}
		if s.took < d || s.tags != rate {
			t.Errorf("%s got %d tags in %v, want %d in %v", s.manager, s.tags, s.took, rate, d)
		}
		// A second may be too short for a sample to fall on the manager, or on anything.
		if s.own < 0 || s.own > s.process || (s.own > 0) != (s.ownSamples > 0) {
			t.Errorf("%s took %v of %v in %d samples, want a part of it", s.manager, s.own, s.process, s.ownSamples)
		}
		if s.perTag <= 0 || s.trimTook <= 0 {
			t.Errorf("%s took %v for a tag and %v for the trim, want more", s.manager, s.perTag, s.trimTook)
		}
		if s.closed != conns/10 {
			t.Errorf("%s closed %d peers, want %d", s.manager, s.closed, conns/10)
		}
	}
	for _, cells := range r.rows() {
		if len(cells) != len(nodeHeader()) {
			t.Errorf("a row has %d cells, and the header %d", len(cells), len(nodeHeader()))
		}
	}
}

func TestANodeIsMeasuredNoLongerThanItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := measureNode(ctx, 2, 1000, time.Hour, func(what string) {
		if strings.Contains(what, "turn 1 ") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("measureNode returned %v, want context.Canceled", err)
	}
}

func TestATrimIsWrongUnlessTheLowestAloneAreClosed(t *testing.T) {
	peers := newCrowd(5).ids
	for _, test := range []struct {
		name  string
		open  []int
		right bool
	}{
		{"the two lowest", []int{2, 3, 4}, true},
		{"nobody", []int{0, 1, 2, 3, 4}, false},
		{"one too few", []int{1, 2, 3, 4}, false},
		{"one too many", []int{3, 4}, false},
		{"a higher one in place of a lower", []int{1, 3, 4}, false},
		{"the two highest", []int{0, 1, 2}, false},
	} {
		open := make(map[peer.ID]bool)
		for _, i := range test.open {
			open[peers[i]] = true
		}
		err := checkClosed(peers, 2, func(id peer.ID) bool { return open[id] })
		if (err == nil) != test.right {
			t.Errorf("two are to be closed, and closed is %s: checkClosed returned %v", test.name, err)
		}
	}
}

func TestANodeWhoseTrimClosedTheWrongPeersIsAnError(t *testing.T) {
	for _, test := range []struct {
		contender
		right bool
	}{{theirs, true}, {ours, true}, {backwards, false}} {
		r, err := newNodeRun(t.Context(), test.contender, 10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.node.close() })
		r.trim(t.Context())
		if got, want := r.tagged[r.first.Load()], r.lowestFirst[r.toGo]; test.right && got != want {
			t.Errorf("%s: the first peer that is tagged after the trim is %v, want %v, the lowest of those left", test.name, got, want)
		}
		if _, err := r.finish(); (err == nil) != test.right {
			t.Errorf("%s: the error is %v", test.name, err)
		}
	}
}

// backwards is a manager that closes the highest first.
var backwards = contender{name: "backwards", make: func(low int) (manager, error) {
	m, err := theirs.make(low)
	return upsideDown{m}, err
}}

type upsideDown struct{ manager }

func (m upsideDown) TagPeer(p peer.ID, tag string, value int) { m.manager.TagPeer(p, tag, -value) }

func TestPeersThatATrimHasClosedAreTaggedNoMore(t *testing.T) {
	m := &tagCounter{tags: make(map[peer.ID]int)}
	r := &nodeRun{node: &realNode{manager: m}, tagged: newCrowd(10).ids, random: rand.New(rand.NewPCG(1, 2))}
	r.first.Store(4)
	if err := r.tag(t.Context(), 10_000, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := r.share.tags; got != 500 {
		t.Errorf("there were %d tags in 50 ms at 10,000 a second, want 500", got)
	}
	for i, id := range r.tagged {
		if got := m.tags[id]; (got > 0) != (i >= 4) {
			t.Errorf("peer %d got %d tags, want some for the fifth and those after it alone", i, got)
		}
	}
}

type tagCounter struct {
	manager
	tags map[peer.ID]int
}

func (m *tagCounter) TagPeer(p peer.ID, _ string, _ int) { m.tags[p]++ }

func TestTagsThatArriveChangeNoRank(t *testing.T) {
	r, err := newNodeRun(t.Context(), ours, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.node.close() })
	value := func(i int) int { return r.node.manager.GetTagInfo(r.lowestFirst[i]).Value }
	before := value(9)
	for range 20 {
		if err := r.tag(t.Context(), 10_000, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for i := range len(r.lowestFirst) - 1 {
			if value(i) >= value(i+1) {
				t.Fatalf("peer %d has a score of %d and the next %d, want it lower", i, value(i), value(i+1))
			}
		}
	}
	if value(9) == before {
		t.Error("the tags changed no score, want them to")
	}
	if got := value(0); got != 0 {
		t.Errorf("the last of those to go has a score of %d, want the 0 that it had: it is let alone", got)
	}
}

func TestAManagersShareIsWhatItIsOnTheStackFor(t *testing.T) {
	function := func(names ...string) *profile.Location {
		at := new(profile.Location)
		for _, name := range names { // those that are inlined into the last
			at.Line = append(at.Line, profile.Line{Function: &profile.Function{Name: name}})
		}
		return at
	}
	sample := func(count int64, stack ...*profile.Location) *profile.Sample {
		return &profile.Sample{Value: []int64{count, count * int64(10*time.Millisecond)}, Location: stack}
	}
	generator := function("github.com/dep2p/connmgr/cmd/internal/bench.tagPeers")
	prof := &profile.Profile{Sample: []*profile.Sample{
		sample(1, function("github.com/dep2p/connmgr.(*Manager).TagPeer"), function("github.com/dep2p/connmgr/connmgrlibp2p.(*ConnManager).TagPeer"), generator),
		sample(2, function("runtime.memmove"), function("github.com/dep2p/connmgr/connmgrlibp2p.conn.Stat", "github.com/dep2p/connmgr.f"), generator),
		sample(4, function("sync.(*Mutex).Lock", "github.com/libp2p/go-libp2p/p2p/net/connmgr.(*BasicConnMgr).TagPeer"), generator),
		sample(8, function("github.com/dep2p/connmgr/connmgrlibp2p.g[go.shape.struct { github.com/some.thing/else.X }]")),
		sample(16, function("math/rand/v2.(*Rand).IntN"), generator),
		sample(32, function("github.com/libp2p/go-libp2p/core/connmgr.f"), function("github.com/dep2p/connmgrs.f")),
		sample(64, new(profile.Location)),
	}}
	for _, test := range []struct {
		manager string
		samples int
	}{
		{ours.name, 1 + 2 + 8},
		{theirs.name, 4},
	} {
		all, own, samples := processorTime(prof, packagesOf[test.manager])
		if want := time.Duration(test.samples) * 10 * time.Millisecond; own != want || samples != test.samples {
			t.Errorf("%s took %v in %d samples, want %v in %d", test.manager, own, samples, want, test.samples)
		}
		if want := 1270 * time.Millisecond; all != want {
			t.Errorf("the process took %v, want %v", all, want)
		}
	}
}

func TestSharesAreOfTheProcessAndOfAllCores(t *testing.T) {
	s := nodeShare{took: 10 * time.Second, tags: 1_000_000, process: 4 * time.Second, own: time.Second}
	if got := s.ofProcess(); got != 0.25 {
		t.Errorf("1 s of 4 s is a share of %v, want 0.25", got)
	}
	if got := s.ofMachine(2); got != 0.05 {
		t.Errorf("1 s in 10 s on 2 cores is a share of %v, want 0.05", got)
	}
	if got := s.rate(); got != 100_000 {
		t.Errorf("a million tags in 10 s are %v per second, want 100,000", got)
	}
	if got := (nodeShare{}).ofProcess(); got != 0 {
		t.Errorf("of nothing the share is %v, want 0", got)
	}
}
