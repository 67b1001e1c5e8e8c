package reference

import (
	"math"
	"math/big"
	"slices"
	"sort"
	"time"
)

// This file is the rules of planning, sentence by sentence.
//
// Source: design, section 5 (planning is pure), rules 1 to 6 and the triggers
// hard limit and force; section 3 for the score. What a shortfall is when grace
// is the cause, the design leaves open; here it is as the manager documents it.

// Rules is what the rules depend on.
type Rules struct {
	LowWater, HighWater, HardLimit int
	GracePeriod                    time.Duration
	OutboundBonus, ActiveBonus     int
	// OutboundFloor is the number of outbound connections that have to stay.
	OutboundFloor int
	// LeaveOutProtected is the budget that does not count protected connections.
	LeaveOutProtected bool
	// Hash is the keyed hash of an ID.
	Hash func(id string) uint64
}

// Peer is a connected peer.
type Peer struct {
	ID                           string
	Since                        time.Time
	TagSum, Connections, Streams int
	Outbound                     int // of the connections
	Protected, Trusted           bool
}

// Trigger is what the plan is for, as far as the rules care.
type Trigger int

// The triggers.
const (
	Normal Trigger = iota
	HardLimit
	Force
)

// Why is the reason for a verdict.
type Why string

// The reasons.
const (
	NothingToDo     Why = "kept: nothing to do"
	AboveTheCut     Why = "kept: above the cut"
	InGrace         Why = "kept: in grace"
	Protected       Why = "kept: protected"
	OutboundFloor   Why = "kept: outbound floor"
	LowScore        Why = "closed: low score"
	OverHardLimit   Why = "closed: hard limit"
	Forced          Why = "closed: forced"
	ForcedProtected Why = "closed: forced, though protected"
)

// Outcome is the plan. All numbers but scores are connections.
type Outcome struct {
	// Closed is the peers that go, the first to go first.
	Closed []string
	// Why has every peer.
	Why map[string]Why
	// Score has every peer.
	Score map[string]int

	Total, Protected, InGrace int
	Counted, Target, Freed    int
	Shortfall                 int
	ProtectedInTheWay         bool
	GraceInTheWay             bool
	OutboundInTheWay          bool
	// GraceEnds is when the first of the unprotected peers that are kept in their
	// grace leaves it; zero if there is none.
	GraceEnds time.Time
}

// Plan applies the rules.
func (r Rules) Plan(peers []Peer, now time.Time, trigger Trigger) Outcome {
	out := Outcome{Why: map[string]Why{}, Score: map[string]int{}}
	for _, p := range peers {
		out.Score[p.ID] = r.score(p)
		out.Total += p.Connections
		if p.Protected {
			out.Protected += p.Connections
		}
	}

	// "Established: connected longer ago than the grace period." For force,
	// "grace is ignored".
	established := func(p Peer) bool {
		return trigger == Force || r.GracePeriod == 0 || !p.Since.Add(r.GracePeriod).After(now)
	}
	// "then protected": for force, all count, or low water could not be reached.
	leftOut := func(p Peer) bool {
		return p.Protected && r.LeaveOutProtected && trigger != Force
	}

	// 1. "Peers in their grace period are neither counted nor closed."
	// 2. "Counted = all other connections, protected ones included. Budget:
	// Trimmable leaves protected ones out."
	for _, p := range peers {
		if established(p) && !leftOut(p) {
			out.Counted += p.Connections
		}
		if !established(p) && !p.Protected {
			out.InGrace += p.Connections
		}
	}

	// 3. "Target = counted - low water; nothing to do at or below zero."
	if out.Counted > r.LowWater {
		out.Target = out.Counted - r.LowWater
	}

	// 4. "Candidates = established, unprotected." The others have their verdict;
	// a candidate's is provisional.
	var candidates, newcomers, protected []Peer
	for _, p := range peers {
		switch {
		case p.Protected:
			protected = append(protected, p)
			out.Why[p.ID] = Protected
		case !established(p):
			newcomers = append(newcomers, p)
			out.Why[p.ID] = InGrace
		default:
			candidates = append(candidates, p)
			out.Why[p.ID] = NothingToDo
			if out.Target > 0 {
				out.Why[p.ID] = AboveTheCut
			}
		}
	}

	// 5. "Order, first to go first."
	// 6. "Take peers until the target is freed."
	// "An outbound floor that trims respect": outbound connections of whomever count,
	// those that would go below it stay, and force knows no floor.
	outbound := 0
	for _, p := range peers {
		outbound += p.Outbound
	}
	take := func(from []Peer, target int, why Why) (freed int) {
		r.sort(from, &out)
		if r.OutboundFloor > 0 && trigger != Force && target > 0 {
			left := outbound
			from = slices.DeleteFunc(slices.Clone(from), func(p Peer) bool {
				if p.Outbound > 0 && left-p.Outbound < r.OutboundFloor {
					out.Why[p.ID] = OutboundFloor
					return true
				}
				left -= p.Outbound
				return false
			})
		}
		for _, p := range from {
			if freed >= target {
				break
			}
			outbound -= p.Outbound
			freed += p.Connections
			out.Closed = append(out.Closed, p.ID)
			out.Why[p.ID] = why
		}
		out.Freed += freed
		return freed
	}
	why := LowScore
	if trigger == Force {
		why = Forced
	}
	freedOfTarget := take(candidates, out.Target, why)

	// "Trigger hard limit: after the normal rules, if the total still exceeds the
	// hard limit, in-grace unprotected peers go by the same order until the total
	// is at high water."
	if left := out.Total - out.Freed; trigger == HardLimit && left > r.HardLimit {
		// "An allow rule also exempts from the limits."
		untrusted := slices.DeleteFunc(slices.Clone(newcomers), func(p Peer) bool { return p.Trusted })
		take(untrusted, left-r.HighWater, OverHardLimit)
	}
	// "Trigger force: unprotected first, then protected, until low water is
	// reached."
	if trigger == Force {
		freedOfTarget += take(protected, out.Target-freedOfTarget, ForcedProtected)
	}

	for _, p := range newcomers {
		end := p.Since.Add(r.GracePeriod)
		if out.Why[p.ID] == InGrace && (out.GraceEnds.IsZero() || end.Before(out.GraceEnds)) {
			out.GraceEnds = end
		}
	}
	r.explainShortfall(peers, &out, freedOfTarget, func(p Peer) bool { return established(p) && !leftOut(p) })
	return out
}

// explainShortfall: "If candidates run out, the plan says by how much and why."
// Candidates run out of counted connections, whatever went in grace. Besides, a
// plan that leaves more than high water says what kept it from that.
func (r Rules) explainShortfall(peers []Peer, out *Outcome, freedOfTarget int, counted func(Peer) bool) {
	ranOutBy := out.Target - freedOfTarget
	aboveHigh := out.Total - out.Freed - r.HighWater
	for _, p := range peers {
		if ranOutBy > 0 && p.Protected && counted(p) {
			out.ProtectedInTheWay = true
		}
		if (ranOutBy > 0 || aboveHigh > 0) && out.Why[p.ID] == OutboundFloor {
			out.OutboundInTheWay = true
		}
	}
	if ranOutBy > 0 {
		out.Shortfall = ranOutBy
	}
	if aboveHigh <= 0 {
		return
	}
	out.Shortfall = max(out.Shortfall, aboveHigh)
	for _, p := range peers {
		if out.Why[p.ID] == InGrace {
			out.GraceInTheWay = true
		}
		if out.Why[p.ID] == Protected && !counted(p) {
			out.ProtectedInTheWay = true
		}
	}
}

// sort is rule 5: "lower score · no open streams · inbound · fewer streams ·
// younger · keyed hash of the ID."
func (r Rules) sort(peers []Peer, out *Outcome) {
	sort.SliceStable(peers, func(i, j int) bool {
		a, b := peers[i], peers[j]
		if x, y := out.Score[a.ID], out.Score[b.ID]; x != y {
			return x < y
		}
		if x, y := a.Streams > 0, b.Streams > 0; x != y {
			return !x
		}
		if x, y := a.Outbound > 0, b.Outbound > 0; x != y {
			return !x
		}
		if a.Streams != b.Streams {
			return a.Streams < b.Streams
		}
		if !a.Since.Equal(b.Since) {
			return a.Since.After(b.Since)
		}
		if x, y := r.Hash(a.ID), r.Hash(b.ID); x != y {
			return x < y
		}
		return a.ID < b.ID
	})
}

// score: "sum of the peer's tag values, plus OutboundBonus if it has an outbound
// connection, plus ActiveBonus if it has an open stream." It saturates.
func (r Rules) score(p Peer) int {
	score := big.NewInt(int64(p.TagSum))
	if p.Outbound > 0 {
		score.Add(score, big.NewInt(int64(r.OutboundBonus)))
	}
	if p.Streams > 0 {
		score.Add(score, big.NewInt(int64(r.ActiveBonus)))
	}
	switch {
	case score.Cmp(big.NewInt(math.MaxInt)) > 0:
		return math.MaxInt
	case score.Cmp(big.NewInt(math.MinInt)) < 0:
		return math.MinInt
	default:
		return int(score.Int64())
	}
}
