package connmgr

// This file finds records by the hash of their ID. It does what a map[NodeID]ref
// would do, with three differences that make it worth its lines: the hash that picks
// the shard serves here as well, an entry takes 8 bytes instead of 25, and there is
// not a single pointer for the garbage collector to follow.

// index is a hash table with open addressing and linear probing: an entry stands in
// the first free place from the one that its hash asks for. The zero value is empty.
type index struct {
	entries []indexEntry // a power of two of them, or none
	count   int
}

// indexEntry is a record and the lower half of its ID's hash. (The shard was picked
// by the upper half.) The hash tells most other records apart without looking at
// them, and lets the table grow without looking at any.
type indexEntry struct {
	hash uint32
	ref  ref // 0 in a free place
}

const indexMinimum = 8

// next returns the first record from a place on whose hash is the one asked for, and
// the place after it; 0 if there is none. Begin with the hash as the place.
func (x *index) next(hash, place uint32) (found ref, after uint32) {
	if len(x.entries) == 0 {
		return 0, place
	}
	mask := uint32(len(x.entries) - 1)
	for {
		e := x.entries[place&mask]
		place++
		if e.ref == 0 || e.hash == hash {
			return e.ref, place
		}
	}
}

// add adds a record that is not in the table.
func (x *index) add(hash uint32, r ref) {
	// With a quarter of the places free, a search that finds nothing looks at eight
	// entries on average, which is one cache line.
	if 4*(x.count+1) > 3*len(x.entries) {
		x.grow()
	}
	x.put(indexEntry{hash, r})
	x.count++
}

func (x *index) put(e indexEntry) {
	mask := uint32(len(x.entries) - 1)
	place := e.hash & mask
	for x.entries[place].ref != 0 {
		place = (place + 1) & mask
	}
	x.entries[place] = e
}

func (x *index) grow() {
	old := x.entries
	x.entries = make([]indexEntry, max(indexMinimum, 2*len(old)))
	for _, e := range old {
		if e.ref != 0 {
			x.put(e)
		}
	}
}

// remove takes a record out that is in the table. Entries behind it move up to where
// a search would have found them without it, so there are no traces of those gone
// that would make searches longer.
func (x *index) remove(hash uint32, r ref) {
	mask := uint32(len(x.entries) - 1)
	free := hash & mask
	for x.entries[free].ref != r {
		free = (free + 1) & mask
	}
	for place := (free + 1) & mask; x.entries[place].ref != 0; place = (place + 1) & mask {
		e := x.entries[place]
		if (place-e.hash)&mask >= (place-free)&mask { // the free place is on its way
			x.entries[free] = e
			free = place
		}
	}
	x.entries[free] = indexEntry{}
	x.count--
}
