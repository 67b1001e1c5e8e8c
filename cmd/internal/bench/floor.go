package bench

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
)

// This file holds the floors: the least that any manager has to do for a trim or a
// tag, with nothing around it. No lock, no peer, no rule.

// trimFloor copies the scores of all peers, or whatever orders them, and sorts the
// lowest n to the front of the copy, which it returns.
func trimFloor(scores []int, n int) []int {
	order := slices.Clone(scores)
	lowestFirst(order, n)
	slices.Sort(order[:n])
	return order
}

// lowestFirst moves the lowest n to the front, in any order: Hoare's quickselect.
// Equal ones change sides, so that a list of nothing but equal ones is split in halves.
func lowestFirst(s []int, n int) {
	for n > 0 && n < len(s) {
		pivot := medianOfThree(s[0], s[len(s)/2], s[len(s)-1])
		i, j := 0, len(s)-1
		for i <= j {
			for s[i] < pivot {
				i++
			}
			for s[j] > pivot {
				j--
			}
			if i <= j {
				s[i], s[j] = s[j], s[i]
				i++
				j--
			}
		}
		// Up to j are at most the pivot, from i on at least; between them equal to it.
		switch {
		case n <= j:
			s = s[:j+1]
		case n > i:
			s, n = s[i:], n-i
		default:
			return
		}
	}
}

func medianOfThree(a, b, c int) int { return max(min(a, b), min(max(a, b), c)) }

// lookUp is the floor of a tag: it finds the entry of each peer in a bare map.
func lookUp(table map[peer.ID]int, ids []peer.ID) (sum int) {
	for _, id := range ids {
		sum += table[id]
	}
	return sum
}
