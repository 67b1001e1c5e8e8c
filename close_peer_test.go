package connmgr_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

func TestClosePeerClosesAllConnectionsOfOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		m, err := connmgr.New(connmgr.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		host.Notify(m)
		host.Connect("a")
		host.Connect("a", connmgrtest.Outbound(), connmgrtest.Streams(3))
		other := host.Connect("b")
		m.Protect("a", "friend") // protection is for trims
		sub := m.Subscribe(10)

		if n := m.ClosePeer("a"); n != 2 {
			t.Errorf("ClosePeer closed %d connections, want 2", n)
		}
		for _, c := range host.Closed() {
			if c.Peer != "a" || c.Reason != connmgr.ClosedOnRequest {
				t.Errorf("closed %s for %v, want a for %v", c.Peer, c.Reason, connmgr.ClosedOnRequest)
			}
		}
		if host.Connected("a") || !other.Open() {
			t.Error("want a closed and b open")
		}
		want := []connmgr.EventClosed{{
			Verdict: connmgr.Verdict{Peer: "a", Reason: connmgr.ClosedOnRequest, Conns: 2},
			Trigger: connmgr.TriggerRequest, At: time.Now(),
		}}
		if got := events[connmgr.EventClosed](sub); !slices.Equal(got, want) {
			t.Errorf("subscribers were told %+v, want %+v", got, want)
		}
		if n := m.Stats().ClosedPeers[connmgr.ClosedOnRequest]; n != 1 {
			t.Errorf("%d peers are counted as closed on request, want 1", n)
		}
		if n := m.ClosePeer("a") + m.ClosePeer("nobody"); n != 0 {
			t.Errorf("closing who is not connected closed %d connections, want none", n)
		}
	})
}

func TestClosePeerFindsWhatOnlyTheHostKnows(t *testing.T) {
	host := connmgrtest.NewHost() // which does not notify
	m, err := connmgr.New(connmgr.Config{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	host.Connect("a")
	if n := m.ClosePeer("a"); n != 1 || host.Connected("a") {
		t.Errorf("ClosePeer closed %d connections, want the 1 that the host has", n)
	}
}

func TestClosePeerDoesNotCountWhatWouldNotClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		m, err := connmgr.New(connmgr.Config{})
		if err != nil {
			t.Fatal(err)
		}
		host.Notify(m)
		host.Connect("a", connmgrtest.FailOnClose(errors.New("no")))
		hanging := host.Connect("a", connmgrtest.HangOnClose())
		host.Connect("a")
		if n := m.ClosePeer("a"); n != 1 {
			t.Errorf("ClosePeer closed %d connections, want 1: one fails, one hangs", n)
		}
		hanging.Release()
		synctest.Wait()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if n := m.ClosePeer("a"); n != 0 {
			t.Errorf("after Close of the manager %d connections were closed, want none", n)
		}
	})
}
