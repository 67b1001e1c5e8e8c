package connmgrfx_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrfx"
	"go.uber.org/fx"
)

// network stands for a program's own transport. It is a connmgr.Host: it lists
// its connections and closes those of a peer.
type network struct {
	mu      sync.Mutex
	conns   []*conn
	manager *connmgr.Manager
}

func newNetwork() *network { return new(network) }

func (n *network) Connections() []connmgr.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []connmgr.Conn
	for _, c := range n.conns {
		all = append(all, c)
	}
	return all
}

func (n *network) CloseConnection(peer connmgr.NodeID, reason connmgr.Reason) error {
	for _, c := range n.Connections() {
		if c.RemotePeer() == peer {
			if err := c.CloseWithReason(reason); err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens a connection and tells the manager. It is not told under the lock,
// since it may ask for the connections at any time.
func (n *network) open(peer connmgr.NodeID) {
	c := &conn{network: n, peer: peer}
	n.mu.Lock()
	n.conns = append(n.conns, c)
	n.mu.Unlock()
	n.manager.Connected(peer, c)
}

// conn stands for a connection of the network. It is a connmgr.Conn.
type conn struct {
	network *network
	peer    connmgr.NodeID
}

func (c *conn) RemotePeer() connmgr.NodeID { return c.peer }

func (c *conn) Stat() connmgr.ConnStat {
	return connmgr.ConnStat{Direction: connmgr.DirInbound}
}

func (c *conn) CloseWithReason(connmgr.Reason) error {
	n := c.network
	n.mu.Lock()
	n.conns = slices.DeleteFunc(n.conns, func(other *conn) bool { return other == c })
	n.mu.Unlock()
	n.manager.Disconnected(c.peer, c)
	return nil
}

// An app with connections of its own provides the network as itself and as a
// connmgr.Host. Other parts of the app ask for what they need: the manager, or
// only its tags or its protections.
func Example() {
	var (
		net     *network
		manager *connmgr.Manager
	)
	app := fx.New(
		connmgrfx.Module,
		fx.Supply(connmgr.Config{
			LowWater:    2,
			HighWater:   3,
			GracePeriod: connmgr.Zero, // newcomers are closed at once, for the sake of the example
		}),
		fx.Provide(fx.Annotate(newNetwork, fx.As(fx.Self()), fx.As(new(connmgr.Host)))),
		fx.Invoke(
			func(n *network, m *connmgr.Manager) { n.manager = m },
			func(tags *connmgr.TagStore) { tags.Set("relay", "makes-us-reachable", 50) },
			func(protections *connmgr.ProtectStore) { protections.Protect("friend", "by-hand") },
		),
		fx.Populate(&net, &manager),
		fx.NopLogger,
	)
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		panic(err)
	}

	for _, peer := range []connmgr.NodeID{"stranger", "relay", "crawler", "friend"} {
		net.open(peer)
	}
	manager.TrimOpenConns(ctx)
	for _, c := range net.Connections() {
		fmt.Println("open:", c.RemotePeer())
	}

	if err := app.Stop(ctx); err != nil {
		panic(err)
	}
	// Output:
	// open: relay
	// open: friend
}
