package journal

import (
	"slices"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file is the connections over time, for the chart.

const (
	sampleEvery = 5 * time.Second
	// samplesKept is an hour of them.
	samplesKept = 720
)

// Samples returns the connections every 5 s, in the last hour. The first sample is from
// Start.
//
// There is none for a change of limits: samples are as far apart as they say, and the
// change shows in the next one.
func (j *Journal) Samples() api.Samples {
	j.mu.Lock()
	defer j.mu.Unlock()
	return api.Samples{EverySeconds: sampleEvery.Seconds(), Samples: slices.Clone(j.samples)}
}

// sample takes a sample. What it asks of the manager takes some microseconds.
func (j *Journal) sample() {
	stats, limits := j.manager.Stats(), j.manager.Limits()
	s := api.Sample{
		At:   time.Now().UTC(),
		Open: stats.Conns, Inbound: stats.Inbound, Outbound: stats.Outbound,
		LowWater: limits.LowWater, HighWater: limits.HighWater, HardLimit: wire.HardLimit(limits.HardLimit),
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.samples) == samplesKept {
		j.samples = slices.Delete(j.samples, 0, 1)
	}
	j.samples = append(j.samples, s)
}
