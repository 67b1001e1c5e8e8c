package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// This file is the short version, which says whether the bounds still hold.

// BoundsError is returned by [Check] if a bound is missed by more than noise explains.
type BoundsError struct{ Missed []string }

func (e *BoundsError) Error() string {
	return fmt.Sprintf("bench: %d bounds missed by more than a third", len(e.Missed))
}

// Check measures what has a bound, and no more, and prints a table. What misses its
// bound by more than a third is measured once more, and if it does so again, the error
// is an [*BoundsError].
func Check(ctx context.Context, out, progress io.Writer) error {
	return checkWith(ctx, bounds, planOf(modeCheck), out, progress)
}

func checkWith(ctx context.Context, bounds []bound, plan []measurement, out, progress io.Writer) error {
	found, err := measureAll(ctx, plan, progress)
	if err != nil {
		return err
	}
	verdicts := judge(bounds, found.rows)
	if again := suspects(verdicts, plan); len(again) > 0 {
		fmt.Fprintln(progress, "Once more, what missed a bound:")
		found, err := measureAll(ctx, again, progress)
		if err != nil {
			return err
		}
		for i, v := range judge(bounds, found.rows) {
			if !verdicts[i].nearlyMet() && v.nearlyMet() {
				verdicts[i] = v
			}
		}
	}
	if _, err := fmt.Fprintf(out, "Machine: %s.\n\n%s", thisMachine(), boundTable(verdicts)); err != nil {
		return err
	}
	failure := &BoundsError{}
	for _, v := range verdicts {
		if !v.nearlyMet() {
			failure.Missed = append(failure.Missed, v.String())
		}
	}
	if len(failure.Missed) > 0 {
		return failure
	}
	return nil
}

// suspects returns the measurements that yield what missed a bound.
func suspects(verdicts []verdict, plan []measurement) (again []measurement) {
	for _, m := range plan {
		if slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.nearlyMet() && m.yields(v.bound) }) {
			again = append(again, m)
		}
	}
	return again
}

func (m measurement) yields(b bound) bool {
	return slices.Contains(m.keys, b.key) || b.than != "" && slices.Contains(m.keys, b.than)
}
