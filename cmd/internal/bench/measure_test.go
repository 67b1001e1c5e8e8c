package bench

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestMedianIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		of   rounds
		want figure
	}{
		{rounds{7}, 7},
		{rounds{9, 1, 5}, 5},
		{rounds{4, 1, 3, 2}, 2.5},
		{rounds{1, 1, 1, 1000}, 1},
	} {
		if got := c.of.median(); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.of, got, c.want)
		}
	}
	if got := rounds(nil).median(); got.measured() {
		t.Errorf("the median of nothing is %v, want not run", got)
	}
	in := rounds{3, 1, 2}
	in.median()
	if !slices.Equal(in, rounds{3, 1, 2}) {
		t.Errorf("the median sorted what it was given: %v", in)
	}
}

func TestTheFloorIsComparedWithTheQuickestRound(t *testing.T) {
	r := newRow("", "")
	r.compare(rounds{90, 70, 80}, rounds{40, 20, 30})
	r.compareFloor(rounds{40, 20, 30}, rounds{7, 9, 5})
	if r.theirs != 80 || r.ours != 30 || r.floor != 7 || r.overFloor != 4 {
		t.Errorf("the row is %+v; want the medians 80, 30 and 7, and 20 over 5, which is 4", r)
	}
	r.compareFloor(nil, rounds{5})
	if r.overFloor.measured() {
		t.Errorf("nothing is %v times the floor, want not run", r.overFloor)
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
	all, err := inTurns(t.Context(), 3, side("A", 1, 30, 2), side("B", 5, 4, 60))
	if err != nil {
		t.Fatal(err)
	}
	if order != "ABABAB" {
		t.Errorf("the order of rounds is %s, want ABABAB", order)
	}
	if !slices.Equal(all[0], rounds{1, 30, 2}) || !slices.Equal(all[1], rounds{5, 4, 60}) {
		t.Errorf("the rounds are %v, want each side's own, in order", all)
	}
}

func TestMeasuringEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	round := 0
	_, err := inTurns(ctx, 100, func() (figure, error) {
		if round++; round == 3 {
			cancel()
		}
		return 1, nil
	})
	if !errors.Is(err, context.Canceled) || round != 3 {
		t.Errorf("after being cancelled in round 3, it ended in round %d with %v", round, err)
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
