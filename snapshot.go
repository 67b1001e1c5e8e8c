package connmgr

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// This file reads the table for the planner: one pass over the records in the
// order in which they lie in memory, one shard's lock at a time.

// feed calls add for each peer with an open connection, under its shard's lock.
// Connections that are being closed do not count, so that nothing is closed twice.
// Streams are left to look.
func (r *registry) feed(add func(*peerFacts), now instant) {
	for i := range r.shards {
		r.feedShard(i, add, now)
	}
}

func (r *registry) feedShard(i int, add func(*peerFacts), now instant) {
	s := &r.shards[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := ref(0)
	for _, chunk := range s.chunks {
		for j := range chunk {
			n++
			if rec := &chunk[j]; rec.state == recordConnected {
				if f := r.factsLocked(s, rec, now); f.conns > 0 {
					f.at = rec.handle(i, n)
					add(&f)
				}
			}
		}
	}
}

// factsLocked returns what the rules look at in a peer with connections, but for the
// streams.
func (r *registry) factsLocked(s *shard, rec *record, now instant) peerFacts {
	f := peerFacts{age: time.Duration(now - rec.since), tagSum: rec.sum}
	if rec.rare == nil && rec.conn.phase == phaseOpen && rec.conn.conn != nil { // nearly everybody
		f.addConn(&rec.conn)
		return f
	}
	f.protected = rec.isProtected()
	rec.eachConn(func(slot *connSlot) {
		if r.isOpenLocked(s, slot, now) {
			f.addConn(slot)
		}
	})
	return f
}

func (f *peerFacts) addConn(slot *connSlot) {
	f.conns++
	if slot.direction == DirOutbound {
		f.outbound++
	}
	f.trusted = f.trusted || slot.trusted
}

// look returns a function that sets the streams of peers, by asking their connections.
func (m *Manager) look(policy *Policy) look {
	return func(keys []key) {
		for i := range keys {
			keys[i].setStreams(policy, m.streams(keys[i].at))
		}
	}
}

// streams returns the number of a peer's streams, 0 if it has left.
func (m *Manager) streams(at handle) int32 {
	s, rec := m.table.lockHandle(at)
	if rec == nil {
		s.mu.Unlock()
		return 0
	}
	if rec.rare == nil && rec.conn.conn != nil { // nearly everybody
		conn := rec.conn.conn
		s.mu.Unlock()
		return m.countStreams(conn)
	}
	var conns []Conn
	rec.eachConn(func(slot *connSlot) {
		if slot.phase == phaseOpen {
			conns = append(conns, slot.conn)
		}
	})
	s.mu.Unlock()
	return m.countStreams(conns...)
}

// idOf returns the ID of a peer, "" if it has been forgotten.
func (r *registry) idOf(k *key) NodeID {
	s, rec := r.lockHandle(k.at)
	defer s.mu.Unlock()
	if rec == nil {
		return ""
	}
	return rec.id
}

// snapshot returns all peers with an open connection. It asks every connection for its
// streams.
func (m *Manager) snapshot() Snapshot {
	r := m.table
	now := r.now()
	peers := make(Snapshot, 0, r.open())
	for s := range r.eachShardLocked {
		for _, rec := range s.recordsLocked {
			if p := r.peerStateLocked(s, rec, now); p.Conns > 0 {
				peers = append(peers, p)
			}
		}
	}
	for i := range peers {
		peers[i].Streams = m.countStreams(r.openConns(peers[i].ID)...)
	}
	return peers
}

// peerStateLocked is factsLocked for those who want to know who it is.
func (r *registry) peerStateLocked(s *shard, rec *record, now instant) PeerState {
	f := r.factsLocked(s, rec, now)
	return PeerState{
		ID: rec.id, Since: r.time(rec.since), TagSum: f.tagSum, Conns: f.conns,
		Outbound: f.outbound, Protected: rec.isProtected(), Trusted: f.trusted,
	}
}

// maxStreams is how many streams of one connection count. No connection has more,
// but one may claim to.
const maxStreams = 1 << 20

// countStreams asks connections for their streams and returns the sum. One that
// panics is taken to have none.
func (m *Manager) countStreams(conns ...Conn) int32 {
	sum := 0
	for _, c := range conns {
		streams, err := m.askStreams(c)
		if err != nil {
			m.logFaultOnce(&m.faults.conn, fmt.Errorf("connection: %w", err))
		}
		sum = min(sum+min(max(0, streams), maxStreams), math.MaxInt32)
	}
	return int32(sum)
}

func (m *Manager) askStreams(c Conn) (streams int, err error) {
	defer m.recovered(&err)
	return c.Stat().Streams, nil
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
