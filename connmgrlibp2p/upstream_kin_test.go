package connmgrlibp2p_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file asks what those of go-libp2p's tests ask that read its manager's
// private fields (see upstream_test.go), by means of what a user can see.

func TestNothingIsClosedWithoutNeed(t *testing.T) {
	for name, test := range map[string]struct {
		low, high, conns int
		grace            time.Duration
	}{
		"below high water, low is zero":  {0, 10, 5, 0},
		"below low water, high is zero":  {10, 0, 5, 0},
		"at low water":                   {5, 10, 5, 0},
		"above low water, all in grace":  {1, 1, 5, 10 * time.Minute},
		"above high water, all in grace": {1, 3, 5, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			// go-libp2p's budget, as for its own tests: by default there is a hard limit
			// as well, which does close newcomers in grace.
			cm := newManager(t, test.low, test.high, connmgrlibp2p.WithGracePeriod(test.grace), connmgrlibp2p.WithBudget(connmgr.BudgetTrimmable))
			conns := dialMany(cm, "peer", test.conns)
			trim(t, cm)
			wantClosed(t, "after a trim", conns, 0)
		})
	}
}

func TestOnlyTheEndOfAKnownConnectionCounts(t *testing.T) {
	cm := newManager(t, 1, 5)
	c := dial(cm, "peer")
	cm.TagPeer("peer", "tag", 10)
	left := func(what string, conns, value int) {
		t.Helper()
		if got := cm.GetInfo().ConnCount; got != conns {
			t.Errorf("%s: ConnCount is %d, want %d", what, got, conns)
		}
		if got := valueOf(cm, "peer"); got != value {
			t.Errorf("%s: value is %d, want %d", what, got, value)
		}
	}
	cm.Notifee().Disconnected(nil, &fakeConn{peer: "stranger"})
	left("a stranger left", 1, 10)
	cm.Notifee().Disconnected(nil, &fakeConn{peer: "peer"})
	left("a connection left that was never told of", 1, 10)
	cm.Notifee().Disconnected(nil, c)
	left("the connection left", 0, 0)
	cm.Notifee().Disconnected(nil, c)
	left("it left once more", 0, 0)
	if s := cm.Core().Stats(); s.Peers != 0 || s.IdlePeers != 0 || s.UnknownDisconnects != 3 {
		t.Errorf("%d peers, %d idle ones, %d unknown disconnects; want 0, 0 and 3", s.Peers, s.IdlePeers, s.UnknownDisconnects)
	}
}

func TestAConnectionToldTwiceCountsOnce(t *testing.T) {
	cm := newManager(t, 1, 5)
	c := dial(cm, "peer")
	cm.TagPeer("peer", "tag", 10)
	cm.Notifee().Connected(nil, c)
	if got := cm.GetInfo().ConnCount; got != 1 {
		t.Errorf("ConnCount is %d, want 1", got)
	}
	if got := valueOf(cm, "peer"); got != 10 {
		t.Errorf("value is %d, want 10", got)
	}
}

// TestWhoGoesFirst connects peers from the first to go to the last, the rules in
// the order in which they count, and asks for the order.
func TestWhoGoesFirst(t *testing.T) {
	streams := func(n int) func(*fakeConn) { return func(c *fakeConn) { c.streams = n } }
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0))
		want := []peer.ID{"worthless", "idle-inbound", "idle-outbound", "busy-inbound-1", "busy-inbound-2", "busy-both-ways", "busy-outbound-young", "busy-outbound-old", "worthy"}
		dial(cm, "busy-outbound-old", outbound, streams(3))
		passTime(time.Second)
		dial(cm, "busy-outbound-young", outbound, streams(3))
		dial(cm, "busy-inbound-2", streams(2))
		dial(cm, "busy-both-ways", streams(1))
		dial(cm, "busy-both-ways", outbound, streams(1))
		dial(cm, "worthless", outbound, streams(9))
		dial(cm, "idle-outbound", outbound)
		dial(cm, "busy-inbound-1", streams(1))
		dial(cm, "worthy")
		dial(cm, "idle-inbound")
		cm.TagPeer("worthy", "good", 1)
		cm.TagPeer("worthless", "bad", -1)

		var got []peer.ID
		for v := range cm.Core().DryRun(connmgr.TriggerManual).Closed() {
			got = append(got, peer.ID(v.Peer))
		}
		// Low water is 1, so the last one stays.
		if !slices.Equal(got, want[:len(want)-1]) {
			t.Errorf("a trim would close\n%q, want\n%q", got, want[:len(want)-1])
		}
	})
}

func TestAQuickBurstSetsOffOneTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 10, 20, connmgrlibp2p.WithGracePeriod(0))
		conns := dialMany(cm, "peer", 21)
		synctest.Wait()
		passTime(time.Second)
		conns = append(conns, dialMany(cm, "more", 20)...)
		passTime(3 * time.Second)
		wantClosed(t, "in the silence period", conns, 11)
		if got := cm.GetInfo().ConnCount; got != 30 {
			t.Errorf("ConnCount is %d, want 30: 41 came and 11 were closed", got)
		}
		passTime(10 * time.Second)
		wantClosed(t, "after the silence period", conns, 31)
	})
}

func TestPeersMayComeWhileATrimRuns(t *testing.T) {
	cm := newManager(t, 50, 100, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithSilencePeriod(time.Millisecond))
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			word := strings.Repeat("x", g+1)
			for i := range 500 {
				c := dial(cm, peerNumber(word, i))
				cm.TagPeer(c.peer, "tag", i)
				if i%5 == 0 {
					trim(t, cm)
				}
			}
		})
	}
	within(t, "connecting and trimming at once", all.Wait)
	trim(t, cm)
	if got := cm.GetInfo().ConnCount; got != 50 {
		t.Errorf("ConnCount is %d after the last trim, want 50", got)
	}
}

func TestAnEarlyTagIsKeptAside(t *testing.T) {
	cm := newManager(t, 1, 1, connmgrlibp2p.WithGracePeriod(10*time.Minute))
	cm.TagPeer("stranger", "tag", 1)
	if s := cm.Core().Stats(); s.IdlePeers != 1 || s.Peers != 0 {
		t.Errorf("%d idle peers and %d connected ones, want 1 and 0", s.IdlePeers, s.Peers)
	}
	if got := valueOf(cm, "stranger"); got != 1 {
		t.Errorf("value is %d, want 1", got)
	}
}

func TestAnEarlyTagStaysWithThePeerThatConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 1, connmgrlibp2p.WithGracePeriod(time.Minute))
		cm.TagPeer("peer", "tag", 20)
		passTime(30 * time.Second)
		connected := time.Now()
		dial(cm, "peer")
		passTime(24 * time.Hour) // as long as it is connected, an early tag is like any other
		info := cm.GetTagInfo("peer")
		if info == nil || info.Value != 20 {
			t.Fatalf("GetTagInfo is %+v, want a value of 20", info)
		}
		if !info.FirstSeen.Equal(connected) {
			t.Errorf("FirstSeen is %v, want %v, when the peer connected", info.FirstSeen, connected)
		}
	})
}

func TestUntagPeerTakesOneTag(t *testing.T) {
	cm := newManager(t, 1, 1)
	dial(cm, "peer")
	cm.TagPeer("peer", "one", 5)
	cm.TagPeer("peer", "two", 6)
	cm.UntagPeer("stranger", "one")
	cm.UntagPeer("peer", "three")
	if info := cm.GetTagInfo("peer"); len(info.Tags) != 2 || info.Value != 11 {
		t.Errorf("tags are %v with value %d, want both and 11", info.Tags, info.Value)
	}
	cm.UntagPeer("peer", "one")
	if info := cm.GetTagInfo("peer"); len(info.Tags) != 1 || info.Tags["two"] != 6 || info.Value != 6 {
		t.Errorf("tags are %v with value %d, want two alone and 6", info.Tags, info.Value)
	}
	if info := cm.GetTagInfo("stranger"); info != nil {
		t.Errorf("GetTagInfo of a stranger that was untagged is %v, want nil", info)
	}
}

func TestUpsertTagBuildsOnTheValueBefore(t *testing.T) {
	cm := newManager(t, 1, 1)
	add := func(n int) func(int) int { return func(v int) int { return v + n } }
	cm.UpsertTag("peer", "tag", add(1)) // before it connects
	dial(cm, "peer")
	cm.UpsertTag("peer", "tag", add(2))
	cm.UpsertTag("peer", "tag", add(-1))
	if info := cm.GetTagInfo("peer"); info.Value != 2 || len(info.Tags) != 1 || info.Tags["tag"] != 2 {
		t.Errorf("tags are %v with value %d, want one with value 2", info.Tags, info.Value)
	}
}
