package connmgr

import (
	"fmt"
	"math"
	"math/bits"
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

// arrangements are inputs that sorting is known to stumble over.
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
		"powers of two":    func(i int) int { return 1 << (i % 63) },
		"far apart":        func(i int) int { return random[i] * (math.MaxInt / max(1, n)) },
		"below zero":       func(i int) int { return -random[i] % 100 },
		"the extremes":     func(i int) int { return []int{math.MinInt, -1, 0, math.MaxInt}[i%4] },
	}
}

// firstKeys are keys of which one word after the other follows an arrangement, and all words
// after these are equal.
func firstKeys(n int, weight func(i int) int, words ...func(i int) int) []key {
	keys := make([]key, n)
	for i := range keys {
		keys[i] = key{at: handle(i), conns: int32(weight(i))}
		for w, value := range words {
			keys[i].words[w] = uint64(value(i)) ^ signBit
		}
	}
	return keys
}

func testOrder() *order {
	return &order{tieKey: [2]uint64{1, 2}, id: func(k *key) NodeID { return NodeID(strconv.Itoa(int(k.at))) }}
}

func TestTheFirstAreThoseThatSortingPutsFirst(t *testing.T) {
	weights := map[string]func(i int) int{
		"one connection each": func(int) int { return 1 },
		"one to five":         func(i int) int { return 1 + i*7%5 },
		"one giant":           func(i int) int { return 1 + i/3%2*(1-min(1, i%97))*1000 },
	}
	o := testOrder()
	for _, n := range []int{0, 1, 2, few, few + 1, 100, 3000} {
		all := arrangements(n)
		for arrangement, score := range all {
			for weighting, weight := range weights {
				input := firstKeys(n, weight, score, all["saw"], all["two values"])
				sorted := slices.Clone(input)
				slices.SortFunc(sorted, func(a, b key) int { return o.compare(&a, &b) })
				whole := connsOf(sorted)
				for _, target := range []int{0, 1, min(2, whole), whole / 10, whole / 2, max(0, whole-1), whole, whole + 1} {
					want, _ := countFirst(sorted, target)
					for _, inOrder := range []bool{false, true} {
						keys := slices.Clone(input)
						got := o.first(keys, target, inOrder)
						name := fmt.Sprintf("%d keys, %s, %s, target %d", n, arrangement, weighting, target)
						if got != want {
							t.Fatalf("%s: the first %d go, want %d", name, got, want)
						}
						if !inOrder {
							slices.SortFunc(keys[:got], func(a, b key) int { return o.compare(&a, &b) })
						}
						slices.SortFunc(keys[got:], func(a, b key) int { return o.compare(&a, &b) })
						sameKey := func(a, b key) bool { return a.at == b.at }
						if !slices.EqualFunc(keys, sorted, sameKey) {
							t.Fatalf("%s, in order %v: those that go are not the first ones, or a key was lost", name, inOrder)
						}
					}
				}
			}
		}
	}
}

// A peer that is in a snapshot twice is a mistake of the caller, but not a reason to hang.
func TestKeysAlikeInEverythingAreNoEndlessLoop(t *testing.T) {
	o := &order{id: func(*key) NodeID { return "same" }}
	keys := firstKeys(10*few, func(int) int { return 1 })
	if got := o.first(keys, 7, true); got != 7 {
		t.Errorf("the first %d of equal keys go, want 7", got)
	}
}

// Hashes cost more than all the rest, and their IDs have to be fetched.
func TestHashesAreMadeOnlyForPeersAlikeInAllElse(t *testing.T) {
	const n = 10_000
	one := func(int) int { return 1 }
	ids := 0
	o := &order{id: func(k *key) NodeID { ids++; return NodeID(strconv.Itoa(int(k.at))) }}
	for arrangement, age := range arrangements(n) {
		different := make(map[int]int)
		for i := range n {
			different[age(i)]++
		}
		alike := 0 // as the one at whom the cut is
		for _, k := range different {
			alike = max(alike, k)
		}
		if alike == 1 {
			alike = 0
		}
		ids = 0
		o.first(firstKeys(n, one, one, one, age), n/10, false)
		if ids > alike {
			t.Errorf("%s: %d hashes were made, want at most %d", arrangement, ids, alike)
		}
	}
}

// Every round must leave less to look at, whatever the scores are.
func TestHeapsPutSomeKeysApart(t *testing.T) {
	for n := 2; n < 300; n += 7 {
		for arrangement, score := range arrangements(n) {
			keys := firstKeys(n, func(int) int { return 1 }, score)
			low, high := testOrder().spread(byScore, keys)
			if low == high {
				continue
			}
			h := heaps{word: byScore, low: low, shift: max(0, bits.Len64(high-low)-8)}
			h.sort(keys)
			if int(slices.Max(h.sizes[:])) == n {
				t.Errorf("%d keys, %s: all are on one heap", n, arrangement)
			}
			if !slices.IsSortedFunc(keys, func(a, b key) int { return int(h.of(&a)) - int(h.of(&b)) }) {
				t.Errorf("%d keys, %s: the heaps are mixed up", n, arrangement)
			}
		}
	}
}
