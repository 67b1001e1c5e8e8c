package connmgr

import (
	"math"
	"time"
)

// This file holds ready-made decay and bump functions.

// DecayNone leaves values as they are.
func DecayNone() DecayFunc {
	return func(v DecayingValue) (int, bool) { return v.Value, false }
}

// DecayFixed takes a fixed amount off per interval and removes the tag when
// nothing is left, so a negative value is gone after one interval. (go-libp2p's
// does the same.)
func DecayFixed(amount int) DecayFunc {
	return func(v DecayingValue) (int, bool) {
		after := subSaturating(v.Value, amount)
		return after, after <= 0
	}
}

// DecayLinear multiplies values by a factor, between 0 and 1, per interval, rounds
// down, and removes the tag when nothing is left, so a negative value is gone after
// one interval. (The name and the rule are go-libp2p's.)
func DecayLinear(factor float64) DecayFunc {
	return func(v DecayingValue) (int, bool) {
		after := saturatingInt(math.Floor(float64(v.Value) * factor))
		return after, after <= 0
	}
}

// DecayHalfLife halves values once per halfLife, whatever the tag's interval, and
// removes the tag when it comes to less than a half. Rounding does not add up: the
// value is worked out from the last bump each time. A bump counts as if it had
// come right after the decay before it. Negative values are halved as well. With a
// halfLife of zero or less, nothing is left after one interval.
func DecayHalfLife(halfLife time.Duration) DecayFunc {
	return func(v DecayingValue) (int, bool) {
		if halfLife <= 0 {
			return 0, true
		}
		halvings := float64(v.Now.Sub(v.BumpedFrom)) / float64(halfLife)
		after := math.Round(float64(v.BumpedTo) * math.Exp2(-halvings))
		return saturatingInt(after), after == 0
	}
}

// DecayExpireWhenInactive keeps values as they are and removes the tag when it
// has not been bumped for the given time.
func DecayExpireWhenInactive(after time.Duration) DecayFunc {
	return func(v DecayingValue) (int, bool) {
		return v.Value, v.Now.Sub(v.LastBump) >= after
	}
}

// BumpSumUnbounded adds the delta to the value. The sum saturates.
func BumpSumUnbounded() BumpFunc {
	return func(v DecayingValue, delta int) int { return addSaturating(v.Value, delta) }
}

// BumpSumBounded adds the delta to the value and keeps the sum between least and
// most. If least is above most, the sum is most.
func BumpSumBounded(least, most int) BumpFunc {
	return func(v DecayingValue, delta int) int {
		return min(max(addSaturating(v.Value, delta), least), most)
	}
}

// BumpOverwrite puts the delta in place of the value.
func BumpOverwrite() BumpFunc {
	return func(_ DecayingValue, delta int) int { return delta }
}
