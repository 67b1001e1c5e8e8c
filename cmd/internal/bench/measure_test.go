package bench

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestMedianIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		of   []figure
		want figure
	}{
		{[]figure{7}, 7},
		{[]figure{9, 1, 5}, 5},
		{[]figure{4, 1, 3, 2}, 2.5},
		{[]figure{1, 1, 1, 1000}, 1},
	} {
		if got := median(c.of); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.of, got, c.want)
		}
	}
	if got := median(nil); got.measured() {
		t.Errorf("the median of nothing is %v, want not run", got)
	}
	in := []figure{3, 1, 2}
	median(in)
	if !slices.Equal(in, []figure{3, 1, 2}) {
		t.Errorf("the median sorted what it was given: %v", in)
	}
}

func TestContendersTakeTurns(t *testing.T) {
	var order string
	side := func(name string, figures ...figure) func() (figure, error) {
		return func() (f figure, err error) {
			order += name
			f, figures = figures[0], figures[1:]
			return f, nil
		}
	}
	medians, err := inTurns(t.Context(), 3, side("A", 1, 30, 2), side("B", 5, 4, 60))
	if err != nil {
		t.Fatal(err)
	}
	if order != "ABABAB" {
		t.Errorf("the order of rounds is %s, want ABABAB", order)
	}
	if want := []figure{2, 5}; !slices.Equal(medians, want) {
		t.Errorf("the medians are %v, want %v", medians, want)
	}
}

func TestMeasuringEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rounds := 0
	_, err := inTurns(ctx, 100, func() (figure, error) {
		if rounds++; rounds == 3 {
			cancel()
		}
		return 1, nil
	})
	if !errors.Is(err, context.Canceled) || rounds != 3 {
		t.Errorf("after being cancelled in round 3, it ended in round %d with %v", rounds, err)
	}
}

func TestEveryCallIsMadeOnce(t *testing.T) {
	for _, goroutines := range []int{1, 2, 4} {
		made := make([]int, 1000) // no two goroutines share an element
		if took := perCall(goroutines, len(made), func(from, to int) {
			for i := from; i < to; i++ {
				made[i]++
			}
		}); took <= 0 {
			t.Errorf("with %d goroutines, a call took %v", goroutines, took)
		}
		for i, n := range made {
			if n != 1 {
				t.Fatalf("with %d goroutines, call %d was made %d times, want once", goroutines, i, n)
			}
		}
	}
}

func TestAllocationsAreCountedPerCall(t *testing.T) {
	keep := make([]*[64]byte, 2000)
	allocate := func(perCall int) func(from, to int) {
		return func(from, to int) {
			for i := perCall * from; i < perCall*to; i++ {
				keep[i] = new([64]byte)
			}
		}
	}
	for _, want := range []int{0, 1, 2} {
		if got := allocations(1000, allocate(want)); got < figure(want) || got > figure(want)+noise {
			t.Errorf("%v allocations per call were counted, want %d", got, want)
		}
	}
}
