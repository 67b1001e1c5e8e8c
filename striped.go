package connmgr

import (
	"math/rand/v2"
	"sync/atomic"
)

// This file counts what several processors count at the same time. A single number would
// travel between them with each change, which takes longer than all else that a check at
// the gate does. So there are several, each on a cache line of its own, and whoever wants
// to know adds them up.

// stripes is a power of two. More make counting faster on many processors, and reading
// slower.
const stripes = 8

// striped is a number in several parts.
type striped [stripes]struct {
	n atomic.Int64
	_ [56]byte // the rest of the cache line
}

// add adds to one of the parts, whichever.
func (s *striped) add(delta int64) { s.addTo(rand.IntN(stripes), delta) }

// addTo adds to a certain part. Those who hold different locks should choose different
// ones.
func (s *striped) addTo(part int, delta int64) { s[part%stripes].n.Add(delta) }

// sum returns the number. While others change it, it is what it was or will be, give or
// take what they change.
func (s *striped) sum() (sum int64) {
	for i := range s {
		sum += s[i].n.Load()
	}
	return sum
}
