package bench

import (
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file names who is compared: go-libp2p's manager and ours, each made as its
// users make it and used through go-libp2p's interfaces.

// manager is what both have.
type manager interface {
	libp2p.ConnManager
	libp2p.Decayer
}

// contender is a manager to measure.
type contender struct {
	name string
	// make returns a manager that closes down to low connections when told to trim,
	// and not before: no peer is in grace, and high water is out of reach.
	make func(low int) (manager, error)
}

var (
	theirs = contender{name: "BasicConnMgr", make: func(low int) (manager, error) {
		return basic.NewConnManager(low, math.MaxInt32, basic.WithGracePeriod(0), basic.WithSilencePeriod(time.Hour))
	}}
	ours = contender{name: "connmgr", make: func(low int) (manager, error) {
		return connmgrlibp2p.NewConnManager(low, math.MaxInt32, connmgrlibp2p.WithGracePeriod(0),
			connmgrlibp2p.WithSilencePeriod(time.Hour), connmgrlibp2p.WithLogger(quiet))
	}}
	contenders = []contender{theirs, ours}
)

// quiet keeps the line that ours logs for each trim out of the tables. It is written all
// the same, as that is part of a trim.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// filled returns a manager with a crowd connected, each peer with two tags: one with
// the value that score gives, and one of 0, as nodes tag from more than one side.
func (c contender) filled(low int, crowd *crowd, score func(i int) int) (manager, error) {
	m, err := c.make(low)
	if err != nil {
		return nil, err
	}
	notifee := m.Notifee()
	for i, conn := range crowd.conns {
		notifee.Connected(nil, conn)
		m.TagPeer(conn.remote, "kad", score(i))
		m.TagPeer(conn.remote, "bitswap", 0)
	}
	return m, nil
}
