package connmgr

import (
	"math"
	"time"
)

// This file says what becomes of a connection that a trim closes. It is marked,
// so that it is neither counted nor closed twice, until the host reports that it
// is gone, its Close returns an error, or too long has passed.

// closeRunning in connSlot.closing means that the connection's Close has not
// returned yet.
const closeRunning = math.MaxUint32

// closingPatience is how long a connection that closed without an error may take
// until its Disconnected comes. After that it counts as open again and can be
// closed once more. 30 s is far beyond what a live host takes.
const closingPatience = 30 * time.Second

func (slot *connSlot) closedAt() instant {
	return instant(slot.closing-1) * instant(time.Second)
}

// beginCloseLocked marks a peer's open connections as closing and returns them.
func (r *registry) beginCloseLocked(s *shard, rec *record) []Conn {
	var conns []Conn
	rec.eachConn(func(slot *connSlot) {
		if slot.closing == 0 {
			slot.closing = closeRunning
			s.counts.closing++
			r.conns.Add(-1)
			conns = append(conns, slot.conn)
		}
	})
	return conns
}

// endClose notes that a connection's Close has returned, and reports whether the
// connection is closed. After an error it counts as open, unless it has been
// reported as gone: many a Close reports trouble with its farewell, and closes.
func (r *registry) endClose(peer NodeID, conn Conn, err error) (closed bool) {
	now := r.now()
	s := r.lock(peer)
	defer s.mu.Unlock()
	rec := s.findLocked(peer)
	if rec == nil {
		return true
	}
	slot := rec.slot(conn)
	switch {
	case slot == nil:
		return true
	case slot.closing != closeRunning:
	case err == nil:
		slot.closing = uint32(now/instant(time.Second)) + 1
	default:
		r.reopenLocked(s, slot)
	}
	return err == nil
}

// reopenLocked lets a connection that was to close count again.
func (r *registry) reopenLocked(s *shard, slot *connSlot) {
	slot.closing = 0
	s.counts.closing--
	r.conns.Add(1)
}

// isOpenLocked reports whether a connection counts. One that was closed without
// an error, but not reported as gone for too long, counts again from now on.
func (r *registry) isOpenLocked(s *shard, slot *connSlot, now instant) bool {
	if slot.closing == 0 {
		return true
	}
	if slot.closing == closeRunning || now < slot.closedAt()+instant(closingPatience) {
		return false
	}
	r.reopenLocked(s, slot)
	return true
}
