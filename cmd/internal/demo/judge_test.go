package demo

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file judges fates that were made up: each promise can break, and who broke
// it is named. cheat_test.go breaks promises of real nodes.

// grace is that of all fates made up here.
const grace = time.Second

// stayed is a node that is still connected, and beyond its grace period.
func stayed(name string, score int) Fate {
	return Fate{Node: name, Connected: true, Established: true, Score: score, Reason: "above the cut"}
}

// went is a node that a trim closed.
func went(name string, score int) Fate {
	return Fate{Node: name, Score: score, Reason: "low score", Trim: 1}
}

// change changes a fate.
func change(f Fate, how func(*Fate)) Fate {
	how(&f)
	return f
}

// protected makes a fate that of a protected node.
func protected(f *Fate) { f.Protected = true }

// inGrace makes a fate that of a node that has just come.
func inGrace(f *Fate) { f.Established = false }

// judged returns the promises of a demo with these fates and this high water, in
// which the guarded node and the crowd agree.
func judged(high int, nodes ...Fate) []Promise {
	connected := 0
	for i := range nodes {
		if nodes[i].Connected {
			connected++
		}
	}
	return promises(nodes, Options{Peers: len(nodes), Low: 1, High: high, Grace: grace}, connected, true)
}

// broken returns the promises that were not kept.
func broken(ps []Promise) []Promise {
	return slices.DeleteFunc(slices.Clone(ps), func(p Promise) bool { return p.Kept })
}

func wantAllKept(t *testing.T, ps []Promise) {
	t.Helper()
	for _, p := range broken(ps) {
		t.Errorf("promise %q is broken (%s), want all kept", p.Promise, p.Detail)
	}
	if err := (&Report{Promises: ps}).err(); err != nil {
		t.Errorf("the demo ends with %v, want no error", err)
	}
}

func TestPromisesAreKeptWhenTheLowestScoredWent(t *testing.T) {
	ps := judged(4,
		change(stayed("pinned", -5), protected),
		stayed("good", 100), stayed("fair", 5),
		change(stayed("new", -1000), inGrace),
		went("poor", 2), went("bad", -1000),
	)
	wantAllKept(t, ps)
	for _, p := range ps {
		if p.Promise == "" || p.Detail == "" {
			t.Errorf("promise %+v has no name or no detail, want both", p)
		}
	}
}

func TestEachPromiseCanBreakAndTheCulpritIsNamed(t *testing.T) {
	for _, c := range []struct {
		name     string
		high     int
		nodes    []Fate
		promise  string   // words of the one promise that breaks
		culprits []string // what its detail names
	}{
		{
			name:     "a protected node was trimmed",
			high:     9,
			nodes:    []Fate{change(went("n007", 0), protected), change(stayed("n008", 0), protected)},
			promise:  "protected",
			culprits: []string{"n007"},
		},
		{
			name:     "two protected nodes were trimmed",
			high:     9,
			nodes:    []Fate{change(went("n007", 0), protected), change(went("n008", 0), protected), stayed("n009", 0)},
			promise:  "protected",
			culprits: []string{"n007", "n008"},
		},
		{
			name:     "a better node went than one that stayed",
			high:     9,
			nodes:    []Fate{stayed("n001", 7), stayed("n002", 3), went("n003", 4), went("n004", -1)},
			promise:  "scored higher",
			culprits: []string{"4 (n003)", "3 (n002)"},
		},
		{
			name:     "the worst stayed, below zero",
			high:     9,
			nodes:    []Fate{stayed("n001", -1000), went("n002", -999)},
			promise:  "scored higher",
			culprits: []string{"-999 (n002)", "-1000 (n001)"},
		},
		{
			name:     "more connections than high water",
			high:     2,
			nodes:    []Fate{stayed("n001", 0), stayed("n002", 0), stayed("n003", 0)},
			promise:  "high water",
			culprits: []string{"3", "2"},
		},
		{
			name: "one was closed within its grace period",
			high: 9,
			nodes: []Fate{stayed("n001", 0), change(went("n002", 0), func(f *Fate) {
				f.closedEarlyAt = 900 * time.Millisecond
			})},
			promise:  "grace",
			culprits: []string{"n002 after 900ms"},
		},
		{
			name:     "one lost its connection, but not to a trim",
			high:     9,
			nodes:    []Fate{stayed("n001", 0), change(went("n002", 0), func(f *Fate) { f.Trim = 0 })},
			promise:  "trim",
			culprits: []string{"n002"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ps := judged(c.high, c.nodes...)
			bad := broken(ps)
			if len(bad) != 1 {
				t.Fatalf("%d promises are broken, want one: %+v", len(bad), bad)
			}
			if !strings.Contains(bad[0].Promise, c.promise) {
				t.Errorf("the broken promise is %q, want the one about %q", bad[0].Promise, c.promise)
			}
			err := (&Report{Promises: ps}).err()
			if !errors.Is(err, ErrPromiseBroken) {
				t.Fatalf("the demo ends with %v, want ErrPromiseBroken", err)
			}
			for _, want := range append(c.culprits, bad[0].Promise) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %q, want it to name %q", err, want)
				}
			}
		})
	}
}

func TestDisagreementBreaksAPromise(t *testing.T) {
	ps := promises([]Fate{stayed("n001", 0)}, Options{Peers: 1, Low: 1, High: 1}, 0, false)
	bad := broken(ps)
	if len(bad) != 1 || !strings.Contains(bad[0].Promise, "agree") {
		t.Fatalf("broken promises are %+v, want the one about agreement alone", bad)
	}
	if want := "the peers say 1, the node says 0"; bad[0].Detail != want {
		t.Errorf("its detail is %q, want %q", bad[0].Detail, want)
	}
}

func TestAllBrokenPromisesAreNamed(t *testing.T) {
	nodes := []Fate{change(went("n001", 9), protected), stayed("n002", 0), stayed("n003", 0)}
	ps := judged(1, nodes...)
	bad := broken(ps)
	if len(bad) != 3 {
		t.Fatalf("%d promises are broken, want 3 (protection, order, high water): %+v", len(bad), bad)
	}
	err := (&Report{Promises: ps}).err()
	for _, p := range bad {
		if !strings.Contains(err.Error(), p.Promise) {
			t.Errorf("the error is %q, want it to name %q", err, p.Promise)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %q, want one line", err)
	}
}

func TestEqualScoresKeepTheOrder(t *testing.T) {
	wantAllKept(t, judged(9, stayed("n001", 0), went("n002", 0)))
	wantAllKept(t, judged(9, stayed("n001", -1000), stayed("n002", 3), went("n003", -1000)))
}

func TestOrderSpeaksOfUnprotectedEstablishedNodesAlone(t *testing.T) {
	wantAllKept(t, judged(9,
		change(stayed("pinned", -9), protected),
		change(stayed("new", -9), inGrace),
		went("poor", 0),
	))
}

func TestOrderIsKeptWhenNobodyWentOrNobodyStayed(t *testing.T) {
	for _, c := range []struct {
		nodes []Fate
		want  string
	}{
		{[]Fate{stayed("n001", 0), change(stayed("n002", 1), protected)}, "nobody went"},
		{[]Fate{went("n001", 100), change(stayed("n002", 1), protected)}, "no unprotected established peer stayed"},
		{[]Fate{went("n001", 100), went("n002", -1)}, "no unprotected established peer stayed"},
	} {
		ps := judged(9, c.nodes...)
		wantAllKept(t, ps)
		if !slices.ContainsFunc(ps, func(p Promise) bool { return strings.Contains(p.Detail, c.want) }) {
			t.Errorf("no promise of %+v has the detail %q", ps, c.want)
		}
	}
}

func TestExactlyHighWaterIsNotTooMany(t *testing.T) {
	wantAllKept(t, judged(2, stayed("n001", 0), stayed("n002", 0)))
}

func TestProtectedNodesAloneMayExceedHighWater(t *testing.T) {
	pinned := func(name string) Fate { return change(stayed(name, 0), protected) }
	ps := judged(1, pinned("n001"), pinned("n002"), went("n003", 100))
	wantAllKept(t, ps)
	if !slices.ContainsFunc(ps, func(p Promise) bool {
		return strings.Contains(p.Promise, "high water") && strings.Contains(p.Detail, "protected")
	}) {
		t.Errorf("promises are %+v, want the one about high water to say that protected nodes are in the way", ps)
	}

	ps = judged(1, pinned("n001"), stayed("n002", 0))
	if len(broken(ps)) != 1 {
		t.Errorf("promises are %+v, want the one about high water broken, since one that stayed is not protected", ps)
	}
}

func TestNodeThatWasClosedAfterItsGraceWasNotClosedEarly(t *testing.T) {
	dialled := time.Now()
	for _, c := range []struct {
		name string
		node *node
		want bool
	}{
		{"lost within its grace", &node{dialled: dialled, lost: dialled.Add(grace - 1)}, true},
		{"lost when its grace was over", &node{dialled: dialled, lost: dialled.Add(grace)}, false},
		{"never lost", &node{dialled: dialled}, false},
		{"lost before it dialled again", &node{dialled: dialled, lost: dialled.Add(-time.Minute)}, false},
		{"left by itself", &node{dialled: dialled, lost: dialled.Add(1), leaving: true}, false},
	} {
		if _, early := c.node.closedEarly(grace); early != c.want {
			t.Errorf("%s: closed early is %v, want %v", c.name, early, c.want)
		}
	}
}
