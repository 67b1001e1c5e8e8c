package connmgr_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests protect peers.

func TestProtectedPeersAreNeverClosed(t *testing.T) {
	m, host := newNode(t, tight(1, 1000))
	connectMany(host, 20)
	tagMany(m, 20)
	for i := range 5 { // the lowest-ranked
		m.Protect(peerID(i), "friend")
	}
	trim(t, m)
	for i := range 5 {
		if !host.Connected(peerID(i)) {
			t.Errorf("%v was closed though it is protected", peerID(i))
		}
	}
	if host.Len() != 5 {
		t.Errorf("%d connections are left, want the 5 protected ones alone", host.Len())
	}
	m.Unprotect(peerID(0), "friend")
	if res := trim(t, m); len(res.Closed) != 1 || res.Closed[0].Peer != peerID(0) {
		t.Errorf("closed %v, want the peer whose protection was taken back", res.Closed)
	}
}

func TestDifferentPartsOfAProgramProtectOnePeer(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	m.Protect("p", "a")
	m.Protect("p", "a") // not counted
	m.Protect("p", "b")
	if !m.Unprotect("p", "a") {
		t.Error("Unprotect(a) = false, want true: b still protects the peer")
	}
	if m.IsProtected("p", "a") || !m.IsProtected("p", "b") || !m.IsProtected("p", "") {
		t.Errorf("protected under a %v, b %v, any %v; want false, true, true",
			m.IsProtected("p", "a"), m.IsProtected("p", "b"), m.IsProtected("p", ""))
	}
	if !m.Unprotect("p", "never") {
		t.Error("Unprotect under a tag that does not protect = false, want true: b still protects the peer")
	}
	if m.Unprotect("p", "b") || m.IsProtected("p", "") {
		t.Error("the peer is protected after the last protection was taken back")
	}
	if m.Unprotect("p", "b") || m.Unprotect("stranger", "b") {
		t.Error("Unprotect of a peer that is not protected = true, want false")
	}
	if _, known := m.PeerInfo("p"); known {
		t.Error("a peer without connection, tag and protection is known")
	}
}

func TestTheEmptyTagProtectsLikeAnyOther(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	m.Protect("p", "")
	if !m.IsProtected("p", "") || m.IsProtected("p", "a") {
		t.Error("a peer protected under the empty tag is not, or is under another as well")
	}
	if m.Unprotect("p", "a") != true || m.Unprotect("p", "") != false || m.IsProtected("p", "") {
		t.Error("a protection under the empty tag cannot be taken back by it alone")
	}
}

func TestProtectionsOutliveConnections(t *testing.T) {
	for _, retention := range []time.Duration{0, connmgr.Zero, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m, host := newNode(t, connmgr.Config{TagRetention: retention, MaxIdlePeers: 1, EarlyTagTTL: time.Second, SilencePeriod: time.Hour})
			m.Protect("before", "x")
			host.Connect("before")
			host.Connect("during")
			m.Protect("during", "x")
			host.Disconnect("before")
			host.Disconnect("during")
			for i := range 1000 {
				m.TagPeer(peerID(i), "a", 1)
			}
			advance(1000 * time.Hour)
			for _, p := range []connmgr.NodeID{"before", "during"} {
				if !m.IsProtected(p, "x") {
					t.Errorf("retention %v: %v is not protected any more", retention, p)
				}
			}
			if s := m.Stats(); s.ProtectedPeers != 2 || s.Peers != 0 {
				t.Errorf("retention %v: %d protected, %d connected; want 2, 0", retention, s.ProtectedPeers, s.Peers)
			}
		})
	}
}

func TestProtectingDoesNotChangeSinceWhenAPeerIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, connmgr.Config{})
		m.Protect("p", "a")
		info, _ := m.PeerInfo("p")
		start := info.FirstSeen
		advance(time.Hour)
		m.TagPeer("p", "t", 1)
		m.Protect("p", "b")
		if info, _ := m.PeerInfo("p"); !info.FirstSeen.Equal(start) {
			t.Errorf("FirstSeen moved by %v when a remembered peer was tagged", info.FirstSeen.Sub(start))
		}
	})
}

func TestProtectStoreIsAViewOfTheSameTable(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	store := m.Protections()
	store.Protect("p", "a")
	m.Protect("p", "b")
	if !m.IsProtected("p", "a") || !store.IsProtected("p") || store.IsProtected("q") {
		t.Error("the store and the manager disagree about who is protected")
	}
	if info, _ := m.PeerInfo("p"); !slices.Equal(info.Protections, []string{"a", "b"}) {
		t.Errorf("Protections = %v, want a, b", info.Protections)
	}
	if !store.Unprotect("p", "b") || m.Unprotect("p", "a") || store.IsProtected("p") {
		t.Error("the store and the manager disagree about who is protected still")
	}
}

func TestProtectedPeersAreCounted(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 100 {
				p := peerID(i)
				m.Protect(p, fmt.Sprint("part", g))
				if i%2 == 0 {
					host.Connect(p)
				}
				if i%4 == 0 {
					m.Unprotect(p, fmt.Sprint("part", g))
				}
			}
		})
	}
	all.Wait()
	if s := m.Stats(); s.ProtectedPeers != 75 || s.Peers != 50 {
		t.Errorf("%d protected, %d connected; want 75, 50", s.ProtectedPeers, s.Peers)
	}
}

// Who is protected is looked up apart from all else about a peer, and must not disagree
// with it.
func TestProtectionsOfManyPeersComeAndGo(t *testing.T) {
	m := newManager(t, spacious())
	random := rand.New(rand.NewPCG(1, 2))
	protected := make(map[connmgr.NodeID]bool)
	for range 20_000 {
		p := peerID(random.IntN(2000))
		if random.IntN(3) == 0 {
			m.Protect(p, "x")
			protected[p] = true
		} else {
			m.Unprotect(p, "x")
			delete(protected, p)
		}
	}
	for i := range 2000 {
		p := peerID(i)
		if got := m.IsProtected(p, ""); got != protected[p] || m.IsProtected(p, "x") != got || m.IsProtected(p, "y") {
			t.Fatalf("%v is protected: %v, want %v", p, got, protected[p])
		}
	}
	if got := m.Stats().ProtectedPeers; got != len(protected) {
		t.Errorf("%d peers are protected, want %d", got, len(protected))
	}
}
