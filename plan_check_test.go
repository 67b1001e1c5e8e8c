package connmgr

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/dep2p/connmgr/internal/reference"
	"github.com/dep2p/connmgr/internal/siphash"
)

// This file says what must be true of every plan, in two small tests and in the
// checks that plan_fuzz_test.go makes of any crowd.

func TestPlanGivesEveryPeerOneVerdict(t *testing.T) {
	peers := crowd(established("c", 7), newcomer("n", 0), established("b", 1).outbound(), established("p", 0).protected(), established("", 2).conns(2))
	policy := water(2, 9, 9)
	policy.OutboundBonus = 10
	before := slices.Clone(peers)
	plan := PlanTrim(policy, peers, planTime, TriggerManual)

	want := []Verdict{
		{Peer: "", Reason: ClosedLowScore, Score: 2, Rank: 1, Conns: 2},
		{Peer: "c", Reason: ClosedLowScore, Score: 7, Rank: 2, Conns: 1},
		{Peer: "n", Reason: KeptInGrace, Conns: 1},
		{Peer: "b", Reason: KeptAboveCut, Score: 11, Conns: 1},
		{Peer: "p", Reason: KeptProtected, Conns: 1},
	}
	if got := slices.Collect(plan.Verdicts()); !slices.Equal(got, want) {
		t.Errorf("verdicts\n got %+v\nwant %+v", got, want)
	}
	if plan.Peers() != 5 || plan.Closes() != 2 {
		t.Errorf("plan for %d peers closes %d, want 5 and 2", plan.Peers(), plan.Closes())
	}
	if _, ok := plan.Verdict("stranger"); ok {
		t.Error("there is a verdict on a peer that is not in the snapshot")
	}
	if !slices.Equal(peers, before) {
		t.Errorf("planning changed the snapshot:\n got %+v\nwant %+v", peers, before)
	}
	for range plan.Verdicts() {
		break // leaving early must not go on yielding, which would panic
	}
	if plan.Trigger != TriggerManual || !plan.At.Equal(planTime) {
		t.Errorf("plan says it is for %v at %v, want manual at %v", plan.Trigger, plan.At, planTime)
	}
}

func TestPlanForNobodyIsEmpty(t *testing.T) {
	for name, peers := range map[string]Snapshot{"nil": nil, "empty": {}} {
		for trigger := TriggerManual; trigger <= TriggerForce; trigger++ {
			plan := PlanTrim(Policy{}, peers, planTime, trigger)
			if plan.Figures != (Figures{}) || plan.Peers() != 0 || plan.Closes() != 0 || !plan.GraceEnds.IsZero() {
				t.Errorf("%s snapshot, trigger %v: plan is %+v, want zeros", name, trigger, plan)
			}
		}
	}
}

// check makes the plan and checks all that must be true of it.
func (in planInput) check(t *testing.T, lazy *planner) {
	t.Helper()
	plan := in.plan()
	in.checkAgainstRules(t, plan)
	in.checkVerdicts(t, plan)
	in.checkSurplus(t, plan)
	in.checkCut(t, plan)
	in.checkPermutation(t, plan)
	in.checkRaisedScores(t, plan)
	in.checkNothingLeftToDo(t, plan)
	in.checkLaziness(t, plan, lazy)
}

// fail stops the test and shows the input, if a reader can take it in.
func (in planInput) fail(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("policy %+v, trigger %v, %d peers", in.policy, in.trigger, len(in.peers))
	if len(in.peers) <= 40 {
		for _, p := range in.peers {
			t.Logf("  %q score %d: %+v", string(p.ID), in.policy.Score(&p), p)
		}
	}
	t.Fatalf(format, args...)
}

var reasonInReference = map[Reason]reference.Why{
	KeptNothingToDo:       reference.NothingToDo,
	KeptAboveCut:          reference.AboveTheCut,
	KeptInGrace:           reference.InGrace,
	KeptProtected:         reference.Protected,
	ClosedLowScore:        reference.LowScore,
	ClosedHardLimit:       reference.OverHardLimit,
	ClosedForced:          reference.Forced,
	ClosedForcedProtected: reference.ForcedProtected,
	KeptOutboundFloor:     reference.OutboundFloor,
}

func (in planInput) checkAgainstRules(t *testing.T, plan Plan) {
	t.Helper()
	rules := reference.Rules{
		LowWater:          in.policy.LowWater,
		HighWater:         in.policy.HighWater,
		HardLimit:         in.policy.HardLimit,
		GracePeriod:       in.policy.GracePeriod,
		OutboundFloor:     in.policy.OutboundFloor,
		OutboundBonus:     in.policy.OutboundBonus,
		ActiveBonus:       in.policy.ActiveBonus,
		LeaveOutProtected: in.policy.Budget == BudgetTrimmable,
		Hash: func(id string) uint64 {
			return siphash.Sum64(in.policy.TieKey[0], in.policy.TieKey[1], id)
		},
	}
	var peers []reference.Peer
	for _, p := range in.peers {
		peers = append(peers, reference.Peer{
			ID: string(p.ID), Since: p.Since, TagSum: p.TagSum, Connections: int(p.Conns),
			Streams: int(p.Streams), Outbound: int(p.Outbound), Protected: p.Protected, Trusted: p.Trusted,
		})
	}
	trigger := reference.Normal
	switch in.trigger {
	case TriggerHardLimit:
		trigger = reference.HardLimit
	case TriggerForce:
		trigger = reference.Force
	case TriggerManual, TriggerHighWater, TriggerTick, TriggerGrace, TriggerNewcomer, TriggerRule, TriggerReport, TriggerRequest:
	}
	want := rules.Plan(peers, planTime, trigger)

	if got := closedIDs(plan); !slices.EqualFunc(got, want.Closed, func(a NodeID, b string) bool { return string(a) == b }) {
		in.fail(t, "closed %q, want %q", got, want.Closed)
	}
	for v := range plan.Verdicts() {
		if why := want.Why[string(v.Peer)]; reasonInReference[v.Reason] != why {
			in.fail(t, "verdict on %q is %q, want %q", string(v.Peer), v.Reason, why)
		}
		if score := want.Score[string(v.Peer)]; v.Score != score {
			in.fail(t, "score of %q is %d, want %d", string(v.Peer), v.Score, score)
		}
	}
	figures := Figures{
		Total: want.Total, Protected: want.Protected, InGrace: want.InGrace, Counted: want.Counted,
		Target: want.Target, Freed: want.Freed, Shortfall: want.Shortfall,
	}
	if want.ProtectedInTheWay {
		figures.Cause |= CauseProtected
	}
	if want.GraceInTheWay {
		figures.Cause |= CauseGrace
	}
	if want.OutboundInTheWay {
		figures.Cause |= CauseOutbound
	}
	if plan.Figures != figures {
		in.fail(t, "figures\n got %+v\nwant %+v", plan.Figures, figures)
	}
	if !plan.GraceEnds.Equal(want.GraceEnds) {
		in.fail(t, "GraceEnds is %v, want %v", plan.GraceEnds, want.GraceEnds)
	}
}

func (in planInput) checkVerdicts(t *testing.T, plan Plan) {
	t.Helper()
	verdicts := make(map[NodeID]Verdict)
	rank, freed := 0, 0
	for v := range plan.Verdicts() {
		if _, twice := verdicts[v.Peer]; twice {
			in.fail(t, "%q has two verdicts", string(v.Peer))
		}
		verdicts[v.Peer] = v
		if v.Reason.Closed() {
			rank++
			freed += v.Conns
			if v.Rank != rank {
				in.fail(t, "%q goes as number %d, but its rank is %d", string(v.Peer), rank, v.Rank)
			}
		} else if v.Rank != 0 {
			in.fail(t, "%q is kept, but has rank %d", string(v.Peer), v.Rank)
		}
	}
	if len(verdicts) != len(in.peers) || plan.Peers() != len(in.peers) || plan.Closes() != rank {
		in.fail(t, "%d verdicts, %d of them to close, on %d peers; the plan says %d of %d",
			len(verdicts), rank, len(in.peers), plan.Closes(), plan.Peers())
	}
	if freed != plan.Freed {
		in.fail(t, "closed peers have %d connections, Freed is %d", freed, plan.Freed)
	}
	if (plan.Shortfall > 0) != (plan.Cause != 0) {
		in.fail(t, "shortfall %d has the cause %q", plan.Shortfall, plan.Cause)
	}
	if in.trigger == TriggerForce {
		return
	}
	for _, p := range in.peers {
		v, ok := verdicts[p.ID]
		switch {
		case !ok:
			in.fail(t, "%q has no verdict", string(p.ID))
		case v.Reason.Closed() && p.Protected:
			in.fail(t, "%q is protected and closed without force", string(p.ID))
		case v.Reason == ClosedLowScore && in.policy.GracePeriod > 0 && planTime.Sub(p.Since) < in.policy.GracePeriod,
			v.Reason == ClosedHardLimit && in.trigger != TriggerHardLimit:
			in.fail(t, "%q is in grace and closed in a trim for %v", string(p.ID), in.trigger)
		case v.Reason == ClosedLowScore && plan.Counted <= in.policy.LowWater:
			in.fail(t, "%q is closed though nothing is above low water", string(p.ID))
		}
	}
}

// checkSurplus checks that each step stops as soon as it has what it wants.
func (in planInput) checkSurplus(t *testing.T, plan Plan) {
	t.Helper()
	freed := make(map[Reason]int)
	last := make(map[Reason]int)
	for v := range plan.Closed() {
		freed[v.Reason] += v.Conns
		last[v.Reason] = v.Conns
	}
	for reason, wanted := range map[Reason]int{
		ClosedLowScore:        plan.Target,
		ClosedHardLimit:       plan.Total - freed[ClosedLowScore] - in.policy.HighWater,
		ClosedForced:          plan.Target,
		ClosedForcedProtected: plan.Target - freed[ClosedForced],
	} {
		if freed[reason] > 0 && freed[reason]-last[reason] >= wanted {
			in.fail(t, "%q frees %d of %d wanted: it would have done without the last peer, with %d", reason, freed[reason], wanted, last[reason])
		}
	}
}

// checkCut checks the score beyond which a victim is spared at the last moment: the
// lowest of those that stay instead, or none where there is nobody else to choose.
func (in planInput) checkCut(t *testing.T, plan Plan) {
	t.Helper()
	keptInstead := map[Reason]Reason{
		ClosedLowScore:        KeptAboveCut,
		ClosedHardLimit:       KeptInGrace,
		ClosedForced:          KeptAboveCut,
		ClosedForcedProtected: KeptProtected,
	}
	for _, v := range plan.victims {
		want := math.MaxInt
		for i, kept := range plan.reasons { // a trusted newcomer is no alternative
			if kept == keptInstead[v.reason] && (kept != KeptInGrace || !in.peers[i].Trusted) {
				want = min(want, in.policy.Score(&in.peers[i]))
			}
		}
		if v.cut != want {
			in.fail(t, "those closed for %v are spared above a score of %d, want %d", v.reason, v.cut, want)
		}
	}
}

func (in planInput) checkPermutation(t *testing.T, plan Plan) {
	t.Helper()
	shuffled := in
	shuffled.peers = slices.Clone(in.peers)
	in.random.Shuffle(len(shuffled.peers), func(i, j int) {
		shuffled.peers[i], shuffled.peers[j] = shuffled.peers[j], shuffled.peers[i]
	})
	again := shuffled.plan()
	if !slices.Equal(closedIDs(plan), closedIDs(again)) || plan.Figures != again.Figures || !plan.GraceEnds.Equal(again.GraceEnds) {
		in.fail(t, "the same peers in another order are closed as %q, not %q, with %+v, not %+v", closedIDs(again), closedIDs(plan), again.Figures, plan.Figures)
	}
	byPeer := func(a, b Verdict) int { return cmp.Compare(a.Peer, b.Peer) }
	if !slices.Equal(slices.SortedFunc(plan.Verdicts(), byPeer), slices.SortedFunc(again.Verdicts(), byPeer)) {
		in.fail(t, "the same peers in another order have other verdicts")
	}
}

// checkRaisedScores checks that a higher score never makes it worse for a peer.
func (in planInput) checkRaisedScores(t *testing.T, plan Plan) {
	t.Helper()
	for range min(3, len(in.peers)) {
		i := in.random.IntN(len(in.peers))
		raised := in
		raised.peers = slices.Clone(in.peers)
		p := &raised.peers[i]
		p.TagSum = addSaturating(p.TagSum, 1+in.random.IntN(40))
		before := plan.verdict(i, slices.Index(closedIDs(plan), p.ID)+1)
		after, _ := raised.plan().Verdict(p.ID)
		if after.Reason.Closed() && (!before.Reason.Closed() || after.Rank < before.Rank) {
			in.fail(t, "with %d instead of %d tags, %q is closed as number %d, not %d", p.TagSum, in.peers[i].TagSum, string(p.ID), after.Rank, before.Rank)
		}
	}
}

func (in planInput) checkNothingLeftToDo(t *testing.T, plan Plan) {
	t.Helper()
	rest := in
	rest.peers = nil
	for i, p := range in.peers {
		if !plan.reasons[i].Closed() {
			rest.peers = append(rest.peers, p)
		}
	}
	if again := closedIDs(rest.plan()); len(again) > 0 {
		in.fail(t, "closed %q, and planning again would close %q", closedIDs(plan), again)
	}
}

// checkLaziness plans without knowing streams, as the manager does, and checks
// that asking the few that matter gives the same plan.
func (in planInput) checkLaziness(t *testing.T, plan Plan, lazy *planner) {
	t.Helper()
	asked, got := in.planLazily(lazy)
	sameKey := func(a, b key) bool {
		a.words[byHash], b.words[byHash] = 0, 0 // known or not
		return a == b
	}
	same := func(got, want victims) bool {
		// Those that stay and were not asked count as if they had no streams.
		last := want.keys[len(want.keys)-1].score()
		return got.reason == want.reason && last <= got.cut && got.cut <= want.cut && slices.EqualFunc(got.keys, want.keys, sameKey)
	}
	if !slices.EqualFunc(got.victims, plan.victims, same) {
		in.fail(t, "asking for the streams of %v, closed %v, want %v", asked, got.victims, plan.victims)
	}
	if !slices.Equal(got.reasons, plan.reasons) || got.Figures != plan.Figures || !got.GraceEnds.Equal(plan.GraceEnds) {
		in.fail(t, "asking for the streams of %v, planned %+v, want %+v", asked, got.Figures, plan.Figures)
	}
	for want := range plan.Closed() {
		if got, _ := got.Verdict(want.Peer); got != want {
			in.fail(t, "asking for the streams of %v, %+v is closed, want %+v", asked, got, want)
		}
	}
	for _, i := range asked {
		// Streams can save a peer that goes, by no more than the bonus.
		p := in.peers[i]
		if in.policy.OutboundFloor > 0 && p.Outbound > 0 {
			continue // it takes the order of all of these to know which are needed
		}
		p.Streams = 0
		if base := in.policy.Score(&p); base > highestTaken(plan, in) {
			in.fail(t, "%q was asked for its streams, with a score of %d without them", string(p.ID), base)
		}
	}
}

// highestTaken returns the highest score that a peer can have without streams and
// still be in question: what the last one closed has, and the bonus.
func highestTaken(plan Plan, in planInput) int {
	highest := math.MinInt
	for v := range plan.Closed() {
		highest = max(highest, v.Score)
	}
	return addSaturating(highest, in.policy.ActiveBonus)
}

// planLazily plans with streams that must be asked for, and returns who was asked.
func (in planInput) planLazily(p *planner) (asked []int32, plan Plan) {
	hidden := slices.Clone(in.peers)
	for i := range hidden {
		hidden[i].Streams = 0
	}
	plan = p.planSnapshot(&in.policy, hidden, planTime, in.trigger, func(keys []key) {
		for i := range keys {
			k := &keys[i]
			streams := in.peers[k.at].Streams
			k.setStreams(&in.policy, streams)
			hidden[k.at].Streams = streams
			asked = append(asked, int32(k.at))
		}
	})
	return asked, plan
}

func (in planInput) checkAgainstSeed(t *testing.T) {
	t.Helper()
	seed := reference.Seed{
		Tags:          make(map[string]map[string]int),
		Protects:      make(map[string]map[string]struct{}),
		LowWater:      in.policy.LowWater,
		OutboundBonus: in.policy.OutboundBonus,
		ActiveBonus:   in.policy.ActiveBonus,
	}
	scores := make(map[string]int)
	for _, p := range in.peers {
		id := string(p.ID)
		seed.Connections = append(seed.Connections, reference.SeedConn{RemotePeer: id, Outbound: p.Outbound > 0, Streams: int(p.Streams)})
		seed.Tags[id] = map[string]int{"one": p.TagSum / 2, "two": p.TagSum - p.TagSum/2}
		if p.Protected {
			seed.Protects[id] = map[string]struct{}{"keep": {}}
		}
		scores[id] = in.policy.Score(&p)
	}
	var got, want []int
	for v := range in.plan().Closed() {
		got = append(got, v.Score)
	}
	for _, id := range seed.TrimOpenConns() {
		want = append(want, scores[id])
	}
	// Among equal scores the seed's choice is arbitrary, so scores are compared.
	slices.Sort(want)
	if !slices.Equal(got, want) {
		in.fail(t, "closed peers with the scores %v, the seed closes %v", got, want)
	}
}
