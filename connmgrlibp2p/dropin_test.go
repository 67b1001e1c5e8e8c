package connmgrlibp2p_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file holds what programs rely on in go-libp2p's manager and what a
// drop-in for it must therefore keep. Its decaying tags are in
// dropin_decay_test.go.

func TestTheGracePeriodIsOneMinuteByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		if got := cm.GetInfo().GracePeriod; got != time.Minute {
			t.Errorf("default grace period is %v, want 1m", got)
		}
		conns := dialMany(cm, "early", 3)
		passTime(50 * time.Second)
		wantClosed(t, "in the default grace period", conns, 0)
		passTime(21 * time.Second)
		wantClosed(t, "after it", conns, 2)
	})
}

func TestTheSilencePeriodIsTenSecondsByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
		first := dialMany(cm, "first", 3)
		synctest.Wait()
		wantClosed(t, "above high water", first, 2)
		passTime(time.Second)
		second := dialMany(cm, "second", 2)
		passTime(8 * time.Second)
		wantClosed(t, "above it again, 9 s after the first trim", second, 0)
		passTime(2 * time.Second)
		wantClosed(t, "11 s after the first trim", second, 2)
	})
}

func TestLowWaterAboveHighWaterIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 10, 5, connmgrlibp2p.WithGracePeriod(0))
		if info := cm.GetInfo(); info.LowWater != 10 || info.HighWater != 5 {
			t.Errorf("GetInfo says low %d, high %d; want 10 and 5 as asked for", info.LowWater, info.HighWater)
		}
		conns := dialMany(cm, "peer", 10)
		passTime(time.Minute)
		wantClosed(t, "at low water", conns, 0)
		conns = append(conns, dialMany(cm, "more", 5)...)
		trim(t, cm)
		wantClosed(t, "five above low water", conns, 5)
	})
}

func TestAWatermarkOfZeroTurnsTrimmingOff(t *testing.T) {
	for _, w := range [][2]int{{0, 5}, {5, 0}, {0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			cm := newManager(t, w[0], w[1], connmgrlibp2p.WithGracePeriod(0))
			conns := dialMany(cm, "peer", 50)
			trim(t, cm)
			passTime(time.Hour)
			wantClosed(t, "with trimming off", conns, 0)
			if info := cm.GetInfo(); info.LowWater != w[0] || info.HighWater != w[1] {
				t.Errorf("GetInfo says low %d, high %d; want %v as asked for", info.LowWater, info.HighWater, w)
			}
		})
	}
}

func TestBadPeriodsAreRefusedAsInGoLibp2p(t *testing.T) {
	for name, opt := range map[string]connmgrlibp2p.Option{
		"negative grace period":   connmgrlibp2p.WithGracePeriod(-1),
		"negative silence period": connmgrlibp2p.WithSilencePeriod(-1),
		"no silence period":       connmgrlibp2p.WithSilencePeriod(0),
	} {
		wantRefused(t, name, 1, 2, opt)
	}
}

func TestNotifeeIsTheSameMapKeyEveryTime(t *testing.T) {
	cm, other := newManager(t, 1, 2), newManager(t, 1, 2)
	notifees := map[network.Notifiee]bool{cm.Notifee(): true}
	if !notifees[cm.Notifee()] {
		t.Error("Notifee returned another value the second time; a network could not remove it")
	}
	if notifees[other.Notifee()] {
		t.Error("two managers have the same Notifee")
	}
}

func TestConnectedDoesNotWaitForTheTrimItSetsOff(t *testing.T) {
	cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
	release, closing := make(chan struct{}), make(chan struct{}, 100)
	t.Cleanup(func() { close(release) })
	hang := func(c *fakeConn) {
		c.onClose = func() { closing <- struct{}{}; <-release }
	}
	within(t, "100 connections while closing hangs", func() {
		dialMany(cm, "peer", 3, hang)
		<-closing // the trim is under way, and stuck
		dialMany(cm, "more", 97, hang)
	})
}

func TestNotificationsAndTagsMayComeInAnyOrderFromAnyGoroutine(t *testing.T) {
	cm := newManager(t, 1000, 2000)
	var all sync.WaitGroup
	for i := range 100 {
		p := peerNumber("peer", i)
		// An observer that was notified first tags the peer already.
		all.Go(func() { cm.TagPeer(p, "early", 7) })
		all.Go(func() {
			for range 2 { // two connections to every peer
				c := dial(cm, p)
				if i%2 == 0 {
					cm.TagPeer(p, "late", 1)
					all.Go(func() { cm.Notifee().Disconnected(nil, c) })
				}
			}
		})
	}
	all.Wait()
	if got := cm.GetInfo().ConnCount; got != 100 {
		t.Errorf("ConnCount is %d, want 100: two each for the odd peers, none for the others", got)
	}
	for i := 1; i < 100; i += 2 {
		if p := peerNumber("peer", i); cm.GetTagInfo(p).Tags["early"] != 7 {
			t.Errorf("peer %d lost the tag that came before or with its connection", i)
		}
	}
}

func TestTagsThatComeBeforeConnectedCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(time.Second))
		cm.TagPeer("friend", "early", 10)
		friend := dial(cm, "friend")
		strangers := dialMany(cm, "stranger", 5)
		passTime(2 * time.Second)
		trim(t, cm)
		wantClosed(t, "tagged before it connected", []*fakeConn{friend}, 0)
		wantClosed(t, "without a tag", strangers, 5)
	})
}

func TestTagsDieWithTheLastConnection(t *testing.T) {
	cm := newManager(t, 10, 20)
	decaying := mustRegister(t, cm, "decaying", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
	first, second := dial(cm, "peer"), dial(cm, "peer")
	cm.TagPeer("peer", "tag", 5)
	mustBump(t, decaying, "peer", 6)

	cm.Notifee().Disconnected(nil, first)
	if got := valueOf(cm, "peer"); got != 11 {
		t.Errorf("value is %d while a connection is left, want 11", got)
	}
	cm.Notifee().Disconnected(nil, second)
	if info := cm.GetTagInfo("peer"); info != nil {
		t.Errorf("after the last connection GetTagInfo is %v, want nil", info)
	}
	dial(cm, "peer")
	if got := valueOf(cm, "peer"); got != 0 {
		t.Errorf("value is %d when the peer is back, want 0", got)
	}
}

func TestProtectionsOutliveConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
		cm.Protect("friend", "mine") // before it connects
		c := dial(cm, "friend")
		cm.TagPeer("friend", "tag", 5)
		cm.Notifee().Disconnected(nil, c)
		if info := cm.GetTagInfo("friend"); info != nil {
			t.Errorf("GetTagInfo of a peer that is merely protected is %v, want nil", info)
		}
		passTime(24 * time.Hour)
		if !cm.IsProtected("friend", "mine") {
			t.Fatal("the protection is gone a day after the last connection")
		}
		friend := dial(cm, "friend")
		dialMany(cm, "stranger", 5)
		trim(t, cm)
		wantClosed(t, "protected, and back after a day", []*fakeConn{friend}, 0)
	})
}

func TestProtectionsAreSetsOfTags(t *testing.T) {
	cm := newManager(t, 1, 2)
	for range 3 {
		cm.Protect("peer", "a") // not counted: one Unprotect will do
	}
	cm.Protect("peer", "b")
	is := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	is("IsProtected under a", cm.IsProtected("peer", "a"), true)
	is("IsProtected under another tag", cm.IsProtected("peer", "c"), false)
	is("IsProtected under any", cm.IsProtected("peer", ""), true)
	is("IsProtected of a stranger", cm.IsProtected("stranger", ""), false)
	is("Unprotect of a tag it does not have", cm.Unprotect("peer", "c"), true)
	is("Unprotect a, with b left", cm.Unprotect("peer", "a"), true)
	is("IsProtected under a, taken back", cm.IsProtected("peer", "a"), false)
	is("Unprotect b, the last", cm.Unprotect("peer", "b"), false)
	is("IsProtected under any, in the end", cm.IsProtected("peer", ""), false)
	is("Unprotect of a peer that is not protected", cm.Unprotect("peer", "b"), false)
}

func TestGetTagInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 2)
		if info := cm.GetTagInfo("stranger"); info != nil {
			t.Errorf("GetTagInfo of a stranger is %v, want nil", info)
		}
		start := time.Now()
		addrs := []string{"/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/udp/4001/quic-v1"}
		dial(cm, "peer", func(c *fakeConn) { c.addr = addrs[0] })
		passTime(time.Second)
		dial(cm, "peer", func(c *fakeConn) { c.addr = addrs[1] })
		cm.TagPeer("peer", "up", 5)
		cm.TagPeer("peer", "down", -2)
		want := &libp2p.TagInfo{
			FirstSeen: start,
			Value:     3,
			Tags:      map[string]int{"up": 5, "down": -2},
			Conns:     map[string]time.Time{addrs[0]: start, addrs[1]: start.Add(time.Second)},
		}
		got := cm.GetTagInfo("peer")
		if !got.FirstSeen.Equal(want.FirstSeen) {
			t.Errorf("FirstSeen is %v, want %v, when the first connection came", got.FirstSeen, want.FirstSeen)
		}
		if got.Value != want.Value || !reflect.DeepEqual(got.Tags, want.Tags) {
			t.Errorf("value and tags are %d, %v; want %d, %v", got.Value, got.Tags, want.Value, want.Tags)
		}
		for addr, opened := range want.Conns {
			if !got.Conns[addr].Equal(opened) {
				t.Errorf("Conns[%s] is %v, want %v", addr, got.Conns[addr], opened)
			}
		}
		if len(got.Conns) != 2 {
			t.Errorf("Conns is %v, want two, keyed by remote multiaddr", got.Conns)
		}
	})
}

func TestTheOtherSideIsToldGarbageCollected(t *testing.T) {
	cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
	c := dial(cm, "worst", silent)
	cm.TagPeer("worst", "bad", -1)
	dial(cm, "better")
	trim(t, cm)
	if got := network.ConnErrorCode(c.code.Load()); !c.closed.Load() || got != network.ConnGarbageCollected {
		t.Errorf("closed %v with code %#x, want closed with ConnGarbageCollected (%#x)", c.closed.Load(), got, network.ConnGarbageCollected)
	}
}

type connLimit int

func (l connLimit) GetConnLimit() int { return int(l) }

func TestCheckLimitErrsOnlyWhenHighExceedsTheLimit(t *testing.T) {
	cm := newManager(t, 10, 20)
	for limit, wantErr := range map[connLimit]bool{19: true, 20: false, 21: false} {
		if err := cm.CheckLimit(limit); (err != nil) != wantErr {
			t.Errorf("high water 20, limit %d: error %v, want one: %v", limit, err, wantErr)
		}
	}
	if err := newManager(t, 10, 0).CheckLimit(connLimit(1)); err != nil {
		t.Errorf("with trimming off: error %v, want none", err)
	}
}

func TestTrimOpenConnsBlocksAndJoinsARunningTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0))
		release := make(chan struct{})
		conns := dialMany(cm, "peer", 3, func(c *fakeConn) { c.onClose = func() { <-release } })
		returned := make(chan struct{}, 3)
		for range 3 {
			go func() {
				cm.TrimOpenConns(context.WithoutCancel(t.Context()))
				returned <- struct{}{}
			}()
		}
		synctest.Wait()
		if len(returned) > 0 {
			t.Errorf("%d of 3 calls returned while connections were being closed, want them to block", len(returned))
		}
		close(release)
		synctest.Wait()
		if len(returned) != 3 {
			t.Errorf("%d of 3 calls have returned after the trim, want all", len(returned))
		}
		wantClosed(t, "three callers at once", conns, 2)
		if got := cm.Core().Stats().Trims[connmgr.TriggerManual]; got != 1 {
			t.Errorf("there were %d trims, want one for three callers", got)
		}
	})
}

func TestTrimOpenConnsDoesNotWaitForTheSilencePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cm := newManager(t, 1, 100, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithSilencePeriod(time.Hour))
		for _, round := range []string{"one", "two", "three"} {
			conns := dialMany(cm, round, 5)
			trim(t, cm)
			if got := cm.GetInfo().ConnCount; got != 1 {
				t.Errorf("%d connections are left of %d, want 1", got, len(conns))
			}
		}
	})
}

func TestEverythingMayComeAfterClose(t *testing.T) {
	cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
	tag := mustRegister(t, cm, "decaying", time.Hour, libp2p.DecayNone(), libp2p.BumpSumUnbounded())
	conns := dialMany(cm, "peer", 2)
	decayer, _ := libp2p.SupportsDecay(cm)
	if err := cm.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}

	// The host closes the manager before the network, so all this does happen.
	within(t, "calls after Close", func() {
		notifee := cm.Notifee()
		for _, c := range conns {
			notifee.Disconnected(nil, c)
			cm.UntagPeer(c.peer, "tag")
			cm.Unprotect(c.peer, "tag")
		}
		dial(cm, "late")
		cm.TagPeer("late", "tag", 1)
		cm.UpsertTag("late", "tag", func(v int) int { return v + 1 })
		cm.Protect("late", "tag")
		cm.IsProtected("late", "tag")
		cm.GetTagInfo("late")
		cm.GetInfo()
		_ = cm.CheckLimit(connLimit(1))
		_ = tag.Bump("late", 1)
		_ = tag.Remove("late")
		cm.TrimOpenConns(t.Context())
		cm.ForceTrim()
	})
	for what, f := range map[string]func() error{
		"second Close": cm.Close, "Decayer.Close": decayer.Close, "Close of a tag": tag.Close,
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %v, want no error", what, err)
		}
	}
	if _, err := cm.RegisterDecayingTag("new", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite()); err == nil {
		t.Error("RegisterDecayingTag after Close: no error; the tag would never decay")
	} else if !errors.Is(err, connmgr.ErrClosed) {
		t.Errorf("RegisterDecayingTag after Close: %v, want ErrClosed", err)
	}
	t.Run(twin, func(t *testing.T) {
		cm := newBasic(t, 1, 2)
		if err := cm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		mustRegister(t, cm, "new", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	})
}

// unusable is a peer ID that no part of the manager may parse.
const unusable = peer.ID("\x00\xff not a multihash")

func TestPeerIDsAreNotParsed(t *testing.T) {
	cm := newManager(t, 1, 2)
	dial(cm, unusable)
	cm.TagPeer(unusable, "tag", 3)
	if got := valueOf(cm, unusable); got != 3 {
		t.Errorf("value is %d, want 3", got)
	}
}
