package connmgr

import (
	"slices"
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
func (p *Policy) Score(s *PeerState) int { return p.score(s.TagSum, s.Outbound, s.Streams) }

func (p *Policy) score(tagSum int, outbound, streams int32) int {
	score := tagSum
	if outbound > 0 {
		score = addSaturating(score, p.OutboundBonus)
	}
	if streams > 0 {
		score = addSaturating(score, p.ActiveBonus)
	}
	return score
}

// PlanTrim decides for every peer of the snapshot whether a trim at the given
// time closes it, and why. It is a pure function: the same peers in any order
// give the same verdicts.
func PlanTrim(policy Policy, snapshot Snapshot, now time.Time, trigger Trigger) Plan {
	var p planner
	return p.planSnapshot(&policy, snapshot, now, trigger, nil)
}

// planSnapshot is PlanTrim. With a look, the snapshot's streams are not looked at.
func (p *planner) planSnapshot(policy *Policy, peers Snapshot, now time.Time, trigger Trigger, look look) Plan {
	p.begin(policy, now, trigger)
	p.reset(policy, trigger, nil, len(peers))
	p.reasons = resize(p.reasons, len(peers))
	for i := range peers {
		facts := peers[i].facts(now)
		facts.at = handle(i)
		if look != nil {
			facts.streams = 0
		}
		p.add(&facts)
	}
	plan, _ := p.finish(look, func(k *key) NodeID { return peers[k.at].ID }) // nobody is left out
	plan.peers, plan.reasons = peers, p.reasons
	return plan
}

// planner makes plans: begin, add each peer, finish. It takes peers one by one so that
// a trim need not copy the table for it. It keeps its working memory from one plan to
// the next, so a plan is valid until the same planner makes another.
type planner struct {
	tally
	now     time.Time
	parts   []*tally // see registry.feed
	sample  tally    // see sample.go
	dialled lane     // see spareOutbound
	// spared says that somebody stays for its outbound connections.
	spared  bool
	victims []victims // in closing order
}

// victims are peers that a plan closes for one reason, the first to go first.
type victims struct {
	keys   []key
	reason Reason
	// cut is the lowest score of those that stay instead. A peer whose score has risen
	// beyond it by the time of closing is spared.
	cut int
}

// look sets the streams of keys. Only a live connection knows its streams, and asking
// every one would cost more than the rest of the plan, so the planner asks for those
// alone that may have to go.
type look func([]key)

// begin begins a plan; the tally has to be reset as well.
func (p *planner) begin(policy *Policy, now time.Time, trigger Trigger) {
	p.policy, p.trigger, p.now = policy, trigger, now
	p.spared, p.victims = false, p.victims[:0]
}

// release lets go of connections, so that those gone can be collected.
func (p *planner) release() {
	for _, t := range append(p.parts, &p.tally, &p.sample) {
		clear(t.conns[:cap(t.conns)])
	}
}

// finish makes the plan. id returns the ID of a peer. It reports false if it needs some
// of those who were left out.
func (p *planner) finish(look look, id func(*key) NodeID) (plan Plan, ok bool) {
	plan = Plan{Figures: p.figures, Trigger: p.trigger, At: p.now, policy: *p.policy}
	o := &order{tieKey: p.policy.TieKey, id: id}
	force := p.trigger == TriggerForce
	protected := plan.Counted - p.established.conns

	// Rule 3: down to low water; nothing to do at or below it.
	plan.Target = max(0, plan.Counted-p.policy.LowWater)

	// Rules 5 and 6: in order, the first to go first, until the target is freed.
	// Outbound connections do not go below their floor; force ignores it.
	reason := ClosedLowScore
	if force {
		reason = ClosedForced
	} else if plan.Target > 0 {
		p.spareOutbound(&p.established, o, look)
	}
	plan.Freed = p.take(&p.established, o, plan.Target, reason, look)
	if !p.established.enough(plan.Target) {
		return plan, false
	}
	if plan.Target > 0 {
		for _, k := range p.established.rest() {
			p.say(k.at, KeptAboveCut)
		}
	}
	missed := plan.Target - plan.Freed // newcomers that go below do not make up for it

	// Above the hard limit, peers in grace go too, until high water is reached.
	if left := plan.Total - plan.Freed; p.trigger == TriggerHardLimit && left > p.policy.HardLimit {
		p.spareOutbound(&p.inGrace, o, look)
		plan.Freed += p.take(&p.inGrace, o, left-p.policy.HighWater, ClosedHardLimit, look)
	}
	// By force, protected peers go after all the others.
	if left := plan.Target - plan.Freed; force && left > 0 {
		plan.Freed += p.take(&p.protected, o, left, ClosedForcedProtected, look)
		missed = plan.Target - plan.Freed
	}

	for _, k := range p.inGrace.rest() {
		p.oldestInGrace = max(p.oldestInGrace, k.age())
	}
	if p.oldestInGrace != nobodyInGrace {
		plan.GraceEnds = p.now.Add(p.policy.GracePeriod - p.oldestInGrace)
	}
	plan.victims = p.victims
	plan.explainShortfall(max(0, missed), protected > 0, p.spared)
	return plan, true
}

// take makes victims of the first peers of a lane until they free the target, and
// returns how many connections that frees.
func (p *planner) take(l *lane, o *order, target int, reason Reason, look look) (freed int) {
	if target <= 0 || len(l.keys) == 0 {
		return 0
	}
	taken := l.take(o, target, look)
	cut := l.lowestLeft()
	for i := range taken {
		k := &taken[i]
		p.say(k.at, reason)
		p.outbound -= int(k.outbound)
		freed += int(k.conns)
	}
	p.victims = append(p.victims, victims{taken, reason, cut})
	return freed
}

// spareOutbound takes those out of a lane whose outbound connections are needed: in
// order, the first to go first, peers may go for as long as the floor is kept.
func (p *planner) spareOutbound(l *lane, o *order, look look) {
	if p.policy.OutboundFloor <= 0 {
		return
	}
	p.dialled.reset(nil, 0)
	inLane := 0
	for _, k := range l.keys {
		if k.outbound > 0 {
			p.dialled.keys = append(p.dialled.keys, k)
			p.dialled.conns += int(k.conns)
			inLane += int(k.outbound)
		}
	}
	// What may go is what there is beyond the floor, without what goes already.
	may := p.outbound - p.policy.OutboundFloor
	if inLane <= max(0, may) {
		return
	}
	needed := make(map[handle]bool)
	for _, k := range p.dialled.take(o, p.dialled.conns, look) { // their order depends on their streams
		if n := int(k.outbound); n <= may {
			may -= n
			continue
		}
		needed[k.at] = true
		p.say(k.at, KeptOutboundFloor)
		p.spared = true
	}
	l.remove(func(k *key) bool { return needed[k.at] })
}

// firstInbound makes no plan, but returns the first to go for a newcomer, in order, with
// at least n connections if there are so many: neither protected nor dialled by us, in
// grace or not. It takes the place of finish; see displace.go.
func (p *planner) firstInbound(n int, look look, id func(*key) NodeID) []key {
	l := &p.established
	l.remove(func(k *key) bool { return k.outbound > 0 })
	return l.take(&order{tieKey: p.policy.TieKey, id: id}, n, look)
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

// emptied returns s without its elements, with room for n. It lets go of memory that is
// far too much.
func emptied[T any](s []T, n int) []T {
	if cap(s) > 4*max(len(s), n)+1024 {
		s = nil
	}
	return slices.Grow(s[:0], n)
}

// resize returns s with length n, its contents unspecified. It lets go of memory
// that is far too much.
func resize[T any](s []T, n int) []T {
	if cap(s) < n || cap(s) > 4*n+1024 {
		return make([]T, n)
	}
	return s[:n]
}
