package bench

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file holds the connections that managers are measured on. To both managers
// they are real ones: everything that these call does what go-libp2p's swarm does for
// it, Stat with a lock and a copy of the same struct. What nobody calls panics.

// fakeConn is a connection to a peer, without a network.
type fakeConn struct {
	remote peer.ID
	addr   ma.Multiaddr

	streams struct {
		sync.Mutex
		m map[network.Stream]struct{}
	}
	stat   network.ConnStats
	closed atomic.Bool
	asked  *atomic.Int64 // how often Stat was called; nil if nobody wants to know
}

var _ network.Conn = (*fakeConn)(nil)

// newFakeConn returns an inbound connection to a peer, opened now.
func newFakeConn(remote peer.ID, streams int) *fakeConn {
	c := &fakeConn{remote: remote, addr: someAddr}
	c.stat.Direction = network.DirInbound
	c.stat.Opened = time.Now()
	c.stat.NumStreams = streams
	return c
}

var someAddr = ma.StringCast("/ip4/192.0.2.1/tcp/4001")

// Stat does what that of go-libp2p's swarm does: it takes the lock of the connection's
// streams, and copies.
func (c *fakeConn) Stat() network.ConnStats {
	if c.asked != nil {
		c.asked.Add(1)
	}
	c.streams.Lock()
	defer c.streams.Unlock()
	return c.stat
}

func (c *fakeConn) RemotePeer() peer.ID           { return c.remote }
func (c *fakeConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *fakeConn) LocalMultiaddr() ma.Multiaddr  { return c.addr }
func (c *fakeConn) IsClosed() bool                { return c.closed.Load() }

// Close only notes that it was called: what a real one costs is the same for every
// manager.
func (c *fakeConn) Close() error                                 { c.closed.Store(true); return nil }
func (c *fakeConn) CloseWithError(_ network.ConnErrorCode) error { return c.Close() }

const notNeeded = "bench: no connection manager calls this"

func (c *fakeConn) ID() string                                        { panic(notNeeded) }
func (c *fakeConn) LocalPeer() peer.ID                                { panic(notNeeded) }
func (c *fakeConn) RemotePublicKey() ic.PubKey                        { panic(notNeeded) }
func (c *fakeConn) ConnState() network.ConnectionState                { panic(notNeeded) }
func (c *fakeConn) Scope() network.ConnScope                          { panic(notNeeded) }
func (c *fakeConn) NewStream(context.Context) (network.Stream, error) { panic(notNeeded) }
func (c *fakeConn) GetStreams() []network.Stream                      { panic(notNeeded) }
func (c *fakeConn) As(any) bool                                       { panic(notNeeded) }

// peerID returns the n-th of a series of peer IDs. They look like those of Ed25519
// keys: 38 bytes, of which the last 32 are random.
func peerID(n int) peer.ID {
	id := make([]byte, 38)
	copy(id, "\x00\x24\x08\x01\x12\x20")
	random := rand.NewPCG(uint64(n), 42)
	for i := 6; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], random.Uint64())
	}
	return peer.ID(id)
}

// sameID returns an equal ID that lies elsewhere in memory, as IDs do that reach a
// manager by another way than the connection.
func sameID(id peer.ID) peer.ID { return peer.ID([]byte(id)) }

// crowd is peers with one connection each.
type crowd struct {
	ids   []peer.ID // as callers know them; see sameID
	conns []*fakeConn
}

// newCrowd makes n peers. Two crowds of the same size have the same IDs, but no
// connection in common.
func newCrowd(n int) *crowd {
	c := &crowd{ids: make([]peer.ID, n), conns: make([]*fakeConn, n)}
	for i := range n {
		c.conns[i] = newFakeConn(peerID(i), 0)
		c.ids[i] = sameID(c.conns[i].remote)
	}
	return c
}
