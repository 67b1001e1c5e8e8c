package connmgr_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// The connections in these examples are the fake ones of package connmgrtest. A
// program has its own, and calls Connected and Disconnected where it learns of
// them.

// A manager keeps the connections within the watermarks. Here two may stay.
func Example() {
	m, err := connmgr.New(connmgr.Config{
		LowWater:    2,
		HighWater:   3,
		GracePeriod: connmgr.Zero, // else newcomers are left alone for 20 s
		Logger:      slog.New(slog.DiscardHandler),
		ManualStart: true, // so that this example trims when it says so
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()

	for _, peer := range []connmgr.NodeID{"alice", "bob", "carol", "dave"} {
		m.Connected(peer, connmgrtest.NewConn(peer))
	}
	m.TagPeer("alice", "served-us-blocks", 20)
	m.TagPeer("bob", "served-us-blocks", 5)
	m.TagPeer("carol", "misbehaved", -50)
	m.Protect("dave", "bootstrap")

	result, err := m.Trim(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range result.Closed {
		fmt.Println(v.Peer, "closed:", v.Reason, "of", v.Score)
	}
	// Output:
	// carol closed: low score of -50
	// bob closed: low score of 5
}

// A host can be asked for its connections, so no notification is needed.
func ExampleHost() {
	host := connmgrtest.NewHost()
	m, err := connmgr.New(connmgr.Config{
		LowWater:    1,
		HighWater:   2,
		GracePeriod: connmgr.Zero,
		Logger:      slog.New(slog.DiscardHandler),
		Host:        host,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()

	host.Connect("alice", connmgrtest.Outbound())
	host.Connect("bob")
	host.Connect("carol")
	m.TrimOpenConns(context.Background())
	fmt.Println("left:", host.Connections()[0].RemotePeer())
	// Output: left: alice
}

// Explain says what a trim would do with a peer, and why.
func ExampleManager_Explain() {
	m, err := connmgr.New(connmgr.Config{LowWater: 1, HighWater: 4, GracePeriod: connmgr.Zero, ManualStart: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	m.Connected("alice", connmgrtest.NewConn("alice", connmgrtest.Outbound()))
	m.Connected("bob", connmgrtest.NewConn("bob", connmgrtest.Streams(1)))
	m.TagPeer("bob", "served-us-blocks", 5)

	for _, peer := range []connmgr.NodeID{"alice", "bob"} {
		e, _ := m.Explain(peer, connmgr.TriggerManual)
		fmt.Printf("%s: %d + %d + %d = %d, closed: %v (%v)\n",
			peer, e.TagSum, e.OutboundBonus, e.ActiveBonus, e.Verdict.Score, e.Verdict.Reason.Closed(), e.Verdict.Reason)
	}
	// Output:
	// alice: 0 + 10 + 0 = 10, closed: true (low score)
	// bob: 5 + 0 + 20 = 25, closed: false (above the cut)
}

// The values of a decaying tag shrink with time, so that old merits count less.
func ExampleManager_RegisterDecayingTag() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()

	// One point less every ten minutes, never more than 15.
	deliveries, err := m.RegisterDecayingTag("deliveries", 10*time.Minute,
		connmgr.DecayFixed(1), connmgr.BumpSumBounded(0, 15))
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 20 {
		if err := deliveries.Bump("alice", 1); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(m.Tags().Sum("alice"))
	// Output: 15
}

// Two parts of a program can protect the same peer without knowing of each other.
func ExampleManager_Protect() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	m.Protect("alice", "bootstrap")
	m.Protect("alice", "relay")
	fmt.Println("still protected:", m.Unprotect("alice", "bootstrap"))
	fmt.Println("still protected:", m.Unprotect("alice", "relay"))
	// Output:
	// still protected: true
	// still protected: false
}

// UpsertTag changes a value that depends on the old one, without losing what
// others change at the same time.
func ExampleManager_UpsertTag() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	for range 3 {
		m.UpsertTag("alice", "blocks", func(value int) int { return value + 7 })
	}
	fmt.Println(m.Tags().Sum("alice"))
	// Output: 21
}

// Limits can be changed while the manager runs.
func ExampleManager_SetLimits() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	limits := m.Limits()
	limits.HighWater = 50
	fmt.Println(m.SetLimits(limits))
	limits.LowWater = 20
	fmt.Println(m.SetLimits(limits))
	// Output:
	// connmgr: LowWater 100 is above HighWater 50
	// <nil>
}

// A subscription tells of everything that happens.
func ExampleManager_Subscribe() {
	host := connmgrtest.NewHost()
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	host.Notify(m)
	events := m.Subscribe(100)
	host.Connect("alice", connmgrtest.Outbound()).Drop()
	m.Close()

	for e := range events.Events() {
		switch e := e.(type) {
		case connmgr.EventConnected:
			fmt.Println("connected:", e.Peer, e.Direction)
		case connmgr.EventDisconnected:
			fmt.Println("disconnected:", e.Peer)
		}
	}
	// Output:
	// connected: alice outbound
	// disconnected: alice
}
