package connmgr

import "fmt"

// This file reads the table for the planner: one pass over the records in the
// order in which they lie in memory, one shard's lock at a time.

// scan is a snapshot with, beside each peer, a connection to ask for streams.
// Its memory serves again for the next scan.
type scan struct {
	peers Snapshot
	// conns holds the first open connection of each peer. Most have one; for the
	// others the table is asked again.
	conns []Conn
}

// read fills the scan with all peers that have an open connection. Connections
// that are being closed are not in it, so that nothing is closed twice. Streams
// are left at zero; see [scan.look].
func (sc *scan) read(r *registry) {
	now := r.now()
	expected := int(r.conns.Load())
	sc.peers = resize(sc.peers, expected)[:0]
	sc.conns = resize(sc.conns, expected)[:0]
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for rec := range s.connectedLocked {
			p, first := r.peerStateLocked(s, rec, now)
			if first != nil {
				sc.peers = append(sc.peers, p)
				sc.conns = append(sc.conns, first)
			}
		}
		s.mu.Unlock()
	}
}

// release lets go of the connections, so that closed ones can be collected.
func (sc *scan) release() { clear(sc.conns) }

// peerStateLocked returns what the rules look at, but for the streams, and the
// first open connection, nil if there is none.
func (r *registry) peerStateLocked(s *shard, rec *record, now instant) (p PeerState, first Conn) {
	p = PeerState{
		ID:        rec.id,
		Since:     r.time(rec.since),
		TagSum:    rec.sum,
		Protected: rec.isProtected(),
	}
	if rec.conn.closing == 0 && (rec.rare == nil || len(rec.rare.conns) == 0) {
		p.Conns = 1
		p.Outbound = rec.conn.direction == DirOutbound
		return p, rec.conn.conn
	}
	rec.eachConn(func(slot *connSlot) {
		if !r.isOpenLocked(s, slot, now) {
			return
		}
		p.Conns++
		p.Outbound = p.Outbound || slot.direction == DirOutbound
		if first == nil {
			first = slot.conn
		}
	})
	return p, first
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
	slot.closing = 0
	s.counts.closing--
	r.conns.Add(1)
	return true
}

// look fills in the streams of the peers at the given places, by asking their
// connections.
func (sc *scan) look(m *Manager, peers []int32) {
	for _, i := range peers {
		p := &sc.peers[i]
		if p.Conns == 1 {
			p.Streams = m.countStreams(sc.conns[i])
			continue
		}
		p.Streams = 0
		for _, c := range m.table.openConns(p.ID) {
			p.Streams += m.countStreams(c)
		}
	}
}

// lookAtAll fills in the streams of every peer.
func (sc *scan) lookAtAll(m *Manager) {
	all := make([]int32, len(sc.peers))
	for i := range all {
		all[i] = int32(i)
	}
	sc.look(m, all)
}

// countStreams asks a connection for its streams. One that panics is taken to
// have none. The bound keeps the sum over a peer's connections from overflowing.
func (m *Manager) countStreams(c Conn) (streams int32) {
	defer func() {
		if p := recover(); p != nil {
			m.panics.Add(1)
			m.logFaultOnce(&m.trims.panicked, fmt.Errorf("panic in Stat of a connection: %v", p))
		}
	}()
	return int32(min(max(c.Stat().Streams, 0), 1<<20))
}

// openConns returns a peer's connections that are not being closed.
func (r *registry) openConns(peer NodeID) []Conn {
	s := r.lock(peer)
	defer s.mu.Unlock()
	rec := s.findLocked(peer)
	if rec == nil {
		return nil
	}
	var conns []Conn
	rec.eachConn(func(slot *connSlot) {
		if slot.closing == 0 {
			conns = append(conns, slot.conn)
		}
	})
	return conns
}
