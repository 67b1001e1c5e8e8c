package connmgrprom

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/prometheus/client_golang/prometheus"
)

// This file reads the distribution of scores off a dry run, not too often: that is the
// one thing here whose cost grows with the number of peers.

// restShare is how many times longer than a dry run the pause after it is at least.
const restShare = 19

type scores struct {
	m       *connmgr.Manager
	buckets []float64
	desc    *prometheus.Desc

	running sync.Mutex // held during a dry run; guards next
	next    time.Time  // the earliest time of the next dry run
	last    atomic.Pointer[distribution]
}

// distribution is a histogram that nobody changes any more.
type distribution struct {
	count   uint64
	sum     float64
	buckets map[float64]uint64 // cumulative
}

func newScores(m *connmgr.Manager, buckets []float64, labels prometheus.Labels) *scores {
	return &scores{
		m:       m,
		buckets: buckets,
		desc: prometheus.NewDesc("connmgr_peer_score",
			"Scores of the peers that are connected now (WithScores). Its count goes up and down.", nil, labels),
	}
}

func (s *scores) describe(descs chan<- *prometheus.Desc) {
	descs <- s.desc
}

func (s *scores) collect(out chan<- prometheus.Metric) {
	s.refresh()
	if d := s.last.Load(); d != nil {
		out <- prometheus.MustNewConstHistogram(s.desc, d.count, d.sum, d.buckets)
	}
}

// refresh makes a new distribution, if nobody else is about to and it is time. Until
// the first one is there, nothing is exported.
func (s *scores) refresh() {
	if !s.running.TryLock() {
		return
	}
	defer s.running.Unlock()
	began := time.Now()
	if began.Before(s.next) {
		return
	}
	s.last.Store(s.distribution())
	ended := time.Now()
	s.next = ended.Add(restShare * ended.Sub(began))
}

func (s *scores) distribution() *distribution {
	d := &distribution{buckets: make(map[float64]uint64, len(s.buckets))}
	counts := make([]uint64, len(s.buckets)+1) // the last is for those above all bounds
	for v := range s.m.DryRun(connmgr.TriggerManual).Verdicts() {
		score := float64(v.Score)
		d.count++
		d.sum += score
		counts[sort.SearchFloat64s(s.buckets, score)]++
	}
	below := uint64(0)
	for i, bound := range s.buckets {
		below += counts[i]
		d.buckets[bound] = below
	}
	return d
}
