package connmgr

import (
	"math"
	"time"
)

// This file says in what phase of its life a connection in the table is. Most are
// open. One that has passed the gate but has not been reported as connected is
// arriving: it has its place, but is neither planned for nor closed. One that is
// being closed is marked, so that it is neither counted nor closed twice; when its
// Close has returned its place is free, or a newcomer's for whom it left, but it stays
// marked until the host reports that it is gone, or too long has passed. If the Close
// failed it is open again.
//
// registry.heads counts those that are arriving, open or closing, registry.away those
// that are arriving or closing.

// The values of connSlot.phase. Others are when a Close returned, in seconds since
// the registry was made, counted from 1.
const (
	phaseOpen = 0
	// phaseLeaving is phaseClosing for a connection whose place is for a newcomer.
	phaseLeaving  = math.MaxUint32 - 2
	phaseArriving = math.MaxUint32 - 1
	// phaseClosing means that the connection's Close has not returned yet.
	phaseClosing = math.MaxUint32
)

// closingPatience is how long a connection that closed without an error may take
// until its Disconnected comes. After that it counts as open again and can be
// closed once more. 30 s is far beyond what a live host takes.
const closingPatience = 30 * time.Second

// arrivingPatience is how long a connection may take from the gate until its
// Connected comes. A live host takes microseconds; one that gave the connection up
// in between says nothing at all.
const arrivingPatience = 30 * time.Second

func (slot *connSlot) closedAt() instant {
	return instant(slot.phase-1) * instant(time.Second)
}

func (slot *connSlot) isClosing() bool {
	return slot.phase != phaseOpen && slot.phase != phaseArriving
}

// hasPlace reports whether the connection is one of registry.heads.
func (slot *connSlot) hasPlace() bool {
	return slot.phase == phaseOpen || slot.phase >= phaseLeaving
}

// markClosingLocked marks a connection as closing, and reports whether it was open.
func (r *registry) markClosingLocked(s *shard, slot *connSlot) bool {
	if slot.phase != phaseOpen {
		return false
	}
	slot.phase = phaseClosing
	s.counts.closing++
	r.away.addTo(s.number, 1)
	return true
}

// beginCloseLocked marks a peer's open connections as closing and returns them behind
// those in conns.
func (r *registry) beginCloseLocked(s *shard, rec *record, conns []Conn) []Conn {
	rec.eachConn(func(slot *connSlot) {
		if r.markClosingLocked(s, slot) {
			conns = append(conns, slot.conn)
		}
	})
	return conns
}

// leave marks a connection that is being closed as one whose place is for a newcomer.
func (slot *connSlot) leave() { slot.phase = phaseLeaving }

// hasLeft reports whether a connection that was marked as leaving has left its place.
// If it hangs, it keeps it from now on until it is closed.
func (r *registry) hasLeft(peer NodeID, conn Conn) bool {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec == nil {
		return true
	}
	slot := rec.slot(conn)
	switch {
	case slot == nil:
		return true
	case slot.phase == phaseLeaving:
		slot.phase = phaseClosing
	}
	return slot.phase != phaseOpen && slot.phase < phaseLeaving
}

// endCloseLocked notes that a connection's Close has returned, and reports whether the
// connection is closed. After an error it counts as open, unless it has been
// reported as gone: many a Close reports trouble with its farewell, and closes. A nil
// record is that of a peer that has left.
func (r *registry) endCloseLocked(s *shard, rec *record, conn Conn, err error, now instant) (closed bool) {
	if rec == nil {
		return true
	}
	slot := rec.slot(conn)
	switch {
	case slot == nil:
		return true
	case slot.phase < phaseLeaving || slot.phase == phaseArriving:
	case err == nil:
		if slot.phase == phaseClosing {
			r.heads.remove(slot.direction)
		}
		slot.phase = uint32(now/instant(time.Second)) + 1
		r.away.addTo(s.number, -1)
	default:
		r.reopenLocked(s, slot)
	}
	return err == nil
}

// endClose is endCloseLocked for somebody who knows the peer.
func (r *registry) endClose(peer NodeID, conn Conn, err error) (closed bool) {
	return r.endCloseThen(peer, conn, err, func(bool) {})
}

// endCloseThen tells note of the outcome before anybody else can look at the
// connection.
func (r *registry) endCloseThen(peer NodeID, conn Conn, err error, note func(closed bool)) (closed bool) {
	now := r.now()
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	closed = r.endCloseLocked(s, rec, conn, err, now)
	note(closed)
	return closed
}

// endCloseAt is endCloseLocked for a trim.
func (r *registry) endCloseAt(at handle, conn Conn, err error, now instant) (closed bool) {
	s, rec := r.lockHandle(at)
	defer s.mu.Unlock()
	return r.endCloseLocked(s, rec, conn, err, now)
}

// reopenLocked lets a connection that was to close count again.
func (r *registry) reopenLocked(s *shard, slot *connSlot) {
	if slot.phase >= phaseLeaving {
		r.away.addTo(s.number, -1)
	} else {
		r.heads.add(slot.direction)
	}
	slot.phase = phaseOpen
	s.counts.closing--
}

// isOpenLocked reports whether a connection counts. One that was closed without
// an error, but not reported as gone for too long, counts again from now on.
func (r *registry) isOpenLocked(s *shard, slot *connSlot, now instant) bool {
	if slot.phase == phaseOpen {
		return true
	}
	if slot.phase >= phaseLeaving || now < slot.closedAt()+instant(closingPatience) {
		return false
	}
	r.reopenLocked(s, slot)
	return true
}
