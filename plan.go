package connmgr

import (
	"math"
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
	p.begin(policy, now, trigger)
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

// peerFacts is what the rules look at in a peer, as the planner gets it: without an ID,
// which only decides when nothing else does.
type peerFacts struct {
	// at is where the peer is in the table, or for a snapshot, its place in there.
	at                       handle
	age                      time.Duration
	tagSum                   int
	conns, outbound, streams int32
	protected, trusted       bool
	// conn is the first of its open connections; nil for a snapshot.
	conn Conn
}

func (s *PeerState) facts(now time.Time) peerFacts {
	return peerFacts{
		age: now.Sub(s.Since), tagSum: s.TagSum, conns: s.Conns, outbound: s.Outbound, streams: s.Streams,
		protected: s.Protected, trusted: s.Trusted,
	}
}

// tally is what a plan makes of each peer alone, before it compares them. Tallies of
// parts of a crowd can be made at the same time, and joined.
type tally struct {
	policy  *Policy
	trigger Trigger
	figures Figures
	// oldestInGrace is the age of the oldest peer in grace that stays, nobodyInGrace if
	// there is none. It is below zero for one from the future.
	oldestInGrace time.Duration
	// outbound is the outbound connections of those who stay.
	outbound                        int
	established, inGrace, protected lane
	// conns is the first connection of each candidate, for a trim: see key.conn.
	conns []Conn
	// reasons says why each peer of a snapshot stays or goes. A trim, which need not
	// tell those that stay, does without.
	reasons []Reason
}

// planner makes plans: begin, add each peer, finish. It takes peers one by one so that
// a trim need not copy the table for it. It keeps its working memory from one plan to
// the next, so a plan is valid until the same planner makes another.
type planner struct {
	tally
	now     time.Time
	parts   []*tally // see feed
	sample  tally    // likewise
	dialled lane     // see spareOutbound
	// spared says that somebody stays for its outbound connections.
	spared  bool
	victims []victims // in closing order
}

const nobodyInGrace = math.MinInt64

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

// begin begins a plan.
func (p *planner) begin(policy *Policy, now time.Time, trigger Trigger) {
	p.now, p.spared, p.victims = now, false, p.victims[:0]
	p.reset(policy, trigger, nil, 0)
}

// reset begins a tally of about so many candidates before the bound; those behind it are
// left out.
func (t *tally) reset(policy *Policy, trigger Trigger, bound *key, candidates int) {
	t.policy, t.trigger = policy, trigger
	t.figures, t.oldestInGrace, t.outbound = Figures{}, nobodyInGrace, 0
	t.established.reset(bound, candidates)
	t.inGrace.reset(nil, 0)
	t.protected.reset(nil, 0)
	t.reasons, t.conns = t.reasons[:0], slices.Grow(t.conns[:0], candidates)
}

// release lets go of connections, so that those gone can be collected.
func (p *planner) release() {
	for _, t := range append(p.parts, &p.tally, &p.sample) {
		clear(t.conns[:cap(t.conns)])
	}
}

// join adds the tally of another part of the crowd.
func (t *tally) join(other *tally) {
	t.figures.Total += other.figures.Total
	t.figures.Protected += other.figures.Protected
	t.figures.InGrace += other.figures.InGrace
	t.figures.Counted += other.figures.Counted
	t.oldestInGrace = max(t.oldestInGrace, other.oldestInGrace)
	t.outbound += other.outbound
	for _, lanes := range [][2]*lane{{&t.established, &other.established}, {&t.inGrace, &other.inGrace}, {&t.protected, &other.protected}} {
		lanes[0].join(lanes[1], int32(len(t.conns)))
	}
	t.conns = append(t.conns, other.conns...)
}

// boundAfter returns behind whom a sample of a crowd has so many connections, and some to
// be on the safe side, and how many peers it takes to find out; nil and all of them if it
// does not have so many.
func (p *planner) boundAfter(conns int, look look) (bound *key, peers int) {
	// How many a sample has of those that are meant varies by the root of their number.
	conns += 4*int(math.Sqrt(float64(conns))) + 8
	l := &p.sample.established
	if l.conns <= conns {
		return nil, len(l.keys)
	}
	taken := l.take(&order{}, conns, look)
	return &taken[len(taken)-1], l.asked
}

// say notes the reason for a peer of a snapshot.
func (t *tally) say(at handle, why Reason) {
	if len(t.reasons) > 0 {
		t.reasons[at] = why
	}
}

// add takes a peer into the plan.
func (t *tally) add(f *peerFacts) {
	conns := int(f.conns)
	force := t.trigger == TriggerForce
	t.figures.Total += conns
	t.outbound += int(f.outbound)
	// Rule 1: peers in their grace period are neither counted nor closed.
	// Rule 4: candidates are those established and unprotected.
	switch inGrace := t.policy.GracePeriod > 0 && f.age < t.policy.GracePeriod && !force; {
	case f.protected:
		t.figures.Protected += conns
		t.say(f.at, KeptProtected)
		// Rule 2: protected connections count, unless the budget leaves them out.
		// By force protected peers go as well, so then they always count.
		if !inGrace && (t.policy.Budget == BudgetAll || force) {
			t.figures.Counted += conns
		}
		if force {
			t.keep(&t.protected, f)
		}
	case inGrace:
		t.figures.InGrace += conns
		t.say(f.at, KeptInGrace)
		if t.trigger == TriggerHardLimit && !f.trusted {
			t.keep(&t.inGrace, f)
		} else {
			t.oldestInGrace = max(t.oldestInGrace, f.age)
		}
	default:
		t.figures.Counted += conns
		t.say(f.at, KeptNothingToDo)
		t.keep(&t.established, f)
	}
}

// keep makes a peer a candidate.
func (t *tally) keep(l *lane, f *peerFacts) {
	if l.add(t.policy, f, int32(len(t.conns))) && f.conn != nil {
		t.conns = append(t.conns, f.conn)
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

// resize returns s with length n, its contents unspecified. It lets go of memory
// that is far too much.
func resize[T any](s []T, n int) []T {
	if cap(s) < n || cap(s) > 4*n+1024 {
		return make([]T, n)
	}
	return s[:n]
}
