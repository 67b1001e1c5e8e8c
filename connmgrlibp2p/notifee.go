package connmgrlibp2p

import (
	"net/netip"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// This file passes go-libp2p's connections to the core.

// conn is a go-libp2p connection as the core sees it. Two of them are equal if
// the connections are.
type conn struct{ c network.Conn }

func (c conn) RemotePeer() connmgr.NodeID { return connmgr.NodeID(c.c.RemotePeer()) }

func (c conn) Stat() connmgr.ConnStat {
	stat := c.c.Stat()
	return connmgr.ConnStat{Direction: direction(stat.Direction), Opened: stat.Opened, Streams: stat.NumStreams}
}

func (c conn) RemoteAddrPort() netip.AddrPort { return remoteAddrPort(c.c) }

// CloseWithReason closes the connection. The other side is told that the gate did
// it, or else what go-libp2p's manager tells it. An error is no failure if the
// connection is closed all the same: a swarm reports trouble with the farewell that
// way.
func (c conn) CloseWithReason(reason connmgr.Reason) error {
	code := network.ConnGarbageCollected
	if reason == connmgr.ClosedBlocked || reason == connmgr.ClosedMisbehaved {
		code = network.ConnGated
	}
	if err := c.c.CloseWithError(code); err != nil && !c.c.IsClosed() {
		return err
	}
	return nil
}

// notifee receives go-libp2p's notifications. The network that comes with them
// is not used; it may be nil.
type notifee struct{ core *connmgr.Manager }

func (n *notifee) Connected(_ network.Network, c network.Conn) {
	if c != nil {
		n.core.Connected(connmgr.NodeID(c.RemotePeer()), conn{c})
	}
}

func (n *notifee) Disconnected(_ network.Network, c network.Conn) {
	if c != nil {
		n.core.Disconnected(connmgr.NodeID(c.RemotePeer()), conn{c})
	}
}

func (n *notifee) Listen(network.Network, ma.Multiaddr)      {}
func (n *notifee) ListenClose(network.Network, ma.Multiaddr) {}
