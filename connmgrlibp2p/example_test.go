package connmgrlibp2p_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A node that keeps between 100 and 400 connections. The options are those of
// go-libp2p's manager; WithHardLimit is one that it has not.
func ExampleNewConnManager() {
	cm, err := connmgrlibp2p.NewConnManager(100, 400,
		connmgrlibp2p.WithGracePeriod(30*time.Second),
		connmgrlibp2p.WithHardLimit(600),
	)
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(libp2p.NoListenAddrs, libp2p.ConnectionManager(cm))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close() // closes the manager as well

	// Every part of the program reaches it through the host.
	friend := peer.ID("a friend")
	node.ConnManager().Protect(friend, "friends")
	node.ConnManager().TagPeer(friend, "useful", 10)

	fmt.Println(cm.IsProtected(friend, ""), cm.GetTagInfo(friend).Value)
	// Output: true 10
}

// Ask why a peer would stay or go, before anything is closed.
func ExampleConnManager_Core() {
	cm, err := connmgrlibp2p.NewConnManager(100, 400)
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ConnectionManager(cm))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	visitor, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		log.Fatal(err)
	}
	defer visitor.Close()
	if err := visitor.Connect(context.Background(), *host.InfoFromHost(node)); err != nil {
		log.Fatal(err)
	}

	explain := func() {
		why, known := cm.Core().Explain(connmgr.NodeID(visitor.ID()), connmgr.TriggerManual)
		fmt.Println(known, why.Verdict.Reason.Closed(), why.Verdict.Reason)
	}
	explain()
	cm.Protect(visitor.ID(), "guest")
	explain()
	// Output:
	// true false in grace
	// true false protected
}
