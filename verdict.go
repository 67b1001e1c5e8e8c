package connmgr

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// This file holds what a plan says: a verdict with a reason for every peer, and
// the figures. Dry run, explanation, log, event and metric all render these.

// Reason says why a peer is kept or closed.
type Reason uint8

const (
	// NotConnected is a peer without an open connection, about which plans say
	// nothing. It is the zero value.
	NotConnected Reason = iota
	// KeptNothingToDo is a peer that could go, in a plan that needs nobody to.
	KeptNothingToDo
	// KeptAboveCut is a peer that could go but ranks too high to.
	KeptAboveCut
	// KeptInGrace is a peer that has not been connected for the grace period.
	KeptInGrace
	// KeptProtected is a peer that somebody protected.
	KeptProtected
	// KeptOutboundFloor is a peer that could go, but without whose outbound
	// connections there would be fewer than [Config.OutboundFloor].
	KeptOutboundFloor
	// ClosedLowScore is one of the lowest-ranked established peers.
	ClosedLowScore
	// ClosedHardLimit is a peer in its grace period that had to go since all
	// connections together exceeded the hard limit.
	ClosedHardLimit
	// ClosedForced is an unprotected peer closed by force (memory pressure).
	ClosedForced
	// ClosedForcedProtected is a protected peer closed by force, after all the
	// unprotected ones.
	ClosedForcedProtected
	// ClosedBlocked is a peer with connections that a rule denies; only those are
	// closed. Protection does not help against rules.
	ClosedBlocked
	// ClosedDisplaced is a peer that made room, at a limit of the gate, for a newcomer
	// that ranks higher.
	ClosedDisplaced
	// ClosedMisbehaved is a peer whose reported misbehaviour reached the ban ladder's
	// threshold to disconnect.
	ClosedMisbehaved
	// ClosedOnRequest is a peer that somebody asked to close, with [Manager.ClosePeer].
	ClosedOnRequest
)

var reasonTexts = [...]string{
	NotConnected:          "not connected",
	KeptNothingToDo:       "nothing to do",
	KeptAboveCut:          "above the cut",
	KeptInGrace:           "in grace",
	KeptProtected:         "protected",
	KeptOutboundFloor:     "outbound floor",
	ClosedLowScore:        "low score",
	ClosedHardLimit:       "hard limit",
	ClosedForced:          "forced",
	ClosedForcedProtected: "forced, though protected",
	ClosedBlocked:         "blocked",
	ClosedDisplaced:       "displaced",
	ClosedMisbehaved:      "misbehaved",
	ClosedOnRequest:       "on request",
}

// String returns the reason in a few words, without saying whether the peer is
// kept or closed; [Reason.Closed] says that.
func (r Reason) String() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r]
	}
	return fmt.Sprintf("Reason(%d)", r)
}

// Closed reports whether a peer with this reason is closed.
func (r Reason) Closed() bool { return r >= ClosedLowScore }

// Trigger says what made the manager plan, or close without a plan.
type Trigger uint8

const (
	// TriggerManual is a call of [Manager.TrimOpenConns] or [Manager.Trim].
	TriggerManual Trigger = iota
	// TriggerHighWater is a count above high water, noticed at a new connection, at
	// a change of limits, or when the silence period ended.
	TriggerHighWater
	// TriggerTick is the background tick, with the count above high water.
	TriggerTick
	// TriggerGrace is the end of a grace period that had kept an earlier trim
	// from its target.
	TriggerGrace
	// TriggerHardLimit is a count above the hard limit: if the normal rules do
	// not get it back to the limit, peers in grace go until high water is reached.
	TriggerHardLimit
	// TriggerForce is memory pressure or a call of [Manager.ForceTrim]: grace is
	// ignored, protected peers go after the unprotected ones.
	TriggerForce
	// TriggerNewcomer is a connection at a full door; see [GateLimits]. It is not for
	// plans of trims.
	TriggerNewcomer
	// TriggerRule is a rule that denies a live connection. There is no plan then.
	TriggerRule
	// TriggerReport is a report of misbehaviour. There is no plan then.
	TriggerReport
	// TriggerRequest is a call of [Manager.ClosePeer]. There is no plan then.
	TriggerRequest
)

var triggerTexts = [...]string{
	TriggerManual:    "manual",
	TriggerHighWater: "high water",
	TriggerTick:      "tick",
	TriggerGrace:     "grace ended",
	TriggerHardLimit: "hard limit",
	TriggerForce:     "force",
	TriggerNewcomer:  "newcomer",
	TriggerRule:      "rule",
	TriggerReport:    "report",
	TriggerRequest:   "request",
}

// String returns the trigger in one or two words.
func (t Trigger) String() string {
	if int(t) < len(triggerTexts) {
		return triggerTexts[t]
	}
	return fmt.Sprintf("Trigger(%d)", t)
}

// Trims reports whether a trim, and so a plan, can have the trigger. The others close
// without one.
func (t Trigger) Trims() bool {
	switch t {
	case TriggerManual, TriggerHighWater, TriggerTick, TriggerGrace, TriggerHardLimit, TriggerForce:
		return true
	case TriggerNewcomer, TriggerRule, TriggerReport, TriggerRequest:
		return false
	default:
		return false
	}
}

// strength orders the triggers by what they allow: a caller may be content with
// a running trim that is at least as strong as the one it wants.
func (t Trigger) strength() int {
	switch t {
	case TriggerForce:
		return 2
	case TriggerHardLimit:
		return 1
	case TriggerManual, TriggerHighWater, TriggerTick, TriggerGrace, TriggerNewcomer, TriggerRule, TriggerReport, TriggerRequest:
		return 0
	default:
		return 0
	}
}

// Cause says what kept a plan from its target; a plan can have several.
type Cause uint8

const (
	// CauseProtected means that protected connections stand in the way.
	CauseProtected Cause = 1 << iota
	// CauseGrace means that connections in their grace period do.
	CauseGrace
	// CauseOutbound means that outbound connections do, of which there must not be
	// fewer.
	CauseOutbound
)

// String returns "none", or "protected", "grace" and "outbound floor" joined by
// "and".
func (c Cause) String() string {
	if c >= CauseOutbound<<1 {
		return fmt.Sprintf("Cause(%d)", c)
	}
	var texts []string
	for i, text := range []string{"protected", "grace", "outbound floor"} {
		if c&(1<<i) != 0 {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, " and ")
}

// Verdict is what a plan says about one peer.
type Verdict struct {
	Peer   NodeID
	Reason Reason
	// Score is the tag sum with the bonuses, as it decided.
	Score int
	// Rank is the peer's place among those that are closed: 1 goes first. It is 0
	// for a peer that is kept.
	Rank int
	// Conns is the number of connections that the peer has.
	Conns int
}

// String says it in one line, such as "alice goes as number 3: low score, -5" or
// "bob stays: protected, 10".
func (v Verdict) String() string {
	switch {
	case v.Reason.Closed():
		return fmt.Sprintf("%v goes as number %d: %v, %d", v.Peer, v.Rank, v.Reason, v.Score)
	case v.Reason == NotConnected:
		return fmt.Sprintf("%v is not connected, %d", v.Peer, v.Score)
	default:
		return fmt.Sprintf("%v stays: %v, %d", v.Peer, v.Reason, v.Score)
	}
}

// Figures are a plan's sums. All count connections, not peers.
type Figures struct {
	// Total is all connections in the snapshot.
	Total int
	// Protected is those of protected peers, in grace or not.
	Protected int
	// InGrace is those of unprotected peers in their grace period; 0 in a forced
	// plan, to which grace means nothing.
	InGrace int
	// Counted is those that count against low water under the policy's budget.
	Counted int
	// Target is how many of the counted ones were to go; 0 if there are no more
	// than low water.
	Target int
	// Freed is how many the plan closes. It exceeds what was wanted by less than
	// the connections of the last peer closed.
	Freed int
	// Shortfall is how many connections more the plan would have closed had it
	// been allowed to, and Cause says by what it was not: the target that it
	// missed, or what it leaves above high water, whichever is more.
	Shortfall int
	// Cause is what the shortfall is due to; 0 if there is none.
	Cause Cause
}

// Plan is the outcome of [PlanTrim]: exactly one verdict for each peer of the
// snapshot, and the figures. It shares the snapshot's memory, which must not be
// changed while the plan is in use. A plan can be read from several goroutines.
type Plan struct {
	Figures
	// Trigger is what the plan was made for.
	Trigger Trigger
	// At is the time it was made for.
	At time.Time
	// GraceEnds is when the first of the unprotected peers in grace that the plan
	// keeps leaves its grace period; zero if there is none.
	GraceEnds time.Time

	policy  Policy
	victims []victims // in closing order
	// peers is the snapshot, with a reason for each. A trim's plan has none.
	peers   Snapshot
	reasons []Reason
}

// Peers returns the number of peers in the plan.
func (p Plan) Peers() int { return len(p.peers) }

// Closes returns the number of peers that the plan closes.
func (p Plan) Closes() (n int) {
	for _, v := range p.victims {
		n += len(v.keys)
	}
	return n
}

// Closed yields the verdicts of the peers that go, the first to go first.
func (p Plan) Closed() iter.Seq[Verdict] {
	return func(yield func(Verdict) bool) {
		rank := 0
		for _, v := range p.victims {
			for i := range v.keys {
				if rank++; !yield(p.verdict(int(v.keys[i].at), rank)) {
					return
				}
			}
		}
	}
}

// Verdicts yields the verdict of every peer: those that go in the order of
// their going, then those that stay in the order of the snapshot.
func (p Plan) Verdicts() iter.Seq[Verdict] {
	return func(yield func(Verdict) bool) {
		for _, v := range p.All() {
			if !yield(v) {
				return
			}
		}
	}
}

// Policy returns the policy that the plan was made with.
func (p Plan) Policy() Policy { return p.policy }

// All yields every peer of the snapshot as the rules saw it, with its verdict, in the
// order of [Plan.Verdicts].
func (p Plan) All() iter.Seq2[PeerState, Verdict] {
	return func(yield func(PeerState, Verdict) bool) {
		rank := 0
		for _, v := range p.victims {
			for i := range v.keys {
				at := int(v.keys[i].at)
				if rank++; !yield(p.peers[at], p.verdict(at, rank)) {
					return
				}
			}
		}
		for i, r := range p.reasons {
			if !r.Closed() && !yield(p.peers[i], p.verdict(i, 0)) {
				return
			}
		}
	}
}

// Verdict returns the verdict of one peer. It takes time linear in the number
// of peers.
func (p Plan) Verdict(id NodeID) (Verdict, bool) {
	_, v, ok := p.find(id)
	return v, ok
}

// find returns what the rules looked at in a peer, and its verdict.
func (p Plan) find(id NodeID) (s *PeerState, v Verdict, ok bool) {
	i := slices.IndexFunc(p.peers, func(s PeerState) bool { return s.ID == id })
	if i < 0 {
		return nil, Verdict{}, false
	}
	if p.reasons[i].Closed() {
		for v := range p.Closed() {
			if v.Peer == id {
				return &p.peers[i], v, true
			}
		}
	}
	return &p.peers[i], p.verdict(i, 0), true
}

func (p Plan) verdict(i, rank int) Verdict {
	s := &p.peers[i]
	return Verdict{Peer: s.ID, Reason: p.reasons[i], Score: p.policy.Score(s), Rank: rank, Conns: int(s.Conns)}
}
