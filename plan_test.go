package connmgr

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// This file goes through the rules of planning one by one, in tables: a crowd of
// peers, and what becomes of them. The rule that orders peers has its tables in
// order_test.go.

const planGrace = 20 * time.Second

var planTime = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// planPeer is a peer of a crowd.
type planPeer PeerState

// established is a peer with one inbound connection that is an hour old.
func established(id NodeID, score int) planPeer {
	return planPeer{ID: id, TagSum: score, Conns: 1}.aged(time.Hour)
}

// newcomer is a peer with one inbound connection that is a second old.
func newcomer(id NodeID, score int) planPeer {
	return planPeer{ID: id, TagSum: score, Conns: 1}.aged(time.Second)
}

func (p planPeer) aged(age time.Duration) planPeer { p.Since = planTime.Add(-age); return p }
func (p planPeer) protected() planPeer             { p.Protected = true; return p }
func (p planPeer) outbound() planPeer              { p.Outbound = 1; return p }
func (p planPeer) conns(n int32) planPeer          { p.Conns = n; return p }
func (p planPeer) streams(n int32) planPeer        { p.Streams = n; return p }

// times returns n peers like p, with numbered IDs and rising scores.
func (p planPeer) times(n int) []planPeer {
	var all []planPeer
	for i := range n {
		one := p
		one.ID += NodeID(fmt.Sprint(i + 1))
		one.TagSum += i
		all = append(all, one)
	}
	return all
}

func crowd(peers ...planPeer) (s Snapshot) {
	for _, p := range peers {
		s = append(s, PeerState(p))
	}
	return s
}

// water is a policy of watermarks and grace alone.
func water(low, high, hard int) Policy {
	return Policy{LowWater: low, HighWater: high, HardLimit: hard, GracePeriod: planGrace}
}

func (p Policy) trimmable() Policy { p.Budget = BudgetTrimmable; return p }

type planCase struct {
	name    string
	policy  Policy
	trigger Trigger
	peers   []planPeer
	// closed is who goes, the first to go first, and reasons is some verdicts.
	closed  []NodeID
	reasons map[NodeID]Reason
	figures Figures
	// graceEnds is how long after the plan, 0 for never.
	graceEnds time.Duration
}

func runPlanCases(t *testing.T, cases []planCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			plan := PlanTrim(c.policy, crowd(c.peers...), planTime, c.trigger)
			if got := closedIDs(plan); !slices.Equal(got, c.closed) {
				t.Errorf("closed %v, want %v", got, c.closed)
			}
			if plan.Figures != c.figures {
				t.Errorf("figures\n got %+v\nwant %+v", plan.Figures, c.figures)
			}
			for id, want := range c.reasons {
				if v, ok := plan.Verdict(id); !ok || v.Reason != want {
					t.Errorf("verdict on %q: %q (%v), want %q", id, v.Reason, ok, want)
				}
			}
			var want time.Time
			if c.graceEnds != 0 {
				want = planTime.Add(c.graceEnds)
			}
			if !plan.GraceEnds.Equal(want) {
				t.Errorf("GraceEnds is %v, want %v", plan.GraceEnds, want)
			}
		})
	}
}

func closedIDs(p Plan) (ids []NodeID) {
	for v := range p.Closed() {
		ids = append(ids, v.Peer)
	}
	return ids
}

func TestRule1PeersInGraceAreNeitherCountedNorClosed(t *testing.T) {
	noGrace := water(0, 9, 9)
	noGrace.GracePeriod = 0
	runPlanCases(t, []planCase{{
		name:      "a burst of newcomers pushes nobody out",
		policy:    water(2, 4, 100),
		peers:     append(newcomer("n", 0).times(5), established("a", 0), established("b", 0)),
		reasons:   map[NodeID]Reason{"a": KeptNothingToDo, "n1": KeptInGrace, "n5": KeptInGrace},
		figures:   Figures{Total: 7, InGrace: 5, Counted: 2, Shortfall: 3, Cause: CauseGrace},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "a newcomer with the lowest score of all stays",
		policy:    water(1, 4, 6),
		peers:     []planPeer{established("a", 5), established("b", 7), newcomer("n", -1000)},
		closed:    []NodeID{"a"},
		reasons:   map[NodeID]Reason{"a": ClosedLowScore, "b": KeptAboveCut, "n": KeptInGrace},
		figures:   Figures{Total: 3, InGrace: 1, Counted: 2, Target: 1, Freed: 1},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "a peer is established once it is as old as the grace period",
		policy:    water(0, 9, 9),
		peers:     []planPeer{newcomer("old enough", 0).aged(planGrace), newcomer("not quite", 0).aged(planGrace - 1)},
		closed:    []NodeID{"old enough"},
		reasons:   map[NodeID]Reason{"not quite": KeptInGrace},
		figures:   Figures{Total: 2, InGrace: 1, Counted: 1, Target: 1, Freed: 1},
		graceEnds: 1,
	}, {
		name:    "without a grace period everybody is established at once",
		policy:  noGrace,
		peers:   []planPeer{newcomer("a", 0).aged(0)},
		closed:  []NodeID{"a"},
		figures: Figures{Total: 1, Counted: 1, Target: 1, Freed: 1},
	}, {
		name:    "a protected newcomer is not counted either, and is kept for its protection",
		policy:  water(1, 9, 9),
		peers:   []planPeer{established("a", 0), newcomer("p", 0).protected()},
		reasons: map[NodeID]Reason{"a": KeptNothingToDo, "p": KeptProtected},
		figures: Figures{Total: 2, Protected: 1, Counted: 1},
	}, {
		name:      "grace ends with the oldest newcomer's, protected ones left aside",
		policy:    water(0, 9, 9),
		peers:     []planPeer{newcomer("a", 0), newcomer("b", 0).aged(7 * time.Second), newcomer("p", 0).aged(9 * time.Second).protected()},
		reasons:   map[NodeID]Reason{"a": KeptInGrace, "b": KeptInGrace, "p": KeptProtected},
		figures:   Figures{Total: 3, Protected: 1, InGrace: 2},
		graceEnds: planGrace - 7*time.Second,
	}})
}

func TestRule2ProtectedConnectionsCount(t *testing.T) {
	half := append(established("a", 0).times(15), established("p", 0).protected().times(15)...)
	runPlanCases(t, []planCase{{
		name:    "so others must go for them",
		policy:  water(2, 9, 9),
		peers:   []planPeer{established("p", -5).protected(), established("a", 1), established("b", 2)},
		closed:  []NodeID{"a"},
		reasons: map[NodeID]Reason{"p": KeptProtected, "b": KeptAboveCut},
		figures: Figures{Total: 3, Protected: 1, Counted: 3, Target: 1, Freed: 1},
	}, {
		name:    "but not with the budget of trimmable connections",
		policy:  water(2, 9, 9).trimmable(),
		peers:   []planPeer{established("p", -5).protected(), established("a", 1), established("b", 2)},
		reasons: map[NodeID]Reason{"p": KeptProtected, "b": KeptNothingToDo},
		figures: Figures{Total: 3, Protected: 1, Counted: 2},
	}, {
		name:    "with every second one protected, all others go",
		policy:  water(10, 20, 30),
		peers:   half,
		closed:  []NodeID{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14", "a15"},
		figures: Figures{Total: 30, Protected: 15, Counted: 30, Target: 20, Freed: 15, Shortfall: 5, Cause: CauseProtected},
	}, {
		name:    "where go-libp2p's budget is stuck above high water",
		policy:  water(10, 20, 30).trimmable(),
		peers:   half,
		closed:  []NodeID{"a1", "a2", "a3", "a4", "a5"},
		figures: Figures{Total: 30, Protected: 15, Counted: 15, Target: 5, Freed: 5, Shortfall: 5, Cause: CauseProtected},
	}})
}

func TestRule3TargetIsWhatIsAboveLowWater(t *testing.T) {
	abc := []planPeer{established("a", 1), established("b", 2), established("c", 3)}
	runPlanCases(t, []planCase{{
		name:    "below low water there is nothing to do",
		policy:  water(4, 9, 9),
		peers:   abc,
		reasons: map[NodeID]Reason{"a": KeptNothingToDo},
		figures: Figures{Total: 3, Counted: 3},
	}, {
		name:    "at low water there is nothing to do",
		policy:  water(3, 9, 9),
		peers:   abc,
		reasons: map[NodeID]Reason{"a": KeptNothingToDo},
		figures: Figures{Total: 3, Counted: 3},
	}, {
		name:    "one above low water, one goes",
		policy:  water(2, 9, 9),
		peers:   abc,
		closed:  []NodeID{"a"},
		reasons: map[NodeID]Reason{"b": KeptAboveCut},
		figures: Figures{Total: 3, Counted: 3, Target: 1, Freed: 1},
	}, {
		name:    "a low water of zero closes all",
		policy:  water(0, 9, 9),
		peers:   abc,
		closed:  []NodeID{"a", "b", "c"},
		figures: Figures{Total: 3, Counted: 3, Target: 3, Freed: 3},
	}, {
		name:    "several connections of a peer count each",
		policy:  water(2, 9, 9),
		peers:   []planPeer{established("a", 1).conns(2), established("b", 2).conns(2)},
		closed:  []NodeID{"a"},
		figures: Figures{Total: 4, Counted: 4, Target: 2, Freed: 2},
	}})
}

func TestRule4CandidatesAreEstablishedAndUnprotected(t *testing.T) {
	for trigger := TriggerManual; trigger <= TriggerGrace; trigger++ {
		runPlanCases(t, []planCase{{
			name:      "for the trigger " + trigger.String(),
			policy:    water(0, 1, 1),
			trigger:   trigger,
			peers:     []planPeer{newcomer("n", -9), established("p", -9).protected(), established("a", 9)},
			closed:    []NodeID{"a"},
			reasons:   map[NodeID]Reason{"n": KeptInGrace, "p": KeptProtected, "a": ClosedLowScore},
			figures:   Figures{Total: 3, Protected: 1, InGrace: 1, Counted: 2, Target: 2, Freed: 1, Shortfall: 1, Cause: CauseProtected | CauseGrace},
			graceEnds: planGrace - time.Second,
		}})
	}
}

func TestRule6TakesPeersUntilTheTargetIsFreed(t *testing.T) {
	runPlanCases(t, []planCase{{
		name:    "the last peer's surplus is freed with it",
		policy:  water(4, 9, 9),
		peers:   []planPeer{established("a", 1).conns(3), established("b", 2).conns(2)},
		closed:  []NodeID{"a"},
		figures: Figures{Total: 5, Counted: 5, Target: 1, Freed: 3},
	}, {
		name:    "the next in order goes, even where a later one would free just enough",
		policy:  water(5, 9, 9),
		peers:   []planPeer{established("a", 1), established("b", 2).conns(5), established("c", 3)},
		closed:  []NodeID{"a", "b"},
		reasons: map[NodeID]Reason{"c": KeptAboveCut},
		figures: Figures{Total: 7, Counted: 7, Target: 2, Freed: 6},
	}, {
		name:    "candidates can run out for protected peers",
		policy:  water(1, 9, 9),
		peers:   []planPeer{established("a", 0), established("p", 0).protected().conns(3)},
		closed:  []NodeID{"a"},
		figures: Figures{Total: 4, Protected: 3, Counted: 4, Target: 3, Freed: 1, Shortfall: 2, Cause: CauseProtected},
	}, {
		name:      "newcomers can keep a plan above high water",
		policy:    water(0, 1, 9),
		peers:     []planPeer{established("a", 0), newcomer("n", 0).conns(4)},
		closed:    []NodeID{"a"},
		figures:   Figures{Total: 5, InGrace: 4, Counted: 1, Target: 1, Freed: 1, Shortfall: 3, Cause: CauseGrace},
		graceEnds: planGrace - time.Second,
	}, {
		name:    "newcomers that are protected keep it there for their protection",
		policy:  water(0, 1, 9),
		peers:   []planPeer{newcomer("p", 0).protected().conns(3)},
		figures: Figures{Total: 3, Protected: 3, Shortfall: 2, Cause: CauseProtected},
	}, {
		name:      "newcomers that leave it at high water are no shortfall",
		policy:    water(1, 3, 9),
		peers:     []planPeer{established("a", 0), established("b", 1), newcomer("n", 0).conns(2)},
		closed:    []NodeID{"a"},
		figures:   Figures{Total: 4, InGrace: 2, Counted: 2, Target: 1, Freed: 1},
		graceEnds: planGrace - time.Second,
	}})
}

func TestHardLimitTurnsToNewcomers(t *testing.T) {
	rush := []planPeer{established("a", 9), established("b", 8), newcomer("x", 2), newcomer("y", 1), newcomer("z", 3)}
	runPlanCases(t, []planCase{{
		name:      "not at the hard limit",
		policy:    water(2, 4, 5),
		trigger:   TriggerHardLimit,
		peers:     rush,
		reasons:   map[NodeID]Reason{"a": KeptNothingToDo, "y": KeptInGrace},
		figures:   Figures{Total: 5, InGrace: 3, Counted: 2, Shortfall: 1, Cause: CauseGrace},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "above it, until high water is reached, by the same order",
		policy:    water(2, 3, 4),
		trigger:   TriggerHardLimit,
		peers:     rush,
		closed:    []NodeID{"y", "x"},
		reasons:   map[NodeID]Reason{"a": KeptNothingToDo, "y": ClosedHardLimit, "z": KeptInGrace},
		figures:   Figures{Total: 5, InGrace: 3, Counted: 2, Freed: 2},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "not if the normal rules suffice",
		policy:    water(1, 3, 4),
		trigger:   TriggerHardLimit,
		peers:     rush,
		closed:    []NodeID{"b"},
		reasons:   map[NodeID]Reason{"b": ClosedLowScore, "a": KeptAboveCut, "y": KeptInGrace},
		figures:   Figures{Total: 5, InGrace: 3, Counted: 2, Target: 1, Freed: 1, Shortfall: 1, Cause: CauseGrace},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "after the normal rules if they do not",
		policy:    water(1, 2, 3),
		trigger:   TriggerHardLimit,
		peers:     rush,
		closed:    []NodeID{"b", "y", "x"},
		reasons:   map[NodeID]Reason{"b": ClosedLowScore, "y": ClosedHardLimit, "z": KeptInGrace},
		figures:   Figures{Total: 5, InGrace: 3, Counted: 2, Target: 1, Freed: 3},
		graceEnds: planGrace - time.Second,
	}, {
		name:      "not for another trigger",
		policy:    water(2, 3, 4),
		trigger:   TriggerHighWater,
		peers:     rush,
		figures:   Figures{Total: 5, InGrace: 3, Counted: 2, Shortfall: 2, Cause: CauseGrace},
		graceEnds: planGrace - time.Second,
	}, {
		name:    "a protected newcomer stays all the same",
		policy:  water(0, 1, 1),
		trigger: TriggerHardLimit,
		peers:   []planPeer{newcomer("n", 5), newcomer("p", 0).protected().conns(2)},
		closed:  []NodeID{"n"},
		reasons: map[NodeID]Reason{"p": KeptProtected},
		figures: Figures{Total: 3, Protected: 2, InGrace: 1, Freed: 1, Shortfall: 1, Cause: CauseProtected},
	}, {
		name:      "the last newcomer's surplus is freed with it",
		policy:    water(0, 4, 5),
		trigger:   TriggerHardLimit,
		peers:     []planPeer{newcomer("x", 0).conns(3), newcomer("y", 1).conns(3)},
		closed:    []NodeID{"x"},
		figures:   Figures{Total: 6, InGrace: 6, Freed: 3},
		graceEnds: planGrace - time.Second,
	}, {
		name:    "newcomers that go do not make up for protected peers that stay",
		policy:  water(1, 2, 3),
		trigger: TriggerHardLimit,
		peers:   append(newcomer("n", 0).times(4), established("p", 0).protected().conns(3)),
		closed:  []NodeID{"n1", "n2", "n3", "n4"},
		figures: Figures{Total: 7, Protected: 3, InGrace: 4, Counted: 3, Target: 2, Freed: 4, Shortfall: 2, Cause: CauseProtected},
	}})
}

func TestForceSparesNobody(t *testing.T) {
	all := []planPeer{established("a", 9), newcomer("n", 1), established("p", -9).protected(), newcomer("q", -8).protected()}
	runPlanCases(t, []planCase{{
		name:    "grace is ignored",
		policy:  water(3, 9, 9),
		trigger: TriggerForce,
		peers:   all,
		closed:  []NodeID{"n"},
		reasons: map[NodeID]Reason{"n": ClosedForced, "a": KeptAboveCut, "p": KeptProtected, "q": KeptProtected},
		figures: Figures{Total: 4, Protected: 2, Counted: 4, Target: 1, Freed: 1},
	}, {
		name:    "the protected go after all the others",
		policy:  water(1, 9, 9),
		trigger: TriggerForce,
		peers:   all,
		closed:  []NodeID{"n", "a", "p"},
		reasons: map[NodeID]Reason{"a": ClosedForced, "p": ClosedForcedProtected, "q": KeptProtected},
		figures: Figures{Total: 4, Protected: 2, Counted: 4, Target: 3, Freed: 3},
	}, {
		name:    "the protected count whatever the budget",
		policy:  water(1, 9, 9).trimmable(),
		trigger: TriggerForce,
		peers:   all,
		closed:  []NodeID{"n", "a", "p"},
		figures: Figures{Total: 4, Protected: 2, Counted: 4, Target: 3, Freed: 3},
	}, {
		name:    "at low water there is nothing to do",
		policy:  water(4, 9, 9),
		trigger: TriggerForce,
		peers:   all,
		reasons: map[NodeID]Reason{"a": KeptNothingToDo, "n": KeptNothingToDo, "p": KeptProtected},
		figures: Figures{Total: 4, Protected: 2, Counted: 4},
	}, {
		name:    "the last unprotected peer's surplus spares a protected one",
		policy:  water(2, 9, 9),
		trigger: TriggerForce,
		peers:   []planPeer{established("a", 9).conns(3), established("p", 0).protected(), established("q", 0).protected()},
		closed:  []NodeID{"a"},
		figures: Figures{Total: 5, Protected: 2, Counted: 5, Target: 3, Freed: 3},
	}})
}
