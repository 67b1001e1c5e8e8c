package connmgr_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/dep2p/connmgr"
)

// These tests look at what a manager holds on to when peers have gone: nothing.
// They are about real memory, so they need real garbage collections.

// leaving is a connection that tells the manager that it is gone when it is
// closed, and whose peer may have a large ID.
type leaving struct {
	bareConn
	m *connmgr.Manager
}

func (c *leaving) CloseWithReason(connmgr.Reason) error {
	c.m.Disconnected(c.peer, c)
	return nil
}

const mib = 1 << 20

func TestATrimDoesNotHoldOnToThePeersItClosed(t *testing.T) {
	for _, kind := range []struct {
		name string
		trim func(*connmgr.Manager, context.Context) (connmgr.TrimResult, error)
	}{
		{"Trim", (*connmgr.Manager).Trim},
		{"ForceTrim", (*connmgr.Manager).ForceTrim},
	} {
		cfg := tight(1, 1000)
		cfg.ManualStart = true
		cfg.ActiveBonus = 20 // so that connections are asked
		m := newManager(t, cfg)
		start := heapInUse()
		var conns []weak.Pointer[leaving]
		for i := range 200 { // of 100 kB each
			c := &leaving{bareConn{connmgr.NodeID(fmt.Sprintf("%0100000d", i))}, m}
			conns = append(conns, weak.Make(c))
			m.Connected(c.peer, c)
		}
		if held := (int64(heapInUse()) - int64(start)) / mib; held < 15 {
			t.Fatalf("the test is wrong: 200 large IDs take %d MiB", held)
		}
		if res, err := kind.trim(m, context.Background()); err != nil || len(res.Closed) != 199 {
			t.Errorf("%s closed %d peers, err %v; want 199 and nil", kind.name, len(res.Closed), err)
		}
		runtime.GC() // one, so that what a trim keeps for the next one is still there
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		if held := int64(after.HeapAlloc) - int64(start); held > mib {
			t.Errorf("%s: %d KiB are held when all but one of 200 peers with large IDs are gone, want little more than that one's 100", kind.name, held/1024)
		}
		left := 0
		for _, c := range conns {
			if c.Value() != nil {
				left++
			}
		}
		if left != 1 {
			t.Errorf("%s: %d connections are held, want the 1 that is open", kind.name, left)
		}
		runtime.KeepAlive(m)
	}
}

func TestTheTableGivesItsMemoryBackWhenAllHaveLeft(t *testing.T) {
	const peers = 20_000
	conns := make([]bareConn, peers)
	for i := range conns {
		conns[i].peer = peerID(i)
	}
	for _, tt := range []struct {
		what        string
		come, leave func(m *connmgr.Manager, tag *connmgr.DecayingTag, c *bareConn)
	}{
		{
			"connections",
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.Connected(c.peer, c) },
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.Disconnected(c.peer, c) },
		},
		{
			"tags",
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.TagPeer(c.peer, "a", 1) },
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.UntagPeer(c.peer, "a") },
		},
		{
			"decaying values",
			func(_ *connmgr.Manager, tag *connmgr.DecayingTag, c *bareConn) { _ = tag.Bump(c.peer, 1) },
			func(_ *connmgr.Manager, tag *connmgr.DecayingTag, c *bareConn) { _ = tag.Remove(c.peer) },
		},
		{
			"protections",
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.Protect(c.peer, "x") },
			func(m *connmgr.Manager, _ *connmgr.DecayingTag, c *bareConn) { m.Unprotect(c.peer, "x") },
		},
	} {
		m := newManager(t, spacious())
		tag := register(t, m, "decays", 0, connmgr.DecayNone())
		start := heapInUse()
		for round := range 2 { // the table is as good as new after that
			for i := range conns {
				tt.come(m, tag, &conns[i])
			}
			if held := (int64(heapInUse()) - int64(start)) / mib; held < 2 {
				t.Fatalf("the test is wrong: %s of %d peers take %d MiB", tt.what, peers, held)
			}
			for i := range conns {
				tt.leave(m, tag, &conns[i])
			}
			if held := (int64(heapInUse()) - int64(start)) / 1024; held > 256 {
				t.Errorf("%s, round %d: %d KiB are held when all of %d peers have left, want next to nothing", tt.what, round, held, peers)
			}
			if s := m.Stats(); s.Conns != 0 || s.Peers != 0 || s.IdlePeers != 0 || s.ProtectedPeers != 0 {
				t.Errorf("%s, round %d: connections %d, peers %d, idle %d, protected %d; want none", tt.what, round, s.Conns, s.Peers, s.IdlePeers, s.ProtectedPeers)
			}
		}
		runtime.KeepAlive(m)
	}
	runtime.KeepAlive(conns)
}
