package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests block peers, addresses and ports while connections are open, and look
// at what is closed, what subscribers are told, and what the statistics say.

func block(t testing.TB, m *connmgr.Manager, target connmgr.Target) {
	t.Helper()
	if err := m.Gater().Block(context.Background(), target, 0, "test"); err != nil {
		t.Errorf("Block(%v): %v", target, err)
	}
}

func at(s string) connmgrtest.Option { return connmgrtest.From(addrPort(s)) }

// openPeers returns the peers of the open connections, each once for each connection.
func openPeers(host *connmgrtest.Host) []connmgr.NodeID {
	var ids []connmgr.NodeID
	for _, c := range host.Connections() {
		ids = append(ids, c.RemotePeer())
	}
	slices.Sort(ids)
	return ids
}

func TestABlockClosesTheConnectionsItIsAbout(t *testing.T) {
	for _, tt := range []struct {
		block   connmgr.Target
		closes  map[connmgr.NodeID]int // connections
		without []connmgr.Rule         // there already
	}{
		{block: connmgr.PeerTarget("in"), closes: map[connmgr.NodeID]int{"in": 1}},
		{block: connmgr.PeerTarget("both"), closes: map[connmgr.NodeID]int{"both": 3}},
		{block: connmgr.PeerTarget("relayed"), closes: map[connmgr.NodeID]int{"relayed": 1}},
		{block: connmgr.PeerTarget("stranger")},
		{block: addr("10.0.0.1"), closes: map[connmgr.NodeID]int{"in": 1, "both": 1}},
		{block: prefix("10.0.0.0/8"), closes: map[connmgr.NodeID]int{"in": 1, "out": 1, "both": 2}},
		{block: prefix("0.0.0.0/0"), closes: map[connmgr.NodeID]int{"in": 1, "out": 1, "both": 3}},
		{block: prefix("::/0"), closes: map[connmgr.NodeID]int{"v6": 1}},
		{block: connmgr.PortTarget(4001), closes: map[connmgr.NodeID]int{"out": 1, "both": 1}},
		{block: prefix("10.0.0.0/8"), without: []connmgr.Rule{allow(addr("10.0.0.1"))}, closes: map[connmgr.NodeID]int{"out": 1, "both": 1}},
		{block: addr("10.0.0.1"), without: []connmgr.Rule{allow(addr("10.0.0.1"))}, closes: map[connmgr.NodeID]int{"in": 1, "both": 1}},
		{block: prefix("10.0.0.0/8"), without: []connmgr.Rule{allow(connmgr.PeerTarget("in"))}, closes: map[connmgr.NodeID]int{"in": 1, "out": 1, "both": 2}},
	} {
		for _, hosted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				cfg := tight(100, 200)
				cfg.Gate.Rules = tt.without
				m, host := newNodeOrHosted(t, cfg, hosted)
				host.Connect("in", at("10.0.0.1"))
				host.Connect("out", at("10.0.0.2"), connmgrtest.Outbound())
				host.Connect("both", at("[::ffff:10.0.0.1]:4001"))
				host.Connect("both", at("10.0.0.2"), connmgrtest.Outbound())
				host.Connect("both", at("11.0.0.1:80"), connmgrtest.Outbound())
				host.Connect("v6", at("[fe80::1%eth0]:4001"))
				host.Connect("relayed", connmgrtest.Outbound())
				m.Protect("in", "x")
				m.Protect("both", "x")
				sub := m.Subscribe(100)
				block(t, m, tt.block)
				if open := host.Len(); open != 7-total(tt.closes) {
					t.Errorf("when Block of %v returned, %d connections were open, want %d", tt.block, open, 7-total(tt.closes))
				}
				synctest.Wait() // the verdicts may come a moment later

				closed, peers := map[connmgr.NodeID]int{}, uint64(0)
				for _, c := range host.Closed() {
					if closed[c.Peer]++; c.Reason != connmgr.ClosedBlocked {
						t.Errorf("a connection of %v was closed for %v, want blocked", c.Peer, c.Reason)
					}
				}
				if !maps.Equal(closed, tt.closes) {
					t.Errorf("a block of %v (after %v) closed %v, want %v", tt.block, tt.without, closed, tt.closes)
				}
				told := map[connmgr.NodeID]int{}
				for _, e := range closedEvents(sub) {
					told[e.Peer] += e.Conns
					peers++
					if e.Reason != connmgr.ClosedBlocked || e.Trigger != connmgr.TriggerRule {
						t.Errorf("told %+v, want the reason blocked and the trigger rule", e)
					}
				}
				s := m.Stats()
				if !maps.Equal(told, tt.closes) || s.ClosedPeers[connmgr.ClosedBlocked] != peers || int(peers) != len(tt.closes) {
					t.Errorf("a block of %v: told of %v, and %v counted; want %v", tt.block, told, s.ClosedPeers, tt.closes)
				}
				if s.Conns != host.Len() || s.Closing != 0 || m.ConnCount() != host.Len() {
					t.Errorf("%d connections, %d being closed; want %d and none", s.Conns, s.Closing, host.Len())
				}
			})
		}
	}
}

func total(conns map[connmgr.NodeID]int) (sum int) {
	for _, n := range conns {
		sum += n
	}
	return sum
}

func TestAConnectionWithoutAnAddressIsClosedForItsPeerAlone(t *testing.T) {
	m := newManager(t, spacious())
	c := &closable{bareConn: bareConn{"p"}}
	m.Connected("p", c) // not an AddrConn
	block(t, m, prefix("0.0.0.0/0"))
	if c.closed {
		t.Error("a connection of unknown address was closed for its address")
	}
	block(t, m, connmgr.PeerTarget("p"))
	if !c.closed {
		t.Error("the connection of a blocked peer is open")
	}
}

type closable struct {
	bareConn
	closed bool
}

func (c *closable) CloseWithReason(connmgr.Reason) error { c.closed = true; return nil }

func TestANewListClosesWhatItDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(100, 200))
		for i := range 8 {
			host.Connect(peerID(i), at(fmt.Sprintf("10.0.0.%d", i)))
		}
		replace(t, m.Gater(), "list", deny(prefix("10.0.0.0/30")), deny(connmgr.PeerTarget(peerID(7))))
		if got, want := openPeers(host), []connmgr.NodeID{peerID(4), peerID(5), peerID(6)}; !slices.Equal(got, want) {
			t.Errorf("open are %v, want %v", got, want)
		}
		replace(t, m.Gater(), "list", deny(prefix("10.0.0.4/31")), deny(prefix("10.0.0.0/30")))
		if got, want := openPeers(host), []connmgr.NodeID{peerID(6)}; !slices.Equal(got, want) {
			t.Errorf("with the next list open are %v, want %v", got, want)
		}
	})
}

func TestAConnectionThatHangsInItsCloseDelaysABlockByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(100, 200))
		hung := host.Connect("p", at("10.0.0.1"), connmgrtest.HangOnClose())
		sibling := host.Connect("p", at("10.0.0.2"))
		connectMany(host, 100, at("10.0.0.3"))
		start := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			block(t, m, prefix("10.0.0.0/24"))
			done <- time.Since(start)
		}()
		synctest.Wait()
		if host.Len() != 1 || sibling.Open() {
			t.Errorf("%d connections are open while one hangs, want it alone", host.Len())
		}
		if len(done) != 0 {
			t.Error("Block did not give the connection a moment to close")
		}
		block(t, m, connmgr.PeerTarget("another"))
		if took := time.Since(start); took != 0 || m.Gater().InterceptAccept(addrPort("10.0.0.9")) == nil {
			t.Errorf("another Block took %v, want the gate to be at work while a connection hangs", took)
		}
		if took := <-done; took > 5*time.Second/4 {
			t.Errorf("Block took %v, want not much more than a second", took)
		}
		synctest.Wait()
		if s := m.Stats(); s.HangingPeers != 1 || s.Closing != 1 || s.ClosedPeers[connmgr.ClosedBlocked] != 101 {
			t.Errorf("hanging peers %d, closing %d, closed %v; want 1, 1 and 101 peers", s.HangingPeers, s.Closing, s.ClosedPeers)
		}
		hung.Release()
		synctest.Wait()
		if s := m.Stats(); host.Len() != 0 || s.Closing != 0 || s.HangingPeers != 0 {
			t.Errorf("after release %d connections are open, %d being closed, %d peers hanging; want none", host.Len(), s.Closing, s.HangingPeers)
		}
	})
}

func TestManyThatHangDoNotKeepTheOthersOfARuleOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1000, 2000))
		hung := connectMany(host, 3*closedAtOnce, at("10.0.0.1"), connmgrtest.HangOnClose())
		for i := range 100 {
			host.Connect(peerID(1000+i), at("10.0.0.1"))
		}
		start := time.Now()
		block(t, m, addr("10.0.0.1"))
		if took := time.Since(start); took > 2*time.Second || host.Len() != len(hung) {
			t.Errorf("after %v %d connections are open, want at most 2 s, and the %d that hang", took, host.Len(), len(hung))
		}
		for _, c := range hung {
			c.Release()
		}
		synctest.Wait()
		if n := m.Stats().ClosedPeers[connmgr.ClosedBlocked]; host.Len() != 0 || n != uint64(len(hung))+100 {
			t.Errorf("in the end %d are open and %d peers counted, want 0 and %d", host.Len(), n, len(hung)+100)
		}
	})
}

func TestWhoSlipsThroughIsClosedWhenConnected(t *testing.T) {
	for _, target := range []connmgr.Target{connmgr.PeerTarget("p"), prefix("10.0.0.0/8")} {
		synctest.Test(t, func(t *testing.T) {
			m, _ := newNode(t, tight(100, 200))
			c := connmgrtest.NewConn("p", at("10.0.0.1"))
			if err := m.Gater().InterceptUpgraded(connmgr.DirInbound, "p", addrPort("10.0.0.1"), c); err != nil {
				t.Fatal(err)
			}
			block(t, m, target)
			if !c.Open() {
				t.Error("a connection was closed before the host has it")
			}
			m.Connected("p", c)
			synctest.Wait()
			if reason, closed := c.ClosedFor(); !closed || reason != connmgr.ClosedBlocked {
				t.Errorf("with %v denied before Connected: closed %v for %v, want it closed for the rule", target, closed, reason)
			}
		})
	}
}

func TestAHostThatNeverAsksTheGateIsCorrected(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := tight(100, 200)
			cfg.Gate.Rules = []connmgr.Rule{denyPeer("denied"), deny(prefix("10.0.0.0/8")), deny(connmgr.PortTarget(25))}
			m, host := newNodeOrHosted(t, cfg, hosted)
			sub := m.Subscribe(100)
			host.Connect("denied", at("11.0.0.1"))
			host.Connect("a", at("10.0.0.1"))
			host.Connect("b", at("11.0.0.1:25"), connmgrtest.Outbound())
			host.Connect("c", at("11.0.0.1:25"))
			synctest.Wait()
			if got := openPeers(host); !slices.Equal(got, []connmgr.NodeID{"c"}) {
				t.Errorf("open are %v, want c alone", got)
			}
			if got := closedEvents(sub); len(got) != 3 || m.Stats().ClosedPeers[connmgr.ClosedBlocked] != 3 {
				t.Errorf("told %+v, counted %v; want three peers closed", got, m.Stats().ClosedPeers)
			}
		})
	}
}

// A host that sends no notifications is one that the manager promises to work with.
func TestWithAHostThatSendsNoNotificationsABlockClosesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		cfg := tight(100, 200)
		cfg.Host = host
		m := newManager(t, cfg)
		host.Connect("early", at("10.0.0.1"))
		block(t, m, connmgr.PeerTarget("early"))
		if host.Connected("early") {
			t.Error("the connection of a blocked peer is open after Block, though the host has it")
		}
		host.Connect("early", at("10.0.0.1")) // the host does not ask the gate either
		advance(connmgr.DefaultSilencePeriod)
		if host.Connected("early") {
			t.Error("after a tick the connection of a blocked peer is open, though the host has it")
		}
	})
}

func TestABlockTriesAgainWhatWouldNotClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(100, 200))
		fails := host.Connect("fails", connmgrtest.FailOnClose(errors.New("no")))
		panics := host.Connect("panics", connmgrtest.PanicOnClose("boom"))
		sub := m.Subscribe(100)
		block(t, m, connmgr.PeerTarget("fails"))
		block(t, m, connmgr.PeerTarget("panics"))
		synctest.Wait()
		if s := m.Stats(); s.CloseErrors != 2 || s.Panics != 1 || s.Conns != 2 || s.Closing != 0 || len(closedEvents(sub)) != 0 || len(s.ClosedPeers) != 0 {
			t.Errorf("stats %+v; want two close errors, a panic, and nothing told as closed", s)
		}
		fails.SetOnClose(nil)
		panics.SetOnClose(nil)
		block(t, m, connmgr.PeerTarget("fails"))
		block(t, m, connmgr.PeerTarget("panics"))
		synctest.Wait()
		if host.Len() != 0 || m.Stats().ClosedPeers[connmgr.ClosedBlocked] != 2 {
			t.Errorf("blocked again, %v are open, and %v counted; want none and 2", openPeers(host), m.Stats().ClosedPeers)
		}
	})
}

func TestSubscribersAreToldOfRulesAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(100, 200))
		g := m.Gater()
		host.Connect("alice")
		sub := m.Subscribe(100)
		start := time.Now()
		bob := with(denyPeer("bob"), start.Add(time.Hour), "")
		add(t, g, denyPeer("alice"), bob)
		add(t, g, denyPeer("alice"), bob) // changes nothing
		advance(time.Second)
		add(t, g, denyPeer("carol"), denyPeer("alice"))
		_, _ = g.Remove(context.Background(), denyPeer("alice"), denyPeer("unknown"))
		_ = replace(t, g, "list", deny(prefix("10.0.0.0/8")))
		refusal := g.InterceptPeerDial("bob")
		_ = g.InterceptPeerDial("alice") // passes

		changes := func(remove bool, rules ...connmgr.Rule) (c []connmgr.RuleChange) {
			for _, r := range rules {
				c = append(c, connmgr.RuleChange{Rule: r, Remove: remove})
			}
			return c
		}
		later := start.Add(time.Second)
		want := []connmgr.Event{
			connmgr.EventRules{Changes: changes(false, denyPeer("alice"), bob), At: start},
			connmgr.EventDisconnected{Peer: "alice", At: start},
			connmgr.EventClosed{Verdict: connmgr.Verdict{Peer: "alice", Reason: connmgr.ClosedBlocked, Conns: 1}, Trigger: connmgr.TriggerRule, Rule: denyPeer("alice"), At: start},
			connmgr.EventRules{Changes: changes(false, denyPeer("carol")), At: later},
			connmgr.EventRules{Changes: changes(true, denyPeer("alice")), At: later},
			connmgr.EventRules{Changes: changes(false, from(deny(prefix("10.0.0.0/8")), "list")), At: later},
			connmgr.EventDenied{Err: refusal.(*connmgr.DeniedError), At: later}, //nolint:errorlint // it is one
		}
		for _, w := range want {
			got := <-sub.Events()
			if e, ok := got.(connmgr.EventRules); ok { // what else is in a change is nobody's business
				bare := connmgr.EventRules{Expired: e.Expired, At: e.At}
				for _, c := range e.Changes {
					bare.Changes = append(bare.Changes, connmgr.RuleChange{Rule: c.Rule, Remove: c.Remove})
				}
				got = bare
			}
			if !reflect.DeepEqual(got, w) {
				t.Errorf("told\n\t%+v, want\n\t%+v", got, w)
			}
		}
		if got := tell(sub); got != "" {
			t.Errorf("told %s as well, want nothing", got)
		}
	})
}

func TestChecksAreCountedByCheckpointAndOutcome(t *testing.T) {
	g := gateWith(t, denyPeer("bad"), deny(prefix("10.0.0.0/8")), deny(connmgr.PortTarget(25)))
	want := map[connmgr.Checkpoint]map[connmgr.Outcome]uint64{}
	for i, cp := range everyCheckpoint {
		for _, q := range []struct {
			peer    connmgr.NodeID
			at      string
			outcome connmgr.Outcome
			knows   bool
		}{
			{"good", "11.0.0.1", connmgr.Passed, true},
			{"bad", "11.0.0.1", connmgr.DeniedPeer, cp.knowsPeer},
			{"good", "10.0.0.1", connmgr.DeniedAddr, cp.knowsAddr},
			{"good", "11.0.0.1:25", connmgr.DeniedPort, cp.knowsAddr && cp.dial},
		} {
			outcome := connmgr.Passed
			if q.knows {
				outcome = q.outcome
			}
			for range i + 1 {
				_ = cp.ask(g, q.peer, addrPort(q.at))
			}
			if want[cp.at] == nil {
				want[cp.at] = map[connmgr.Outcome]uint64{}
			}
			want[cp.at][outcome] += uint64(i + 1)
		}
	}
	s := g.Stats()
	if !reflect.DeepEqual(s.Checks, want) {
		t.Errorf("Checks = %v, want %v", s.Checks, want)
	}
	if s.Rules != 3 || s.UnsavedRules != 0 || s.Arriving != 0 {
		t.Errorf("rules %d, unsaved %d, arriving %d; want 3, 0, 0", s.Rules, s.UnsavedRules, s.Arriving)
	}
	s.Checks[connmgr.AtAccept][connmgr.Passed] = 99
	if reflect.DeepEqual(g.Stats().Checks, s.Checks) {
		t.Error("changing an answer changed the gate")
	}
}

func TestSubscribersAreToldWhichRuleClosedWhoFromWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(100, 200))
		sub := m.Subscribe(100)
		addr := netip.MustParseAddrPort("10.1.2.3:4001")
		host.Connect("alice", connmgrtest.From(netip.MustParseAddrPort("11.1.2.3:4001")))
		host.Connect("alice", connmgrtest.From(addr))
		rule := with(deny(prefix("10.0.0.0/8")), time.Now().Add(time.Hour), "port scans")
		add(t, m.Gater(), rule)
		var connected []netip.AddrPort
		var closed []connmgr.EventClosed
		for _, e := range drain(sub) {
			switch e := e.(type) {
			case connmgr.EventConnected:
				connected = append(connected, e.Addr)
			case connmgr.EventClosed:
				closed = append(closed, e)
			}
		}
		if len(connected) != 2 || connected[1] != addr {
			t.Errorf("told of connections from %v, want the addresses of both", connected)
		}
		if len(closed) != 1 || closed[0].Rule != rule || closed[0].Addr != addr || closed[0].Conns != 1 {
			t.Errorf("told of %+v, want one connection closed by %v, and its address", closed, rule)
		}
	})
}

// drain returns the events that there are.
func drain(sub *connmgr.Subscription) (list []connmgr.Event) {
	synctest.Wait()
	for {
		select {
		case e := <-sub.Events():
			list = append(list, e)
		default:
			return list
		}
	}
}
