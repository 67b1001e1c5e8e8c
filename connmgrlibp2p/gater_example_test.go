package connmgrlibp2p_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	libp2pgate "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// A node with a connection manager and its gater: one line in libp2p's options for
// each. A block closes the connection that there is.
func ExampleGater() {
	cm, err := connmgrlibp2p.NewConnManager(100, 400, connmgrlibp2p.WithGate(connmgr.GateConfig{
		Limits: connmgr.PublicNodeLimits(),
	}))
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(
		libp2p.NoListenAddrs,
		libp2p.ConnectionManager(cm),
		libp2p.ConnectionGater(cm.Gater()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close() // closes the manager as well
	other, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()
	connect := func() error { return node.Connect(context.Background(), *host.InfoFromHost(other)) }

	if err := connect(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("connections:", len(node.Network().Conns()))
	if err := cm.Gater().BlockPeer(other.ID()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after the block:", len(node.Network().Conns()))
	fmt.Println("refused:", errors.Is(connect(), swarm.ErrGaterDisallowedConnection))
	if err := cm.Gater().UnblockPeer(other.ID()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after unblocking:", connect())
	// Output:
	// connections: 1
	// after the block: 0
	// refused: true
	// after unblocking: <nil>
}

// Core has what go-libp2p's interface has no room for: blocks that end, with a reason,
// exceptions, and the rules behind an answer.
func ExampleGater_Core() {
	cm, err := connmgrlibp2p.NewConnManager(100, 400)
	if err != nil {
		log.Fatal(err)
	}
	defer cm.Close()
	ctx, gate := context.Background(), cm.Gater().Core()
	spammers := connmgr.PrefixTarget(netip.MustParsePrefix("198.51.100.0/24"))
	if err := gate.Block(ctx, spammers, 24*time.Hour, "spam"); err != nil {
		log.Fatal(err)
	}
	friend := connmgr.AddrTarget(netip.MustParseAddr("198.51.100.7"))
	if err := gate.Add(ctx, connmgr.Rule{Effect: connmgr.Allow, Target: friend}); err != nil {
		log.Fatal(err)
	}
	for _, addr := range []string{"198.51.100.1:4001", "198.51.100.7:4001"} {
		rule := gate.Lookup(connmgr.NodeID(peer.ID("somebody")), netip.MustParseAddrPort(addr)).Addr
		fmt.Println(addr, rule.Effect, rule.Target, rule.Reason)
	}
	// Output:
	// 198.51.100.1:4001 deny 198.51.100.0/24 spam
	// 198.51.100.7:4001 allow 198.51.100.7
}

// A program that used go-libp2p's gater changes its import, and no more.
func ExampleNewBasicConnectionGater() {
	gate, err := connmgrlibp2p.NewBasicConnectionGater(nil)
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(libp2p.NoListenAddrs, libp2p.ConnectionGater(gate))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	if err := gate.BlockPeer(peer.ID("somebody")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(gate.ListBlockedPeers()), gate.InterceptPeerDial(peer.ID("somebody")))
	// Output: 1 false
}

// fridays is a gater of the program's own.
type fridays struct{ libp2pgate.ConnectionGater }

func (fridays) InterceptPeerDial(peer.ID) bool { return false }

// Several gaters become one: a connection may go on if all of them say so.
func ExampleChain() {
	cm, err := connmgrlibp2p.NewConnManager(100, 400)
	if err != nil {
		log.Fatal(err)
	}
	defer cm.Close()
	gate := connmgrlibp2p.Chain(cm.Gater(), fridays{})
	fmt.Println(cm.Gater().InterceptPeerDial("somebody"), gate.InterceptPeerDial("somebody"))
	// Output: true false
}
