package apiload

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// This file holds the histogram against sorted lists.

func TestQuantilesAreWithinThreePercentOfThoseOfASortedList(t *testing.T) {
	for _, n := range []int{1, 2, 99, 1000, 20_000} {
		var h, one, other histogram
		list := make([]time.Duration, n)
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		for i := range list {
			list[i] = time.Duration(1 + rng.ExpFloat64()*float64(20*time.Millisecond))
			h.add(list[i])
			(map[bool]*histogram{true: &one, false: &other})[i%2 == 0].add(list[i])
		}
		one.addAll(&other)
		slices.Sort(list)
		got := h.quantiles()
		if both := one.quantiles(); both != got {
			t.Errorf("two histograms of halves of %d times are %+v together, want %+v", n, both, got)
		}
		if got.Count != n || got.Longest != list[n-1] {
			t.Errorf("of %d times up to %v it says %+v", n, list[n-1], got)
		}
		for _, c := range []struct {
			share int // of a thousand
			got   time.Duration
		}{{500, got.P50}, {990, got.P99}, {999, got.P999}} {
			want := list[(n*c.share+999)/1000-1]
			if c.got < want || float64(c.got) > 1.04*float64(want)+1 {
				t.Errorf("%d of 1000 of %d times are up to %v, want %v to 3 %% more", c.share, n, c.got, want)
			}
		}
	}
}

func TestAnEmptyHistogramSaysNothing(t *testing.T) {
	var h histogram
	if got := h.quantiles(); got != (Quantiles{}) {
		t.Errorf("an empty histogram says %+v, want nothing", got)
	}
	h.add(0)
	h.add(-time.Second)
	if got := h.quantiles(); got.Count != 2 || got.Longest > 1 {
		t.Errorf("two times that are no times give %+v, want them counted as the shortest", got)
	}
}
