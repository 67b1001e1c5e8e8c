package connmgrtest_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// A program that tags its useful peers wants to see that they survive a trim.
func Example() {
	host := connmgrtest.NewHost()
	m, err := connmgr.New(connmgr.Config{
		LowWater:    2,
		HighWater:   10,
		GracePeriod: connmgr.Zero,
		Host:        host,
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer m.Close()
	host.Notify(m)

	host.Connect("useful")
	host.Connect("idle")
	host.Connect("busy", connmgrtest.Streams(2))
	host.Connect("ours", connmgrtest.Outbound())
	m.TagPeer("useful", "gave-us-blocks", 50)

	result, err := m.Trim(context.Background())
	if err != nil {
		panic(err)
	}
	for _, v := range result.Closed {
		fmt.Println("closed:", v.Peer, "-", v.Reason)
	}
	for _, c := range host.Connections() {
		fmt.Println("open:", c.RemotePeer())
	}
	// Output:
	// closed: idle - low score
	// closed: ours - low score
	// open: useful
	// open: busy
}

// A connection can be told to misbehave.
func ExampleHost_Connect() {
	host := connmgrtest.NewHost()
	conn := host.Connect("stubborn", connmgrtest.FailOnClose(fmt.Errorf("not now")))

	fmt.Println(conn.CloseWithReason(connmgr.ClosedForced), conn.Open())
	conn.SetOnClose(nil)
	fmt.Println(conn.CloseWithReason(connmgr.ClosedForced), conn.Open())
	// Output:
	// not now true
	// <nil> false
}
