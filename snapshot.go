package connmgr

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// This file reads the table for the planner: one pass over the records in the
// order in which they lie in memory, one shard's lock at a time.

// shardsAtOnce is how many shards are read before others get the processor.
const shardsAtOnce = 8

// feedAtOnce is how many connections it takes to occupy one more processor with reading
// the table.
const feedAtOnce = 8192

// feed adds all peers with an open connection to a plan, but for those behind the bound;
// about so many are expected before it. Connections that are being closed do not count, so
// that nothing is closed twice. Streams are left to look.
func (r *registry) feed(p *planner, now instant, bound *key, expected int) {
	parts := max(1, min(runtime.GOMAXPROCS(0), r.open()/feedAtOnce, shardCount))
	for len(p.parts) < parts-1 {
		p.parts = append(p.parts, new(tally))
	}
	p.reset(p.policy, p.trigger, bound, expected)
	var next atomic.Int64
	inParallel(parts, func(part int) {
		t := &p.tally
		if part > 0 {
			t = p.parts[part-1]
			t.reset(p.policy, p.trigger, bound, expected/parts)
		}
		for i := int(next.Add(1)) - 1; i < shardCount; i = int(next.Add(1)) - 1 {
			r.feedShard(t, &r.shards[i], now)
			if i%shardsAtOnce == 0 {
				runtime.Gosched() // a trim is never in a hurry: others that wait for a processor go first
			}
		}
	})
	for _, t := range p.parts[:parts-1] {
		p.join(t)
	}
}

// inParallel calls f with 0 to n-1 at the same time.
func inParallel(n int, f func(int)) {
	var all sync.WaitGroup
	for i := 1; i < n; i++ {
		all.Go(func() { f(i) })
	}
	f(0)
	all.Wait()
}

// chunksAtOnce is how many chunks are read before others get the shard's lock: about
// 1,000 peers, some ten microseconds.
const chunksAtOnce = 64

// feedShard adds the peers of a shard to a tally. Who comes or goes meanwhile may be in
// there or not; who does both may be twice, and is spared once, when its turn comes.
func (r *registry) feedShard(t *tally, s *shard, now instant) {
	for from, more := 0, true; more; from += chunksAtOnce {
		if more = r.feedChunks(t, s, from, now); more {
			runtime.Gosched() // see feed
		}
	}
}

// feedChunks adds some of a shard's peers, and reports whether there are more.
func (r *registry) feedChunks(t *tally, s *shard, from int, now instant) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := min(from+chunksAtOnce, len(s.chunks))
	var f peerFacts
	for c := from; c < to; c++ {
		records := &s.chunks[c].records
		for j := range records {
			if rec := &records[j]; rec.state == recordConnected && r.factsLocked(s, rec, now, &f) {
				f.at = s.handle(ref(c*recordsPerChunk+j+1), rec)
				t.add(&f)
			}
		}
	}
	return to < len(s.chunks)
}

// factsLocked fills in what the rules look at in a peer, but for the streams, and
// reports whether it has an open connection.
func (r *registry) factsLocked(s *shard, rec *record, now instant, f *peerFacts) bool {
	*f = peerFacts{age: time.Duration(now - rec.since), tagSum: rec.sum}
	if rec.rare == nil && rec.conn.phase == phaseOpen && rec.conn.conn != nil { // nearly everybody
		f.addConn(&rec.conn)
		return true
	}
	f.protected = rec.isProtected()
	rec.eachConn(func(slot *connSlot) {
		if r.isOpenLocked(s, slot, now) {
			f.addConn(slot)
		}
	})
	return f.conns > 0
}

func (f *peerFacts) addConn(slot *connSlot) {
	if f.conns++; f.conns == 1 {
		f.conn = slot.conn
	}
	if slot.direction == DirOutbound {
		f.outbound++
	}
	f.trusted = f.trusted || slot.trusted
}

// look returns a function that sets the streams of a tally's candidates, by asking their
// connections, several at once.
func (m *Manager) look(t *tally) look {
	return func(keys []key) {
		const atOnce = 512
		var next atomic.Int64
		inParallel(max(1, min(runtime.GOMAXPROCS(0), len(keys)/atOnce)), func(int) {
			for end := int(next.Add(atOnce)); end-atOnce < len(keys); end = int(next.Add(atOnce)) {
				runtime.Gosched() // see feed
				for i := end - atOnce; i < min(end, len(keys)); i++ {
					keys[i].setStreams(t.policy, m.streams(&keys[i], t.conns[keys[i].conn]))
				}
			}
		})
	}
}

// streams returns the number of streams of a candidate, given its first connection.
func (m *Manager) streams(k *key, first Conn) int32 {
	if k.conns == 1 { // nearly everybody
		return m.countStreams(first)
	}
	return m.countStreams(m.table.openConns(k.at)...)
}

// openConns returns a peer's open connections.
func (r *registry) openConns(at handle) []Conn {
	s, rec := r.lockHandle(at)
	defer s.mu.Unlock()
	if rec == nil {
		return nil
	}
	return rec.openConns(nil)
}

// openConns appends a peer's open connections to conns.
func (rec *record) openConns(conns []Conn) []Conn {
	rec.eachConn(func(slot *connSlot) {
		if slot.phase == phaseOpen {
			conns = append(conns, slot.conn)
		}
	})
	return conns
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
	handles := make([]handle, 0, r.open())
	for s := range r.eachShardLocked {
		for i, rec := range s.recordsLocked {
			if p := r.peerStateLocked(s, rec, now); p.Conns > 0 {
				peers = append(peers, p)
				handles = append(handles, s.handle(i, rec))
			}
		}
	}
	for i, at := range handles {
		peers[i].Streams = m.countStreams(r.openConns(at)...)
	}
	return peers
}

// peerStateLocked is factsLocked for those who want to know who it is.
func (r *registry) peerStateLocked(s *shard, rec *record, now instant) PeerState {
	var f peerFacts
	r.factsLocked(s, rec, now, &f)
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
