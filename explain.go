package connmgr

import (
	"slices"
	"time"
)

// This file answers questions: what would a trim do now, why, and what is known
// about a peer. Answers cost more than trims; they ask every connection.

// DryRun returns the plan that a trim with the given trigger would carry out
// now. It closes nothing, and asks every connection for its streams.
func (m *Manager) DryRun(trigger Trigger) Plan {
	if !m.closed.Load() {
		_ = m.askHost() // logged and counted
	}
	return PlanTrim(*m.policy(), m.snapshot(), m.cfg.Clock.Now(), trigger)
}

// Explanation says what the manager knows about a peer and what a trim would do
// with it.
type Explanation struct {
	// Verdict is the peer's verdict in Plan. Its Reason is NotConnected if the peer
	// has no open connection. (Why a peer was closed is told by EventClosed.)
	Verdict Verdict
	// TagSum, OutboundBonus and ActiveBonus add up to the verdict's score (which
	// saturates).
	TagSum, OutboundBonus, ActiveBonus int
	// Info is the peer's tags, protections and connections.
	Info PeerInfo
	// Plan is the dry run that the verdict is from.
	Plan Plan
}

// Explain says what a trim with the given trigger would do now with a peer, and
// why. It reports false for a peer that the manager does not know.
func (m *Manager) Explain(peer NodeID, trigger Trigger) (Explanation, bool) {
	plan := m.DryRun(trigger)
	info, known := m.PeerInfo(peer)
	if !known {
		return Explanation{}, false
	}
	e := Explanation{Info: info, TagSum: info.Value, Plan: plan}
	state, verdict, connected := plan.find(peer)
	if !connected {
		e.Verdict = Verdict{Peer: peer, Score: info.Value}
		return e, true
	}
	e.Verdict, e.TagSum = verdict, state.TagSum
	if state.Outbound > 0 {
		e.OutboundBonus = plan.policy.OutboundBonus
	}
	if state.Streams > 0 {
		e.ActiveBonus = plan.policy.ActiveBonus
	}
	return e, true
}

// PeerInfo is what the manager knows about a peer.
type PeerInfo struct {
	// FirstSeen is when the peer connected, or if it is not connected, since when
	// it is remembered.
	FirstSeen time.Time
	// Value is the sum of its tags, decaying ones included. It saturates.
	Value int
	// Tags is the value of each tag. A decaying tag of the same name as another
	// one is added to it.
	Tags map[string]int
	// Protections is the tags under which it is protected, in order.
	Protections []string
	// Conns is its connections, those included that are being closed, the oldest
	// first.
	Conns []ConnInfo
}

// ConnInfo is what the manager knows about a connection.
type ConnInfo struct {
	Conn      Conn
	Direction Direction
	// Opened is when the manager learned of it, or with a Host, when it was opened.
	Opened time.Time
	// Arriving says that it has passed the gate and is not reported as connected yet.
	Arriving bool
	// Closing says that the manager has closed it and it is not reported as gone yet.
	Closing bool
}

// PeerInfo returns what the manager knows about a peer. It reports false for a
// peer that it does not remember: one that has neither a connection nor a tag nor
// a protection. (One whose last tag decayed is remembered until the next
// background tick or trim.)
func (m *Manager) PeerInfo(peer NodeID) (PeerInfo, bool) {
	r := m.table
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec == nil {
		return PeerInfo{}, false
	}
	info := PeerInfo{FirstSeen: r.time(rec.since), Value: rec.sum, Tags: make(map[string]int)}
	for name, value := range rec.tags.all() {
		info.Tags[name] = value
	}
	if rec.rare != nil {
		for _, e := range rec.rare.decaying {
			info.Tags[e.tag.name] = addSaturating(info.Tags[e.tag.name], e.value)
		}
		for _, p := range rec.rare.protections {
			info.Protections = append(info.Protections, p.Value())
		}
		slices.Sort(info.Protections)
	}
	rec.eachConn(func(slot *connSlot) {
		info.Conns = append(info.Conns, ConnInfo{
			Conn:      slot.conn,
			Direction: slot.direction,
			Opened:    r.time(slot.opened),
			Arriving:  slot.phase == phaseArriving,
			Closing:   slot.isClosing(),
		})
	})
	slices.SortStableFunc(info.Conns, func(a, b ConnInfo) int { return a.Opened.Compare(b.Opened) })
	return info, true
}
