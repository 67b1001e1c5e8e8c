package connmgrprom

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// This file says what can be asked of a collector beyond the counters that are there
// anyway.

// Option changes what a [Collector] exports.
type Option func(*options)

type options struct {
	labels        prometheus.Labels
	trimDurations []float64 // buckets; nil if not asked for
	scores        []float64 // likewise
}

// WithLabels gives every metric of the collector constant labels, so that several
// managers fit one registry:
//
//	connmgrprom.NewCollector(public, connmgrprom.WithLabels(prometheus.Labels{"network": "public"}))
//
// The collectors of one registry need the same names with different values. Given
// twice, the labels add up. A name that is not valid, or that a metric has already (see
// the package documentation), is an error of Register.
func WithLabels(labels prometheus.Labels) Option {
	return func(o *options) {
		if o.labels == nil {
			o.labels = make(prometheus.Labels)
		}
		maps.Copy(o.labels, labels)
	}
}

// WithTrimDurations exports the durations of trims as a histogram,
// connmgr_trim_duration_seconds. Without it there is the duration of the last trim
// only. The buckets are upper bounds in seconds, in increasing order; none means
// [DefTrimDurationBuckets].
//
// The manager tells of each trim by an event, so this subscribes to its events and takes
// one goroutine, until Close of the collector or of the manager. A manager with a
// subscriber makes an event of each connection that comes, goes or is refused, which
// costs some hundred nanoseconds each. Events that come too fast to be read are dropped,
// and counted as connmgr_dropped_events_total; a trim among them is missing from the
// histogram, but not from connmgr_trims_total.
//
// It panics if the buckets are not in increasing order.
func WithTrimDurations(buckets ...float64) Option {
	if len(buckets) == 0 {
		buckets = DefTrimDurationBuckets
	}
	buckets = mustBuckets("WithTrimDurations", buckets)
	return func(o *options) { o.trimDurations = buckets }
}

// WithScores exports how the scores of the connected peers are distributed at the moment
// of the scrape as a histogram, connmgr_peer_score. The buckets are upper bounds, in
// increasing order; none means [DefScoreBuckets]. Unlike that of other histograms its
// count goes down when peers go, so rate() means nothing here: use its buckets as they
// are, as in histogram_quantile(0.5, connmgr_peer_score_bucket).
//
// Nobody keeps scores: they are found by a dry run, which asks every connection for its
// streams and allocates about a hundred bytes per peer, about a millisecond for some
// thousand peers. So that frequent scrapes cannot load a node, dry runs take a twentieth
// of one processor's time at most: after one that took 50 ms, scrapes get the same
// distribution for a second. Scrapes do not wait for one another's dry run. One in which
// a connection or the host hangs makes its scrape hang.
//
// It panics if the buckets are not in increasing order.
func WithScores(buckets ...float64) Option {
	if len(buckets) == 0 {
		buckets = DefScoreBuckets
	}
	buckets = mustBuckets("WithScores", buckets)
	return func(o *options) { o.scores = buckets }
}

var (
	// DefTrimDurationBuckets are the buckets of [WithTrimDurations], in seconds. Planning
	// takes from microseconds to milliseconds; what takes longer is closing. A trim
	// gives up connections that hang after some seconds.
	DefTrimDurationBuckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	// DefScoreBuckets are the buckets of [WithScores]. The one of 0 holds peers that
	// nobody has tagged, and 10, 20 and 30 those that have the default bonuses alone.
	DefScoreBuckets = []float64{-1000, -100, -10, -1, 0, 10, 20, 30, 50, 100, 300, 1000}
)

// mustBuckets returns a copy of the buckets without a last one of +Inf, which is there
// anyway. It panics on others as prometheus.NewHistogram does: buckets are written in
// the program.
func mustBuckets(option string, buckets []float64) []float64 {
	if n := len(buckets); n > 0 && math.IsInf(buckets[n-1], 1) {
		buckets = buckets[:n-1]
	}
	if len(buckets) == 0 {
		panic(fmt.Sprintf("connmgr: connmgrprom.%s: the only bucket is +Inf", option))
	}
	for i, b := range buckets {
		if math.IsNaN(b) || i > 0 && b <= buckets[i-1] {
			panic(fmt.Sprintf("connmgr: connmgrprom.%s: buckets %v are not in increasing order", option, buckets))
		}
	}
	return slices.Clone(buckets)
}
