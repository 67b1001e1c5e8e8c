package bench

// This file holds what the project promises of its speed, and what of it has been
// reached.

// bound is one promise.
type bound struct {
	key    string // of the row that it is about
	unit   unit   // of the row
	work   string
	metric metric
	limit  figure
	// than is the key of the row to compare with, for the metric that has one.
	than string
	// reached is how far the project has got with a promise that it cannot keep yet; 0 if
	// it keeps it. A check asks for this instead, so that what has been reached is not
	// lost again. It is a ratchet: when we get faster, raise it, and take it away when the
	// promise is kept; never let it go back. It is a little less than what a quiet machine
	// with two cores shows: trims run on both, so one that is busy with something else
	// nearly halves them.
	reached figure
	// profile is the name of the workload that shows where the time goes; empty for what is
	// no matter of time.
	profile string
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
	{key: "trim/spread/100000", work: "trim of 100,000 peers, spread scores", metric: timesBetter, limit: 40, reached: 14, profile: "trim-spread-100k"},
	{key: "trim/equal/100000", work: "trim of 100,000 peers, equal scores", metric: timesBetter, limit: 40, reached: 20, profile: "trim-equal-100k"},
	{key: "trim/spread/1000000", work: "trim of 1,000,000 peers, spread scores", metric: timesBetter, limit: 50, reached: 25, profile: "trim-spread"},
	{key: "trim/equal/1000000", work: "trim of 1,000,000 peers, equal scores", metric: timesBetter, limit: 50, reached: 26, profile: "trim-equal"},
	{key: "trim/spread/100000", work: "trim of 100,000 peers, over copying and sorting scores", metric: timesFloor, limit: 5, reached: 8, profile: "trim-spread-100k"},
	{key: "tag/1000/1", work: "tag one of 1,000 peers", metric: timesBetter, limit: 3, profile: "tag-1k"},
	{key: "tag/100000/1", work: "tag one of 100,000 peers", metric: timesBetter, limit: 3, profile: "tag"},
	{key: "tag/100000/1", work: "tag", metric: allocsOfOurs, limit: 0},
	{key: "connect/100000/1", work: "connect and disconnect", metric: timesBetter, limit: 4, reached: 2.7, profile: "connect"},
	{key: "connect/100000/1", work: "connect and disconnect", metric: allocsOfOurs, limit: 1},
	{key: "memory/100000", work: "memory of a peer", metric: timesBetter, limit: 4},
	{key: "memory/100000", work: "memory of a peer", metric: amountOfOurs, unit: bytesOfMemory, limit: 200},
	{key: "accept/outside/0/1", work: "gate check, no prefixes", metric: timesBetter, limit: 2, profile: "gate-empty"},
	{key: "accept/outside/0/1", work: "gate check, no prefixes", metric: allocsOfOurs, limit: 0},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes", metric: timesBetter, limit: 10_000, profile: "gate"},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes", metric: allocsOfOurs, limit: 0},
	{key: "accept/outside/100000/1", work: "gate check, 100,000 prefixes over none", metric: timesOther, than: "accept/outside/0/1", limit: 2, reached: 6, profile: "gate"},
	{key: "latency/tag", work: "tag during a trim of 1,000,000 peers, 99.9 %, call to return", metric: amountOfOurs, limit: 1e6, profile: "trim-spread"},
	{key: "latency/connect", work: "connect during a trim of 1,000,000 peers, 99.9 %, call to return", metric: amountOfOurs, limit: 1e6, profile: "trim-spread"},
}

// required is what a check asks for, but for noise.
func (b bound) required() figure {
	switch {
	case b.reached == 0:
		return b.limit
	case b.metric == timesBetter:
		return min(b.limit, b.reached)
	default:
		return max(b.limit, b.reached)
	}
}
