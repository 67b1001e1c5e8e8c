package connmgr

import (
	"math"
	"time"
)

// This file takes peers into a plan, one by one: those rules that look at a peer alone.

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

const nobodyInGrace = math.MinInt64

// reset begins a tally of about so many candidates before the bound; those behind it are
// left out.
func (t *tally) reset(policy *Policy, trigger Trigger, bound *key, candidates int) {
	t.policy, t.trigger = policy, trigger
	t.figures, t.oldestInGrace, t.outbound = Figures{}, nobodyInGrace, 0
	t.established.reset(bound, candidates)
	t.inGrace.reset(nil, 0)
	t.protected.reset(nil, 0)
	t.reasons, t.conns = t.reasons[:0], emptied(t.conns, candidates)
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
