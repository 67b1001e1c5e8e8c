package connmgrtest

import (
	"net/netip"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
)

// This file holds the fake connection: what it says about itself, how it closes,
// and how it can be made to misbehave.

var _ connmgr.AddrConn = (*Conn)(nil)

// Conn is a fake [connmgr.AddrConn]. Get one from [Host.Connect], or from [NewConn]
// if the test tells the manager itself.
type Conn struct {
	peer connmgr.NodeID
	addr netip.AddrPort // zero is unknown
	// host is nil for a connection made with NewConn; place is its index in the
	// host's list.
	host           *Host
	place          int
	muteConnect    bool
	muteDisconnect bool

	mu      sync.Mutex // guards all following fields
	stat    connmgr.ConnStat
	onClose func(connmgr.Reason) error
	hang    chan struct{} // closed by Release; nil if Close does not hang
	gone    bool
	closed  bool // with reason
	reason  connmgr.Reason
	closes  int
	stats   int
	// announced says that Connected has returned. A connection that goes earlier
	// is reported as gone right after, as a real host does.
	announced bool
}

// Option says how a connection differs from one that is inbound, has no streams
// and closes when it is asked to.
type Option func(*Conn)

// Inbound makes a connection inbound. That is the default.
func Inbound() Option { return Direction(connmgr.DirInbound) }

// Outbound makes a connection outbound.
func Outbound() Option { return Direction(connmgr.DirOutbound) }

// Direction gives a connection a direction.
func Direction(d connmgr.Direction) Option {
	return func(c *Conn) { c.stat.Direction = d }
}

// Streams opens n streams on a connection; see also [Conn.SetStreams].
func Streams(n int) Option {
	return func(c *Conn) { c.stat.Streams = n }
}

// Opened says when a connection was opened. Without it, it does not know.
func Opened(at time.Time) Option {
	return func(c *Conn) { c.stat.Opened = at }
}

// From makes a connection know the address of the other side. Without it, the
// address is unknown.
func From(addr netip.AddrPort) Option {
	return func(c *Conn) { c.addr = addr }
}

// HangOnClose makes CloseWithReason hang until [Conn.Release].
func HangOnClose() Option {
	return func(c *Conn) { c.hang = make(chan struct{}) }
}

// FailOnClose makes CloseWithReason return err and leave the connection open,
// until [Conn.SetOnClose] says otherwise.
func FailOnClose(err error) Option {
	return OnClose(func(connmgr.Reason) error { return err })
}

// PanicOnClose makes CloseWithReason panic with a value and leave the connection
// open, until [Conn.SetOnClose] says otherwise.
func PanicOnClose(value any) Option {
	return OnClose(func(connmgr.Reason) error { panic(value) })
}

// OnClose makes CloseWithReason call f first. If f returns an error, that is
// returned and the connection stays open. f may do anything, such as hang or
// call the manager.
func OnClose(f func(connmgr.Reason) error) Option {
	return func(c *Conn) { c.onClose = f }
}

// LoseConnected makes the host keep from its notifiees that a connection has
// opened.
func LoseConnected() Option { return func(c *Conn) { c.muteConnect = true } }

// LoseDisconnected makes the host keep from its notifiees that a connection is
// gone.
func LoseDisconnected() Option { return func(c *Conn) { c.muteDisconnect = true } }

// NewConn makes an open connection that belongs to no host, so nobody is told
// when it opens or goes.
func NewConn(peer connmgr.NodeID, options ...Option) *Conn {
	c := &Conn{peer: peer}
	c.stat.Direction = connmgr.DirInbound
	for _, option := range options {
		option(c)
	}
	return c
}

// RemotePeer returns the peer.
func (c *Conn) RemotePeer() connmgr.NodeID { return c.peer }

// RemoteAddrPort returns what [From] said, the zero AddrPort without it.
func (c *Conn) RemoteAddrPort() netip.AddrPort { return c.addr }

// Stat returns the direction, the time of opening and the number of streams.
func (c *Conn) Stat() connmgr.ConnStat {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats++
	return c.stat
}

// CloseWithReason closes the connection: it hangs if it has to, calls the hook
// of [OnClose] if there is one, and if that does not fail the connection is gone
// from the host, the reason is recorded and the notifiees are told, before it
// returns. For a connection that is gone already it only counts the call.
func (c *Conn) CloseWithReason(reason connmgr.Reason) error {
	c.mu.Lock()
	c.closes++
	gone, hang, hook := c.gone, c.hang, c.onClose
	c.mu.Unlock()
	if gone {
		return nil
	}
	if hang != nil {
		<-hang
	}
	if hook != nil {
		if err := hook(reason); err != nil {
			return err
		}
	}
	c.leave(&Closing{Peer: c.peer, Conn: c, Reason: reason})
	return nil
}

// Drop ends the connection without a reason, as if the peer or the network had.
// The notifiees are told before it returns. A Close that hangs goes on hanging,
// to no effect. Dropping twice is the same as once.
func (c *Conn) Drop() { c.leave(nil) }

// Release lets a Close that hangs go on, and later ones not hang. Releasing
// twice is the same as once.
func (c *Conn) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hang != nil {
		close(c.hang)
		c.hang = nil
	}
}

// SetStreams changes the number of open streams.
func (c *Conn) SetStreams(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stat.Streams = n
}

// SetOnClose changes what [OnClose] set; nil makes the connection close when it
// is asked to.
func (c *Conn) SetOnClose(f func(connmgr.Reason) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onClose = f
}

// Open reports whether the connection has neither been closed nor dropped.
func (c *Conn) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.gone
}

// ClosedFor returns the reason for which the connection was closed, and false if
// it is open or was dropped.
func (c *Conn) ClosedFor() (connmgr.Reason, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.closed
}

// CloseCalls returns how often CloseWithReason was called, those calls included
// that hang, failed, or came when the connection was gone already.
func (c *Conn) CloseCalls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closes
}

// StatCalls returns how often Stat was called.
func (c *Conn) StatCalls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// announce tells the host's notifiees of the connection, and that it is gone if
// it went meanwhile.
func (c *Conn) announce() {
	if !c.muteConnect {
		for _, n := range c.host.notified() {
			n.Connected(c.peer, c)
		}
	}
	c.mu.Lock()
	c.announced = true
	gone := c.gone
	c.mu.Unlock()
	if gone {
		c.tellGone()
	}
}

// leave ends the connection, once; closing is nil if it is dropped.
func (c *Conn) leave(closing *Closing) {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.gone = true
	if closing != nil {
		c.closed, c.reason = true, closing.Reason
	}
	announced := c.announced
	c.mu.Unlock()

	if c.host == nil {
		return
	}
	c.host.remove(c, closing)
	if announced {
		c.tellGone()
	}
}

func (c *Conn) tellGone() {
	if !c.muteDisconnect {
		for _, n := range c.host.notified() {
			n.Disconnected(c.peer, c)
		}
	}
}
