package connmgr_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests read the statistics. Each counter of what is ignored, refused or
// forgotten is tested where that is.

func TestStatsOfANewManager(t *testing.T) {
	got := newManager(t, connmgr.Config{}).Stats()
	want := connmgr.Stats{Trims: map[connmgr.Trigger]uint64{}, ClosedPeers: map[connmgr.Reason]uint64{}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Stats = %+v, want nothing but empty maps", got)
	}
}

func TestStatsTellWhatThereIs(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	for i := range 10 {
		host.Connect(peerID(i), connmgrtest.Direction(connmgr.Direction(i%3)))
	}
	host.Connect(peerID(0), connmgrtest.Outbound())
	m.Protect(peerID(0), "x")
	m.Protect("absent", "x")
	m.TagPeer("idle", "a", 1)
	m.TagPeer("idle too", "a", 1)
	s := m.Stats()
	for _, tt := range []struct {
		what      string
		got, want int
	}{
		{"Conns", s.Conns, 11},
		{"ConnCount", m.ConnCount(), 11},
		{"Inbound", s.Inbound, 3},
		{"Outbound", s.Outbound, 4},
		{"UnknownDirection", s.UnknownDirection, 4},
		{"Closing", s.Closing, 0},
		{"Peers", s.Peers, 10},
		{"ProtectedPeers", s.ProtectedPeers, 2},
		{"IdlePeers", s.IdlePeers, 2},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %d, want %d", tt.what, tt.got, tt.want)
		}
	}
}

func TestStatsTellWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(5, 10)
		cfg.GracePeriod = 10 * time.Second
		cfg.HardLimit = 20
		m, host := newNode(t, cfg)
		for i := range 3 {
			m.Protect(peerID(i), "x")
		}
		connectMany(host, 12) // above high water, all in grace
		advance(10 * time.Second)
		if host.Len() != 5 {
			t.Fatalf("%d connections after grace, want 5", host.Len())
		}
		for i := range 16 { // above the hard limit
			host.Connect(peerID(100+i), connmgrtest.FailOnClose(errors.New("no")))
		}
		synctest.Wait()
		for _, c := range host.Connections() {
			c.(*connmgrtest.Conn).SetOnClose(nil)
		}
		if err := m.SetLimits(connmgr.Limits{LowWater: 1, HighWater: 100, HardLimit: 100}); err != nil {
			t.Fatal(err)
		}
		res, err := m.ForceTrim(context.Background())
		if err != nil {
			t.Fatal(err)
		}

		s := m.Stats()
		wantTrims := map[connmgr.Trigger]uint64{
			connmgr.TriggerHighWater: 1, connmgr.TriggerGrace: 1, connmgr.TriggerHardLimit: 1, connmgr.TriggerForce: 1,
		}
		// At the tick of 10 s the grace ends as well: either may set off the trim.
		if s.Trims[connmgr.TriggerTick] == 1 {
			delete(wantTrims, connmgr.TriggerGrace)
			wantTrims[connmgr.TriggerTick] = 1
		}
		if !maps.Equal(s.Trims, wantTrims) {
			t.Errorf("Trims = %v, want %v", s.Trims, wantTrims)
		}
		wantClosed := map[connmgr.Reason]uint64{
			connmgr.ClosedLowScore: 7, connmgr.ClosedForced: 18, connmgr.ClosedForcedProtected: 2,
		}
		if !maps.Equal(s.ClosedPeers, wantClosed) {
			t.Errorf("ClosedPeers = %v, want %v", s.ClosedPeers, wantClosed)
		}
		if s.CloseErrors != 11 {
			t.Errorf("CloseErrors = %d, want 11: from 21 connections down to high water", s.CloseErrors)
		}
		if s.Conns != 1 || host.Len() != 1 || s.Peers != 1 {
			t.Errorf("connections %d of %d, peers %d; want 1", s.Conns, host.Len(), s.Peers)
		}
		if s.LastTrim.Figures != res.Figures || s.LastTrim.Trigger != connmgr.TriggerForce || s.LastTrim.Closed != nil {
			t.Errorf("LastTrim = %+v, want the forced one without its list", s.LastTrim)
		}
		if !s.LastTrim.Started.Equal(res.Started) || s.LastTrim.Started.IsZero() {
			t.Errorf("LastTrim started %v, want %v", s.LastTrim.Started, res.Started)
		}
		if s.Panics != 0 || s.SparedPeers != 0 || s.HangingPeers != 0 {
			t.Errorf("panics %d, spared %d, hanging %d; want none", s.Panics, s.SparedPeers, s.HangingPeers)
		}
	})
}

func TestStatsAreTheCallersOwn(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	s := m.Stats()
	s.Trims[connmgr.TriggerForce] = 99
	s.ClosedPeers[connmgr.ClosedForced] = 99
	if s := m.Stats(); len(s.Trims) != 0 || len(s.ClosedPeers) != 0 {
		t.Errorf("changing an answer changed the manager: %+v", s)
	}
}
