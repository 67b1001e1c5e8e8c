package connmgr

import (
	"math"
	"math/bits"
)

// This file holds arithmetic that stops at the nearest int instead of wrapping
// around: a huge tag must not turn the best peer into the worst.

// addSaturating returns a+b, or the nearest int if that overflows.
func addSaturating(a, b int) int {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt
	}
	return sum
}

// wideSum adds up ints without overflow (in 128 bits, two's complement).
type wideSum struct{ high, low uint64 }

func (s *wideSum) add(v int) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, uint64(int64(v)), 0)
	s.high, _ = bits.Add64(s.high, uint64(int64(v)>>63), carry)
}

func (s *wideSum) saturated() int {
	switch sign := int64(s.high); {
	case sign < -1, sign == -1 && int64(s.low) >= 0, sign == -1 && int64(s.low) < math.MinInt:
		return math.MinInt
	case sign > 0, sign == 0 && s.low > math.MaxInt:
		return math.MaxInt
	default:
		return int(int64(s.low))
	}
}

// subSaturating returns a-b, or the nearest int if that overflows.
func subSaturating(a, b int) int {
	switch diff := a - b; {
	case a >= 0 && b < 0 && diff < 0:
		return math.MaxInt
	case a < 0 && b > 0 && diff >= 0:
		return math.MinInt
	default:
		return diff
	}
}

// saturatingInt returns the int nearest to f, and 0 for not-a-number.
func saturatingInt(f float64) int {
	switch {
	case f >= math.MaxInt:
		return math.MaxInt
	case f <= math.MinInt:
		return math.MinInt
	case math.IsNaN(f):
		return 0
	default:
		return int(f)
	}
}
