package connmgr

import "math"

// This file keeps the candidates of a plan: no more of them than may have to go, and
// with as few questions about their streams as it takes.

// lane is the candidates of one step of the rules.
type lane struct {
	keys  []key
	conns int // connections of all candidates together, those left out included
	taken int // keys[:taken] have been taken
	asked int // keys[:asked] have been asked for their streams, if anybody was
	// bound is where the lane ends: who ranks behind it is not expected to go, and is left
	// out. Nil means that it does not end.
	bound *key
	// candidates is how many are expected before the bound: if most of those that come
	// first have streams, that is many more than will be taken.
	candidates int
	leftOut    bool // somebody was
}

// reset empties the lane, for about so many candidates before the bound.
func (l *lane) reset(bound *key, candidates int) {
	*l = lane{keys: emptied(l.keys, candidates), bound: bound}
	if bound != nil {
		l.candidates = candidates
	}
}

// rest returns the candidates that have not been taken, but for those left out.
func (l *lane) rest() []key { return l.keys[l.taken:] }

// add adds a candidate, whose connection is at a place of tally.conns, unless it is
// behind the bound.
func (l *lane) add(policy *Policy, p *peerFacts, conn int32) bool {
	l.conns += int(p.conns)
	score, tie, age := p.rank(policy)
	if b := l.bound; b != nil && (score > b.words[byScore] || score == b.words[byScore] &&
		(tie > b.words[byTie] || tie == b.words[byTie] && age > b.words[byAge])) {
		l.leftOut = true
		return false
	}
	l.keys = append(l.keys, key{words: [4]uint64{score, tie, age}, at: p.at, conns: p.conns, outbound: p.outbound, conn: conn})
	return true
}

// join adds the candidates of another lane, whose connections come after so many.
func (l *lane) join(other *lane, conns int32) {
	for i := range other.keys {
		other.keys[i].conn += conns
	}
	l.keys = append(l.keys, other.keys...)
	l.conns += other.conns
	l.leftOut = l.leftOut || other.leftOut
}

// lowestLeft returns the lowest score of those that have not been taken, MaxInt if there
// are none. Who has not been asked counts without streams.
func (l *lane) lowestLeft() int {
	lowest := math.MaxInt
	if l.leftOut {
		lowest = l.bound.score()
	}
	for i := range l.rest() {
		lowest = min(lowest, l.rest()[i].score())
	}
	return lowest
}

// enough reports whether those left out would not have been taken either.
func (l *lane) enough(target int) bool {
	if !l.leftOut {
		return true
	}
	taken := l.keys[:l.taken]
	if connsOf(taken) < target {
		return false
	}
	// Hashes are left aside: whoever is like the bound in all else is in.
	o := order{}
	return len(taken) == 0 || o.compare(&taken[len(taken)-1], l.bound) <= 0 // else it has streams
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
	if look == nil || len(l.keys) == 0 {
		l.taken = o.first(l.keys, target, true)
		return l.keys[:l.taken]
	}
	// There is some room before a bound, so not quite all are likely to be asked. (As a
	// guess goes, a peer is a connection.)
	l.asked = o.first(l.keys, max(target, l.candidates*3/4), false)
	look(l.keys[:l.asked])
	for {
		l.taken = o.first(l.keys[:l.asked], target, true)
		last := &l.keys[l.taken-1]
		inQuestion := partition(l.keys[l.asked:], func(k *key) bool { return o.compare(k, last) < 0 })
		if inQuestion == 0 {
			return l.keys[:l.taken]
		}
		// At most as many again as were asked so far.
		batch := l.keys[l.asked : l.asked+inQuestion]
		batch = batch[:o.first(batch, connsOf(l.keys[:l.asked]), false)]
		look(batch)
		l.asked += len(batch)
	}
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
