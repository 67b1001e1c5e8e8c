package connmgr

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"unsafe"
)

// These tests are about records that serve one peer after another, and about handles,
// which find a record without its peer's ID: a handle never finds another peer than the
// one that it was made for.

// handleOf returns the handle of a peer's record.
func (m *many) handleOf(id NodeID) handle {
	m.t.Helper()
	s, rec := m.table.lock(id)
	defer s.mu.Unlock()
	if rec == nil {
		m.t.Fatalf("the test is wrong: there is no record of %v", id)
	}
	return s.handle(s.refLocked(rec), rec)
}

// whoHas returns the peer that a handle finds.
func (m *many) whoHas(h handle) (id NodeID, found bool) {
	s, rec := m.table.lockHandle(h)
	defer s.mu.Unlock()
	if rec == nil {
		return "", false
	}
	return rec.id, true
}

// forged is a handle of the first record of the shard that inShard means.
func forged(generation uint16) handle {
	return (&shard{number: 5}).handle(1, &record{generation: generation})
}

// inShard returns n IDs of one shard.
func (m *many) inShard(n int) (ids []NodeID) {
	for i := 0; len(ids) < n; i++ {
		if s, _ := m.table.place(manyID(i)); s.number == 5 {
			ids = append(ids, manyID(i))
		}
	}
	return ids
}

func TestAHandleFindsItsPeerAsLongAsTheRecordIsThatPeers(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	ids := m.inShard(100)
	handles := make(map[NodeID]handle)
	for _, id := range ids {
		m.connect(id, DirInbound)
		handles[id] = m.handleOf(id)
	}
	for _, c := range m.conns[:50] {
		m.TagPeer(c.peer, "so that it is remembered", 1)
		m.Disconnected(c.peer, c)
	}
	for id, h := range handles {
		if got, found := m.whoHas(h); !found || got != id {
			t.Errorf("the handle of %v finds %q, %v", id, string(got), found)
		}
	}
}

func TestAHandleDoesNotFindWhoHasTheRecordNow(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	ids := m.inShard(3)
	m.connect(ids[0], DirInbound)
	m.connect(ids[1], DirInbound)
	old := m.handleOf(ids[1])
	for round := range 3 {
		last := m.conns[len(m.conns)-1]
		m.Disconnected(last.peer, last)
		if id, found := m.whoHas(old); found {
			t.Errorf("round %d: the handle of a peer that was forgotten finds %q", round, string(id))
		}
		m.connect(ids[1+round%2], DirInbound) // another one, and then the same again
		now := m.handleOf(ids[1+round%2])
		if now.ref() != old.ref() || now.shard() != old.shard() {
			t.Fatal("the test is wrong: the newcomer has not got the record of who left")
		}
		if id, found := m.whoHas(old); found {
			t.Errorf("round %d: the handle of a peer that was forgotten finds %q, who has its record now", round, string(id))
		}
		old = now
	}
}

// Generations go round, so a peer can have that of a record which nobody has.
func TestAHandleNeverFindsARecordThatNobodyHas(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	m.connect(m.inShard(1)[0], DirInbound)
	m.Disconnected(m.conns[0].peer, m.conns[0])
	for generation := range 3 {
		if id, found := m.whoHas(forged(uint16(generation))); found {
			t.Errorf("a handle of generation %d finds %q in a record that nobody has", generation, string(id))
		}
	}
}

func TestAHandleSurvivesThatAShardGivesItsMemoryBack(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	ids := m.inShard(3 * recordsPerChunk)
	var handles []handle
	for _, id := range ids {
		m.connect(id, DirInbound)
		handles = append(handles, m.handleOf(id))
	}
	for _, c := range m.conns {
		m.Disconnected(c.peer, c)
	}
	for _, back := range []int{0, 1, len(ids)} { // so many come back
		for _, id := range ids[:back] {
			m.connect(id, DirInbound)
		}
		for i, h := range handles {
			if id, found := m.whoHas(h); found {
				t.Errorf("when %d are back, the handle of %v, who was forgotten, finds %q", back, ids[i], string(id))
			}
		}
	}
}

// Nobody can choose IDs that collide, but some will.
func TestRecordsOfOneHashAreToldApart(t *testing.T) {
	m := newMany(t, Config{})
	s := &m.table.shards[7]
	s.mu.Lock()
	defer s.mu.Unlock()
	const hash = 0xfffffff9 // at the end of the table, so that it goes round
	here := make(map[NodeID]*record)
	expect := func() {
		t.Helper()
		for i := range 100 {
			id := manyID(i)
			rec := s.findLocked(id, hash)
			if rec != here[id] {
				t.Fatalf("among %d records of one hash, %v is found: %v; want %v", len(here), id, rec != nil, here[id] != nil)
			}
			if rec != nil && s.at(s.refLocked(rec)) != rec {
				t.Fatalf("the ref of %v is that of another record", id)
			}
		}
		if s.findLocked("a stranger", hash) != nil || s.findLocked(manyID(0), hash+1) != nil {
			t.Fatal("a stranger is found")
		}
	}
	for i := range 100 {
		here[manyID(i)] = s.createLocked(manyID(i), hash)
		expect()
	}
	for _, i := range m.random.Perm(100) {
		m.table.forgetLocked(s, here[manyID(i)])
		delete(here, manyID(i))
		expect()
	}
	if s.index.count != 0 {
		t.Errorf("the index counts %d records when all are forgotten", s.index.count)
	}
}

// A shard is read in pieces, between which others get its lock.
func TestEachRecordOfALargeShardIsReadOnce(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	n := 2*chunksAtOnce*recordsPerChunk + recordsPerChunk + 1
	ids := m.inShard(n)
	for _, id := range ids {
		m.connect(id, DirInbound)
	}
	p := new(planner)
	p.begin(m.policy(), m.cfg.Clock.Now(), TriggerManual)
	m.table.feed(p, m.table.now(), nil, n)
	read := make(map[NodeID]int)
	for i := range p.established.keys {
		k := &p.established.keys[i]
		read[m.table.idOf(k)]++
		if got, want := p.conns[k.conn].RemotePeer(), m.table.idOf(k); got != want {
			t.Fatalf("the connection of %v is taken for one of %v", got, want)
		}
	}
	for _, id := range ids {
		if read[id] != 1 {
			t.Fatalf("%v was read %d times, want once", id, read[id])
		}
	}
	if len(read) != n || p.figures.Total != n {
		t.Errorf("%d peers and %d connections were read, want %d of both", len(read), p.figures.Total, n)
	}
}

// A trim reads the second half of every record. That is one cache line only if records
// begin where cache lines do.
func TestATrimReadsOneCacheLineOfEachRecord(t *testing.T) {
	if bits.UintSize < 64 {
		t.Skip("records are laid out for 64 bits")
	}
	if half := unsafe.Offsetof(record{}.conn); half != 64 || unsafe.Sizeof(record{}) != 128 {
		t.Errorf("what a trim looks at begins at byte %d of %d, want 64 of 128", half, unsafe.Sizeof(record{}))
	}
	m := newMany(t, Config{})
	for _, id := range m.inShard(3 * recordsPerChunk) {
		m.connect(id, DirInbound)
		s, rec := m.table.lock(id)
		off := uintptr(unsafe.Pointer(rec)) % 64
		s.mu.Unlock()
		if off != 0 {
			t.Fatalf("records begin %d bytes behind the beginning of a cache line", off)
		}
	}
}

// turmoil lets peers leave, come back and come anew in the very instant of a trim, whenever
// a connection is asked or closed, so that records change hands between plan and closing.
// Newcomers rank high as long as a plan may be made, and lowest of all from the first
// closing on: whoever takes one for the peer that had its record closes it.
type turmoil struct {
	*many
	mu        sync.Mutex
	victims   []*manyConn // that may leave
	newcomers []*manyConn
	made      int
	asks      int
	lowered   bool
}

func (u *turmoil) onStat() {
	u.mu.Lock()
	u.asks++
	planning := u.asks > 500 // the first ones are asked for the sample
	u.mu.Unlock()
	if planning {
		u.exchange(1)
	}
}

func (u *turmoil) onClose() {
	u.mu.Lock()
	first := !u.lowered
	u.lowered = true
	lower := u.newcomers
	u.mu.Unlock()
	if first {
		for _, c := range lower {
			u.TagPeer(c.peer, "a", -1000)
		}
	}
	u.exchange(1)
}

// exchange lets some leave, and twice as many come.
func (u *turmoil) exchange(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for range min(n, len(u.victims)) {
		last := len(u.victims) - 1
		gone := u.victims[last]
		u.victims = u.victims[:last]
		u.Disconnected(gone.peer, gone)
		u.made++
		for _, id := range []NodeID{gone.peer, NodeID(fmt.Sprint("newcomer ", u.made))} {
			c := &manyConn{m: u.Manager, peer: id}
			u.newcomers = append(u.newcomers, c)
			value := 1_000_000
			if u.lowered {
				value = -1000
			}
			u.Connected(id, c)
			u.TagPeer(id, "a", value)
		}
	}
}

func TestWhoTakesTheRecordOfAVictimIsNotClosedInItsPlace(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint("when asked ", asked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Nobody is older than anybody, and nobody who left is remembered.
				u := &turmoil{many: newMany(t, Config{GracePeriod: Zero, ActiveBonus: 50, TagRetention: Zero})}
				const n, closes = 9200, 900
				for i := range n {
					u.TagPeer(u.connect(manyID(i), DirInbound).peer, "a", i/10)
				}
				u.limit(n-closes, 0)
				for v := range u.DryRun(TriggerManual).Closed() {
					i := slices.IndexFunc(u.conns, func(c *manyConn) bool { return c.peer == v.Peer })
					u.victims = append(u.victims, u.conns[i])
				}
				slices.Reverse(u.victims)
				u.random.Shuffle(closes, func(i, j int) { u.victims[i], u.victims[j] = u.victims[j], u.victims[i] })
				for _, c := range u.conns {
					c.onClose = u.onClose
					if asked {
						c.onStat = u.onStat
					}
				}
				res, err := u.Trim(context.Background())
				if err != nil || len(res.Closed) == 0 || res.Spared == 0 {
					t.Fatalf("closed %d, spared %d, err %v; want some of both, and nil", len(res.Closed), res.Spared, err)
				}
				for _, c := range u.newcomers {
					if c.closed.Load() != 0 {
						t.Errorf("%v, who came during the trim, was closed in the place of somebody who had left", c.peer)
					}
				}
				if len(u.newcomers) < closes/2 {
					t.Errorf("the test is wrong: only %d came during the trim", len(u.newcomers))
				}
				if s := u.Stats(); s.Conns != u.ConnCount() || s.Closing != 0 {
					t.Errorf("%d connections, %d counted, %d closing", s.Conns, u.ConnCount(), s.Closing)
				}
			})
		})
	}
}
