package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// This file is the short version, which says whether the bounds still hold.

// BoundsError is returned by [Check] if a bound is missed by more than noise and what was
// reached before explain.
type BoundsError struct{ Failed []string }

// Error says how many there are.
func (e *BoundsError) Error() string {
	return fmt.Sprintf("bench: %d bounds failed", len(e.Failed))
}

// Check measures what has a bound, and no more, and prints a table. What is more than a
// third worse than its bound, or than what was reached if the bound is not met yet, is
// measured again, since on a shared machine that happens; if it is so each time, the error
// is an [*BoundsError].
func Check(ctx context.Context, out, progress io.Writer) error {
	return checkWith(ctx, bounds, planOf(modeCheck), out, progress)
}

// attempts is how often something may be measured until it is fast enough.
const attempts = 3

func checkWith(ctx context.Context, bounds []bound, plan []measurement, out, progress io.Writer) error {
	found, err := measureAll(ctx, plan, progress)
	if err != nil {
		return err
	}
	verdicts := judge(bounds, found.rows)
	for range attempts - 1 {
		again := suspects(verdicts, plan)
		if len(again) == 0 {
			break
		}
		fmt.Fprintln(progress, "Once more, what was too slow:")
		found, err := measureAll(ctx, again, progress)
		if err != nil {
			return err
		}
		for i, v := range judge(bounds, found.rows) {
			if !verdicts[i].tolerable() && v.tolerable() {
				verdicts[i] = v
			}
		}
	}
	failure := &BoundsError{}
	met := 0
	for _, v := range verdicts {
		switch {
		case v.met():
			met++
		case !v.tolerable():
			failure.Failed = append(failure.Failed, v.String())
		}
	}
	missed := len(verdicts) - met - len(failure.Failed)
	if _, err := fmt.Fprintf(out, "Machine: %s.\n\n%s\nOf %d bounds, %d are met, %d are missed but within what is allowed, and %d failed.\n",
		thisMachine(), checkTable(verdicts), len(verdicts), met, missed, len(failure.Failed)); err != nil {
		return err
	}
	if len(failure.Failed) > 0 {
		return failure
	}
	return nil
}

// suspects returns the measurements that yield what was too slow.
func suspects(verdicts []verdict, plan []measurement) (again []measurement) {
	for _, m := range plan {
		if slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.tolerable() && m.yields(v.bound) }) {
			again = append(again, m)
		}
	}
	return again
}

func (m measurement) yields(b bound) bool {
	return slices.Contains(m.keys, b.key) || b.than != "" && slices.Contains(m.keys, b.than)
}
