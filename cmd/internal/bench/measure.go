package bench

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// This file says how anything is measured: contenders take turns, and the median of
// their rounds counts. A floor is something else: the least that the work can take. It is
// so short that nothing interrupts it, and what is beside it takes longer; so the quickest
// rounds of both are compared.

// figure is a measured amount, in the unit of its row; see [notRun].
type figure float64

// notRun stands in the place of a figure that nobody has measured. Whatever is
// calculated with it is not run either.
var notRun = figure(math.NaN())

func (f figure) measured() bool { return !math.IsNaN(float64(f)) }

// rounds are the figures of one contender, a round each.
type rounds []figure

// inTurns runs each side so often, one after the other, so that whatever else the machine
// does meets them alike. It returns the rounds of each side.
func inTurns(ctx context.Context, times int, sides ...func() (figure, error)) ([]rounds, error) {
	all := make([]rounds, len(sides))
	for range times {
		for i, side := range sides {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f, err := side()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], f)
		}
	}
	return all, nil
}

// median returns the middle one, and of an even number the mean of the middle two.
func (r rounds) median() figure {
	if len(r) == 0 {
		return notRun
	}
	sorted := slices.Sorted(slices.Values(r))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// quickest returns the least, with which the machine has interfered least.
func (r rounds) quickest() figure {
	if len(r) == 0 {
		return notRun
	}
	return slices.Min(r)
}

// onClock returns how long do takes, in nanoseconds. Garbage from before is gone when
// it starts, and is not collected on its time.
func onClock(do func()) figure {
	runtime.GC()
	start := time.Now()
	do()
	return figure(time.Since(start))
}

// perCall has goroutines make calls side by side, each those of its own part of
// 0 … calls-1, and returns how long a call takes for the one who makes it, in
// nanoseconds: with enough cores and no contention, the same for any number of
// goroutines.
func perCall(goroutines, calls int, do func(from, to int)) figure {
	if goroutines == 1 {
		return onClock(func() { do(0, calls) }) / figure(calls)
	}
	part := calls / goroutines
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range goroutines {
		wg.Go(func() {
			<-begin
			do(i*part, (i+1)*part)
		})
	}
	return onClock(func() {
		close(begin)
		wg.Wait()
	}) / figure(part)
}

// allocations returns how many a call makes. What the runtime itself allocates
// meanwhile is no part of it: the quietest of three attempts counts.
func allocations(calls int, do func(from, to int)) figure {
	least := figure(math.Inf(1))
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do(0, calls)
		runtime.ReadMemStats(&after)
		least = min(least, figure(after.Mallocs-before.Mallocs)/figure(calls))
	}
	return least
}

// heap returns how many bytes are in use, garbage left out.
func heap() figure {
	// What has a finalizer or lies in a pool takes a second round.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return figure(m.HeapAlloc)
}
