package bench

import (
	"testing"
)

func TestBoundsAreJudgedWithAThirdOfSlack(t *testing.T) {
	for _, c := range []struct {
		what        string
		metric      metric
		limit       figure
		measured    figure
		met, passes bool
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
		if v.met() != c.met || v.tolerable() != c.passes {
			t.Errorf("%s (metric %d, bound %v, measured %v): met %t, passes %t; want %t, %t",
				c.what, c.metric, c.limit, c.measured, v.met(), v.tolerable(), c.met, c.passes)
		}
	}
}

func TestACheckAsksForWhatWasReachedIfThatIsLess(t *testing.T) {
	for _, c := range []struct {
		metric                   metric
		limit, reached, measured figure
		want                     string
	}{
		{timesBetter, 40, 15, 41, "met"},
		{timesBetter, 40, 15, 39, "missed, but no worse than what was reached"},
		{timesBetter, 40, 15, 14.9, "missed, but within a third of what was reached"},
		{timesBetter, 40, 15, 10, "missed, but within a third of what was reached"},
		{timesBetter, 40, 15, 9.9, "FAILED"},
		{timesBetter, 40, 0, 27, "missed, but by less than a third"},
		{timesBetter, 40, 0, 26, "FAILED"},
		{timesBetter, 40, 60, 27, "missed, but within a third of what was reached"}, // more than the bound is not asked for
		{timesFloor, 5, 6, 9, "missed, but within a third of what was reached"},
		{timesFloor, 5, 6, 9.1, "FAILED"},
		{timesOther, 2, 1, 3, "missed, but within a third of what was reached"},
		{amountOfOurs, 200, 300, 450, "missed, but within a third of what was reached"},
		{amountOfOurs, 200, 300, 451, "FAILED"},
	} {
		v := verdict{bound: bound{metric: c.metric, limit: c.limit, reached: c.reached}, measured: c.measured}
		if got := v.checked(); got != c.want || v.tolerable() == (c.want == "FAILED") {
			t.Errorf("metric %d, bound %v, reached %v, measured %v: %q, tolerable %t; want %q",
				c.metric, c.limit, c.reached, c.measured, got, v.tolerable(), c.want)
		}
	}
}

func TestBoundsTakeTheirFiguresFromTheirRows(t *testing.T) {
	rows := []row{newRow("a", ""), newRow("b", "")}
	rows[0].theirs, rows[0].ours, rows[0].overFloor, rows[0].ourAllocs = 100, 20, 4, 3
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
		if v.measured.measured() || v.yesOrNo() != "not run" || v.checked() != "not run" {
			t.Errorf("a bound without its row is %v, %s; want not run", v.measured, v.yesOrNo())
		}
	}
}
