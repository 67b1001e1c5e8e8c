package connmgrprom

import (
	"errors"
	"sync"

	"github.com/dep2p/connmgr"
	"github.com/prometheus/client_golang/prometheus"
)

// This file is the collector itself: it describes the table of metrics.go, and reads it
// off the manager whenever it is scraped.

// Collector exports what a [connmgr.Manager] and its gate know. Make one with
// [NewCollector]. All methods may be called from several goroutines, and after Close of
// the collector and of the manager: then it exports what was known at the end.
type Collector struct {
	m       *connmgr.Manager
	metrics []described
	trims   *trimDurations // nil if not asked for
	scores  *scores        // nil if not asked for
	close   sync.Once
}

var _ prometheus.Collector = (*Collector)(nil)

// described is a row of the table with the labels of this collector.
type described struct {
	metric
	desc *prometheus.Desc
}

// NewCollector returns a collector of a manager, to be registered:
//
//	prometheus.MustRegister(connmgrprom.NewCollector(m))
//
// It reads counters when it is scraped, does nothing in between, and needs no Close,
// unless [WithTrimDurations] says otherwise. A registry takes one collector; for
// several see [WithLabels]. It panics if the manager is nil.
func NewCollector(m *connmgr.Manager, opts ...Option) *Collector {
	if m == nil {
		panic(errors.New("connmgr: connmgrprom.NewCollector: the manager is nil"))
	}
	var o options
	for _, option := range opts {
		option(&o)
	}
	c := &Collector{m: m}
	for _, row := range metrics {
		c.metrics = append(c.metrics, described{row, prometheus.NewDesc(row.name, row.help, row.labels, o.labels)})
	}
	if o.scores != nil {
		c.scores = newScores(m, o.scores, o.labels)
	}
	if o.trimDurations != nil {
		c.trims = newTrimDurations(m, eventBuffer, o.trimDurations, o.labels)
		go c.trims.read()
	}
	return c
}

// Close ends what [WithTrimDurations] has begun, and waits for its end; without that
// option it does nothing. Closing twice is the same as once. It neither closes the
// manager nor unregisters the collector.
func (c *Collector) Close() {
	if c.trims != nil {
		c.close.Do(c.trims.stop)
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.metrics {
		descs <- d.desc
	}
	if c.trims != nil {
		c.trims.describe(descs)
	}
	if c.scores != nil {
		c.scores.describe(descs)
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	now := read(c.m)
	for _, d := range c.metrics {
		d.read(now, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d.desc, d.kind, value, labels...)
		})
	}
	if c.trims != nil {
		c.trims.collect(out)
	}
	if c.scores != nil {
		c.scores.collect(out)
	}
}
