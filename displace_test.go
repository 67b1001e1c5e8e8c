package connmgr_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about a full door: who goes for a newcomer, and who is refused. Doors
// at which it is hard to make room are in displace_hard_test.go.

var nowhere netip.AddrPort

// fullHouse is a configuration with a hard limit that trims have nothing to do with.
func fullHouse(hard int) connmgr.Config {
	cfg := tight(hard, hard)
	cfg.HardLimit = hard
	return cfg
}

// expectDisplaced checks who has been closed for newcomers, in order.
func (l *lobby) expectDisplaced(t *testing.T, guests []*guest, want ...connmgr.NodeID) {
	t.Helper()
	var got []connmgr.NodeID
	for _, v := range guests {
		if reason, closed := v.ClosedFor(); closed {
			got = append(got, v.RemotePeer())
			if reason != connmgr.ClosedDisplaced {
				t.Errorf("%v was closed for %v, want %v", v.RemotePeer(), reason, connmgr.ClosedDisplaced)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("displaced are %v, want %v", got, want)
	}
	if s := l.g.Stats(); s.Displaced != uint64(len(want)) {
		t.Errorf("GateStats.Displaced is %d, want %d", s.Displaced, len(want))
	}
}

func TestANewcomerThatRanksHigherTakesThePlaceOfTheLowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, fullHouse(5))
		var guests []*guest
		for i := range 5 {
			guests = append(guests, l.dialIn(t, peerID(i)))
		}
		tagMany(l.m, 5)
		sub := l.m.Subscribe(100)
		l.m.TagPeer("newcomer", "useful", 1)
		v := l.dialIn(t, "newcomer")
		l.expectDisplaced(t, guests, peerID(0))
		if l.now("all") != 5 || !v.Open() || l.m.ConnCount() != 5 {
			t.Errorf("%d connections are open, %d counted, want 5", l.now("all"), l.m.ConnCount())
		}
		var closed []connmgr.EventClosed
		for len(sub.Events()) > 0 {
			if e, ok := (<-sub.Events()).(connmgr.EventClosed); ok {
				closed = append(closed, e)
			}
		}
		want := connmgr.EventClosed{
			Verdict: connmgr.Verdict{Peer: peerID(0), Reason: connmgr.ClosedDisplaced, Rank: 1, Conns: 1},
			Trigger: connmgr.TriggerNewcomer, At: time.Now(),
		}
		if !slices.Equal(closed, []connmgr.EventClosed{want}) {
			t.Errorf("subscribers were told %+v, want %+v", closed, want)
		}
		if n := l.m.Stats().ClosedPeers[connmgr.ClosedDisplaced]; n != 1 {
			t.Errorf("Stats count %d peers displaced, want 1", n)
		}
	})
}

func TestWhoGoesForANewcomer(t *testing.T) {
	type crowd func(l *lobby)
	inbound := func(id connmgr.NodeID, options ...connmgrtest.Option) crowd {
		return func(l *lobby) { _, _ = l.enter(connmgr.DirInbound, id, nowhere, options...) }
	}
	outbound := func(id connmgr.NodeID) crowd {
		return func(l *lobby) { _, _ = l.enter(connmgr.DirOutbound, id, nowhere) }
	}
	tag := func(id connmgr.NodeID, value int) crowd { return func(l *lobby) { l.m.TagPeer(id, "a", value) } }
	protect := func(id connmgr.NodeID) crowd { return func(l *lobby) { l.m.Protect(id, "x") } }
	allow := func(id connmgr.NodeID) crowd {
		return func(l *lobby) {
			_ = l.g.Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget(id)})
		}
	}
	for what, tt := range map[string]struct {
		crowd []crowd
		goes  connmgr.NodeID // "" if the newcomer does
	}{
		"an equal newcomer":                              {[]crowd{inbound("a"), inbound("b")}, ""},
		"a lower one":                                    {[]crowd{inbound("a"), inbound("b"), tag("new", -1)}, ""},
		"a higher one, the young go first":               {[]crowd{inbound("a"), inbound("b"), tag("new", 1)}, "b"},
		"as high as the lowest":                          {[]crowd{inbound("a"), inbound("b"), tag("a", 7), tag("b", 5), tag("new", 5)}, ""},
		"one remembered for its tags is as young as any": {[]crowd{tag("new", 5), inbound("a"), inbound("b"), tag("a", 5), tag("b", 5)}, ""},
		"higher than the lowest alone":                   {[]crowd{inbound("a"), inbound("b"), tag("a", 7), tag("b", 5), tag("new", 6)}, "b"},
		"the idle go before the busy":                    {[]crowd{inbound("idle"), inbound("busy", connmgrtest.Streams(1)), tag("new", 1)}, "idle"},
		"the busy stay for an equal one":                 {[]crowd{inbound("a", connmgrtest.Streams(1)), inbound("b", connmgrtest.Streams(1))}, ""},
		"a protected newcomer":                           {[]crowd{inbound("a"), inbound("b"), tag("a", 10), tag("b", 9), protect("new")}, "b"},
		"protected ones stay":                            {[]crowd{inbound("a"), inbound("b"), protect("b"), tag("new", 1)}, "a"},
		"nobody but protected ones":                      {[]crowd{inbound("a"), inbound("b"), protect("a"), protect("b"), tag("new", 1000)}, ""},
		"protected for protected":                        {[]crowd{inbound("a"), inbound("b"), protect("a"), protect("b"), protect("new")}, ""},
		"outbound ones stay":                             {[]crowd{inbound("a"), outbound("b"), tag("b", -50), tag("new", 1)}, "a"},
		"nobody but outbound ones":                       {[]crowd{outbound("a"), outbound("b"), tag("new", 1000)}, ""},
		"one connection of several outbound":             {[]crowd{inbound("a"), outbound("a"), tag("a", -50), tag("new", 1000)}, ""},
		"grace shelters nobody":                          {[]crowd{inbound("a"), func(*lobby) { advance(time.Hour) }, inbound("young"), tag("new", 1)}, "young"},
		"all connections of the lowest go":               {[]crowd{inbound("a"), inbound("a"), tag("new", 1)}, "a"},
		"one more of a peer that is there":               {[]crowd{inbound("new"), func(*lobby) { advance(time.Minute) }, inbound("b")}, ""},
		"its own other connections do not go":            {[]crowd{inbound("new"), inbound("new")}, ""},
		"trusted ones stay":                              {[]crowd{inbound("a"), inbound("friend"), allow("friend"), tag("new", 1)}, "a"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := fullHouse(2)
				cfg.GracePeriod = 10 * time.Minute
				l := newLobby(t, cfg)
				for _, c := range tt.crowd {
					c(l)
					advance(time.Second)
				}
				_, err := l.enter(connmgr.DirInbound, "new", nowhere)
				closed := l.closedPeers()
				if tt.goes == "" {
					expectRefusal(t, "the newcomer", err, connmgr.OverHardLimit)
					if len(closed) != 0 {
						t.Errorf("%v went, want nobody to", closed)
					}
					return
				}
				if err != nil || !slices.Equal(closed, []connmgr.NodeID{tt.goes}) {
					t.Errorf("%v went, and the newcomer got %v; want %v to go and the newcomer to pass", closed, err, tt.goes)
				}
			})
		})
	}
}

// TestTheRightOneGoesWhoeverIsThere holds the door's choice against a plan: of all who
// may go, the one goes who would be first in a trim, if it would go before the newcomer.
func TestTheRightOneGoesWhoeverIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(150) {
			rng := rand.New(rand.NewPCG(seed, 7))
			n := 1 + rng.IntN(100)
			cfg := fullHouse(n)
			cfg.ActiveBonus, cfg.OutboundBonus = 1+rng.IntN(8), 1+rng.IntN(8)
			l := newLobby(t, cfg)
			policy := connmgr.Policy{ActiveBonus: cfg.ActiveBonus, OutboundBonus: cfg.OutboundBonus}
			var mayGo connmgr.Snapshot
			for i := range n {
				p := connmgr.PeerState{ID: peerID(i), Since: time.Now(), TagSum: rng.IntN(12), Conns: 1, Streams: int32(rng.IntN(3))}
				dir := connmgr.DirInbound
				if rng.IntN(5) == 0 {
					dir = connmgr.DirOutbound
				}
				if _, err := l.enter(dir, p.ID, nowhere, connmgrtest.Streams(int(p.Streams))); err != nil {
					t.Fatal(err)
				}
				l.m.TagPeer(p.ID, "a", p.TagSum)
				if rng.IntN(5) == 0 {
					l.m.Protect(p.ID, "x")
				} else if dir == connmgr.DirInbound {
					mayGo = append(mayGo, p)
				}
				advance(time.Second) // no two are alike in age, so no hash decides
			}
			newcomer := connmgr.PeerState{ID: "new", Since: time.Now(), TagSum: rng.IntN(14), Conns: 1}
			l.m.TagPeer("new", "a", newcomer.TagSum)
			want := firstToGo(policy, mayGo)
			if want != "" {
				lowest := mayGo[slices.IndexFunc(mayGo, func(p connmgr.PeerState) bool { return p.ID == want })]
				want = firstToGo(policy, connmgr.Snapshot{lowest, newcomer})
			}
			var wants []connmgr.NodeID
			if want != "" && want != "new" {
				wants = []connmgr.NodeID{want}
			}
			_, err := l.enter(connmgr.DirInbound, "new", nowhere)
			if got := l.closedPeers(); !slices.Equal(got, wants) || (err == nil) != (len(wants) == 1) {
				t.Fatalf("seed %d: %v went for the newcomer, which got %v; want %v to go", seed, got, err, wants)
			}
			closeManager(t, l.m)
		}
	})
}

// firstToGo returns who is the first to go of all in a snapshot, "" of nobody.
func firstToGo(policy connmgr.Policy, peers connmgr.Snapshot) (first connmgr.NodeID) {
	for v := range connmgr.PlanTrim(policy, peers, time.Now(), connmgr.TriggerManual).Closed() {
		return v.Peer
	}
	return ""
}

// However many there are who rank lower but may not go, the one who may is found.
func TestOneAmongManyWhoStayIsFound(t *testing.T) {
	for _, kind := range []string{"protected", "outbound", "trusted"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const many = 200
				l := newLobby(t, fullHouse(many+1))
				l.dialIn(t, "may go")
				l.m.TagPeer("may go", "a", 10)
				for i := range many {
					id, dir := peerID(i), connmgr.DirInbound
					var err error
					switch kind {
					case "protected":
						l.m.Protect(id, "x")
					case "outbound":
						dir = connmgr.DirOutbound
					case "trusted":
						err = l.g.Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget(id)})
					}
					if err == nil {
						_, err = l.enter(dir, id, nowhere)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				l.m.TagPeer("new", "a", 50)
				_, err := l.enter(connmgr.DirInbound, "new", nowhere)
				if closed := l.closedPeers(); err != nil || !slices.Equal(closed, []connmgr.NodeID{"may go"}) {
					t.Errorf("%v went, and the newcomer got %v; want the only one to go that may", closed, err)
				}
			})
		})
	}
}

func TestAtTheInboundLimitInboundOnesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(100, 100)
		cfg.Gate.Limits.MaxInbound = 2
		l := newLobby(t, cfg)
		for i := range 3 { // these take no inbound place, and are not refused
			if _, err := l.enter(connmgr.DirOutbound, peerID(i), nowhere); err != nil {
				t.Fatalf("an outbound connection was refused: %v", err)
			}
		}
		a := l.dialIn(t, "a")
		b, err := l.enter(connmgr.DirUnknown, "b", nowhere) // it may be inbound
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []connmgr.Direction{connmgr.DirInbound, connmgr.DirUnknown} {
			_, err := l.enter(dir, "equal", nowhere)
			if d := expectRefusal(t, "an equal newcomer", err, connmgr.OverInboundLimit); d != nil && d.Limit != 2 {
				t.Errorf("the refusal says the limit is %v, want 2", d.Limit)
			}
		}
		l.m.TagPeer("better", "a", 1)
		l.m.TagPeer("b", "a", 1)
		l.dialIn(t, "better")
		l.expectDisplaced(t, []*guest{a, b}, "a")
		if s := l.m.Stats(); s.Inbound != 1 || s.UnknownDirection != 1 || s.Outbound != 3 {
			t.Errorf("%d inbound, %d unknown and %d outbound connections, want 1, 1 and 3", s.Inbound, s.UnknownDirection, s.Outbound)
		}
	})
}

func TestOutboundConnectionsCountAndAreNotRefused(t *testing.T) {
	l := newLobby(t, fullHouse(3))
	for i := range 3 {
		if _, err := l.enter(connmgr.DirOutbound, peerID(i), nowhere); err != nil {
			t.Fatalf("outbound connection %d was refused: %v", i, err)
		}
	}
	_, err := l.enter(connmgr.DirInbound, "in", nowhere)
	if d := expectRefusal(t, "an inbound one beside 3 outbound ones", err, connmgr.OverHardLimit); d != nil && d.Limit != 3 {
		t.Errorf("the refusal says the limit is %v, want 3", d.Limit)
	}
	if _, err := l.enter(connmgr.DirOutbound, "out", nowhere); err != nil {
		t.Errorf("an outbound connection beyond the hard limit was refused: %v", err)
	}
	if n := l.m.ConnCount(); n != 4 {
		t.Errorf("%d connections are counted, want 4", n)
	}
}

// Of a peer with several connections those that close make room, whatever the others do.
func TestOneConnectionThatClosesIsRoomEnough(t *testing.T) {
	for what, trouble := range map[string]connmgrtest.Option{
		"fails": connmgrtest.FailOnClose(errors.New("no")), "hangs": connmgrtest.HangOnClose(),
	} {
		for troubled := range 2 { // the first connection or the second one
			t.Run(fmt.Sprint("number ", troubled+1, " ", what), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLobby(t, fullHouse(3))
					var guests []*guest
					for i := range 2 {
						var options []connmgrtest.Option
						if i == troubled {
							options = append(options, trouble)
						}
						guests = append(guests, l.dialIn(t, "two", options...))
					}
					l.m.TagPeer("two", "a", -1)
					l.dialIn(t, "other")
					l.m.TagPeer("new", "a", 50)
					l.dialIn(t, "new")
					if got := l.closedPeers(); !slices.Equal(got, []connmgr.NodeID{"two"}) || l.now("all") != 3 {
						t.Errorf("%v went, and %d connections are open; want one connection of the lowest to be enough", got, l.now("all"))
					}
					guests[troubled].Release()
					synctest.Wait()
				})
			})
		}
	}
}

// While somebody goes for it, a newcomer may come to have all the connections that a peer
// may have. Then nobody gets the place.
func TestAPlaceThatIsNotNeededAnyMoreIsFree(t *testing.T) {
	cfg := fullHouse(2)
	cfg.Gate.Limits.MaxPerPeer = 1
	l := newLobby(t, cfg)
	other := connmgrtest.NewConn("new")
	l.dialIn(t, peerID(0), connmgrtest.OnClose(func(connmgr.Reason) error {
		l.m.Connected("new", other) // past the gate
		return nil
	}))
	stays := l.dialIn(t, peerID(1))
	tagMany(l.m, 2)
	l.m.TagPeer("new", "a", 50)
	_, err := l.enter(connmgr.DirInbound, "new", nowhere)
	expectRefusal(t, "a second one of the peer", err, connmgr.OverPeerLimit)
	l.m.Disconnected("new", other)
	stays.leave()
	l.expectEmpty(t)
	l.dialIn(t, "a")
	l.dialIn(t, "b")
}

func TestOneThatFailsToCloseStaysAndTheNextOneGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, fullHouse(3))
		fails := l.dialIn(t, peerID(0), connmgrtest.FailOnClose(errors.New("no")))
		panics := l.dialIn(t, peerID(1), connmgrtest.PanicOnClose("boom"))
		goes := l.dialIn(t, peerID(2))
		tagMany(l.m, 3)
		l.m.TagPeer("new", "a", 50)
		l.dialIn(t, "new")
		l.expectDisplaced(t, []*guest{fails, panics, goes}, peerID(2))
		if s := l.m.Stats(); l.now("all") != 3 || s.Conns != 3 || s.Closing != 0 || s.CloseErrors != 2 || s.Panics != 1 {
			t.Errorf("%d open; the manager counts %d and %d closing, %d errors, %d panics; want 3, 3, 0, 2, 1",
				l.now("all"), s.Conns, s.Closing, s.CloseErrors, s.Panics)
		}
		_, err := l.enter(connmgr.DirInbound, "another", nowhere)
		expectRefusal(t, "a newcomer that ranks above nobody", err, connmgr.OverHardLimit)
	})
}
