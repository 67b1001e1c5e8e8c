package connmgr

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/dep2p/connmgr/internal/siphash"
)

// This file is about rule 5, who is first to go: each step of the order, and
// finding the cut without sorting everybody and without asking everybody for
// streams.

func TestRule5OrderFirstToGoFirst(t *testing.T) {
	for _, step := range []struct {
		name          string
		first, second planPeer
	}{{
		"a lower score goes first, whatever else speaks for it",
		established("a", 1).streams(9).outbound().aged(9 * time.Hour),
		established("b", 2),
	}, {
		"a score below zero goes before none",
		established("a", -1),
		established("b", 0),
	}, {
		"at equal scores, no open streams goes before some",
		established("a", 1).outbound().aged(9 * time.Hour),
		established("b", 1).streams(1),
	}, {
		"then inbound before outbound",
		established("a", 1).streams(9).aged(9 * time.Hour),
		established("b", 1).streams(1).outbound(),
	}, {
		"inbound before outbound also without streams",
		established("a", 1).aged(9 * time.Hour),
		established("b", 1).outbound(),
	}, {
		"then fewer streams",
		established("a", 1).streams(1).aged(9 * time.Hour),
		established("b", 1).streams(2),
	}, {
		"the most streams there can be still lose to an outbound connection",
		established("a", 1).streams(math.MaxInt32).aged(9 * time.Hour),
		established("b", 1).streams(1).outbound(),
	}, {
		"then the younger",
		established("a", 1),
		established("b", 1).aged(time.Hour + 1),
	}, {
		"the number of connections is no step of the order",
		established("a", 1).conns(5),
		established("b", 1).conns(4).aged(2 * time.Hour),
	}} {
		t.Run(step.name, func(t *testing.T) {
			for _, peers := range []Snapshot{crowd(step.first, step.second), crowd(step.second, step.first)} {
				plan := PlanTrim(water(0, 0, 0), peers, planTime, TriggerManual)
				if got, want := closedIDs(plan), []NodeID{step.first.ID, step.second.ID}; !slices.Equal(got, want) {
					t.Errorf("order of closing is %v, want %v", got, want)
				}
			}
		})
	}
}

func TestRule5ScoreIsTagsAndBonuses(t *testing.T) {
	policy := water(0, 0, 0)
	policy.OutboundBonus, policy.ActiveBonus = 10, 20
	for _, c := range []struct {
		name string
		peer planPeer
		want int
	}{
		{"the tags alone", established("a", 5), 5},
		{"with an outbound connection", established("a", 5).outbound(), 15},
		{"with an open stream", established("a", 5).streams(1), 25},
		{"with many streams the bonus is given once", established("a", 5).streams(7), 25},
		{"with both", established("a", 5).streams(1).outbound(), 35},
		{"too much to count", established("a", math.MaxInt-15).outbound().streams(1), math.MaxInt},
		{"just not too much", established("a", math.MaxInt-30).outbound().streams(1), math.MaxInt},
		{"as little as can be counted", established("a", math.MinInt).outbound(), math.MinInt + 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := PlanTrim(policy, crowd(c.peer), planTime, TriggerManual).Verdict("a")
			if v.Score != c.want {
				t.Errorf("score is %d, want %d", v.Score, c.want)
			}
		})
	}

	// Bonuses can turn the order of the tags around.
	plan := PlanTrim(policy, crowd(established("busy", 0).streams(1), established("tagged", 19)), planTime, TriggerManual)
	if got, want := closedIDs(plan), []NodeID{"tagged", "busy"}; !slices.Equal(got, want) {
		t.Errorf("order of closing is %v, want %v", got, want)
	}
	// Two scores that saturate are equal, so the next step of the order decides.
	plan = PlanTrim(policy, crowd(established("out", math.MaxInt-1).outbound(), established("in", math.MaxInt)), planTime, TriggerManual)
	if got, want := closedIDs(plan), []NodeID{"in", "out"}; !slices.Equal(got, want) {
		t.Errorf("order of closing is %v, want %v", got, want)
	}
}

func TestRule5KeyedHashDecidesAmongPeersAlikeInAllElse(t *testing.T) {
	ids := []NodeID{"", "a", "b", "c", "d", "e", "f", "a much longer ID"}
	var alike []planPeer
	for _, id := range ids {
		alike = append(alike, established(id, 3))
	}
	orders := make(map[string]bool)
	unlucky := make(map[NodeID]bool)
	for k := range uint64(64) {
		policy := water(4, 9, 9)
		policy.TieKey = [2]uint64{k, ^k}
		got := closedIDs(PlanTrim(policy, crowd(alike...), planTime, TriggerManual))

		byHash := slices.Clone(ids)
		hash := func(id NodeID) uint64 { return siphash.Sum64(k, ^k, string(id)) }
		slices.SortFunc(byHash, func(a, b NodeID) int {
			if hash(a) < hash(b) {
				return -1
			}
			return 1
		})
		if want := byHash[:4]; !slices.Equal(got, want) {
			t.Errorf("with key %d, closed %q, want the lowest hashes: %q", k, got, want)
		}
		orders[fmt.Sprint(got)] = true
		for _, id := range got {
			unlucky[id] = true
		}
	}
	if len(orders) < 32 {
		t.Errorf("64 keys gave %d different plans, want nearly as many as keys", len(orders))
	}
	if len(unlucky) != len(ids) {
		t.Errorf("only %v were ever closed; no ID must be safe under every key", unlucky)
	}
}

func TestLazyPlanClosesInTheOrderOfTheFullPlan(t *testing.T) {
	// Both are below the cut, so streams do not decide who goes, but who is first.
	in := planInput{
		policy: water(1, 9, 9),
		peers:  crowd(established("busy", 0).streams(3), established("idle", 0).aged(2*time.Hour), established("kept", 9)),
	}
	for _, bonus := range []int{0, 1} {
		in.policy.ActiveBonus = bonus
		_, plan := in.planLazily(new(planner))
		if got, want := closedIDs(plan), []NodeID{"idle", "busy"}; !slices.Equal(got, want) {
			t.Errorf("with a bonus of %d, order of closing is %v, want %v", bonus, got, want)
		}
	}
}

func TestLazyPlanAsksWhereStreamsDecideWhoIsEnough(t *testing.T) {
	// Either both go or the idle one alone, which has enough connections.
	in := planInput{
		policy: water(2, 9, 9),
		peers:  crowd(established("busy", 0).streams(3), established("idle", 0).conns(5)),
	}
	asked, plan := in.planLazily(new(planner))
	if got, want := closedIDs(plan), []NodeID{"idle"}; !slices.Equal(got, want) {
		t.Errorf("asked %v and closed %v, want both asked and %v closed", asked, got, want)
	}
}

func TestLazyPlanAsksFew(t *testing.T) {
	const n = 1000
	for _, c := range []struct {
		name   string
		bonus  int
		spread int // how far scores are apart
		most   int // who may be asked
	}{
		{"without a bonus, those who go", 0, 1, n / 10},
		{"with a bonus, those who go are asked, and those it could save", 20, 1, n/10 + 20},
		{"with a bonus too small to save anybody, those who go", 20, 21, n / 10},
	} {
		in := planInput{policy: water(n-n/10, n, n)}
		in.policy.ActiveBonus = c.bonus
		for i := range n {
			in.peers = append(in.peers, PeerState(established(NodeID(strconv.Itoa(i)), i*c.spread)))
		}
		if asked, plan := in.planLazily(new(planner)); len(asked) > c.most || plan.Closes() != n/10 {
			t.Errorf("%s: %d of %d asked and %d closed, want at most %d and %d", c.name, len(asked), n, plan.Closes(), c.most, n/10)
		}
	}
}

// byPlace orders keys by their peer's number, as a total order without ties.
func byPlace(a, b *key) int { return int(a.peer) - int(b.peer) }

func byScore(a, b *key) int { return a.score - b.score }

// keysLike returns keys whose numbers and scores follow a pattern, the number
// ordering equal scores.
func keysLike(n int, weight, score func(i int) int) []key {
	keys := make([]key, n)
	for i := range keys {
		keys[i] = key{score: score(i), conns: int32(weight(i))}
	}
	byRank := make([]int, n)
	for i := range byRank {
		byRank[i] = i
	}
	slices.SortStableFunc(byRank, func(a, b int) int { return keys[a].score - keys[b].score })
	for rank, i := range byRank {
		keys[i].peer = int32(rank)
	}
	return keys
}

// arrangements are inputs that quicksorts are known to stumble over.
func arrangements(n int) map[string]func(i int) int {
	random := rand.New(rand.NewPCG(uint64(n), 1)).Perm(max(n, 1))
	return map[string]func(i int) int{
		"random":           func(i int) int { return random[i] },
		"sorted":           func(i int) int { return i },
		"reversed":         func(i int) int { return n - i },
		"organ pipe":       func(i int) int { return min(i, n-i) },
		"valley":           func(i int) int { return max(i, n-i) },
		"all equal":        func(int) int { return 7 },
		"two values":       func(i int) int { return i % 2 },
		"nearly all equal": func(i int) int { return i / max(1, n-1) },
		"saw":              func(i int) int { return i % 17 },
		"sorted, one late": func(i int) int { return (i + 1) % n },
		"halves swapped":   func(i int) int { return (i + n/2) % n },
	}
}

func TestFirstToGoFindsWhatSortingFinds(t *testing.T) {
	weights := map[string]func(i int) int{
		"one connection each": func(int) int { return 1 },
		"one to five":         func(i int) int { return 1 + i*7%5 },
		"one giant":           func(i int) int { return 1 + i/3%2*(1-min(1, i%97))*1000 },
	}
	for _, n := range []int{1, 2, 3, 16, 17, 18, 33, 100, 1000, 5000} {
		for arrangement, score := range arrangements(n) {
			for weighting, weight := range weights {
				sorted := keysLike(n, weight, score)
				slices.SortFunc(sorted, func(a, b key) int { return byPlace(&a, &b) })
				all := 0
				for _, k := range sorted {
					all += int(k.conns)
				}
				for _, target := range []int{0, 1, min(2, all), all / 10, all / 2, all - 1, all} {
					keys := keysLike(n, weight, score)
					name := fmt.Sprintf("%d keys, %s, %s, target %d", n, arrangement, weighting, target)

					want, freed := 0, 0
					for ; freed < target; want++ {
						freed += int(sorted[want].conns)
					}
					got := firstToGo(keys, target, byPlace)
					if got != want {
						t.Fatalf("%s: the first %d go, want %d", name, got, want)
					}
					for _, part := range [][]key{keys[:got], keys[got:]} {
						slices.SortFunc(part, func(a, b key) int { return byPlace(&a, &b) })
					}
					if !slices.Equal(keys, sorted) {
						t.Fatalf("%s: those that go are not the first ones, or a key was lost", name)
					}

					// With ties who goes is open, but not how low and how few.
					keys = keysLike(n, weight, score)
					got = firstToGo(keys, target, byScore)
					freed = 0
					for _, k := range keys[:got] {
						freed += int(k.conns)
					}
					if got > 0 && freed-int(keys[got-1].conns) >= target || freed < target {
						t.Fatalf("%s, with ties: %d go with %d connections, want no more than needed", name, got, freed)
					}
					if got > 0 && got < n && slices.MaxFunc(keys[:got], func(a, b key) int { return byScore(&a, &b) }).score >
						slices.MinFunc(keys[got:], func(a, b key) int { return byScore(&a, &b) }).score {
						t.Fatalf("%s, with ties: one that stays is lower than one that goes", name)
					}
				}
			}
		}
	}
}

func TestSplitLeavesNoPartEmpty(t *testing.T) {
	for n := 3; n < 70; n++ {
		for arrangement, score := range arrangements(n) {
			keys := keysLike(n, func(int) int { return 1 }, score)
			for range 3 {
				rand.New(rand.NewPCG(uint64(n), 2)).Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
				for _, order := range []func(a, b *key) int{byPlace, byScore} {
					left := split(keys, order)
					if left < 1 || left >= n {
						t.Fatalf("%d keys, %s: %d in the first part, want both parts filled", n, arrangement, left)
					}
					for i := range left {
						for j := left; j < n; j++ {
							if order(&keys[i], &keys[j]) > 0 {
								t.Fatalf("%d keys, %s: %d is in the first part and %d in the second", n, arrangement, keys[i].score, keys[j].score)
							}
						}
					}
				}
			}
		}
	}
}

// killer is an order that makes up its mind as it is asked, so that each pivot
// turns out nearly as bad as can be. Source: McIlroy, "A Killer Adversary for
// Quicksort" (1999).
type killer struct {
	place       []int // -1 while it is open; open ones come after all others
	decided     int
	candidate   int32
	comparisons int
}

func (k *killer) order(a, b *key) int {
	k.comparisons++
	x, y := a.peer, b.peer
	if k.place[x] < 0 && k.place[y] < 0 {
		fix := y
		if x == k.candidate {
			fix = x
		}
		k.place[fix] = k.decided
		k.decided++
	}
	switch {
	case k.place[x] < 0:
		k.candidate = x
		return 1
	case k.place[y] < 0:
		k.candidate = y
		return -1
	}
	return k.place[x] - k.place[y]
}

// Comparisons are counted since time depends on the machine.
func TestFirstToGoStaysFast(t *testing.T) {
	const n = 20_000
	const linear, asSorting = 8 * n, 6 * n * 15 // 15 is the logarithm of n
	one := func(int) int { return 1 }
	for _, target := range []int{1, n / 10, n / 2, n - 1} {
		for arrangement, score := range arrangements(n) {
			limit := linear
			if arrangement == "organ pipe" || arrangement == "valley" {
				limit = asSorting // the median of three is a bad pivot there
			}
			comparisons := 0
			firstToGo(keysLike(n, one, score), target, func(a, b *key) int { comparisons++; return byScore(a, b) })
			if comparisons > limit {
				t.Errorf("%s, target %d of %d: %d comparisons, want at most %d", arrangement, target, n, comparisons, limit)
			}
		}
		hostile := killer{place: slices.Repeat([]int{-1}, n)}
		firstToGo(keysLike(n, one, func(i int) int { return i }), target, hostile.order)
		if hostile.comparisons > asSorting {
			t.Errorf("hostile order, target %d of %d: %d comparisons, want at most %d", target, n, hostile.comparisons, asSorting)
		}
	}
}
