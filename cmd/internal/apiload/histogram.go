package apiload

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// This file counts how long things took, in memory that does not grow with their number:
// a run may go on for hours, and looks at its own memory.

const (
	// slotsPerDoubling makes slots 3 % wide, and with it the error of a quantile.
	slotsPerDoubling = 32
	slotBits         = 5
)

// histogram is how often something took how long. It can be added to from several
// goroutines.
type histogram struct {
	counts [64 * slotsPerDoubling]atomic.Int64
	most   atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 1)
	h.counts[slotOf(uint64(d))].Add(1)
	for {
		most := h.most.Load()
		if int64(d) <= most || h.most.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

// slotOf returns the slot of a number from 1: the power of two below it, and how far it is
// from there to the next one.
func slotOf(n uint64) int {
	power := bits.Len64(n) - 1
	rest := n - 1<<power
	if power >= slotBits {
		rest >>= power - slotBits
	} else {
		rest <<= slotBits - power
	}
	return power*slotsPerDoubling + int(rest)
}

// endOf returns where a slot ends.
func endOf(slot int) time.Duration {
	power, rest := slot/slotsPerDoubling, slot%slotsPerDoubling
	return time.Duration(math.Ldexp(1+float64(rest+1)/slotsPerDoubling, power))
}

// Quantiles is how long something took: so much of it at most so long.
type Quantiles struct {
	Count                   int
	P50, P99, P999, Longest time.Duration
}

func (h *histogram) quantiles() Quantiles {
	var total int64
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	q := Quantiles{Count: int(total), Longest: time.Duration(h.most.Load())}
	for _, part := range []struct {
		share float64
		into  *time.Duration
	}{{0.5, &q.P50}, {0.99, &q.P99}, {0.999, &q.P999}} {
		rank, seen := int64(math.Ceil(part.share*float64(total))), int64(0)
		for i := range h.counts {
			if seen += h.counts[i].Load(); seen >= rank && rank > 0 {
				*part.into = min(endOf(i), q.Longest)
				break
			}
		}
	}
	return q
}

// addAll adds what another one has counted.
func (h *histogram) addAll(other *histogram) {
	for i := range other.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
	h.most.Store(max(h.most.Load(), other.most.Load()))
}
