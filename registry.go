package connmgr

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds the one table of peers: everything known about a peer (tags,
// decaying values, protections, connections and since when) in one record, found
// by one lookup.
//
// Lock discipline. The table is split into shards, each with its own lock.
//
//   - One shard's lock at a time, held for microseconds.
//   - No foreign code runs under a lock: no host, connection, clock, callback,
//     logger or store. What it returns is fetched before, or its effect is put
//     in after, checking that nothing has changed in between.
//   - A *record is valid only while its shard's lock is held.
//
// A shard is picked by a seeded hash of the ID, so a stranger who chooses an ID
// does not choose its shard, nor its place in the shard's index. Records lie side by
// side in chunks: a trim reads them all, and reading memory in order is what makes
// that fast.

const shardCount = 128 // a power of two

// chunk is records side by side. With the 8 bytes that Go puts in front of it, the first
// record begins a cache line, and all of it takes 2 KiB, a size class of Go's allocator.
type chunk struct {
	_       [56]byte
	records [recordsPerChunk]record
}

const recordsPerChunk = 15

// instant is a moment in nanoseconds since the registry was made.
type instant int64

// plus returns the moment d later, or the last one there is. d is not negative.
func (i instant) plus(d time.Duration) instant {
	if sum := i + instant(d); sum >= i {
		return sum
	}
	return math.MaxInt64
}

// ref is a record's place in its shard, counted from 1; 0 is none.
type ref uint32

// registry is the table. Its methods may be called from several goroutines.
type registry struct {
	seed   maphash.Seed
	clock  Clock
	epoch  time.Time
	limits registryLimits

	_ [64]byte // who reads the fields above does not wait for those who change what follows
	// heads is the number of connections that have a place, and away the number of
	// those of them that are not open; see closing.go.
	heads headcount
	_     [64]byte
	away  striped
	// idle is the number of idle peers. After each change that can raise it,
	// forgetIdle brings it back to the limit.
	idle   atomic.Int64
	_      [64]byte
	shards [shardCount]shard
}

// registryLimits bound what the table remembers.
type registryLimits struct {
	idlePeers   int
	tagsPerPeer int
	retention   time.Duration
	earlyTTL    time.Duration
}

// shard is a part of the table. mu guards all fields after it.
type shard struct {
	number int // which of the shards it is
	mu     sync.Mutex
	index  index
	// protected is the part of the index that protected peers are in.
	protected index
	chunks    []*chunk
	used      ref // records handed out so far: those up to here exist
	free      ref // first of the records given back
	// created counts the records that came about; see record.generation.
	created uint16
	// idle is the idle peers, the one idle the longest first.
	idleFirst, idleLast ref
	// idleSince is since when the first of them is idle, nobodyIdle if there is none.
	// It is written under the lock, and read without.
	idleSince atomic.Int64
	counts    shardCounts

	_ [64]byte // keeps the next shard's lock off this cache line
}

const nobodyIdle = math.MaxInt64

// shardCounts are kept up to date, so that statistics need no walk.
type shardCounts struct {
	peers     int                  // with a connection
	protected int                  // connected or not
	conns     [DirOutbound + 1]int // by direction, closing ones included
	closing   int
	arriving  int
	evicted   uint64 // idle peers forgotten for want of room
	expired   uint64 // idle peers forgotten for their age
	refused   uint64 // tags dropped for want of room
}

func newRegistry(cfg *Config) *registry {
	r := &registry{
		seed:  maphash.MakeSeed(),
		clock: cfg.Clock,
		epoch: cfg.Clock.Now(),
		limits: registryLimits{
			idlePeers:   cfg.MaxIdlePeers,
			tagsPerPeer: cfg.MaxTagsPerPeer,
			retention:   cfg.TagRetention,
			earlyTTL:    cfg.EarlyTagTTL,
		},
	}
	for i := range r.shards {
		r.shards[i].number = i
		r.shards[i].idleSince.Store(nobodyIdle)
	}
	return r
}

// now asks the clock. The system's is asked for the monotonic time alone, which takes
// half as long.
func (r *registry) now() instant {
	if r.clock == (systemClock{}) {
		return instant(time.Since(r.epoch))
	}
	return r.instant(r.clock.Now())
}

func (r *registry) instant(t time.Time) instant { return instant(t.Sub(r.epoch)) }
func (r *registry) time(at instant) time.Time   { return r.epoch.Add(time.Duration(at)) }

// open returns the number of open connections. It is read in two steps, while others
// come and go.
func (r *registry) open() int { return max(0, r.heads.all()-int(r.away.sum())) }

// openAbove reports whether there are more open connections than that. It is cheap as
// long as there are not.
func (r *registry) openAbove(limit int) bool { return r.heads.all() > limit && r.open() > limit }

// place returns the shard of an ID, and its hash in the shard's index.
func (r *registry) place(id NodeID) (*shard, uint32) {
	hash := maphash.String(r.seed, string(id))
	return &r.shards[hash>>32%shardCount], uint32(hash)
}

// lock returns the shard of an ID, locked, and the peer's record, or nil.
func (r *registry) lock(id NodeID) (*shard, *record) {
	s, _, rec := r.lockPlace(id)
	return s, rec
}

// lockPlace is lock for those who may create a record.
func (r *registry) lockPlace(id NodeID) (*shard, uint32, *record) {
	s, hash := r.place(id)
	s.mu.Lock()
	return s, hash, s.findLocked(id, hash)
}

// lockHandle returns a handle's shard, locked, and the record, or nil if its peer has
// been forgotten.
func (r *registry) lockHandle(h handle) (*shard, *record) {
	s := &r.shards[h.shard()]
	s.mu.Lock()
	return s, s.handledLocked(h)
}

func (s *shard) handledLocked(h handle) *record {
	if h.ref() > s.used {
		return nil
	}
	rec := s.at(h.ref())
	if rec.state == recordFree || rec.generation != h.generation() {
		return nil
	}
	return rec
}

func (s *shard) at(i ref) *record {
	i--
	return &s.chunks[i/recordsPerChunk].records[i%recordsPerChunk]
}

func (s *shard) findLocked(id NodeID, hash uint32) *record { return s.findIn(&s.index, id, hash) }

func (s *shard) findIn(x *index, id NodeID, hash uint32) *record {
	for i, place := x.next(hash, hash); i != 0; i, place = x.next(hash, place) {
		if rec := s.at(i); rec.id == id {
			return rec
		}
	}
	return nil
}

// handle returns the handle of one of the shard's records.
func (s *shard) handle(i ref, rec *record) handle {
	return handle(i) | handle(s.number)<<32 | handle(rec.generation)<<48
}

// createLocked returns a new record for a peer that has none in the shard. The caller
// gives it a reason to exist before it unlocks: a connection, a protection or a place
// in the idle list.
func (s *shard) createLocked(id NodeID, hash uint32) *record {
	i := s.free
	if i != 0 {
		s.free = s.at(i).next
	} else {
		if int(s.used) == len(s.chunks)*recordsPerChunk {
			s.chunks = append(s.chunks, new(chunk))
		}
		s.used++
		i = s.used
	}
	s.created++
	rec := s.at(i)
	*rec = record{id: id, hash: hash, generation: s.created}
	s.index.add(hash, i)
	return rec
}

// refLocked returns where a record is.
func (s *shard) refLocked(rec *record) ref {
	for i, place := s.index.next(rec.hash, rec.hash); ; i, place = s.index.next(rec.hash, place) {
		if s.at(i) == rec {
			return i
		}
	}
}

// forgetLocked forgets a record without a connection.
func (r *registry) forgetLocked(s *shard, rec *record) {
	if rec.state == recordIdle {
		r.unidleLocked(s, rec)
	}
	i := s.refLocked(rec)
	s.index.remove(rec.hash, i)
	*rec = record{next: s.free}
	s.free = i
	if s.index.count == 0 && len(s.chunks) > 1 { // neither indexes nor chunks shrink
		s.index, s.protected, s.chunks, s.used, s.free = index{}, index{}, nil, 0, 0
	}
}

// settleLocked files a record that has no connection where it belongs, after a
// change: shielded, idle, or forgotten.
func (r *registry) settleLocked(s *shard, rec *record, now instant) {
	switch {
	case rec.state == recordConnected:
	case rec.isProtected():
		if rec.state == recordIdle {
			r.unidleLocked(s, rec)
		}
		if rec.state == recordFree { // else it keeps the date it has
			rec.since = now
		}
		rec.state = recordShielded
	case rec.tagsLen() == 0:
		r.forgetLocked(s, rec)
	case rec.state != recordIdle:
		r.idleLocked(s, rec, now)
	}
}

// edit calls f with the record of a peer under its shard's lock, and files the
// record afterwards. A peer without a record gets one, so that f can tag or
// protect it. f must not call foreign code.
func (r *registry) edit(id NodeID, f func(*shard, *record)) {
	s, rec := r.lock(id)
	if rec == nil || rec.state != recordConnected {
		// Only a record without a connection is dated, and clocks are foreign.
		s.mu.Unlock()
		now := r.now()
		var hash uint32
		if s, hash, rec = r.lockPlace(id); rec == nil {
			rec = s.createLocked(id, hash)
		}
		f(s, rec)
		r.settleLocked(s, rec, now)
	} else {
		f(s, rec)
	}
	s.mu.Unlock()
	r.forgetIdle()
}

// counts returns the sums over all shards. They are consistent within a shard.
func (r *registry) counts() (sum shardCounts) {
	for s := range r.eachShardLocked {
		c := &s.counts
		sum.peers += c.peers
		sum.protected += c.protected
		for d, n := range c.conns {
			sum.conns[d] += n
		}
		sum.closing += c.closing
		sum.arriving += c.arriving
		sum.evicted += c.evicted
		sum.expired += c.expired
		sum.refused += c.refused
	}
	return sum
}

// eachShardLocked yields the shards one after another, each locked for as long as
// it is looked at.
func (r *registry) eachShardLocked(yield func(*shard) bool) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		more := yield(s)
		s.mu.Unlock()
		if !more {
			return
		}
	}
}

// recordsLocked yields all records in use.
func (s *shard) recordsLocked(yield func(ref, *record) bool) {
	i := ref(0)
	for _, chunk := range s.chunks {
		for j := range chunk.records {
			i++
			if rec := &chunk.records[j]; rec.state != recordFree && !yield(i, rec) {
				return
			}
		}
	}
}
