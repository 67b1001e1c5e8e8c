package connmgr

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// This file makes room for a newcomer at a full door: the lowest-ranked peer that is
// inbound and neither protected nor trusted goes if the newcomer ranks above it;
// otherwise the newcomer does. Grace shelters nobody here: if it did, a flood of
// newcomers would push out those who have been here for long. Nor can an inbound
// connection push out a peer that we dialled ourselves.
//
// A search for the lowest-ranked looks at every peer, and strangers decide how often
// one is needed. So it finds several at once, and searches may take a twentieth of
// the time, no more; until the next one is due, what the last one found has to do.

const (
	// roomBatch is how many a search finds.
	roomBatch = 64
	// roomShare is the part of the time that searches may take: one in roomShare.
	roomShare = 20
	// roomPatience is how long a newcomer waits for the next search.
	roomPatience = 250 * time.Millisecond
)

// room is the peers that may have to go for a newcomer.
type room struct {
	displaced atomic.Uint64

	// token is held by who searches. It is no lock: who waits for it gives up.
	token chan struct{}

	mu      sync.Mutex  // guards all following fields
	batch   []PeerState // the first to go first, as the last search found them
	next    int         // in batch
	at      time.Time   // when the batch was made
	soonest time.Time   // when the next search may begin
}

func newRoom() *room { return &room{token: make(chan struct{}, 1)} }

// makeRoom closes a peer that ranks below a newcomer and admits the newcomer, or
// returns why it can't.
func (g *Gater) makeRoom(peer NodeID, slot connSlot, most places, why Outcome) Outcome {
	searched := false
	// One that hangs takes a second. The newcomer does not wait for two of them.
	for start := time.Now(); time.Since(start) < closePatience*3/2; {
		n := g.m.newcomer(peer)
		candidate, answer := g.room.take(g.m.policy(), &n, searched)
		switch answer {
		case roomNone:
			return why
		case roomOutdated:
			if !g.room.search(g.m, true) {
				return why
			}
			searched = true
			// The search has asked the host; there may be a place.
			if why = g.m.table.admit(peer, slot, most); !why.isFull() {
				return why
			}
			continue
		case roomFound:
		}
		// Outbound and trusted connections are not refused, and limits can be lowered, so
		// it may take more than one to make room.
		needed := max(g.m.table.heads.all()-most.hard, g.m.table.heads.inbound()-most.inbound) + 1
		leavers := g.leavers(candidate, &n, needed)
		if len(leavers) == 0 {
			if searched || !g.room.search(g.m, true) {
				return why
			}
			searched = true
			continue
		}
		peers, _ := g.m.evict(TriggerNewcomer, leavers...)
		g.room.displaced.Add(uint64(peers))
		// Others may stand at the door, so the place of the first is handed over. If that
		// one hangs or fails, there may be room all the same.
		first := leavers[0]
		left := g.m.table.hasLeft(first.verdict.Peer, first.conns[0])
		if came := first.first.Load(); came == firstClosed || came == 0 && left {
			return g.m.table.takeOver(peer, slot, most)
		}
		if why = g.m.table.admit(peer, slot, most); !why.isFull() {
			return why
		}
	}
	return why
}

// leavers marks as many peers as closing as it takes to free a number of places, the
// candidate first, or none if there are not enough: nobody goes in vain. The place of the
// first is for the newcomer.
func (g *Gater) leavers(candidate PeerState, newcomer *PeerState, needed int) (leavers []*eviction) {
	freed := 0
	for answer := roomFound; answer == roomFound; candidate, answer = g.room.take(g.m.policy(), newcomer, true) {
		if e := g.evictWhole(&candidate, len(leavers) == 0); e != nil { // else it has changed meanwhile
			leavers = append(leavers, e)
			freed += len(e.conns)
		}
		if freed >= needed && freed > 0 {
			return leavers
		}
	}
	for i, e := range leavers {
		for j, c := range e.conns {
			if gone := g.m.table.endClose(e.verdict.Peer, c, errNotNeeded); gone && i == 0 && j == 0 {
				g.m.table.heads.remove(DirInbound) // it has left its place, and nobody takes it
			}
		}
	}
	return nil
}

var errNotNeeded = errors.New("connmgr: it does not have to go after all")

// newcomer returns what the rules look at in a peer that is about to connect.
func (m *Manager) newcomer(id NodeID) PeerState {
	now := m.table.now()
	s, rec := m.table.lock(id)
	defer s.mu.Unlock()
	state := PeerState{ID: id, Since: m.table.time(now), Conns: 1}
	if rec != nil {
		var f peerFacts
		m.table.factsLocked(s, rec, now, &f)
		state.TagSum, state.Protected = f.tagSum, rec.isProtected()
		state.Outbound = f.outbound // but one more connection is as young as any
	}
	return state
}

type roomAnswer uint8

const (
	roomFound roomAnswer = iota
	// roomNone means that nobody ranks below the newcomer.
	roomNone
	// roomOutdated means that it takes a search to know.
	roomOutdated
)

// take returns the first to go for a newcomer. What a search has just found is never
// outdated.
func (r *room) take(policy *Policy, newcomer *PeerState, searched bool) (PeerState, roomAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.batch == nil || !searched && !time.Now().Before(r.soonest) {
		return PeerState{}, roomOutdated
	}
	for r.next < len(r.batch) {
		candidate := r.batch[r.next]
		if !candidate.goesBefore(policy, newcomer) {
			return PeerState{}, roomNone
		}
		r.next++
		if candidate.ID != newcomer.ID {
			return candidate, roomFound
		}
	}
	if searched || len(r.batch) > 0 && !r.batch[len(r.batch)-1].goesBefore(policy, newcomer) {
		return PeerState{}, roomNone // those that the search did not find rank higher still
	}
	return PeerState{}, roomOutdated
}

// goesBefore reports whether a peer goes before a newcomer. Where only the hash of
// their IDs would tell, it does not: that would be no gain.
func (s *PeerState) goesBefore(policy *Policy, newcomer *PeerState) bool {
	if newcomer.Protected {
		return true
	}
	a, b := s.facts(newcomer.Since), newcomer.facts(newcomer.Since)
	scoreA, tieA, ageA := a.rank(policy)
	scoreB, tieB, ageB := b.rank(policy)
	return cmp.Or(cmp.Compare(scoreA, scoreB), cmp.Compare(tieA, tieB), cmp.Compare(ageA, ageB)) < 0
}

// search fills the batch, and reports whether that was done by the time it returns.
// It waits for its turn if it may, but not long.
func (r *room) search(m *Manager, mayWait bool) bool {
	r.mu.Lock()
	wait, made := time.Until(r.soonest), r.at
	r.mu.Unlock()
	patience := time.Duration(0)
	if mayWait {
		patience = closePatience
	}
	if wait > min(patience, roomPatience) || wait > 0 && !m.pause(wait) {
		return false
	}
	if !r.begin(patience) { // the host or a connection hangs
		return false
	}
	defer func() { <-r.token }()
	r.mu.Lock()
	newer := r.at.After(made)
	r.mu.Unlock()
	if newer { // somebody else has searched while we waited
		return true
	}

	begun := time.Now()
	batch := m.lowestInbound(roomBatch)
	ended := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batch, r.next, r.at = batch, 0, ended
	r.soonest = ended.Add(roomShare * ended.Sub(begun))
	return true
}

// begin takes the token, and reports whether it got it in time.
func (r *room) begin(patience time.Duration) bool {
	select {
	case r.token <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r.token <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// recount asks the host which connections there are, if there is a host and it has
// not been asked just now. A connection whose end nobody reported may be what fills
// the door.
func (r *room) recount(m *Manager) bool {
	return m.cfg.Host != nil && r.search(m, false)
}

// pause waits, and reports false if the manager is closed first.
func (m *Manager) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.stop:
		return false
	}
}

// lowestInbound returns the first to go of those who may go for a newcomer, in
// order; not nil.
func (m *Manager) lowestInbound(n int) []PeerState {
	_ = m.refresh() // logged and counted
	p := m.planner()
	defer m.putBack(p)
	lowest := make([]PeerState, 0, n)
	for wanted := n; ; wanted *= 8 { // all of those that were found may be trusted
		found := 0
		policy, now := m.policy(), m.cfg.Clock.Now()
		policy.GracePeriod = 0
		p.begin(policy, now, TriggerNewcomer)
		m.table.feed(p, m.table.instant(now), nil, m.table.open())
		for _, k := range p.firstInbound(wanted, m.look(&p.tally), m.table.idOf) {
			found += int(k.conns)
			if peer, ok := m.table.found(&k); ok && len(lowest) < n && !m.gater.trusts(peer.ID) {
				lowest = append(lowest, peer)
			}
		}
		if len(lowest) > 0 || found < wanted {
			return lowest
		}
	}
}

// found returns what the rules looked at in a peer of a plan, if it is still there.
func (r *registry) found(k *key) (p PeerState, ok bool) {
	now := r.now()
	s, rec := r.lockHandle(k.at)
	defer s.mu.Unlock()
	if rec == nil || rec.state != recordConnected {
		return p, false
	}
	p = r.peerStateLocked(s, rec, now)
	p.Streams = k.streams()
	return p, true
}

// evictWhole marks all connections of a peer as closing that is to make room, unless
// it is trusted or has changed since it was found; nil then. If it leaves, the place of
// its first connection is for the newcomer.
func (g *Gater) evictWhole(found *PeerState, leaves bool) *eviction {
	if g.trusts(found.ID) {
		return nil
	}
	r, policy := g.m.table, g.m.policy()
	now := r.now()
	s, rec := r.lock(found.ID)
	defer s.mu.Unlock()
	if rec == nil {
		return nil
	}
	state := r.peerStateLocked(s, rec, now)
	state.Streams = found.Streams
	if !state.Since.Equal(found.Since) || state.Protected || state.Outbound > 0 || policy.Score(&state) > policy.Score(found) {
		return nil
	}
	e := &eviction{
		verdict: Verdict{Peer: found.ID, Reason: ClosedDisplaced, Score: policy.Score(&state), Rank: 1},
		conns:   r.beginCloseLocked(s, rec, nil),
	}
	if len(e.conns) == 0 {
		return nil
	}
	if leaves {
		rec.slot(e.conns[0]).leave()
	}
	return e
}

// trusts reports whether an allow rule is about a peer, by ID or by the address of a
// connection that it has.
func (g *Gater) trusts(peer NodeID) bool {
	set, now := g.rules.Load(), g.moment()
	if set.count == 0 {
		return false
	}
	who := subject{peer: peer, hasPeer: true}
	if _, trusted := set.judge(&who, &now); trusted {
		return true
	}
	for _, slot := range g.m.table.heldSlots(peer) {
		who.addr = g.m.remoteAddr(slot.conn)
		if _, trusted := set.judge(&who, &now); trusted {
			return true
		}
	}
	return false
}
