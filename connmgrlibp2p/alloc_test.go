package connmgrlibp2p_test

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// This file holds the drop-in to its share of the budget: what it adds to the
// core's work must not be garbage.

func TestConnectAndDisconnectAllocateAtMostOnce(t *testing.T) {
	cm := newManager(t, 100, 200)
	notifee := cm.Notifee()
	c := &fakeConn{peer: "peer", direction: network.DirInbound}
	got := testing.AllocsPerRun(1000, func() {
		notifee.Connected(nil, c)
		notifee.Disconnected(nil, c)
	})
	if got > 1 {
		t.Errorf("a connection that comes and goes allocates %v times, want at most once", got)
	}
}

func TestTaggingAConnectedPeerAllocatesNothing(t *testing.T) {
	cm := newManager(t, 100, 200)
	c := dial(cm, "peer")
	cm.TagPeer(c.peer, "tag", 1)
	value := 0
	got := testing.AllocsPerRun(1000, func() {
		value++
		cm.TagPeer(c.peer, "tag", value)
	})
	if got != 0 {
		t.Errorf("TagPeer of a connected peer allocates %v times, want never", got)
	}
	if got := valueOf(cm, c.peer); got != value {
		t.Errorf("value is %d after the last TagPeer, want %d", got, value)
	}
}
