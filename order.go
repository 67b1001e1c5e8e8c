package connmgr

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/dep2p/connmgr/internal/siphash"
)

// This file says who is first to go (rule 5) and finds the cut without sorting
// everybody.
//
// The order, first to go first: lower score · no open streams · inbound · fewer
// streams · younger · keyed hash of the ID (and the ID itself, should two hashes
// agree). It is total, so a plan does not depend on the order of its input. The
// young go before the old since real sessions get safer with age.

// key is a candidate's place in the order, and what the plan needs of it besides. It
// has no pointers, so a million of them cost the garbage collector nothing.
type key struct {
	// words is the order as numbers: who has the lower first word goes first, among
	// equals the one with the lower second word, and so on.
	words [4]uint64
	at    handle // where the peer is found again
	conns int32
	// outbound is how many of the connections are outbound.
	outbound int32
	// conn is where the first of the connections is in tally.conns, for a trim.
	conn int32
}

// The words of a key.
const (
	byScore = iota
	// byTie orders equal scores: bit 33 is set with open streams, bit 32 with an
	// outbound connection, below is the number of streams.
	byTie
	byAge
	// byHash is 0 until it is needed, as it rarely is: between peers alike in all else.
	byHash
)

const (
	tieOutbound = 1 << 32
	tieStreams  = 1 << 33
	// signBit makes the order of signed numbers that of unsigned ones.
	signBit = 1 << 63
)

// rank returns the words of a peer, but for the hash. They come one by one, and not in a
// key, since a trim ranks everybody and keeps few.
func (p *peerFacts) rank(policy *Policy) (score, tie, age uint64) {
	if p.outbound > 0 {
		tie = tieOutbound
	}
	if p.streams > 0 {
		tie |= tieStreams | uint64(p.streams)
	}
	return uint64(policy.score(p.tagSum, p.outbound, p.streams)) ^ signBit, tie, uint64(p.age) ^ signBit
}

// setStreams notes how many streams a peer has, if that was not known. It never moves
// a peer towards the front.
func (k *key) setStreams(policy *Policy, streams int32) {
	if streams <= 0 {
		return
	}
	k.words[byScore] = uint64(addSaturating(k.score(), policy.ActiveBonus)) ^ signBit
	k.words[byTie] |= tieStreams | uint64(streams)
}

func (k *key) score() int         { return int(k.words[byScore] ^ signBit) }
func (k *key) age() time.Duration { return time.Duration(k.words[byAge] ^ signBit) }
func (k *key) streams() int32     { return int32(uint32(k.words[byTie])) }

// order is rule 5.
type order struct {
	tieKey [2]uint64
	// id is asked only where the hash decides. If it is nil, nothing does there.
	id func(*key) NodeID
}

// compare is negative if a goes before b.
func (o *order) compare(a, b *key) int {
	for word := byScore; word < byHash; word++ {
		if a.words[word] != b.words[word] {
			return cmp.Compare(a.words[word], b.words[word])
		}
	}
	if a.at == b.at || o.id == nil {
		return 0
	}
	o.hash(a)
	o.hash(b)
	if a.words[byHash] != b.words[byHash] {
		return cmp.Compare(a.words[byHash], b.words[byHash])
	}
	return cmp.Compare(o.id(a), o.id(b))
}

func (o *order) hash(k *key) {
	if k.words[byHash] == 0 {
		k.words[byHash] = siphash.Sum64(o.tieKey[0], o.tieKey[1], string(o.id(k)))
	}
}

// first moves the fewest keys that come first in order and have at least target
// connections together to the front, in order if sorted, and returns their number: all
// if they have fewer.
//
// It sorts by the leading bits that tell the keys apart, into up to 256 heaps side by
// side, and goes on within one heap alone, the one in which the target is reached; if
// sorted, within those before it as well. So it looks at most keys twice. There are no
// pivots that a stranger could make bad ones: each round uses up eight bits, and after
// at most 32 rounds there are none left.
func (o *order) first(keys []key, target int, sorted bool) int {
	if !sorted && connsOf(keys) <= target {
		return len(keys)
	}
	n, _ := o.firstBy(byScore, keys, target, sorted)
	return n
}

// few is how many keys are sorted one by one.
const few = 24

// firstBy is first for keys that agree in the words before word. It also returns how
// many connections the first ones have.
func (o *order) firstBy(word int, keys []key, target int, sorted bool) (n, conns int) {
	if len(keys) <= few {
		o.insertionSort(keys)
		return countFirst(keys, target)
	}
	last := byHash
	if o.id == nil {
		last = byAge
	}
	low, high := o.spread(word, keys)
	for low == high && word < last {
		word++
		low, high = o.spread(word, keys)
	}
	if low == high { // with hashes, nobody has ever seen that
		slices.SortFunc(keys, func(a, b key) int { return o.compare(&a, &b) })
		return countFirst(keys, target)
	}
	h := heaps{word: word, low: low, shift: max(0, bits.Len64(high-low)-8)}
	h.sort(keys)
	begin := 0
	for i, size := range h.sizes {
		if begin == len(keys) || conns >= target {
			break
		}
		heap := keys[begin : begin+int(size)]
		begin += int(size)
		if whole := conns+h.conns[i] <= target; whole && !sorted {
			n, conns = n+len(heap), conns+h.conns[i]
			continue
		}
		m, c := o.firstBy(word, heap, target-conns, sorted)
		n, conns = n+m, conns+c
	}
	return n, conns
}

// countFirst returns how many of sorted keys it takes to free the target, and how many
// connections these have.
func countFirst(keys []key, target int) (n, conns int) {
	for n < len(keys) && conns < target {
		conns += int(keys[n].conns)
		n++
	}
	return n, conns
}

// spread returns the lowest and the highest value of a word. (word&3 is word, and tells
// the compiler that no bounds have to be checked.)
func (o *order) spread(word int, keys []key) (low, high uint64) {
	if word == byHash {
		for i := range keys {
			o.hash(&keys[i])
		}
	}
	low, high = keys[0].words[word&3], keys[0].words[word&3]
	for i := range keys {
		low, high = min(low, keys[i].words[word&3]), max(high, keys[i].words[word&3])
	}
	return low, high
}

// heaps sorts keys by eight bits of a word.
type heaps struct {
	word  int
	low   uint64
	shift int
	sizes [256]int32
	conns [256]int
}

func (h *heaps) of(k *key) uint8 { return uint8((k.words[h.word&3] - h.low) >> h.shift) }

// sort moves each key to its heap. The heaps lie one after another.
func (h *heaps) sort(keys []key) {
	for i := range keys {
		heap := h.of(&keys[i])
		h.sizes[heap]++
		h.conns[heap] += int(keys[i].conns)
	}
	// next is where the next key of each heap goes, ends where the heap ends.
	var next, ends [256]int32
	sum := int32(0)
	for i, size := range h.sizes {
		next[i] = sum
		sum += size
		ends[i] = sum
	}
	for i := range h.sizes {
		for next[i] < ends[i] {
			// Whoever stands here goes where it belongs, and so does whom it finds
			// there, until somebody turns up who belongs here.
			k := keys[next[i]]
			for heap := h.of(&k); int(heap) != i; heap = h.of(&k) {
				place := &keys[next[heap]]
				next[heap]++
				k, *place = *place, k
			}
			keys[next[i]] = k
			next[i]++
		}
	}
}

func (o *order) insertionSort(keys []key) {
	for i := 1; i < len(keys); i++ {
		for j := i; j > 0 && o.compare(&keys[j], &keys[j-1]) < 0; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
}
