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

// makeKey returns the key of a peer.
func makeKey(policy *Policy, p *peerFacts) key {
	score := p.tagSum
	k := key{at: p.at, conns: p.conns, outbound: p.outbound}
	if p.outbound > 0 {
		score = addSaturating(score, policy.OutboundBonus)
		k.words[byTie] = tieOutbound
	}
	k.words[byScore] = uint64(score) ^ signBit
	k.words[byAge] = uint64(p.age) ^ signBit
	k.setStreams(policy, p.streams)
	return k
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
	id     func(*key) NodeID // asked only where the hash decides
}

// compare is negative if a goes before b.
func (o *order) compare(a, b *key) int {
	for word := byScore; word < byHash; word++ {
		if a.words[word] != b.words[word] {
			return cmp.Compare(a.words[word], b.words[word])
		}
	}
	if a.at == b.at {
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
	low, high := o.spread(word, keys)
	for low == high && word < byHash {
		word++
		low, high = o.spread(word, keys)
	}
	if low == high { // IDs with equal hashes: nobody has seen any
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

// spread returns the lowest and the highest value of a word.
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

// last returns the key that comes last.
func (o *order) last(keys []key) *key {
	last := &keys[0]
	for i := range keys {
		if o.compare(&keys[i], last) > 0 {
			last = &keys[i]
		}
	}
	return last
}

// lane is the candidates of one step of the rules.
type lane struct {
	keys  []key
	conns int // connections of all candidates together
	taken int // keys[:taken] have been taken
}

func (l *lane) reset() { l.keys, l.conns, l.taken = l.keys[:0], 0, 0 }

// left returns the candidates that have not been taken.
func (l *lane) left() []key { return l.keys[l.taken:] }

func (l *lane) add(k key) {
	l.keys = append(l.keys, k)
	l.conns += int(k.conns)
}

// remove takes out the keys for which drop holds.
func (l *lane) remove(drop func(*key) bool) {
	kept := partition(l.keys, func(k *key) bool { return !drop(k) })
	l.conns -= connsOf(l.keys[kept:])
	l.keys = l.keys[:kept]
}

// take takes the first candidates, as many as it takes to free the target, or all if
// they free less, and returns them in order. It is called once. If there is a look, no
// streams are known yet, and few are asked for.
//
// Without streams, a peer ranks as low as it can. So the first ones by what is known
// are asked; those that turn out to have streams move back, perhaps behind others that
// then are in question, and these are asked next. Whoever ranks behind the last one to
// go even without streams need not be asked.
func (l *lane) take(o *order, target int, look look) []key {
	if look == nil {
		l.taken = o.first(l.keys, target, true)
		return l.keys[:l.taken]
	}
	asked := 0
	for inQuestion, wanted := len(l.keys), target; inQuestion > 0; {
		batch := l.keys[asked : asked+inQuestion]
		batch = batch[:o.first(batch, wanted, false)]
		look(batch)
		asked += len(batch)
		l.taken = o.first(l.keys[:asked], target, false)
		last := *o.last(l.keys[:l.taken])
		inQuestion = partition(l.keys[asked:], func(k *key) bool { return o.compare(k, &last) < 0 })
		wanted = connsOf(l.keys[:asked]) // at most as many again
	}
	o.first(l.keys[:l.taken], target, true)
	return l.keys[:l.taken]
}

func connsOf(keys []key) (sum int) {
	for i := range keys {
		sum += int(keys[i].conns)
	}
	return sum
}

// partition moves the keys for which first holds to the front and returns their
// number.
func partition(keys []key, first func(*key) bool) int {
	n := 0
	for i := range keys {
		if first(&keys[i]) {
			keys[n], keys[i] = keys[i], keys[n]
			n++
		}
	}
	return n
}
