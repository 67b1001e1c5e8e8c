package connmgrprom

import (
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// droppedOnly collects nothing but the events that were dropped.
type droppedOnly struct{ *trimDurations }

func (d droppedOnly) Describe(descs chan<- *prometheus.Desc) { descs <- d.dropped }

func (d droppedOnly) Collect(out chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric, 2)
	d.collect(all)
	<-all
	out <- <-all
}

func TestEventsThatFindNoRoomAreCounted(t *testing.T) {
	m, err := connmgr.New(connmgr.Config{ManualStart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d := newTrimDurations(m, 2, []float64{1}, nil) // and nobody reads
	for _, peer := range []connmgr.NodeID{"alice", "bob", "carol", "dave", "eve"} {
		m.Connected(peer, connmgrtest.NewConn(peer))
	}
	if got := testutil.ToFloat64(droppedOnly{d}); got != 3 {
		t.Errorf("of 5 events with room for 2, %v were counted as dropped, want 3", got)
	}
}
