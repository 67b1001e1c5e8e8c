package connmgrlibp2p_test

import (
	"fmt"
	"log"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The code of the README.
func Example() {
	friend, helper, spammer := peer.ID("friend"), peer.ID("helper"), peer.ID("spammer")

	cm, err := connmgrlibp2p.NewConnManager(100, 400) // watermarks, in connections
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(libp2p.ConnectionManager(cm), libp2p.ConnectionGater(cm.Gater()))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	cm.Protect(friend, "friend")     // is not closed
	cm.TagPeer(helper, "useful", 10) // ranks above peers with less
	cm.Gater().BlockPeer(spammer)    // is refused, and closed if it is connected
	why, _ := cm.Core().Explain(connmgr.NodeID(helper), connmgr.TriggerManual)
	fmt.Println(why.Verdict)

	// Output: helper is not connected, 10
}
