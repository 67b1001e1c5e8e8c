package connmgrlibp2p

import (
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
	out := connmgr.ConnStat{Opened: stat.Opened, Streams: stat.NumStreams}
	switch stat.Direction {
	case network.DirInbound:
		out.Direction = connmgr.DirInbound
	case network.DirOutbound:
		out.Direction = connmgr.DirOutbound
	case network.DirUnknown:
		out.Direction = connmgr.DirUnknown
	}
	return out
}

// CloseWithReason closes the connection. Whatever the reason, the other side is
// told what go-libp2p's manager tells it. An error is no failure if the connection
// is closed all the same: a swarm reports trouble with the farewell that way.
func (c conn) CloseWithReason(connmgr.Reason) error {
	if err := c.c.CloseWithError(network.ConnGarbageCollected); err != nil && !c.c.IsClosed() {
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
