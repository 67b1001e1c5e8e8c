package connmgr

import "fmt"

// This file keeps the table's connections: notifications add and remove them,
// and a Host, if there is one, corrects them.

// Connected tells the manager of a new connection to a peer. It returns at once:
// a trim that it sets off runs in the background. The peer is given beside the
// connection since the caller has it at hand; it must be conn.RemotePeer().
//
// A connection that the manager knows already, a nil one, and one told after
// Close are ignored and counted in [Stats].
func (m *Manager) Connected(peer NodeID, conn Conn) {
	if m.ignore(conn) {
		return
	}
	slot := connSlot{conn: conn, direction: directionOf(conn.Stat()), opened: m.table.now()}
	if !m.connect(peer, slot) {
		m.ignored.duplicate.Add(1)
		return
	}
	if m.table.openAbove(m.limits.Load().HighWater) {
		m.wake()
	}
}

// Disconnected tells the manager that a connection is gone. A connection that
// the manager does not know, a nil one, and one told after Close are ignored and
// counted in [Stats].
func (m *Manager) Disconnected(peer NodeID, conn Conn) {
	if m.ignore(conn) {
		return
	}
	if !m.disconnect(peer, conn) {
		m.ignored.unknown.Add(1)
	}
}

// connect adds a connection, tells subscribers, and reports whether it is new.
func (m *Manager) connect(peer NodeID, slot connSlot) bool {
	if !m.table.connect(peer, slot) {
		return false
	}
	m.events.publish(func() Event {
		return EventConnected{Peer: peer, Direction: slot.direction, Addr: m.remoteAddr(slot.conn), At: m.cfg.Clock.Now()}
	})
	m.gater.closeIfDenied(peer, slot.conn, slot.direction)
	return true
}

// disconnect removes a connection, tells subscribers, and reports whether it was
// there.
func (m *Manager) disconnect(peer NodeID, conn Conn) bool {
	known, reported := m.table.disconnect(peer, conn)
	if !known {
		return false
	}
	m.gater.door.leave(conn)
	if !reported {
		return true // nobody was told of it
	}
	m.events.publish(func() Event { return EventDisconnected{Peer: peer, At: m.cfg.Clock.Now()} })
	return true
}

// ignore reports whether a notification is to be ignored, and counts it then.
func (m *Manager) ignore(conn Conn) bool {
	switch {
	case conn == nil:
		m.ignored.null.Add(1)
	case m.closed.Load():
		m.ignored.late.Add(1)
	default:
		mustCompare(conn)
		return false
	}
	return true
}

// mustCompare panics if a connection cannot be compared: here, not under a lock.
func mustCompare(conn Conn) { _ = equal(conn, conn) }

// equal is not inlined since the compiler knows that a value is equal to itself.
//
//go:noinline
func equal(a, b Conn) bool { return a == b }

func directionOf(stat ConnStat) Direction {
	if stat.Direction > DirOutbound {
		return DirUnknown
	}
	return stat.Direction
}

// connect adds a connection to the table and reports whether it is new.
func (r *registry) connect(peer NodeID, slot connSlot) bool {
	s, hash, rec := r.lockPlace(peer)
	defer s.mu.Unlock()
	if rec == nil {
		rec = s.createLocked(peer, hash)
	}
	if rec.state == recordConnected {
		if known := rec.slot(slot.conn); known != nil {
			return r.arriveLocked(s, known, slot.opened)
		}
	}
	r.insertLocked(s, rec, slot)
	r.heads.add(slot.direction)
	return true
}

// insertLocked gives a peer a connection that it does not have. The caller counts
// its head.
func (r *registry) insertLocked(s *shard, rec *record, slot connSlot) {
	if rec.state == recordConnected {
		more := &rec.needRare().conns
		*more = append(*more, slot)
	} else {
		if rec.state == recordIdle {
			r.unidleLocked(s, rec)
		}
		rec.state, rec.since, rec.connectedOnce = recordConnected, slot.opened, true
		rec.conn = slot
		s.counts.peers++
	}
	s.counts.conns[slot.direction]++
}

// arriveLocked notes that a connection that the gate has let in is there, and
// reports whether that is news. From now on the host has to know it.
func (r *registry) arriveLocked(s *shard, slot *connSlot, now instant) bool {
	if slot.phase != phaseArriving {
		return false
	}
	slot.phase, slot.opened = phaseOpen, now
	s.counts.arriving--
	r.away.addTo(s.number, -1)
	return true
}

// disconnect removes a connection from the table, and reports whether it was there,
// and whether it had been reported: one that was arriving had not.
func (r *registry) disconnect(peer NodeID, conn Conn) (known, reported bool) {
	return r.disconnectIf(peer, conn, func(*connSlot) bool { return true })
}

// disconnectIf removes a connection if may says so, which is called under the lock.
func (r *registry) disconnectIf(peer NodeID, conn Conn, may func(*connSlot) bool) (known, reported bool) {
	defer r.forgetIdle()
	var now instant
	if r.limits.retention > 0 { // else little is kept that would need a date
		now = r.now()
	}
	s, rec := r.lock(peer)
	if rec != nil && rec.isProtected() && now == 0 { // it is kept, and needs a date after all
		s.mu.Unlock()
		now = r.now()
		s, rec = r.lock(peer)
	}
	defer s.mu.Unlock()
	if rec == nil {
		return false, false
	}
	slot := rec.slot(conn)
	if slot == nil || !may(slot) {
		return false, false
	}
	reported = slot.phase != phaseArriving
	s.counts.conns[slot.direction]--
	switch slot.phase {
	case phaseOpen:
		r.heads.remove(slot.direction)
	case phaseArriving:
		s.counts.arriving--
		r.away.addTo(s.number, -1)
		r.heads.remove(slot.direction)
	case phaseClosing:
		s.counts.closing--
		r.away.addTo(s.number, -1)
		r.heads.remove(slot.direction)
	case phaseLeaving: // its place is a newcomer's
		s.counts.closing--
		r.away.addTo(s.number, -1)
	default: // its place is free already, or a newcomer's
		s.counts.closing--
	}
	if rec.removeSlot(slot); rec.conn.conn != nil {
		return true, reported
	}

	// That was the last one.
	s.counts.peers--
	rec.state = recordFree
	if r.limits.retention == 0 {
		rec.tags, rec.sum = tagSet{}, 0
		if rec.rare != nil {
			rec.rare.decaying = nil
			rec.trimRare()
		}
	}
	r.settleLocked(s, rec, now)
	return true, reported
}

// slot returns where a connection of the peer is kept, or nil.
func (rec *record) slot(conn Conn) *connSlot {
	if rec.conn.conn == conn {
		return &rec.conn
	}
	if rec.rare != nil {
		for i := range rec.rare.conns {
			if s := &rec.rare.conns[i]; s.conn == conn {
				return s
			}
		}
	}
	return nil
}

// removeSlot takes out a connection, and moves another into the first place if
// that is the one.
func (rec *record) removeSlot(slot *connSlot) {
	if rec.rare == nil || len(rec.rare.conns) == 0 {
		*slot = connSlot{}
		return
	}
	more := &rec.rare.conns
	last := len(*more) - 1
	*slot = (*more)[last]
	(*more)[last] = connSlot{}
	*more = (*more)[:last]
	if last == 0 {
		*more = nil
		rec.trimRare()
	}
}

// eachConn calls f for every connection of the peer.
func (rec *record) eachConn(f func(*connSlot)) {
	if rec.conn.conn == nil {
		return
	}
	f(&rec.conn)
	if rec.rare != nil {
		for i := range rec.rare.conns {
			f(&rec.rare.conns[i])
		}
	}
}

// reconcile makes the table agree with what the host says.
//
// The host's answer and the notifications race. A connection that was notified
// after the host was asked is kept; one that went after that is taken for alive
// until the next time, which costs at most a superfluous Close.
func (m *Manager) reconcile(host Host) {
	r := m.table
	asked := r.now()
	conns := host.Connections()
	alive := make(map[Conn]struct{}, len(conns))
	for _, c := range conns {
		// One bad connection must not keep the others from being managed.
		if err := m.safely(func() error { m.adopt(c, asked, alive); return nil }); err != nil {
			m.logFaultOnce(&m.faults.conn, fmt.Errorf("connection of the host: %w", err))
		}
	}
	for _, gone := range r.connsBefore(asked) {
		if _, ok := alive[gone.conn]; !ok {
			m.disconnect(gone.peer, gone.conn)
		}
	}
}

// adopt notes that a connection is alive, and adds it to the table if it is new.
func (m *Manager) adopt(c Conn, asked instant, alive map[Conn]struct{}) {
	if c == nil {
		return
	}
	alive[c] = struct{}{}
	peer := c.RemotePeer()
	if m.table.knows(peer, c) {
		return
	}
	stat := c.Stat()
	opened := asked
	if !stat.Opened.IsZero() {
		opened = min(asked, m.table.instant(stat.Opened))
	}
	m.connect(peer, connSlot{conn: c, direction: directionOf(stat), opened: opened})
}

// peerConn is a connection with its peer.
type peerConn struct {
	peer NodeID
	conn Conn
}

// connsBefore returns the connections that the table has known since before a
// moment.
func (r *registry) connsBefore(at instant) (conns []peerConn) {
	for s := range r.eachShardLocked {
		for _, rec := range s.recordsLocked {
			rec.eachConn(func(slot *connSlot) {
				if slot.opened < at && slot.phase != phaseArriving { // that one is on its way to the host
					conns = append(conns, peerConn{rec.id, slot.conn})
				}
			})
		}
	}
	return conns
}

// has reports whether a connection is in the table, in whatever phase.
func (r *registry) has(peer NodeID, conn Conn) bool {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	return rec != nil && rec.slot(conn) != nil
}

// knows reports whether a connection has been reported.
func (r *registry) knows(peer NodeID, conn Conn) bool {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec == nil {
		return false
	}
	slot := rec.slot(conn)
	return slot != nil && slot.phase != phaseArriving
}
