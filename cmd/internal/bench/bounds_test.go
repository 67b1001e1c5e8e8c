package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestBoundsAreJudgedWithAThirdOfSlack(t *testing.T) {
	for _, c := range []struct {
		what        string
		metric      metric
		limit       figure
		measured    figure
		met, nearly bool
	}{
		{"at the bound", timesBetter, 30, 30, true, true},
		{"above", timesBetter, 30, 31, true, true},
		{"just below", timesBetter, 30, 29.9, false, true},
		{"a third below", timesBetter, 30, 20, false, true},
		{"more than a third below", timesBetter, 30, 19.9, false, false},
		{"at the bound", amountOfOurs, 200, 200, true, true},
		{"half as much again", amountOfOurs, 200, 300, false, true},
		{"more than that", amountOfOurs, 200, 301, false, false},
		{"at the bound", timesFloor, 5, 5, true, true},
		{"within slack", timesFloor, 5, 7.5, false, true},
		{"beyond", timesFloor, 5, 7.6, false, false},
		{"beyond", timesOther, 2, 3.1, false, false},
		{"none", allocsOfOurs, 0, 0, true, true},
		{"what the runtime allocates", allocsOfOurs, 0, 0.001, true, true},
		{"one in ten calls", allocsOfOurs, 0, 0.1, false, false},
		{"one too many in some calls", allocsOfOurs, 1, 1.4, false, false},
		{"not measured", timesBetter, 30, notRun, false, false},
		{"not measured", amountOfOurs, 30, notRun, false, false},
		{"not measured", allocsOfOurs, 30, notRun, false, false},
	} {
		v := verdict{bound: bound{metric: c.metric, limit: c.limit}, measured: c.measured}
		if v.met() != c.met || v.nearlyMet() != c.nearly {
			t.Errorf("%s (metric %d, bound %v, measured %v): met %t, nearly %t; want %t, %t",
				c.what, c.metric, c.limit, c.measured, v.met(), v.nearlyMet(), c.met, c.nearly)
		}
	}
}

func TestBoundsTakeTheirFiguresFromTheirRows(t *testing.T) {
	rows := []row{newRow("a", ""), newRow("b", "")}
	rows[0].theirs, rows[0].ours, rows[0].floor, rows[0].ourAllocs = 100, 20, 5, 3
	rows[1].ours = 10
	verdicts := judge([]bound{
		{key: "a", metric: timesBetter},
		{key: "a", metric: timesFloor},
		{key: "a", metric: timesOther, than: "b"},
		{key: "a", metric: allocsOfOurs},
		{key: "a", metric: amountOfOurs},
	}, rows)
	for i, want := range []figure{5, 4, 2, 3, 20} {
		if verdicts[i].measured != want {
			t.Errorf("metric %d gives %v, want %v", verdicts[i].metric, verdicts[i].measured, want)
		}
	}
	for _, v := range judge([]bound{{key: "c"}, {key: "a", metric: timesOther, than: "c"}, {key: "b", metric: timesBetter}}, rows) {
		if v.measured.measured() || v.outcome() != "not run" {
			t.Errorf("a bound without its row is %v, %s; want not run", v.measured, v.outcome())
		}
	}
}

func TestEveryBoundIsMeasuredInEveryMode(t *testing.T) {
	for _, m := range []mode{modeFull, modeQuick, modeCheck} {
		plan := planOf(m)
		for _, b := range bounds {
			found := map[string]bool{}
			for _, p := range plan {
				for _, key := range p.keys {
					found[key] = true
				}
			}
			if !found[b.key] || b.than != "" && !found[b.than] {
				t.Errorf("mode %d measures nothing for the bound %q", m, b.work)
			}
		}
	}
}

func TestLatencyBoundsAreAboutOurCallsDuringATrim(t *testing.T) {
	var latency []latencyRow
	for i, l := range []latencyRow{
		{manager: theirs.name, trimming: true}, {manager: ours.name}, {manager: ours.name, trimming: true},
	} {
		for kind, call := range callNames {
			l.call, l.p999 = call, time.Duration(100*i+kind)
			latency = append(latency, l)
		}
	}
	rows := slowestOfThousand(latency)
	for key, want := range map[string]figure{"latency/tag": 200 + callTag, "latency/connect": 200 + callConnected} {
		if r, ok := find(rows, key); !ok || r.ours != want {
			t.Errorf("%s is %v (found %t), want %v", key, r.ours, ok, want)
		}
	}
}

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

func TestCheckRepeatsWhatFailsOnce(t *testing.T) {
	good, goodRuns := flaky("good", 10)
	unlucky, unluckyRuns := flaky("unlucky", 50, 10)
	slow, slowRuns := flaky("slow", 50, 40)
	promises := []bound{
		{key: "good", work: "the good", metric: timesBetter, limit: 10},
		{key: "unlucky", work: "the unlucky", metric: timesBetter, limit: 10},
		{key: "slow", work: "the slow", metric: timesBetter, limit: 10},
	}
	var out, progress strings.Builder
	err := checkWith(t.Context(), promises, []measurement{good, unlucky, slow}, &out, &progress)
	var missed *BoundsError
	if !errors.As(err, &missed) || len(missed.Missed) != 1 || !strings.Contains(missed.Missed[0], "the slow") {
		t.Errorf("the check ended with %v, want one bound missed, that of the slow", err)
	}
	if *goodRuns != 1 || *unluckyRuns != 2 || *slowRuns != 2 {
		t.Errorf("good, unlucky and slow were measured %d, %d and %d times, want once, twice, twice", *goodRuns, *unluckyRuns, *slowRuns)
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
	if !strings.Contains(out.String(), "| no ") {
		t.Errorf("the table must not call the bound met:\n%s", out.String())
	}
}
