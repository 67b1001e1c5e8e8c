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

// lane is the candidates of one step of the rules.
type lane struct {
	keys  []key
	conns int // connections of all candidates together
	// keys[:sure] are taken whatever the live connections say, keys[end:] are
	// not; mayGo narrows the two.
	sure, end int
	ask       []int32
}

// key is a candidate's place in the order, but for the hash that is needed only
// between peers alike in all else.
type key struct {
	score int
	// tie orders equal scores: bit 33 is set with open streams, bit 32 with an
	// outbound connection, below is the number of streams.
	tie   uint64
	age   time.Duration // since the peer connected; the young go first
	peer  int32         // index into the snapshot
	conns int32
}

const (
	tieOutbound = 1 << 32
	tieStreams  = 1 << 33
)

func makeKey(policy *Policy, s *PeerState, peer int32, age time.Duration) key {
	k := key{score: policy.Score(s), age: age, peer: peer, conns: s.Conns}
	if s.Outbound > 0 {
		k.tie |= tieOutbound
	}
	if s.Streams > 0 {
		k.tie |= tieStreams | uint64(s.Streams)
	}
	return k
}

// compare is rule 5. It is negative if a goes before b.
func compare(policy *Policy, peers Snapshot, a, b *key) int {
	switch {
	case a.score != b.score:
		return cmp.Compare(a.score, b.score)
	case a.tie != b.tie:
		return cmp.Compare(a.tie, b.tie)
	case a.age != b.age:
		return cmp.Compare(a.age, b.age)
	}
	idA, idB := peers[a.peer].ID, peers[b.peer].ID
	hashA := siphash.Sum64(policy.TieKey[0], policy.TieKey[1], string(idA))
	hashB := siphash.Sum64(policy.TieKey[0], policy.TieKey[1], string(idB))
	if hashA != hashB {
		return cmp.Compare(hashA, hashB)
	}
	return cmp.Compare(idA, idB)
}

func (l *lane) reset() {
	l.keys = l.keys[:0]
	l.conns = 0
}

func (l *lane) add(policy *Policy, peers Snapshot, peer int32, age time.Duration) {
	l.keys = append(l.keys, makeKey(policy, &peers[peer], peer, age))
	l.conns += int(peers[peer].Conns)
}

// remove takes out the keys for which drop holds.
func (l *lane) remove(drop func(*key) bool) {
	kept := partition(l.keys, func(k *key) bool { return !drop(k) })
	for _, k := range l.keys[kept:] {
		l.conns -= int(k.conns)
	}
	l.keys = l.keys[:kept]
}

// mayGo returns the peers that may be among those that free the target, given
// that all keys were made without streams.
//
// Streams raise a score by at most the active bonus. So if s is the score of the
// last one taken without regard to streams, it lies between s and s + bonus with
// regard to them: whoever is below s - bonus goes, whoever is above s + bonus
// stays. Those that go anyway are asked as well, since streams decide their order
// and show in their score.
func (l *lane) mayGo(policy *Policy, target int) []int32 {
	if l.conns > target {
		taken := firstToGo(l.keys, target, func(a, b *key) int { return cmp.Compare(a.score, b.score) })
		s := l.keys[taken-1].score
		low, high := addSaturating(s, -policy.ActiveBonus), addSaturating(s, policy.ActiveBonus)
		l.sure = partition(l.keys, func(k *key) bool { return k.score < low })
		l.end = l.sure + partition(l.keys[l.sure:], func(k *key) bool { return k.score <= high })
	}
	l.ask = l.ask[:0]
	for _, k := range l.keys[:l.end] {
		l.ask = append(l.ask, k.peer)
	}
	return l.ask
}

// rescore makes the keys of the peers that mayGo named anew, now that their
// streams are known.
func (l *lane) rescore(policy *Policy, peers Snapshot) {
	for i := range l.keys[:l.end] {
		k := &l.keys[i]
		*k = makeKey(policy, &peers[k.peer], k.peer, k.age)
	}
}

// cut returns the first candidates in order, as many as it takes to free the
// target, or all if they free less.
func (l *lane) cut(policy *Policy, peers Snapshot, target int) []key {
	inOrder := func(a, b *key) int { return compare(policy, peers, a, b) }
	n := len(l.keys)
	if l.conns > target {
		for _, k := range l.keys[:l.sure] {
			target -= int(k.conns)
		}
		n = l.sure + firstToGo(l.keys[l.sure:l.end], target, inOrder)
	}
	taken := l.keys[:n]
	slices.SortFunc(taken, func(a, b key) int { return inOrder(&a, &b) })
	return taken
}

// firstToGo moves to the front of keys the fewest that come first in order and
// have at least target connections together, and returns their number. All keys
// together must have that many. It is quickselect with weights: linear on
// average, and when pivots turn out badly it sorts what is left.
func firstToGo(keys []key, target int, order func(a, b *key) int) int {
	// keys[:lo] go, keys[hi:] stay; target is what keys[lo:hi] still have to free.
	lo, hi := 0, len(keys)
	for tries := 2 * bits.Len(uint(len(keys))); hi-lo > 16 && tries > 0 && target > 0; tries-- {
		mid := lo + split(keys[lo:hi], order)
		conns := 0
		for i := lo; i < mid; i++ {
			conns += int(keys[i].conns)
		}
		if conns >= target {
			hi = mid
		} else {
			lo, target = mid, target-conns
		}
	}
	slices.SortFunc(keys[lo:hi], func(a, b key) int { return order(&a, &b) })
	for ; target > 0; lo++ {
		target -= int(keys[lo].conns)
	}
	return lo
}

// split divides keys, at least three, into two parts that are not empty, so that
// nothing in the first comes after anything in the second, and returns the
// length of the first (Hoare's partition around the median of three).
func split(keys []key, order func(a, b *key) int) int {
	// The median of the first, the middle and the last goes to the front, as the
	// pivot: with the pivot there, neither part can come out empty.
	middle, last := len(keys)/2, len(keys)-1
	swapIfAfter := func(i, j int) {
		if order(&keys[i], &keys[j]) > 0 {
			keys[i], keys[j] = keys[j], keys[i]
		}
	}
	swapIfAfter(middle, last)
	swapIfAfter(0, last)
	swapIfAfter(middle, 0)
	pivot := keys[0]

	i, j := -1, len(keys)
	for {
		for i++; order(&keys[i], &pivot) < 0; i++ {
		}
		for j--; order(&keys[j], &pivot) > 0; j-- {
		}
		if i >= j {
			return j + 1
		}
		keys[i], keys[j] = keys[j], keys[i]
	}
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
