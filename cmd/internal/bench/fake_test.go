package bench

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestFakeConnectionSaysWhatARealOneSays(t *testing.T) {
	before := time.Now()
	c := newFakeConn(peerID(1), 3)
	stat := c.Stat()
	if stat.NumStreams != 3 || stat.Direction != network.DirInbound || stat.Opened.Before(before) {
		t.Errorf("its Stat is %+v, want 3 streams, inbound, opened now", stat)
	}
	if c.RemotePeer() != peerID(1) || c.RemoteMultiaddr() == nil {
		t.Errorf("it leads to %s at %v, want %s and an address", c.RemotePeer(), c.RemoteMultiaddr(), peerID(1))
	}
	if c.IsClosed() {
		t.Error("it is closed before anybody closed it")
	}
	if err := c.CloseWithError(network.ConnGarbageCollected); err != nil || !c.IsClosed() {
		t.Errorf("closing it gave %v, closed %t; want no error, closed", err, c.IsClosed())
	}
}

func TestPeerIDsAreValidAndDiffer(t *testing.T) {
	seen := make(map[peer.ID]bool)
	for n := range 1000 {
		id := peerID(n)
		if err := id.Validate(); err != nil || seen[id] {
			t.Fatalf("ID %d is %s: valid %v, seen before %t", n, id, err, seen[id])
		}
		if _, err := id.ExtractPublicKey(); err != nil {
			t.Fatalf("ID %d does not look like that of an Ed25519 key: %v", n, err)
		}
		if peerID(n) != id || sameID(id) != id {
			t.Fatalf("ID %d is not the same the second time", n)
		}
		seen[id] = true
	}
}
