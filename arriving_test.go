package connmgr_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests follow a connection from the gate to the moment at which the host reports
// it: it has its place, but nobody plans for it or closes it, and if it never arrives
// the place is free again.

// expectCounts checks all numbers that say how many connections there are.
func (l *lobby) expectCounts(t *testing.T, when string, open, arriving int) {
	t.Helper()
	s, g := l.m.Stats(), l.g.Stats()
	if s.Conns != open || l.m.ConnCount() != open || g.Arriving != arriving || s.Inbound != open+arriving || s.Closing != 0 {
		t.Errorf("%s: Stats has %d open, %d inbound and %d closing connections, ConnCount() is %d, %d are arriving; want %d, %d, 0, %d, %d",
			when, s.Conns, s.Inbound, s.Closing, l.m.ConnCount(), g.Arriving, open, open+arriving, open, arriving)
	}
}

// mustArrive is arrive for somebody who must pass.
func (l *lobby) mustArrive(t *testing.T, peer connmgr.NodeID) *guest {
	t.Helper()
	v, err := l.arrive(connmgr.DirInbound, peer, addr4(1, 1))
	if err != nil {
		t.Fatalf("%v was refused: %v", peer, err)
	}
	return v
}

// onePlace is a configuration with one place of each kind.
func onePlace() connmgr.Config {
	cfg := fullHouse(1)
	cfg.Gate.Limits = connmgr.GateLimits{MaxInbound: 1, MaxPerPeer: 1, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 1}}}
	return cfg
}

func TestAConnectionCountsFromTheGateOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, onePlace())
		v := l.mustArrive(t, "a")
		l.expectCounts(t, "at the gate", 0, 1)
		info, known := l.m.PeerInfo("a")
		if !known || len(info.Conns) != 1 || !info.Conns[0].Arriving || info.Conns[0].Closing || info.Conns[0].Conn != v {
			t.Errorf("PeerInfo is %+v, %v; want one connection that is arriving", info, known)
		}
		l.m.TagPeer("b", "a", 100)
		_, err := l.arrive(connmgr.DirInbound, "b", nowhere)
		expectRefusal(t, "a better newcomer, while the only place is taken by one that arrives", err, connmgr.OverHardLimit)
		if !v.Open() {
			t.Error("a connection that was arriving had to go for a newcomer")
		}

		advance(time.Minute / 6)
		l.m.Connected("a", v)
		l.expectCounts(t, "when it is reported", 1, 0)
		if info, _ := l.m.PeerInfo("a"); len(info.Conns) != 1 || info.Conns[0].Arriving {
			t.Errorf("PeerInfo is %+v, want one connection that has arrived", info)
		}
		if n := l.m.Stats().DuplicateConnects; n != 0 {
			t.Errorf("%d duplicates were counted, want none", n)
		}
		l.m.Connected("a", v)
		if n := l.m.Stats().DuplicateConnects; n != 1 {
			t.Errorf("%d duplicates were counted when it was reported again, want 1", n)
		}
		v.leave()
		l.expectEmpty(t)
		l.mustArrive(t, "c").giveUp()
	})
}

func TestNobodyPlansForAConnectionThatIsArriving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hosted := range []bool{false, true} {
			cfg := tight(1, 100)
			var l *lobby
			if hosted { // it does not list the connection yet
				l = newCountingHost(t, cfg, 0).lobby
			} else {
				l = newLobby(t, cfg)
			}
			sub := l.m.Subscribe(100)
			var guests []*guest
			for range 3 {
				guests = append(guests, l.mustArrive(t, "a"))
			}
			advance(time.Second)
			if plan := l.m.DryRun(connmgr.TriggerForce); plan.Total != 0 || plan.Peers() != 0 {
				t.Errorf("hosted %v: a plan has %d connections of %d peers, want none", hosted, plan.Total, plan.Peers())
			}
			if e, known := l.m.Explain("a", connmgr.TriggerManual); !known || e.Verdict.Reason != connmgr.NotConnected {
				t.Errorf("hosted %v: the verdict on a peer that is arriving is %v, %v; want %v", hosted, e.Verdict, known, connmgr.NotConnected)
			}
			trim(t, l.m)
			if _, err := l.m.ForceTrim(context.Background()); err != nil {
				t.Errorf("ForceTrim: %v", err)
			}
			l.expectCounts(t, "after two trims", 0, 3)
			for _, v := range guests {
				if v.CloseCalls() > 0 {
					t.Errorf("hosted %v: a trim closed a connection that was arriving", hosted)
				}
				l.m.Connected("a", v)
			}
			l.expectCounts(t, "when all are reported", 3, 0)
			connected := 0
			for len(sub.Events()) > 0 {
				if _, ok := (<-sub.Events()).(connmgr.EventConnected); ok {
					connected++
				}
			}
			if s := l.m.Stats(); connected != 3 || s.DuplicateConnects != 0 {
				t.Errorf("hosted %v: %d connections were announced and %d called duplicate, want 3 and 0", hosted, connected, s.DuplicateConnects)
			}
		}
	})
}

func TestAPlaceIsGivenBack(t *testing.T) {
	for what, tt := range map[string]struct {
		giveBack func(l *lobby, v *guest)
	}{
		"by Release":      {func(l *lobby, v *guest) { l.g.Release("a", v) }},
		"by Disconnected": {func(l *lobby, v *guest) { l.m.Disconnected("a", v) }},
		"by half a minute": {func(l *lobby, _ *guest) {
			advance(29 * time.Second)
			if n := l.g.Stats().Arriving; n != 1 {
				t.Errorf("%d are arriving after 29 s, want 1", n)
			}
			advance(11 * time.Second) // there is a tick every 10 s
		}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLobby(t, onePlace())
				sub := l.m.Subscribe(10)
				v := l.mustArrive(t, "a")
				for _, id := range []connmgr.NodeID{"a", "b"} {
					if _, err := l.arrive(connmgr.DirInbound, id, nowhere); err == nil {
						t.Fatal("the test is wrong: there was a second place")
					}
				}
				tt.giveBack(l, v)
				l.expectCounts(t, "given back", 0, 0)
				if n := len(events[connmgr.EventConnected](sub)); n != 0 {
					t.Errorf("%d connections were announced that never arrived", n)
				}
				again := l.mustArrive(t, "a")
				l.m.Connected("a", again)
				l.expectCounts(t, "the next one", 1, 0)
			})
		})
	}
}

// events returns what subscribers have been told of one kind.
func events[E connmgr.Event](sub *connmgr.Subscription) (all []E) {
	for len(sub.Events()) > 0 {
		if e, ok := (<-sub.Events()).(E); ok {
			all = append(all, e)
		}
	}
	return all
}

func TestReleaseDoesNothingToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, connmgr.Config{})
		a, b := l.mustArrive(t, "a"), l.mustArrive(t, "b")
		l.m.Connected("a", a)
		for range 2 {
			l.g.Release("a", a)      // reported already
			l.g.Release("a", b)      // of another peer
			l.g.Release("nobody", a) // of nobody
			l.g.Release("b", nil)    // of no connection
			l.g.Release("a", a.Conn) // another value
			l.m.Disconnected("b", a) // not its peer
			l.m.Disconnected("b", nil)
		}
		l.expectCounts(t, "after calls that are about nothing", 1, 1)
		for range 2 {
			l.g.Release("b", b)
		}
		l.expectCounts(t, "after Release", 1, 0)
		advance(time.Hour)
		l.expectCounts(t, "much later", 1, 0)
	})
}

func TestOneThatArrivesTooLateIsNewAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, onePlace())
		v := l.mustArrive(t, "a")
		advance(time.Minute)
		l.expectCounts(t, "after a minute", 0, 0)
		l.m.Connected("a", v)
		l.expectCounts(t, "when it is reported after all", 1, 0)
		if n := l.m.Stats().DuplicateConnects; n != 0 {
			t.Errorf("%d duplicates were counted, want none", n)
		}
		v.leave()
		l.expectEmpty(t)
	})
}

// A subscriber that counts connections must not end up below zero.
func TestNobodyIsToldOfTheEndOfWhatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, connmgr.Config{})
		sub := l.m.Subscribe(10)
		v := l.mustArrive(t, "a")
		v.leave() // the host says Disconnected without having said Connected
		if n := len(events[connmgr.EventDisconnected](sub)); n != 0 {
			t.Errorf("subscribers were told of %d connections that are gone, want none: they have been told of none that came", n)
		}
	})
}

func TestARuleThatComesWhileAConnectionArrivesClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, connmgr.Config{})
		v := l.mustArrive(t, "a")
		if err := l.g.Block(context.Background(), connmgr.PeerTarget("a"), 0, ""); err != nil {
			t.Fatal(err)
		}
		if v.CloseCalls() > 0 {
			t.Error("a connection was closed before it was reported")
		}
		l.m.Connected("a", v)
		synctest.Wait()
		if reason, closed := v.ClosedFor(); !closed || reason != connmgr.ClosedBlocked {
			t.Errorf("closed %v for %v, want it to be closed for %v", closed, reason, connmgr.ClosedBlocked)
		}
		l.expectEmpty(t)
	})
}

func TestTheGateCopesWithOddConnections(t *testing.T) {
	l := newLobby(t, onePlace())
	for range 3 { // a host that has no connection to show gets the rules alone
		if err := l.g.InterceptUpgraded(connmgr.DirInbound, "a", addr4(1, 1), nil); err != nil {
			t.Errorf("a nil connection was refused: %v", err)
		}
	}
	l.expectCounts(t, "after nil connections", 0, 0)
	v := l.mustArrive(t, "a")
	for range 2 {
		if err := l.g.InterceptUpgraded(connmgr.DirInbound, "a", addr4(1, 1), v); err != nil {
			t.Errorf("a connection that has its place was refused: %v", err)
		}
	}
	l.expectCounts(t, "after the same one three times", 0, 1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a connection that cannot be compared went unnoticed")
			}
		}()
		_ = l.g.InterceptUpgraded(connmgr.DirInbound, "a", addr4(1, 1), uncomparable{v.Conn, nil})
	}()
	l.expectCounts(t, "after a panic", 0, 1) // and no lock is held
}

// askedInBetween is a host that does something after it has made its list.
type askedInBetween struct {
	mu    sync.Mutex // guards all following fields
	conns []connmgr.Conn
	then  func()
}

func (h *askedInBetween) Connections() []connmgr.Conn {
	h.mu.Lock()
	list, then := append([]connmgr.Conn(nil), h.conns...), h.then
	h.then = nil
	h.mu.Unlock()
	if then != nil {
		then()
	}
	return list
}

func (h *askedInBetween) CloseConnection(connmgr.NodeID, connmgr.Reason) error { return nil }

// A host's list and its notifications race: a connection that was reported after the
// list was made is not gone because it is not on it.
func TestAConnectionReportedWhileTheHostIsAskedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(askedInBetween)
		cfg := tight(10, 20)
		cfg.Host = h
		l := newLobby(t, cfg)
		sub := l.m.Subscribe(10)
		v := l.mustArrive(t, "a")
		advance(time.Second)
		h.then = func() {
			h.mu.Lock()
			h.conns = append(h.conns, v)
			h.mu.Unlock()
			l.m.Connected("a", v)
		}
		trim(t, l.m)
		l.expectCounts(t, "when the host has been asked", 1, 0)
		if n := len(events[connmgr.EventDisconnected](sub)); n != 0 {
			t.Errorf("subscribers were told that it is gone")
		}
	})
}

// hookClock does something once when somebody asks for the time.
type hookClock struct {
	mu   sync.Mutex
	hook func()
}

func (c *hookClock) Now() time.Time {
	c.mu.Lock()
	hook := c.hook
	c.hook = nil
	c.mu.Unlock()
	if hook != nil {
		hook()
	}
	return time.Now()
}

func (c *hookClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (c *hookClock) set(hook func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = hook
}

func TestAConnectionReportedWhileItsPlaceIsTakenAwayStays(t *testing.T) {
	clock := new(hookClock)
	cfg := onePlace()
	cfg.Clock, cfg.ManualStart = clock, true
	l := newLobby(t, cfg)
	v := l.mustArrive(t, "a")
	reported := false
	clock.set(func() { l.m.Connected("a", v); reported = true })
	l.g.Release("a", v)
	if !reported { // before Release or after it, that is all the same
		l.m.Connected("a", v)
	}
	l.expectCounts(t, "after Connected", 1, 0)
}
