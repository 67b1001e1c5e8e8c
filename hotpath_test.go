package connmgr_test

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests keep the hot path from allocating and peers from growing; the
// benchmarks say how fast it is. Run the latter with
//
//	go test -run '^$' -bench . .

// bareConn is a connection without any bookkeeping, so that measurements see the
// manager alone.
type bareConn struct{ peer connmgr.NodeID }

func (c *bareConn) RemotePeer() connmgr.NodeID           { return c.peer }
func (c *bareConn) Stat() connmgr.ConnStat               { return connmgr.ConnStat{Direction: connmgr.DirInbound} }
func (c *bareConn) CloseWithReason(connmgr.Reason) error { return nil }

// spacious is a configuration in which nothing is ever trimmed.
func spacious() connmgr.Config {
	return connmgr.Config{HighWater: 1 << 30, ManualStart: true}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	m := newManager(t, spacious())
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	known := make([]connmgr.NodeID, 1000)
	conns := make([]*bareConn, len(known))
	for i := range known {
		known[i] = peerID(i)
		conns[i] = &bareConn{known[i]}
		m.Connected(known[i], &bareConn{known[i]})
		for _, name := range []string{"a", "b", "c"} {
			m.TagPeer(known[i], name, 1)
		}
		bump(t, tag, known[i], 1)
		m.Protect(known[i], "x")
	}
	increment := func(v int) int { return v + 1 }
	fresh := &bareConn{"fresh"}
	i := 0
	for _, tt := range []struct {
		what string
		most float64
		f    func()
	}{
		{"TagPeer on a known peer", 0, func() { m.TagPeer(known[i], "b", i) }},
		{"TagPeer on a known peer's third tag", 0, func() { m.TagPeer(known[i], "c", i) }},
		{"UpsertTag on a known peer", 0, func() { m.UpsertTag(known[i], "b", increment) }},
		{"Bump of a known value", 0, func() { _ = tag.Bump(known[i], 1) }},
		{"Sum", 0, func() { m.Tags().Sum(known[i]) }},
		{"IsProtected under any tag", 0, func() { m.IsProtected(known[i], "") }},
		{"IsProtected under a tag", 0, func() { m.IsProtected(known[i], "x") }},
		{"Protect again", 0, func() { m.Protect(known[i], "x") }},
		{"ConnCount", 0, func() { m.ConnCount() }},
		{"Connected and Disconnected", 0, func() { m.Connected("fresh", fresh); m.Disconnected("fresh", fresh) }},
		{"Connected and Disconnected of a second connection", 1, func() { m.Connected(known[i], conns[i]); m.Disconnected(known[i], conns[i]) }},
	} {
		if got := testing.AllocsPerRun(2000, func() { tt.f(); i = (i + 1) % len(known) }); got > tt.most {
			t.Errorf("%s allocates %v times, want at most %v", tt.what, got, tt.most)
		}
	}
}

func TestALateTagOrUntagDoesNotAllocateForStrangers(t *testing.T) {
	m := newManager(t, spacious())
	if got := testing.AllocsPerRun(1000, func() { m.UntagPeer("stranger", "a"); m.Unprotect("stranger", "a") }); got > 0 {
		t.Errorf("untagging a stranger allocates %v times, want 0", got)
	}
}

// heapInUse returns the bytes of live objects.
func heapInUse() uint64 {
	var s runtime.MemStats
	for range 2 { // finalizers and pools take a second round
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// Connections and IDs belong to the host, so they are made before.
func TestAPeerTakesAtMost200Bytes(t *testing.T) {
	const peers = 100_000
	conns := make([]bareConn, peers)
	for i := range conns {
		conns[i].peer = peerID(i)
	}
	m := newManager(t, spacious())
	before := heapInUse()
	for i := range conns {
		c := &conns[i]
		m.Connected(c.peer, c)
		m.TagPeer(c.peer, "kbucket", 5)
		m.TagPeer(c.peer, "user-connect", 100)
	}
	if each := (heapInUse() - before) / peers; each > 200 {
		t.Errorf("each of %d peers with one connection and two tags takes %d bytes, want at most 200", peers, each)
	}
	runtime.KeepAlive(conns)
	runtime.KeepAlive(m)
}

func TestATrimLeavesNothingBehindButItsOwnMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	m := newManager(t, connmgr.Config{LowWater: 100, HighWater: 1 << 30, GracePeriod: connmgr.Zero, ManualStart: true})
	collected := make(chan struct{}, 1)
	for i := range 1000 {
		c := &bareConn{peerID(i)}
		if i == 0 {
			m.TagPeer(c.peer, "first to go", -1)
			runtime.AddCleanup(c, func(c chan struct{}) { c <- struct{}{} }, collected)
		}
		m.Connected(c.peer, c)
	}
	res := trim(t, m)
	for _, v := range res.Closed {
		info, _ := m.PeerInfo(v.Peer)
		m.Disconnected(v.Peer, info.Conns[0].Conn)
	}
	for range 10 {
		runtime.GC()
		select {
		case <-collected:
			return
		default:
			runtime.Gosched()
		}
	}
	t.Error("a connection that is long gone is still held by the manager")
}

func BenchmarkTagPeer(b *testing.B) {
	m, peers := benchManager(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.TagPeer(peers[i%len(peers)], "kbucket", i)
	}
}

func BenchmarkUpsertTag(b *testing.B) {
	m, peers := benchManager(b)
	increment := func(v int) int { return v + 1 }
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.UpsertTag(peers[i%len(peers)], "kbucket", increment)
	}
}

func BenchmarkTagPeerInParallel(b *testing.B) {
	m, peers := benchManager(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i += 7 {
			m.TagPeer(peers[i%len(peers)], "kbucket", i)
		}
	})
}

func BenchmarkConnectDisconnect(b *testing.B) {
	m, _ := benchManager(b)
	conns := make([]*bareConn, 1024)
	for i := range conns {
		conns[i] = &bareConn{"fresh " + peerID(i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := conns[i%len(conns)]
		m.Connected(c.peer, c)
		m.Disconnected(c.peer, c)
	}
}

// BenchmarkTrim closes a tenth of 100,000 peers.
func BenchmarkTrim(b *testing.B) {
	const peers = 100_000
	for b.Loop() {
		b.StopTimer()
		cfg := spacious()
		cfg.LowWater, cfg.GracePeriod = peers-peers/10, connmgr.Zero
		m := newManager(b, cfg)
		for i := range peers {
			c := connmgrtest.NewConn(peerID(i))
			m.Connected(c.RemotePeer(), c)
			m.TagPeer(c.RemotePeer(), "kbucket", i*7919%1000)
		}
		runtime.GC()
		b.StartTimer()
		res, err := m.Trim(context.Background())
		if err != nil || len(res.Closed) != peers/10 {
			b.Fatalf("closed %d peers, err %v", len(res.Closed), err)
		}
	}
}

func benchManager(b *testing.B) (*connmgr.Manager, []connmgr.NodeID) {
	m := newManager(b, spacious())
	peers := make([]connmgr.NodeID, 10_000)
	for i := range peers {
		peers[i] = peerID(i)
		m.Connected(peers[i], &bareConn{peers[i]})
		m.TagPeer(peers[i], "kbucket", i)
		m.TagPeer(peers[i], "user-connect", i)
	}
	return m, peers
}
