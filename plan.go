package connmgr

import (
	"math"
	"time"
)

// This file decides who stays and who goes; it never acts. Values in, value
// out: no locks, no clock, no goroutines, no randomness but the key in the
// policy, nothing that depends on the order of the snapshot. The rules stand in
// the order in which they apply; order.go says who is first to go.

// Policy is what the rules depend on. Unlike in [Config], zero means zero.
type Policy struct {
	// LowWater is the number of counted connections at which a trim stops.
	LowWater int
	// HighWater is where the hard limit's trim stops. That a normal trim starts
	// above it is the caller's affair.
	HighWater int
	// HardLimit is the total above which a plan for [TriggerHardLimit] turns to
	// peers in grace.
	HardLimit int
	// GracePeriod is how long a connected peer is neither counted nor closed.
	GracePeriod time.Duration
	// OutboundBonus is added to the score of a peer with an outbound connection.
	OutboundBonus int
	// ActiveBonus is added to the score of a peer with an open stream. It must
	// not be negative.
	ActiveBonus int
	// Budget says whether protected connections count.
	Budget Budget
	// OutboundFloor is the number of outbound connections below which no plan but a
	// forced one goes.
	OutboundFloor int
	// TieKey keys the hash that orders peers that are alike in all else, so that
	// a stranger cannot choose an ID that is last to go.
	TieKey [2]uint64
}

// Snapshot is the peers to plan for, each once, in any order.
type Snapshot []PeerState

// PeerState is what the rules look at in a peer with at least one connection.
type PeerState struct {
	ID NodeID
	// Since is when the peer connected; with several connections, the first.
	Since time.Time
	// TagSum is the sum of the values of its tags, decaying ones included.
	TagSum int
	// Conns is the number of its connections, at least 1. (32 bits keep the
	// state at 64 bytes, one cache line.)
	Conns int32
	// Streams is the number of its open streams on all connections together.
	Streams int32
	// Outbound is the number of its connections that are outbound.
	Outbound int32
	// Protected says whether somebody protects it.
	Protected bool
	// Trusted says whether a rule let it pass the limits at the door. The hard limit
	// does not close such a peer in its grace.
	Trusted bool
}

// Score returns the score of a peer: its tag sum, with the bonuses that it
// earns. It saturates. Source: seed, trim algorithm (calculateScore).
func (p *Policy) Score(s *PeerState) int {
	score := s.TagSum
	if s.Outbound > 0 {
		score = addSaturating(score, p.OutboundBonus)
	}
	if s.Streams > 0 {
		score = addSaturating(score, p.ActiveBonus)
	}
	return score
}

// PlanTrim decides for every peer of the snapshot whether a trim at the given
// time closes it, and why. It is a pure function: the same peers in any order
// give the same verdicts.
func PlanTrim(policy Policy, snapshot Snapshot, now time.Time, trigger Trigger) Plan {
	var p planner
	return p.plan(&policy, snapshot, now, trigger, nil)
}

// planner makes plans. It keeps its working memory from one plan to the next,
// so a plan is valid until the same planner makes another.
type planner struct {
	reasons     []Reason
	victims     []victim
	established lane
	inGrace     lane
	protected   lane
	dialled     lane // see spareOutbound
	spared      bool // somebody was, in this plan
}

// look fills in PeerState.Streams for the peers at the given places of the
// snapshot. Only a live connection knows its streams, and asking every one would
// cost more than the rest of the plan, so the planner asks for those peers alone
// that may have to go.
type look func(peers []int32)

// plan is PlanTrim. With a nil look, the snapshot knows all streams already.
func (p *planner) plan(policy *Policy, peers Snapshot, now time.Time, trigger Trigger, look look) Plan {
	p.begin(len(peers))
	plan := Plan{Trigger: trigger, At: now, policy: *policy, peers: peers}
	force := trigger == TriggerForce

	// Rule 1: peers in their grace period are neither counted nor closed.
	// Rule 4: candidates are those established and unprotected.
	for i := range peers {
		s := &peers[i]
		conns := int(s.Conns)
		plan.Total += conns
		age := now.Sub(s.Since)
		switch inGrace := policy.GracePeriod > 0 && age < policy.GracePeriod && !force; {
		case s.Protected:
			plan.Protected += conns
			p.reasons[i] = KeptProtected
			// Rule 2: protected connections count, unless the budget leaves them out.
			// By force protected peers go as well, so then they always count.
			if !inGrace && (policy.Budget == BudgetAll || force) {
				plan.Counted += conns
			}
			if force {
				p.protected.add(policy, peers, int32(i), age)
			}
		case inGrace:
			plan.InGrace += conns
			p.reasons[i] = KeptInGrace
			if trigger == TriggerHardLimit && !s.Trusted {
				p.inGrace.add(policy, peers, int32(i), age)
			}
		default:
			plan.Counted += conns
			p.reasons[i] = KeptNothingToDo
			p.established.add(policy, peers, int32(i), age)
		}
	}

	protected := plan.Counted - p.established.conns

	// Rule 3: down to low water; nothing to do at or below it.
	plan.Target = max(0, plan.Counted-policy.LowWater)

	// Rules 5 and 6: in order, the first to go first, until the target is freed.
	// Outbound connections do not go below their floor; force ignores it.
	reason := ClosedLowScore
	if force {
		reason = ClosedForced
	} else if plan.Target > 0 {
		p.spareOutbound(&p.established, policy, peers, look)
	}
	plan.Freed = p.take(&p.established, policy, peers, plan.Target, reason, look)
	if plan.Target > 0 {
		for _, k := range p.established.keys {
			if p.reasons[k.peer] == KeptNothingToDo {
				p.reasons[k.peer] = KeptAboveCut
			}
		}
	}
	missed := plan.Target - plan.Freed // newcomers that go below do not make up for it

	// Above the hard limit, peers in grace go too, until high water is reached.
	if left := plan.Total - plan.Freed; trigger == TriggerHardLimit && left > policy.HardLimit {
		p.spareOutbound(&p.inGrace, policy, peers, look)
		plan.Freed += p.take(&p.inGrace, policy, peers, left-policy.HighWater, ClosedHardLimit, look)
	}
	// By force, protected peers go after all the others.
	if left := plan.Target - plan.Freed; force && left > 0 {
		plan.Freed += p.take(&p.protected, policy, peers, left, ClosedForcedProtected, look)
		missed = plan.Target - plan.Freed
	}

	plan.reasons, plan.victims = p.reasons, p.victims
	plan.findGraceEnd()
	plan.explainShortfall(max(0, missed), protected > 0, p.spared)
	return plan
}

// spareOutbound takes those out of a lane whose outbound connections are needed: in
// order, the first to go first, peers may go for as long as the floor is kept.
func (p *planner) spareOutbound(l *lane, policy *Policy, peers Snapshot, look look) {
	if policy.OutboundFloor <= 0 {
		return
	}
	// What may go is what there is beyond the floor, without what goes already.
	may := -policy.OutboundFloor
	for i := range peers {
		if !p.reasons[i].Closed() {
			may += int(peers[i].Outbound)
		}
	}
	p.dialled.reset()
	inLane := 0
	for _, k := range l.keys {
		if n := int(peers[k.peer].Outbound); n > 0 {
			p.dialled.add(policy, peers, k.peer, k.age)
			inLane += n
		}
	}
	if inLane <= max(0, may) {
		return
	}
	d := &p.dialled
	if look != nil { // their order depends on their streams
		d.sure, d.end = 0, len(d.keys)
		look(d.mayGo(policy, d.conns))
		d.rescore(policy, peers)
	}
	for _, k := range d.cut(policy, peers, d.conns) {
		if n := int(peers[k.peer].Outbound); n <= may {
			may -= n
			continue
		}
		p.reasons[k.peer] = KeptOutboundFloor
		p.spared = true
	}
	l.remove(func(k *key) bool { return p.reasons[k.peer] == KeptOutboundFloor })
}

// firstInbound returns the first to go for a newcomer, in order, with at least n
// connections if there are so many: neither protected nor dialled by us, in grace or
// not. See displace.go.
func (p *planner) firstInbound(policy *Policy, peers Snapshot, now time.Time, n int, look look) []victim {
	p.begin(len(peers))
	for i := range peers {
		if s := &peers[i]; !s.Protected && s.Outbound == 0 {
			p.established.add(policy, peers, int32(i), now.Sub(s.Since))
		}
	}
	p.take(&p.established, policy, peers, n, ClosedDisplaced, look)
	return p.victims
}

// findGraceEnd finds when the oldest newcomer that stays leaves its grace period.
func (p *Plan) findGraceEnd() {
	if p.InGrace == 0 {
		return
	}
	for i, r := range p.reasons {
		if since := p.peers[i].Since; r == KeptInGrace {
			if end := since.Add(p.policy.GracePeriod); p.GraceEnds.IsZero() || end.Before(p.GraceEnds) {
				p.GraceEnds = end
			}
		}
	}
}

// explainShortfall says by how much the plan misses what it was to reach, and
// what it was not allowed to close. missed is what is left of the target; protected
// says whether protected connections count, and spared whether outbound ones were
// needed.
func (p *Plan) explainShortfall(missed int, protected, spared bool) {
	aboveHigh := max(0, p.Total-p.Freed-max(p.policy.HighWater, p.policy.LowWater))
	p.Shortfall = max(missed, aboveHigh)

	// All counted candidates are gone, so what is left of the target is protected, or
	// outbound and needed.
	if missed > 0 && protected {
		p.Cause |= CauseProtected
	}
	// What is above high water in spite of that was not counted at all.
	if aboveHigh > 0 {
		if !p.GraceEnds.IsZero() {
			p.Cause |= CauseGrace
		}
		if uncounted := p.Total - p.Counted - p.InGrace; uncounted > 0 {
			p.Cause |= CauseProtected
		}
	}
	if p.Shortfall > 0 && spared {
		p.Cause |= CauseOutbound
	}
}

func (p *planner) begin(peers int) {
	p.reasons = resize(p.reasons, peers)
	p.victims = p.victims[:0]
	p.established.reset()
	p.inGrace.reset()
	p.protected.reset()
	p.spared = false
}

// take makes victims of the first peers of a lane until they free the target,
// and returns how many connections that frees.
func (p *planner) take(l *lane, policy *Policy, peers Snapshot, target int, reason Reason, look look) (freed int) {
	if target <= 0 || len(l.keys) == 0 {
		return 0
	}
	l.sure, l.end = 0, len(l.keys)
	if look != nil {
		look(l.mayGo(policy, target))
		l.rescore(policy, peers)
	}
	taken := l.cut(policy, peers, target)

	// Where everybody goes, a risen score changes nobody's place.
	cut := math.MaxInt
	if len(taken) < len(l.keys) {
		cut = taken[len(taken)-1].score
	}
	for _, k := range taken {
		p.reasons[k.peer] = reason
		p.victims = append(p.victims, victim{peer: k.peer, cut: cut})
		freed += int(k.conns)
	}
	return freed
}

// resize returns s with length n, its contents unspecified. It lets go of memory
// that is far too much.
func resize[T any](s []T, n int) []T {
	if cap(s) < n || cap(s) > 4*n+1024 {
		return make([]T, n)
	}
	return s[:n]
}
