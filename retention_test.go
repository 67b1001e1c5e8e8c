package connmgr_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests let peers come and go and see how long their tags are kept, and
// that strangers cannot fill memory.

// sweepTime is enough for the background to forget what is too old.
const sweepTime = 2 * connmgr.DefaultSilencePeriod

func TestTagsOfAStrangerAreKeptForTheTimeOfEarlyTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{EarlyTagTTL: 10 * time.Minute})
		for _, p := range []connmgr.NodeID{"stays away", "comes in time"} {
			m.TagPeer(p, "a", 5)
		}
		advance(9 * time.Minute)
		m.TagPeer("stays away", "a", 6) // does not prolong it
		m.TagPeer("stays away", "b", 7)
		host.Connect("comes in time")
		expectSum(t, m, "stays away", 13)
		advance(time.Minute + sweepTime)
		if _, known := m.PeerInfo("stays away"); known {
			t.Error("a stranger is remembered after EarlyTagTTL, counted from the first tag")
		}
		expectSum(t, m, "comes in time", 5)
		if s := m.Stats(); s.IdleExpired != 1 || s.IdlePeers != 0 {
			t.Errorf("expired %d, idle %d; want 1, 0", s.IdleExpired, s.IdlePeers)
		}
	})
}

func TestEarlyTagsAreKeptAnHourByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		m.TagPeer("p", "a", 1)
		bump(t, register(t, m, "decays", 0, connmgr.DecayNone()), "q", 1)
		advance(59 * time.Minute)
		expectSum(t, m, "p", 1)
		expectSum(t, m, "q", 1)
		advance(time.Minute + sweepTime)
		expectSum(t, m, "p", 0)
		expectSum(t, m, "q", 0)
	})
}

func TestEarlyTagTTLZeroKeepsTagsUntilTheNextSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{EarlyTagTTL: connmgr.Zero})
		m.TagPeer("p", "a", 1)
		expectSum(t, m, "p", 1)
		advance(connmgr.DefaultSilencePeriod)
		expectSum(t, m, "p", 0)
	})
}

func TestTagsOutliveTheLastConnectionByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{SilencePeriod: time.Hour})
		host.Connect("p")
		m.TagPeer("p", "a", 5)
		host.Disconnect("p")
		advance(1000 * time.Hour)
		expectSum(t, m, "p", 5)
		host.Connect("p")
		expectSum(t, m, "p", 5)
	})
}

func TestTagRetentionZeroDropsTagsWithTheLastConnection(t *testing.T) {
	m, host := newNode(t, connmgr.Config{TagRetention: connmgr.Zero})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	for _, protected := range []bool{false, true} {
		p := connmgr.NodeID(fmt.Sprint("protected: ", protected))
		if protected {
			m.Protect(p, "x")
		}
		host.Connect(p)
		second := host.Connect(p)
		for i := range 4 {
			m.TagPeer(p, fmt.Sprint("tag", i), 1)
		}
		bump(t, tag, p, 10)
		second.Drop()
		expectSum(t, m, p, 14)
		host.Disconnect(p)
		expectSum(t, m, p, 0)
		if info, known := m.PeerInfo(p); known != protected || len(info.Tags) != 0 {
			t.Errorf("%v: known %v with tags %v; want protections alone to be remembered", p, known, info.Tags)
		}
		host.Connect(p)
		expectSum(t, m, p, 0)
		bump(t, tag, p, 1)
		expectSum(t, m, p, 1)
	}
}

func TestTagRetentionCountsFromTheLastDisconnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{TagRetention: 10 * time.Minute, EarlyTagTTL: time.Minute})
		host.Connect("p")
		m.TagPeer("p", "a", 5)
		advance(time.Hour)
		host.Disconnect("p")
		advance(9 * time.Minute) // longer than strangers are kept
		host.Connect("p")
		expectSum(t, m, "p", 5)
		advance(time.Hour)
		host.Disconnect("p")
		advance(9 * time.Minute)
		expectSum(t, m, "p", 5)
		advance(time.Minute + sweepTime)
		expectSum(t, m, "p", 0)
	})
}

func TestTagsOfAProtectedPeerAreRetainedFromTheEndOfProtection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{TagRetention: 10 * time.Minute})
		m.Protect("p", "x")
		host.Connect("p")
		m.TagPeer("p", "a", 5)
		host.Disconnect("p")
		advance(time.Hour)
		expectSum(t, m, "p", 5)
		m.Unprotect("p", "x")
		advance(9 * time.Minute)
		expectSum(t, m, "p", 5)
		advance(time.Minute + sweepTime)
		if _, known := m.PeerInfo("p"); known {
			t.Error("the peer is remembered beyond TagRetention")
		}
	})
}

func TestAPeerWhoseLastValueDecayedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		tag := register(t, m, "decays", time.Minute, connmgr.DecayFixed(1))
		bump(t, tag, "p", 1)
		bump(t, tag, "q", 2)
		advance(time.Minute)
		if info, _ := m.PeerInfo("p"); len(info.Tags) != 0 || info.Value != 0 {
			t.Errorf("a value that decayed to nothing is still there: %+v", info)
		}
		advance(sweepTime)
		if info, known := m.PeerInfo("p"); known {
			t.Errorf("a peer without connection, tag and protection is known after a tick: %+v", info)
		}
		expectSum(t, m, "q", 1)
		if s := m.Stats(); s.IdlePeers != 1 || s.IdleExpired != 0 {
			t.Errorf("idle %d, expired %d; want 1, 0: nothing was too old", s.IdlePeers, s.IdleExpired)
		}
	})
}

func TestStrangersCannotFillMemory(t *testing.T) {
	const bound = 1024
	m, host := newNode(t, connmgr.Config{MaxIdlePeers: bound, HighWater: 1 << 20})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	for i := range 50 {
		host.Connect(peerID(i))
		m.TagPeer(peerID(i), "a", 1)
		m.Protect(connmgr.NodeID(fmt.Sprint("friend", i)), "x")
		m.TagPeer(connmgr.NodeID(fmt.Sprint("friend", i)), "a", 1)
	}
	for i := range 100_000 {
		p := connmgr.NodeID(fmt.Sprint("stranger", i))
		switch i % 4 {
		case 0:
			m.TagPeer(p, "a", 1)
		case 1:
			m.UpsertTag(p, "a", func(int) int { return 1 })
		case 2:
			bump(t, tag, p, 1)
		case 3:
			host.Connect(p)
			m.TagPeer(p, "a", 1)
			host.Disconnect(p)
		}
		expectSum(t, m, p, 1) // the newest is never the one to be forgotten
	}
	s := m.Stats()
	if s.IdlePeers > bound {
		t.Errorf("%d idle peers are remembered, want at most MaxIdlePeers, %d", s.IdlePeers, bound)
	}
	if s.IdlePeers < bound/2 {
		t.Errorf("only %d idle peers are remembered of %d allowed", s.IdlePeers, bound)
	}
	if got, want := s.IdleEvicted, uint64(100_000-s.IdlePeers); got != want {
		t.Errorf("IdleEvicted = %d, want all the others, %d", got, want)
	}
	for i := range 50 {
		expectSum(t, m, peerID(i), 1)
		expectSum(t, m, connmgr.NodeID(fmt.Sprint("friend", i)), 1)
	}
}

func TestTheOneIdleTheLongestIsForgottenFirst(t *testing.T) {
	m := newManager(t, connmgr.Config{MaxIdlePeers: 128 * 4})
	const n = 20_000
	for i := range n {
		m.TagPeer(peerID(i), "a", 1)
	}
	// The bound is kept for each part of the table, so the order is not exact:
	// but nobody of the older half can be left when 512 of 20,000 are.
	for i := range n / 2 {
		if m.Tags().Sum(peerID(i)) != 0 {
			t.Fatalf("stranger %d of %d is still remembered", i, n)
		}
	}
}

func TestStrangersFromManySidesCannotFillMemory(t *testing.T) {
	const bound = 50
	m, host := newNode(t, connmgr.Config{MaxIdlePeers: bound, TagRetention: time.Millisecond, SilencePeriod: time.Millisecond})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				p := connmgr.NodeID(fmt.Sprint(g, "/", i))
				m.TagPeer(p, "a", 1)
				switch i % 5 {
				case 0:
					host.Connect(p).Drop()
				case 1:
					m.UntagPeer(p, "a")
				case 2:
					m.Protect(p, "x")
					m.Unprotect(p, "x")
				}
			}
		})
	}
	all.Wait()
	known := 0
	for g := range 4 {
		for i := range 5000 {
			if _, is := m.PeerInfo(connmgr.NodeID(fmt.Sprint(g, "/", i))); is {
				known++
			}
		}
	}
	if s := m.Stats(); known > bound || s.IdlePeers > bound || s.IdlePeers < 0 {
		t.Errorf("%d strangers are known, IdlePeers is %d; want at most %d", known, s.IdlePeers, bound)
	}
}

func TestSmallMaxIdlePeersIsABoundToo(t *testing.T) {
	for _, bound := range []int{1, 100, 129} {
		m := newManager(t, connmgr.Config{MaxIdlePeers: bound})
		for i := range 10_000 {
			m.TagPeer(peerID(i), "a", 1)
		}
		if s := m.Stats(); s.IdlePeers > bound {
			t.Errorf("MaxIdlePeers %d: %d idle peers are remembered", bound, s.IdlePeers)
		}
	}
}

func TestMaxIdlePeersZeroRemembersNobody(t *testing.T) {
	m, host := newNode(t, connmgr.Config{MaxIdlePeers: connmgr.Zero})
	tag := register(t, m, "decays", 0, connmgr.DecayNone())
	m.TagPeer("p", "a", 1)
	m.UpsertTag("p", "a", func(v int) int { return v + 1 })
	_ = tag.Bump("p", 1)
	expectSum(t, m, "p", 0)
	host.Connect("p")
	m.TagPeer("p", "a", 1)
	bump(t, tag, "p", 1)
	expectSum(t, m, "p", 2)
	m.Protect("p", "x")
	host.Disconnect("p")
	expectSum(t, m, "p", 2)
	m.Unprotect("p", "x")
	expectSum(t, m, "p", 0)
	if s := m.Stats(); s.IdlePeers != 0 {
		t.Errorf("IdlePeers = %d, want 0", s.IdlePeers)
	}
}

func TestAProtectedPeerThatLeavesIsDatedThoughNoTagsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{TagRetention: connmgr.Zero})
		c := host.Connect("friend")
		m.Protect("friend", "x")
		advance(2 * time.Hour)
		c.Drop()
		synctest.Wait()
		if info, known := m.PeerInfo("friend"); !known || !info.FirstSeen.Equal(time.Now()) {
			t.Errorf("remembered %v since %v, want since it left, %v", known, info.FirstSeen, time.Now())
		}
	})
}
