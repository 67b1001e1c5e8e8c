package connmgrlibp2p

import (
	"github.com/dep2p/connmgr"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file translates go-libp2p's ConnectionGater into the core's Gater.

// Gater is a go-libp2p connection gater on top of [connmgr.Gater]. Get the one of a
// connection manager from [ConnManager.Gater], so that both know the same
// connections:
//
//	cm, err := connmgrlibp2p.NewConnManager(100, 400, connmgrlibp2p.WithGate(gate))
//	host, err := libp2p.New(libp2p.ConnectionManager(cm), libp2p.ConnectionGater(cm.Gater()))
//
// or make one by itself with [NewGater], for a node with another connection manager.
// All methods may be called from several goroutines.
//
// Of a relayed connection, and of an address that is a DNS name, no address is judged
// before the connection is made: the relay's address says nothing about the peer
// behind it.
type Gater struct {
	core  *connmgr.Gater
	alone *alone // nil if the gater belongs to a ConnManager
}

var _ libp2p.ConnectionGater = (*Gater)(nil)

// Gater returns the gater of the manager. It is the same value every time.
func (cm *ConnManager) Gater() *Gater { return cm.gater }

// NewGater makes a gater for a node whose connection manager is another one. It has
// no hard limit; of [connmgr.GateLimits] all apply. It learns of connections as they
// pass it, and that they are gone by asking them now and then. Close it when the node
// is closed.
func NewGater(cfg connmgr.GateConfig) (*Gater, error) {
	return newGaterAlone(cfg, false)
}

// Core returns the gater underneath, with all that go-libp2p's interface has no room
// for: rules with expiry, limits, reports of misbehaviour, look-ups, statistics. Its
// node IDs are the bytes of peer IDs: connmgr.NodeID(p) and peer.ID(id).
func (g *Gater) Core() *connmgr.Gater { return g.core }

// InterceptPeerDial decides whether we may dial a peer.
func (g *Gater) InterceptPeerDial(p peer.ID) (allow bool) {
	return g.core.InterceptPeerDial(connmgr.NodeID(p)) == nil
}

// InterceptAddrDial decides whether we may dial a peer at an address.
func (g *Gater) InterceptAddrDial(p peer.ID, a ma.Multiaddr) (allow bool) {
	return g.core.InterceptAddrDial(connmgr.NodeID(p), addrPort(a)) == nil
}

// InterceptAccept decides whether somebody who has dialled us may begin a handshake.
func (g *Gater) InterceptAccept(c network.ConnMultiaddrs) (allow bool) {
	return g.core.InterceptAccept(remoteAddrPort(c)) == nil
}

// InterceptSecured decides whether a connection may go on now that it is known who
// the other side is.
func (g *Gater) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) (allow bool) {
	return g.core.InterceptSecured(direction(dir), connmgr.NodeID(p), remoteAddrPort(c)) == nil
}

// InterceptUpgraded decides whether a connection that is ready may be used. The
// reason is always 0; go-libp2p ignores it. A refused connection is closed by
// go-libp2p with network.ConnGated.
func (g *Gater) InterceptUpgraded(c network.Conn) (allow bool, reason control.DisconnectReason) {
	if c == nil {
		return true, 0
	}
	dir, id := direction(c.Stat().Direction), connmgr.NodeID(c.RemotePeer())
	if g.alone != nil {
		return g.alone.upgraded(g.core, dir, id, c), 0
	}
	var inbound connmgr.Conn
	if dir != connmgr.DirOutbound { // the others take no place at the door
		inbound = conn{c}
	}
	return g.core.InterceptUpgraded(dir, id, remoteAddrPort(c), inbound) == nil, 0
}

// release gives back the place of a connection that another gater refused.
func (g *Gater) release(c network.Conn) {
	if g.alone != nil {
		g.alone.release(c)
	} else {
		g.core.Release(connmgr.NodeID(c.RemotePeer()), conn{c})
	}
}

// Close ends the background work of a gater made by [NewGater]. It still works
// afterwards, but knows of no connections any more. For other gaters it does
// nothing. Closing twice is the same as once.
func (g *Gater) Close() error {
	if g.alone != nil {
		return g.alone.manager.Close()
	}
	return nil
}

// Chain makes one gater of several: a connection may go on if all of them say so,
// asked in order up to the first that does not. Nil ones are left out. A [Gater] with
// limits is best the last: at a full door it closes somebody for a newcomer, which is in
// vain if another one then refuses.
func Chain(gaters ...libp2p.ConnectionGater) libp2p.ConnectionGater {
	var c chain
	for _, g := range gaters {
		if own, ok := g.(*Gater); g != nil && (!ok || own != nil) {
			c = append(c, g)
		}
	}
	return c
}

type chain []libp2p.ConnectionGater

func (c chain) all(ask func(libp2p.ConnectionGater) bool) bool {
	for _, g := range c {
		if !ask(g) {
			return false
		}
	}
	return true
}

func (c chain) InterceptPeerDial(p peer.ID) bool {
	return c.all(func(g libp2p.ConnectionGater) bool { return g.InterceptPeerDial(p) })
}

func (c chain) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return c.all(func(g libp2p.ConnectionGater) bool { return g.InterceptAddrDial(p, a) })
}

func (c chain) InterceptAccept(addrs network.ConnMultiaddrs) bool {
	return c.all(func(g libp2p.ConnectionGater) bool { return g.InterceptAccept(addrs) })
}

func (c chain) InterceptSecured(dir network.Direction, p peer.ID, addrs network.ConnMultiaddrs) bool {
	return c.all(func(g libp2p.ConnectionGater) bool { return g.InterceptSecured(dir, p, addrs) })
}

// InterceptUpgraded gives back the places that the gaters before the one that
// refuses have given.
func (c chain) InterceptUpgraded(conn network.Conn) (bool, control.DisconnectReason) {
	for i, g := range c {
		allow, reason := g.InterceptUpgraded(conn)
		if allow {
			continue
		}
		c[:i].release(conn)
		return false, reason
	}
	return true, 0
}

func (c chain) release(conn network.Conn) {
	if conn == nil {
		return
	}
	for _, g := range c {
		switch g := g.(type) {
		case *Gater:
			g.release(conn)
		case chain:
			g.release(conn)
		}
	}
}

func direction(dir network.Direction) connmgr.Direction {
	switch dir {
	case network.DirInbound:
		return connmgr.DirInbound
	case network.DirOutbound:
		return connmgr.DirOutbound
	case network.DirUnknown:
		return connmgr.DirUnknown
	default:
		return connmgr.DirUnknown
	}
}
