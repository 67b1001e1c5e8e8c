package connmgr

import (
	"encoding/hex"
	"net/netip"
	"time"
)

// This file says what the manager needs from the world: the ID of a peer, a
// connection, and (optionally) the host that owns the connections.

// NodeID identifies a peer. Every string of bytes is a valid ID, the empty one
// included; IDs are compared byte by byte and never parsed.
type NodeID string

// String returns the ID as it is when it consists of printable ASCII, and in
// hexadecimal otherwise, so that a binary ID cannot garble a log.
func (id NodeID) String() string {
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return "0x" + hex.EncodeToString([]byte(id))
		}
	}
	return string(id)
}

// Direction says who opened a connection.
type Direction uint8

const (
	// DirUnknown is a connection whose direction the host does not know. It
	// ranks like an inbound one.
	DirUnknown Direction = iota
	// DirInbound is a connection that the peer opened.
	DirInbound
	// DirOutbound is a connection that we opened.
	DirOutbound
)

// String returns "unknown", "inbound" or "outbound".
func (d Direction) String() string {
	switch d {
	case DirInbound:
		return "inbound"
	case DirOutbound:
		return "outbound"
	case DirUnknown:
		return "unknown"
	default:
		return "unknown"
	}
}

// ConnStat is what a connection says about itself at one moment.
type ConnStat struct {
	// Direction says who opened the connection. It never changes.
	Direction Direction
	// Opened is when the connection was opened; zero means unknown. It is read
	// only for a connection found through [Host], since a notified connection
	// is dated by its notification.
	Opened time.Time
	// Streams is the number of streams open now. Less than zero counts as zero.
	Streams int
}

// Conn is one connection to a peer.
//
// The dynamic type must be comparable: the manager tells connections apart
// with ==. Methods may be called from several goroutines at once, never under
// one of the manager's locks, and may call back into the manager, but must not wait
// for a trim: the trim may be waiting for them.
type Conn interface {
	// RemotePeer returns the ID of the peer at the other end. It never changes.
	RemotePeer() NodeID
	// Stat returns the connection's live details. The manager asks few
	// connections, and rarely: once when it learns of one, and in a trim those
	// whose streams decide.
	Stat() ConnStat
	// CloseWithReason closes the connection and, if the protocol can, tells the
	// other side why. It may be called for a connection that is closed already.
	CloseWithReason(Reason) error
}

// AddrConn is a [Conn] that knows the address of the other side. It is optional:
// without it, a rule about an address refuses new connections, but cannot tell which
// of the live ones it is about.
type AddrConn interface {
	Conn
	// RemoteAddrPort returns the address and port of the other side, and the zero
	// AddrPort if that is not an IP address, such as for a relayed connection: the
	// relay's address says nothing about the peer behind it. It never changes.
	RemoteAddrPort() netip.AddrPort
}

// Host owns the connections. It is optional: a manager that is told of every
// connection with [Manager.Connected] and [Manager.Disconnected] does without.
//
// With a Host, Connections is the truth. The manager asks it before every trim
// and on every background tick and mends its own table, so neither a lost
// notification nor a host that sends none can mislead it.
//
// Methods may be called from several goroutines at once, never under one of the
// manager's locks. They must not wait for a trim.
//
// Source: seed, trim algorithm (m.host).
type Host interface {
	// Connections returns all open connections, each as the same (==) value every
	// time, and as the value that [Manager.Connected] gets, if it is called: not
	// before the connection is in here. The manager does not keep or change the
	// slice.
	Connections() []Conn
	// CloseConnection closes all connections of a peer for the given reason.
	// That a peer has none is not an error.
	CloseConnection(peer NodeID, reason Reason) error
}
