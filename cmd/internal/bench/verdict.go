package bench

import "strings"

// This file judges whether the bounds hold.

// slack is by how much a short run on a shared machine may be worse than what is
// required: a third. Allocations have none.
const slack = 1.5

// verdict is what became of a bound.
type verdict struct {
	bound
	measured figure // notRun if its row is not there
}

// judge compares rows with the bounds.
func judge(bounds []bound, rows []row) []verdict {
	verdicts := make([]verdict, len(bounds))
	for i, b := range bounds {
		verdicts[i] = verdict{bound: b, measured: notRun}
		r, ok := find(rows, b.key)
		if !ok {
			continue
		}
		switch b.metric {
		case timesBetter:
			verdicts[i].measured = r.ratio()
		case timesFloor:
			verdicts[i].measured = r.overFloor
		case timesOther:
			if other, ok := find(rows, b.than); ok {
				verdicts[i].measured = r.ours / other.ours
			}
		case allocsOfOurs:
			verdicts[i].measured = r.ourAllocs
		case amountOfOurs:
			verdicts[i].measured = r.ours
		}
	}
	return verdicts
}

func find(rows []row, key string) (row, bool) {
	for _, r := range rows {
		if r.key == key {
			return r, true
		}
	}
	return row{}, false
}

// met reports whether the bound holds as it stands.
func (v verdict) met() bool { return v.within(v.limit, 1) }

// tolerable reports whether no more than noise has been lost of what the project had. What
// is not measured is not.
func (v verdict) tolerable() bool { return v.within(v.required(), slack) }

// within reports whether what was measured is as good as wanted, give or take slack.
func (v verdict) within(wanted, slack figure) bool {
	switch v.metric {
	case timesBetter:
		return v.measured >= wanted/slack
	case timesFloor, timesOther, amountOfOurs:
		return v.measured <= wanted*slack
	case allocsOfOurs:
		return v.measured <= wanted+noise
	default:
		return false
	}
}

// wanted says what the bound is.
func (v verdict) wanted() string {
	switch v.metric {
	case timesBetter:
		return "at least " + thousands(int(v.limit)) + " ×"
	case timesFloor, timesOther:
		return "at most " + thousands(int(v.limit)) + " ×"
	case allocsOfOurs:
		switch v.limit {
		case 0:
			return "no allocation"
		case 1:
			return "at most 1 allocation"
		default:
			return "at most " + thousands(int(v.limit)) + " allocations"
		}
	case amountOfOurs:
		return "at most " + strings.Replace(v.unit.write(v.limit), ".00", "", 1)
	default:
		return "nothing"
	}
}

// found says what was measured.
func (v verdict) found() string { return v.write(v.measured) }

// write writes a figure as one that the bound is about.
func (v verdict) write(f figure) string {
	switch {
	case !f.measured():
		return v.unit.write(notRun)
	case v.metric == allocsOfOurs:
		return perCallAllocs(f)
	case v.metric == amountOfOurs:
		return v.unit.write(f)
	default:
		return times(f)
	}
}

// yesOrNo says whether the bound is met.
func (v verdict) yesOrNo() string {
	switch {
	case !v.measured.measured():
		return unmeasured
	case v.met():
		return "yes"
	default:
		return "no"
	}
}

// checked says what a check makes of it.
func (v verdict) checked() string {
	switch {
	case !v.measured.measured():
		return unmeasured
	case v.met():
		return "met"
	case !v.tolerable():
		return "FAILED"
	case v.reached == 0:
		return "missed, but by less than a third"
	case v.within(v.required(), 1):
		return "missed, but no worse than what was reached"
	default:
		return "missed, but within a third of what was reached"
	}
}

// String says it in a line, for one that has failed.
func (v verdict) String() string {
	s := v.work + ": " + v.found() + ", wanted " + v.wanted()
	if v.reached != 0 {
		s += ", reached before " + v.write(v.reached)
	}
	return s
}
