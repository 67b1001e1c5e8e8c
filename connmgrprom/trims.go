package connmgrprom

import (
	"github.com/dep2p/connmgr"
	"github.com/prometheus/client_golang/prometheus"
)

// This file keeps the durations of trims. The manager's statistics have that of the last
// one only, so each is taken from its event.

// eventBuffer is the room for events. The reader needs less than a microsecond for one,
// so it is for the moments in which the reader does not run.
const eventBuffer = 4096

type trimDurations struct {
	histogram prometheus.Histogram
	dropped   *prometheus.Desc
	events    *connmgr.Subscription
	done      chan struct{} // closed when the reader has ended
}

// newTrimDurations subscribes with room for a number of events, for read to read.
func newTrimDurations(m *connmgr.Manager, room int, buckets []float64, labels prometheus.Labels) *trimDurations {
	return &trimDurations{
		histogram: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "connmgr_trim_duration_seconds",
			Help:        "How long trims took (WithTrimDurations).",
			ConstLabels: labels,
			Buckets:     buckets,
		}),
		dropped: prometheus.NewDesc("connmgr_dropped_events_total",
			"Events that came too fast for the reader of trim durations (WithTrimDurations).", nil, labels),
		events: m.Subscribe(room),
		done:   make(chan struct{}),
	}
}

// read reads events until stop or Close of the manager.
func (t *trimDurations) read() {
	defer close(t.done)
	for e := range t.events.Events() {
		if trim, ok := e.(connmgr.EventTrim); ok {
			t.histogram.Observe(trim.Took.Seconds())
		}
	}
}

func (t *trimDurations) stop() {
	t.events.Close()
	<-t.done
}

func (t *trimDurations) describe(descs chan<- *prometheus.Desc) {
	t.histogram.Describe(descs)
	descs <- t.dropped
}

func (t *trimDurations) collect(out chan<- prometheus.Metric) {
	t.histogram.Collect(out)
	out <- prometheus.MustNewConstMetric(t.dropped, counter, float64(t.events.Dropped()))
}
