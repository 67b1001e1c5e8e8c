package connmgr

import (
	"fmt"
	"math"
	"slices"
)

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
	expected := r.open()
	sc.peers = resize(sc.peers, expected)[:0]
	sc.conns = resize(sc.conns, expected)[:0]
	for s := range r.eachShardLocked {
		for _, rec := range s.recordsLocked {
			p, first := r.peerStateLocked(s, rec, now)
			if first != nil {
				sc.peers = append(sc.peers, p)
				sc.conns = append(sc.conns, first)
			}
		}
	}
}

// release lets go of peers and connections, so that those gone can be collected.
func (sc *scan) release() {
	clear(sc.peers[:cap(sc.peers)])
	clear(sc.conns[:cap(sc.conns)])
}

// peerStateLocked returns what the rules look at, but for the streams, and the
// first open connection, nil if there is none.
func (r *registry) peerStateLocked(s *shard, rec *record, now instant) (p PeerState, first Conn) {
	p = PeerState{
		ID:        rec.id,
		Since:     r.time(rec.since),
		TagSum:    rec.sum,
		Protected: rec.isProtected(),
	}
	if rec.conn.phase == phaseOpen && (rec.rare == nil || len(rec.rare.conns) == 0) {
		p.Conns = 1
		if rec.conn.direction == DirOutbound {
			p.Outbound = 1
		}
		p.Trusted = rec.conn.trusted
		return p, rec.conn.conn
	}
	rec.eachConn(func(slot *connSlot) {
		if !r.isOpenLocked(s, slot, now) {
			return
		}
		p.Conns++
		if slot.direction == DirOutbound {
			p.Outbound++
		}
		p.Trusted = p.Trusted || slot.trusted
		if first == nil {
			first = slot.conn
		}
	})
	return p, first
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
		p.Streams = m.countStreams(m.table.openConns(p.ID)...)
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

// maxStreams is how many streams of one connection count. No connection has more,
// but one may claim to.
const maxStreams = 1 << 20

// countStreams asks connections for their streams and returns the sum. One that
// panics is taken to have none.
func (m *Manager) countStreams(conns ...Conn) int32 {
	sum := 0
	for _, c := range conns {
		var streams int
		err := m.safely(func() error { streams = c.Stat().Streams; return nil })
		if err != nil {
			m.logFaultOnce(&m.faults.conn, fmt.Errorf("connection: %w", err))
		}
		sum = min(sum+min(max(0, streams), maxStreams), math.MaxInt32)
	}
	return int32(sum)
}

// openConns returns a peer's open connections.
func (r *registry) openConns(peer NodeID) (conns []Conn) {
	for _, slot := range r.openSlots(peer) {
		conns = append(conns, slot.conn)
	}
	return conns
}

func (r *registry) openSlots(peer NodeID) []connSlot {
	return slices.DeleteFunc(r.heldSlots(peer), func(slot connSlot) bool { return slot.phase != phaseOpen })
}

// heldSlots returns all of a peer's connections.
func (r *registry) heldSlots(peer NodeID) (slots []connSlot) {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec != nil {
		rec.eachConn(func(slot *connSlot) { slots = append(slots, *slot) })
	}
	return slots
}

// connectedPeers returns the peers with a connection.
func (r *registry) connectedPeers() []NodeID {
	peers := make([]NodeID, 0, r.heads.all())
	for s := range r.eachShardLocked {
		for _, rec := range s.recordsLocked {
			if rec.state == recordConnected {
				peers = append(peers, rec.id)
			}
		}
	}
	return peers
}
