package connmgr

// This file says what is remembered of a peer, and in which order it lies in memory.

// record is everything about one peer. It exists as long as one of these holds:
// it has a connection, it is protected, or it is in its shard's idle list.
//
// It fills two cache lines of 64 bytes. A trim looks only at the second one of a peer that
// stays.
type record struct {
	id   NodeID
	tags tagSet
	// prev and next link the idle list; next also links the free list.
	prev, next ref

	// conn is the first of the peer's connections; more are in rare. A peer with
	// connections always has one here.
	conn connSlot
	// sum is the sum of all tags, decaying ones included, saturated.
	sum int
	// rare is what few peers have; nil means none of it.
	rare *rare
	// since is when the peer connected, or since when it is idle.
	since instant
	// hash is the one under which the record is in the shard's index.
	hash uint32
	// generation tells the peers apart that have the record one after another.
	generation uint16
	state      recordState
	// connectedOnce tells retained tags from early ones.
	connectedOnce bool
}

// handle finds a record again without looking for its ID, by a trim for instance that
// has seen it before. It is good for as long as the record is the same peer's. It is its
// ref, the number of its shard and its generation, in one number since plans copy many.
type handle uint64

func (h handle) ref() ref           { return ref(h) }
func (h handle) shard() int         { return int(uint16(h >> 32)) }
func (h handle) generation() uint16 { return uint16(h >> 48) }

type recordState uint8

const (
	recordFree recordState = iota
	recordConnected
	// recordIdle has no connection and no protection, only tags, and is in the
	// idle list. Decay may have taken the last tag; the next sweep sees to that.
	recordIdle
	// recordShielded has no connection but is protected.
	recordShielded
)

// connSlot is one connection of a peer.
type connSlot struct {
	conn   Conn // nil in an empty slot
	opened instant
	// phase says whether the connection is arriving, open or closing; see closing.go.
	phase     uint32
	direction Direction
	// trusted says that a rule let it pass the limits at the door.
	trusted bool
}

// rare is the part of a record that most peers do without.
type rare struct {
	conns       []connSlot
	decaying    []decayingEntry
	protections []protection
}

// needRare returns the rare part of a record, made if need be.
func (rec *record) needRare() *rare {
	if rec.rare == nil {
		rec.rare = new(rare)
	}
	return rec.rare
}

// trimRare lets go of the rare part when nothing is in it.
func (rec *record) trimRare() {
	if r := rec.rare; r != nil && len(r.conns) == 0 && len(r.decaying) == 0 && len(r.protections) == 0 {
		rec.rare = nil
	}
}
