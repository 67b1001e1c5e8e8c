package bench

import "strings"

// This file holds what the project promises of its speed, and judges whether it keeps
// it.

// bound is one promise.
type bound struct {
	key    string // of the row that it is about
	unit   unit   // of the row
	work   string
	metric metric
	limit  figure
	// than is the key of the row to compare with, for the metric that has one.
	than string
}

type metric int

const (
	timesBetter  metric = iota // theirs over ours, at least
	timesFloor                 // ours over the floor, at most
	timesOther                 // ours over ours in another row, at most
	allocsOfOurs               // at most, and exactly
	amountOfOurs               // in the unit of the row, at most
)

// bounds is the table of promises.
var bounds = []bound{
	{key: "trim/spread/100000", work: "trim of 100,000 peers, spread scores", metric: timesBetter, limit: 40},
	{key: "trim/equal/100000", work: "trim of 100,000 peers, equal scores", metric: timesBetter, limit: 40},
	{key: "trim/spread/1000000", work: "trim of 1,000,000 peers, spread scores", metric: timesBetter, limit: 50},
	{key: "trim/equal/1000000", work: "trim of 1,000,000 peers, equal scores", metric: timesBetter, limit: 50},
	{key: "trim/spread/100000", work: "trim of 100,000 peers, over copying and sorting scores", metric: timesFloor, limit: 5},
	{key: "tag/1000/1", work: "tag one of 1,000 peers", metric: timesBetter, limit: 3},
	{key: "tag/100000/1", work: "tag one of 100,000 peers", metric: timesBetter, limit: 3},
	{key: "tag/100000/1", work: "tag", metric: allocsOfOurs, limit: 0},
	{key: "connect/100000/1", work: "connect and disconnect", metric: timesBetter, limit: 4},
	{key: "connect/100000/1", work: "connect and disconnect", metric: allocsOfOurs, limit: 1},
	{key: "memory/100000", work: "memory of a peer", metric: timesBetter, limit: 4},
	{key: "memory/100000", work: "memory of a peer", metric: amountOfOurs, unit: bytesOfMemory, limit: 200},
	{key: "accept/outside/0/1", work: "gate check, no prefixes", metric: timesBetter, limit: 2},
	{key: "accept/outside/0/1", work: "gate check, no prefixes", metric: allocsOfOurs, limit: 0},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes", metric: timesBetter, limit: 10_000},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes", metric: allocsOfOurs, limit: 0},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes over none", metric: timesOther, than: "accept/outside/0/1", limit: 2},
	{key: "latency/tag", work: "tag during a trim of 1,000,000 peers, 99.9 %", metric: amountOfOurs, limit: 1e6},
	{key: "latency/connect", work: "connect during a trim of 1,000,000 peers, 99.9 %", metric: amountOfOurs, limit: 1e6},
}

// slack is by how much a short run on a shared machine may miss a bound: a third.
// Allocations have none.
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
			verdicts[i].measured = r.overFloor()
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
func (v verdict) met() bool { return v.holds(1) }

// nearlyMet reports whether it holds but for noise. What is not measured does not.
func (v verdict) nearlyMet() bool { return v.holds(slack) }

func (v verdict) holds(slack figure) bool {
	switch v.metric {
	case timesBetter:
		return v.measured >= v.limit/slack
	case timesFloor, timesOther, amountOfOurs:
		return v.measured <= v.limit*slack
	case allocsOfOurs:
		return v.measured <= v.limit+noise
	default:
		return false
	}
}

// wanted says what the bound is.
func (v verdict) wanted() string {
	switch v.metric {
	case timesBetter:
		return "at least " + v.plainLimit() + " ×"
	case timesFloor, timesOther:
		return "at most " + v.plainLimit() + " ×"
	case allocsOfOurs:
		return "at most " + v.plainLimit() + " allocations"
	case amountOfOurs:
		return "at most " + strings.Replace(v.unit.write(v.limit), ".00", "", 1)
	default:
		return "nothing"
	}
}

func (v verdict) plainLimit() string { return thousands(int(v.limit)) }

// found says what was measured.
func (v verdict) found() string {
	switch {
	case !v.measured.measured():
		return v.unit.write(notRun)
	case v.metric == allocsOfOurs:
		return perCallAllocs(v.measured)
	case v.metric == amountOfOurs:
		return v.unit.write(v.measured)
	default:
		return times(v.measured)
	}
}

// outcome is met, or not.
func (v verdict) outcome() string {
	switch {
	case !v.measured.measured():
		return unmeasured
	case v.met():
		return "yes"
	default:
		return "no"
	}
}

func (v verdict) String() string {
	return strings.Join([]string{v.work, v.wanted(), v.found()}, ": ")
}
