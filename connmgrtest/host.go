// Package connmgrtest has a fake host with fake connections, for tests of
// programs that use package connmgr.
//
//	host := connmgrtest.NewHost()
//	m, err := connmgr.New(connmgr.Config{LowWater: 1, HighWater: 2, Host: host})
//	host.Notify(m)
//	host.Connect("alice", connmgrtest.Outbound(), connmgrtest.Streams(3))
//
// The manager can have the host as its [connmgr.Config.Host], or live on the
// notifications of [Host.Notify] alone, or both. Connections misbehave on
// demand: see [Option].
//
// Nothing here starts a goroutine, sleeps, or is random: what a call sets off
// has happened when the call returns, on the caller's goroutine. So everything
// works inside a bubble of [testing/synctest]. All methods may be called from
// several goroutines at once, and no notification or hook runs under a lock.
package connmgrtest

import (
	"errors"
	"sync"

	"github.com/dep2p/connmgr"
)

// This file holds the fake host: which connections are open, who is told, and
// what was closed and why.

// Notifiee is told of connections. A [*connmgr.Manager] is one.
type Notifiee interface {
	Connected(connmgr.NodeID, connmgr.Conn)
	Disconnected(connmgr.NodeID, connmgr.Conn)
}

var (
	_ Notifiee     = (*connmgr.Manager)(nil)
	_ connmgr.Host = (*Host)(nil)
)

// Closing is one connection that was closed through [Conn.CloseWithReason],
// which is how a manager closes.
type Closing struct {
	Peer   connmgr.NodeID
	Conn   *Conn
	Reason connmgr.Reason
}

// Host is a fake [connmgr.Host]. Make one with [NewHost].
type Host struct {
	mu        sync.Mutex // guards all following fields and Conn.place
	notifiees []Notifiee
	// conns is the open connections in the order in which they were opened, with
	// nil where one has gone; open is how many are not nil.
	conns   []*Conn
	open    int
	closing []Closing
}

// NewHost returns a host without connections that notifies nobody.
func NewHost() *Host { return new(Host) }

// Notify makes the host tell n of every connection that opens or goes from now
// on. Of connections that are open already it is told only that they go.
func (h *Host) Notify(n Notifiee) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// A new slice: somebody may be walking through the old one.
	h.notifiees = append(h.notifiees[:len(h.notifiees):len(h.notifiees)], n)
}

// Connect opens a connection to a peer and tells the notifiees. Without options
// it is inbound, has no streams, and closes when it is asked to. A peer can have
// several connections.
func (h *Host) Connect(peer connmgr.NodeID, options ...Option) *Conn {
	c := NewConn(peer, options...)
	c.host = h

	h.mu.Lock()
	c.place = len(h.conns)
	h.conns = append(h.conns, c)
	h.open++
	h.mu.Unlock()

	c.announce()
	return c
}

// Disconnect drops all connections of a peer, as if the peer had gone, and
// returns how many there were. It is [Conn.Drop] for each.
func (h *Host) Disconnect(peer connmgr.NodeID) int {
	conns := h.Conns(peer)
	for _, c := range conns {
		c.Drop()
	}
	return len(conns)
}

// Connections returns the open connections, the first opened first. A
// connection whose Close hangs or fails is open.
func (h *Host) Connections() []connmgr.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	conns := make([]connmgr.Conn, 0, h.open)
	for _, c := range h.conns {
		if c != nil {
			conns = append(conns, c)
		}
	}
	return conns
}

// CloseConnection closes the connections of a peer one after another, the first
// opened first, and returns their errors joined. So one that hangs keeps the
// peer's later ones open.
func (h *Host) CloseConnection(peer connmgr.NodeID, reason connmgr.Reason) error {
	var errs []error
	for _, c := range h.Conns(peer) {
		errs = append(errs, c.CloseWithReason(reason))
	}
	return errors.Join(errs...)
}

// Len returns the number of open connections.
func (h *Host) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// Conns returns the open connections of a peer, the first opened first.
func (h *Host) Conns(peer connmgr.NodeID) []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	var conns []*Conn
	for _, c := range h.conns {
		if c != nil && c.peer == peer {
			conns = append(conns, c)
		}
	}
	return conns
}

// Connected reports whether a peer has an open connection.
func (h *Host) Connected(peer connmgr.NodeID) bool { return len(h.Conns(peer)) > 0 }

// Closed returns the connections that were closed with a reason, in the order in
// which that happened; a manager closes several at once, so that is not quite the
// order of their rank. Those that were dropped, and those that would not close,
// are not among them.
func (h *Host) Closed() []Closing {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Closing(nil), h.closing...)
}

// remove takes a connection out; closing is nil if it was dropped.
func (h *Host) remove(c *Conn, closing *Closing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[c.place] = nil
	h.open--
	if closing != nil {
		h.closing = append(h.closing, *closing)
	}
	if len(h.conns) < 2*h.open+64 {
		return
	}
	left := h.conns[:0]
	for _, c := range h.conns {
		if c != nil {
			c.place = len(left)
			left = append(left, c)
		}
	}
	clear(h.conns[len(left):])
	h.conns = left
}

func (h *Host) notified() []Notifiee {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.notifiees
}
