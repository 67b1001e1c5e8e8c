package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// flaky is a measurement that yields one figure after the other.
func flaky(key string, ours ...figure) (m measurement, runs *int) {
	runs = new(int)
	return compared(key, section{}, []string{key}, func(context.Context) ([]row, error) {
		r := newRow(key, key)
		r.theirs, r.ours = 100, ours[*runs]
		*runs++
		return []row{r}, nil
	}), runs
}

func TestCheckRepeatsWhatIsTooSlow(t *testing.T) {
	good, goodRuns := flaky("good", 10)
	unlucky, unluckyRuns := flaky("unlucky", 50, 40, 10)
	slow, slowRuns := flaky("slow", 50, 40, 30)
	promises := []bound{
		{key: "good", work: "the good", metric: timesBetter, limit: 10},
		{key: "unlucky", work: "the unlucky", metric: timesBetter, limit: 10},
		{key: "slow", work: "the slow", metric: timesBetter, limit: 10},
	}
	var out, progress strings.Builder
	err := checkWith(t.Context(), promises, []measurement{good, unlucky, slow}, &out, &progress)
	var failed *BoundsError
	if !errors.As(err, &failed) || len(failed.Failed) != 1 || !strings.Contains(failed.Failed[0], "the slow") {
		t.Errorf("the check ended with %v, want one bound failed, that of the slow", err)
	}
	if *goodRuns != 1 || *unluckyRuns != 3 || *slowRuns != 3 {
		t.Errorf("good, unlucky and slow were measured %d, %d and %d times, want 1, 3 and 3", *goodRuns, *unluckyRuns, *slowRuns)
	}
	for _, line := range []string{"the good", "the unlucky", "the slow"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the table has nothing about %s:\n%s", line, out.String())
		}
	}
}

func TestCheckIsContentWhenAllIsNearlyMet(t *testing.T) {
	near, runs := flaky("near", 14)
	var out, progress strings.Builder
	err := checkWith(t.Context(), []bound{{key: "near", work: "the near", metric: timesBetter, limit: 10}}, []measurement{near}, &out, &progress)
	if err != nil || *runs != 1 {
		t.Errorf("a ratio of 7 with a bound of 10: %v after %d runs, want no error after one", err, *runs)
	}
	for _, want := range []string{"| missed, but by less than a third ", "Of 1 bounds, 0 are met, 1 are missed but within what is allowed, and 0 failed."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
