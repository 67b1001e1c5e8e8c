package connmgrlibp2p

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
)

// This file lets a gater work without its connection manager: it remembers the
// connections that pass it, so that blocking can close them and limits can count
// them. Nobody tells it when one is gone, so it asks the connections themselves.

// settling is how long a connection is left alone after it has passed. go-libp2p makes
// it known within microseconds of that; to close it before would leave go-libp2p with
// a dead connection that it believes to be open.
const settling = 100 * time.Millisecond

// alone is the connections of a gater by itself. It is the host of a manager that
// does not trim.
type alone struct {
	manager *connmgr.Manager

	mu     sync.Mutex // guards all following fields
	passed map[network.Conn]time.Time
	// enough is the number of connections at which those that are closed are dropped:
	// twice as many as there were open the last time.
	enough int
}

// newGaterAlone makes a gater with a manager of its own. A quiet one has nothing that
// runs in the background, so that it need not be closed.
func newGaterAlone(cfg connmgr.GateConfig, quiet bool) (*Gater, error) {
	a := &alone{passed: make(map[network.Conn]time.Time), enough: 64}
	m, err := connmgr.New(connmgr.Config{
		LowWater: math.MaxInt32, HighWater: math.MaxInt32, HardLimit: math.MaxInt,
		Host: a, Gate: cfg, ManualStart: quiet,
	})
	if err != nil {
		return nil, err
	}
	a.manager = m
	return &Gater{core: m.Gater(), alone: a}, nil
}

// upgraded is InterceptUpgraded.
func (a *alone) upgraded(core *connmgr.Gater, dir connmgr.Direction, id connmgr.NodeID, c network.Conn) bool {
	a.mu.Lock()
	many := len(a.passed) >= a.enough
	a.mu.Unlock()
	if many {
		open := a.Connections()
		a.mu.Lock()
		a.enough = 2*len(open) + 64
		a.mu.Unlock()
	}
	// The rules and the limits first: what they refuse is not remembered.
	if core.InterceptUpgraded(dir, id, remoteAddrPort(c), a.conn(c)) != nil {
		return false
	}
	a.mu.Lock()
	a.passed[c] = time.Now()
	a.mu.Unlock()
	a.manager.Connected(id, a.conn(c))
	return true
}

// release forgets a connection that is closed, or that another gater refused.
func (a *alone) release(c network.Conn) {
	a.mu.Lock()
	delete(a.passed, c)
	a.mu.Unlock()
	a.manager.Disconnected(connmgr.NodeID(c.RemotePeer()), a.conn(c))
}

// Connections returns the connections that have passed and are not closed, and
// forgets the others.
func (a *alone) Connections() []connmgr.Conn {
	a.mu.Lock()
	passed := slices.Collect(maps.Keys(a.passed))
	a.mu.Unlock()
	open := make([]connmgr.Conn, 0, len(passed))
	for _, c := range passed {
		if c.IsClosed() {
			a.release(c)
		} else {
			open = append(open, a.conn(c))
		}
	}
	return open
}

// CloseConnection closes all connections of a peer that have passed.
func (a *alone) CloseConnection(id connmgr.NodeID, reason connmgr.Reason) error {
	for _, c := range a.Connections() {
		if c.RemotePeer() == id {
			if err := c.CloseWithReason(reason); err != nil {
				return err
			}
		}
	}
	return nil
}

// passedConn is a connection that has passed a gater by itself.
type passedConn struct {
	conn
	a *alone
}

func (a *alone) conn(c network.Conn) passedConn { return passedConn{conn{c}, a} }

// CloseWithReason closes the connection, once go-libp2p knows of it.
func (c passedConn) CloseWithReason(reason connmgr.Reason) error {
	c.a.mu.Lock()
	at, ok := c.a.passed[c.c]
	c.a.mu.Unlock()
	if wait := settling - time.Since(at); ok && wait > 0 {
		time.Sleep(wait)
	}
	if err := c.conn.CloseWithReason(reason); err != nil {
		return err
	}
	c.a.release(c.c) // nobody else will
	return nil
}
