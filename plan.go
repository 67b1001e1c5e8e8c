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
	return p.planSnapshot(&policy, snapshot, now, trigger, nil)
}

// planSnapshot is PlanTrim. With a look, the snapshot's streams are not looked at.
func (p *planner) planSnapshot(policy *Policy, peers Snapshot, now time.Time, trigger Trigger, look look) Plan {
	p.begin(policy, now, trigger, len(peers))
	p.reasons = resize(p.reasons, len(peers))
	for i := range peers {
		facts := peers[i].facts(now)
		facts.at = handle{ref: ref(i)}
		if look != nil {
			facts.streams = 0
		}
		p.add(&facts)
	}
	plan := p.finish(look, func(k *key) NodeID { return peers[k.at.ref].ID })
	plan.peers, plan.reasons = peers, p.reasons
	return plan
}

// peerFacts is what the rules look at in a peer, as the planner gets it: without an ID,
// which only decides when nothing else does.
type peerFacts struct {
	// at is where the peer is in the table, or for a snapshot, its place in there.
	at                       handle
	age                      time.Duration
	tagSum                   int
	conns, outbound, streams int32
	protected, trusted       bool
}

func (s *PeerState) facts(now time.Time) peerFacts {
	return peerFacts{
		age: now.Sub(s.Since), tagSum: s.TagSum, conns: s.Conns, outbound: s.Outbound, streams: s.Streams,
		protected: s.Protected, trusted: s.Trusted,
	}
}

// key returns the place of a peer in the order at a time.
func (s *PeerState) key(policy *Policy, now time.Time) key {
	f := s.facts(now)
	return makeKey(policy, &f)
}

// planner makes plans: begin, add each peer, finish. It takes peers one by one so that
// a trim need not copy the table for it. It keeps its working memory from one plan to
// the next, so a plan is valid until the same planner makes another.
type planner struct {
	policy  *Policy
	trigger Trigger
	figures Figures
	now     time.Time
	// oldestInGrace is the age of the oldest peer in grace that stays, nobodyInGrace if
	// there is none. It is below zero for one from the future.
	oldestInGrace time.Duration
	// outbound is the outbound connections of those who stay.
	outbound int
	// spared says that somebody stays for its outbound connections.
	spared bool

	established, inGrace, protected lane
	dialled                         lane // see spareOutbound
	victims                         []victim
	// reasons says why each peer of a snapshot stays or goes. A trim, which need not
	// tell those that stay, does without.
	reasons []Reason
}

const nobodyInGrace = math.MinInt64

// victim is a peer that a plan closes.
type victim struct {
	key
	reason Reason
	// cut is the score above which the peer would not have been chosen. A peer
	// whose score has risen beyond it by the time of closing is spared.
	cut int
}

// look sets the streams of keys. Only a live connection knows its streams, and asking
// every one would cost more than the rest of the plan, so the planner asks for those
// alone that may have to go.
type look func([]key)

// begin begins a plan for about so many peers.
func (p *planner) begin(policy *Policy, now time.Time, trigger Trigger, peers int) {
	p.policy, p.now, p.trigger = policy, now, trigger
	p.figures, p.oldestInGrace, p.outbound, p.spared = Figures{}, nobodyInGrace, 0, false
	p.established.keys = resize(p.established.keys, peers)
	for _, l := range []*lane{&p.established, &p.inGrace, &p.protected, &p.dialled} {
		l.reset()
	}
	p.victims, p.reasons = p.victims[:0], p.reasons[:0]
}

// say notes the reason for a peer of a snapshot.
func (p *planner) say(at handle, why Reason) {
	if len(p.reasons) > 0 {
		p.reasons[at.ref] = why
	}
}

// add takes a peer into the plan.
func (p *planner) add(f *peerFacts) {
	conns := int(f.conns)
	force := p.trigger == TriggerForce
	p.figures.Total += conns
	p.outbound += int(f.outbound)
	// Rule 1: peers in their grace period are neither counted nor closed.
	// Rule 4: candidates are those established and unprotected.
	switch inGrace := p.policy.GracePeriod > 0 && f.age < p.policy.GracePeriod && !force; {
	case f.protected:
		p.figures.Protected += conns
		p.say(f.at, KeptProtected)
		// Rule 2: protected connections count, unless the budget leaves them out.
		// By force protected peers go as well, so then they always count.
		if !inGrace && (p.policy.Budget == BudgetAll || force) {
			p.figures.Counted += conns
		}
		if force {
			p.protected.add(makeKey(p.policy, f))
		}
	case inGrace:
		p.figures.InGrace += conns
		p.say(f.at, KeptInGrace)
		if p.trigger == TriggerHardLimit && !f.trusted {
			p.inGrace.add(makeKey(p.policy, f))
		} else {
			p.oldestInGrace = max(p.oldestInGrace, f.age)
		}
	default:
		p.figures.Counted += conns
		p.say(f.at, KeptNothingToDo)
		p.established.add(makeKey(p.policy, f))
	}
}

// finish makes the plan. id returns the ID of a peer.
func (p *planner) finish(look look, id func(*key) NodeID) Plan {
	plan := Plan{Figures: p.figures, Trigger: p.trigger, At: p.now, policy: *p.policy}
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
	if plan.Target > 0 {
		for _, k := range p.established.left() {
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

	for _, k := range p.inGrace.left() {
		p.oldestInGrace = max(p.oldestInGrace, k.age())
	}
	if p.oldestInGrace != nobodyInGrace {
		plan.GraceEnds = p.now.Add(p.policy.GracePeriod - p.oldestInGrace)
	}
	plan.victims = p.victims
	plan.explainShortfall(max(0, missed), protected > 0, p.spared)
	return plan
}

// take makes victims of the first peers of a lane until they free the target, and
// returns how many connections that frees.
func (p *planner) take(l *lane, o *order, target int, reason Reason, look look) (freed int) {
	if target <= 0 || len(l.keys) == 0 {
		return 0
	}
	taken := l.take(o, target, look)
	// Where everybody goes, a risen score changes nobody's place.
	cut := math.MaxInt
	if len(l.left()) > 0 {
		cut = taken[len(taken)-1].score()
	}
	for _, k := range taken {
		p.victims = append(p.victims, victim{key: k, reason: reason, cut: cut})
		p.say(k.at, reason)
		p.outbound -= int(k.outbound)
		freed += int(k.conns)
	}
	return freed
}

// spareOutbound takes those out of a lane whose outbound connections are needed: in
// order, the first to go first, peers may go for as long as the floor is kept.
func (p *planner) spareOutbound(l *lane, o *order, look look) {
	if p.policy.OutboundFloor <= 0 {
		return
	}
	p.dialled.reset()
	inLane := 0
	for _, k := range l.keys {
		if k.outbound > 0 {
			p.dialled.add(k)
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

// addInbound and firstInbound make no plan, but find who may have to go for a newcomer:
// neither protected nor dialled by us, in grace or not. They take the places of add and
// finish; see displace.go.
func (p *planner) addInbound(f *peerFacts) {
	if !f.protected && f.outbound == 0 {
		p.established.add(makeKey(p.policy, f))
	}
}

// firstInbound returns the first to go, in order, with at least n connections if there
// are so many.
func (p *planner) firstInbound(n int, look look, id func(*key) NodeID) []key {
	return p.established.take(&order{tieKey: p.policy.TieKey, id: id}, n, look)
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

// resize returns s with length n, its contents unspecified. It lets go of memory
// that is far too much.
func resize[T any](s []T, n int) []T {
	if cap(s) < n || cap(s) > 4*n+1024 {
		return make([]T, n)
	}
	return s[:n]
}
