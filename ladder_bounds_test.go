package connmgr_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about the edges of the ban ladder: addresses from which too many
// banned peers came, floods that must not fill memory, and many reports at once.

// banFrom connects a peer from an address and gets it banned.
func banFrom(t testing.TB, m *connmgr.Manager, host *connmgrtest.Host, peer connmgr.NodeID, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		host.Connect(peer, connmgrtest.From(comingFrom(addr)))
	}
	ban(t, m, peer)
	if host.Connected(peer) {
		t.Errorf("%v is still connected", peer)
	}
}

// addressRules returns the addresses that the ladder has banned, in order.
func addressRules(m *connmgr.Manager) []string {
	return slices.DeleteFunc(ladderRules(m), func(target string) bool { return strings.HasPrefix(target, "peer ") })
}

func TestTooManyBannedPeersOfOneAddressBanTheAddress(t *testing.T) {
	for what, tt := range map[string]struct {
		addrs   string // one peer from each; the last one is one too many
		exempt  bool
		banned  string // "" if none is
		another string // an address of which others are closed as well, "" if none
	}{
		"IPv4":                   {"5.0.0.1 5.0.0.1 5.0.0.1", false, "5.0.0.1", "5.0.0.1"},
		"IPv4 neighbours":        {"5.0.0.1 5.0.0.2 5.0.0.3", false, "", ""},
		"a /64 of IPv6":          {"2a00::1 2a00::2 2a00::ffff:3", false, "2a00::/64", "2a00::4"},
		"another /64 of IPv6":    {"2a00::1 2a00::2 2a00:0:0:1::3", false, "", ""},
		"IPv4 in many clothes":   {"5.0.0.1 ::ffff:5.0.0.1 64:ff9b::5.0.0.1", false, "5.0.0.1", "64:ff9b::5.0.0.1"},
		"private, exempt":        {"10.0.0.1 10.0.0.1 10.0.0.1", true, "", ""},
		"loopback, exempt":       {"::1 ::1 ::1", true, "", ""},
		"behind NAT64, exempt":   {"64:ff9b::10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::10.0.0.1", true, "", ""},
		"private, not exempt":    {"10.0.0.1 10.0.0.1 10.0.0.1", false, "10.0.0.1", "10.0.0.1"},
		"public, private exempt": {"5.0.0.1 5.0.0.1 5.0.0.1", true, "5.0.0.1", "5.0.0.1"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ladder := steps
				ladder.MaxPeersPerAddr = 2
				m, host := newLadder(t, ladder)
				if err := m.Gater().SetLimits(connmgr.GateLimits{ExemptPrivate: tt.exempt}); err != nil {
					t.Fatal(err)
				}
				var bystander *connmgrtest.Conn
				if tt.another != "" {
					bystander = host.Connect("bystander", connmgrtest.From(comingFrom(tt.another)))
				}
				addrs := strings.Fields(tt.addrs)
				for i, addr := range addrs {
					if banned := addressRules(m); len(banned) != 0 {
						t.Fatalf("%v banned after %d peers, want none before the last", banned, i)
					}
					if banFrom(t, m, host, peerID(i), addr); i == 0 {
						advance(time.Minute)
					}
				}
				if got := strings.Join(addressRules(m), " "); got != tt.banned {
					t.Fatalf("%q is banned, want %q", got, tt.banned)
				}
				if tt.banned == "" {
					return
				}
				if reason, _ := bystander.ClosedFor(); reason != connmgr.ClosedBlocked {
					t.Errorf("somebody else from there was closed for %v, want %v", reason, connmgr.ClosedBlocked)
				}
				d := expectRefusal(t, "a newcomer from there", m.Gater().InterceptAccept(comingFrom(tt.another)), connmgr.DeniedAddr)
				if d != nil && (!d.Until.Equal(time.Now().Add(steps.FirstBan)) || !strings.Contains(d.Rule.Reason, "more than 2 banned peers")) {
					t.Errorf("the address is banned until %v for %q, want until the last ban ends, and the reason", d.Until, d.Rule.Reason)
				}
				advance(steps.FirstBan)
				if err := m.Gater().InterceptAccept(comingFrom(tt.another)); err != nil {
					t.Errorf("when the last ban has ended: %v", err)
				}
			})
		})
	}
}

func TestOnlyBansInForceCountAgainstAnAddress(t *testing.T) {
	for what, end := range map[string]func(m *connmgr.Manager){
		"those that have ended": func(*connmgr.Manager) { advance(steps.FirstBan) },
		"those that were lifted": func(m *connmgr.Manager) {
			for i := range 2 {
				_, _ = m.Gater().Unblock(context.Background(), connmgr.PeerTarget(peerID(i)))
			}
		},
		"the same peer again": func(*connmgr.Manager) { advance(steps.FirstBan / 2) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ladder := steps
				ladder.MaxPeersPerAddr = 2
				m, host := newLadder(t, ladder)
				banFrom(t, m, host, peerID(0), "5.0.0.1")
				if what == "the same peer again" {
					advance(steps.FirstBan)
					banFrom(t, m, host, peerID(0), "5.0.0.1", "5.0.0.1")
				} else {
					banFrom(t, m, host, peerID(1), "5.0.0.1")
				}
				end(m)
				banFrom(t, m, host, peerID(2), "5.0.0.1")
				if banned := addressRules(m); len(banned) != 0 {
					t.Errorf("%v banned, though no more than 2 peers from there are", banned)
				}
			})
		})
	}
}

func TestAnAddressIsBannedUntilTheLastBanOfItsOwnPeersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ladder := steps
		ladder.MaxPeersPerAddr = connmgr.Zero
		m, host := newLadder(t, ladder)
		advance(ban(t, m, "old hand"))
		banFrom(t, m, host, "old hand", "5.0.0.1") // for an hour
		host.Connect("both", connmgrtest.From(comingFrom("6.0.0.1")))
		for r := range m.Gater().Rules() { // or it would not get in
			if _, isAddr := r.Target.Prefix(); isAddr {
				_, _ = m.Gater().Remove(context.Background(), r)
			}
		}
		banFrom(t, m, host, "both", "5.0.0.1") // for half an hour, and with it both addresses
		for addr, want := range map[string]time.Duration{"5.0.0.1": time.Hour, "6.0.0.1": 30 * time.Minute} {
			d := expectRefusal(t, addr, m.Gater().InterceptAccept(comingFrom(addr)), connmgr.DeniedAddr)
			if d != nil && time.Until(d.Until) != want {
				t.Errorf("%s is banned for %v, want %v", addr, time.Until(d.Until), want)
			}
		}
	})
}

func TestAFloodOfReportsTakesNoMoreMemoryThanTheLadderMay(t *testing.T) {
	for what, weights := range map[string][]float64{
		"small reports":               {1},
		"bans at once":                {1000},
		"a small report, then a ban":  {1, 1000},
		"two reports, then a ban":     {20, 20, 20},
		"bans and small ones by turn": nil,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const most, peers = 200, 2000
				ladder := steps
				ladder.MaxPeers, ladder.MaxPeersPerAddr = most, connmgr.Zero
				m, host := newLadder(t, ladder)
				check := func(i int) {
					if n := m.Gater().Stats().ReportedPeers; n > most {
						t.Fatalf("%d peers are remembered after %d, want at most %d", n, i, most)
					}
					if n := len(ladderRules(m)); n > 2*most {
						t.Fatalf("the ladder has %d rules in force after %d peers, want at most %d for peers and as many for addresses", n, i, most)
					}
				}
				for i := range peers {
					each := weights
					if each == nil {
						each = []float64{float64(1 + i%2*1000)}
					}
					c := host.Connect(peerID(i), connmgrtest.From(addr4(i>>8, i)))
					for _, weight := range each {
						report(t, m, peerID(i), weight)
					}
					c.Drop()
					if i%97 == 0 {
						check(i)
					}
				}
				check(peers)
				// Those that were forgotten are not banned any more either.
				for i := range peers {
					s, known := m.Gater().Standing(peerID(i))
					expectBanned(t, m, peerID(i), fmt.Sprintf("standing %+v, %v", s, known), known && !s.BannedUntil.IsZero())
				}
			})
		})
	}
}

func TestAFloodOfAHundredThousandPeersAndAddresses(t *testing.T) {
	const most = 4096
	ladder := steps
	ladder.MaxPeers, ladder.MaxPeersPerAddr = most, connmgr.Zero
	m, _ := newLadder(t, ladder)
	before := heapInUse()
	for i := range 100_000 {
		c := connmgrtest.NewConn(peerID(i), connmgrtest.From(addr4(i>>8, i)))
		m.Connected(peerID(i), c)
		if report(t, m, peerID(i), 10); i%8 == 0 {
			report(t, m, peerID(i), 100)
		}
		m.Disconnected(peerID(i), c)
	}
	if n := m.Gater().Stats().ReportedPeers; n > most {
		t.Errorf("%d peers are remembered, want at most %d", n, most)
	}
	if all, addrs := len(ladderRules(m)), len(addressRules(m)); all-addrs > most || addrs > most {
		t.Errorf("the ladder has %d rules about peers and %d about addresses, want at most %d each", all-addrs, addrs, most)
	}
	if grown := int(heapInUse()-before) >> 20; grown > 15 {
		t.Errorf("the heap grew by %d MiB, want no more than 15", grown)
	}
}

func TestGoodPeersAreForgottenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ladder := steps
		ladder.MaxPeers = 8
		m, _ := newLadder(t, ladder)
		for _, id := range []connmgr.NodeID{"banned1", "banned2", "banned3"} {
			ban(t, m, id)
		}
		for _, id := range []connmgr.NodeID{"bad1", "bad2"} {
			report(t, m, id, 15)
		}
		for i := range 200 {
			report(t, m, peerID(i), 1+float64(i%7))
		}
		for _, id := range []connmgr.NodeID{"banned1", "banned2", "banned3", "bad1", "bad2"} {
			if _, known := m.Gater().Standing(id); !known {
				t.Errorf("%v was forgotten for peers that are better", id)
			}
		}
		expectBanned(t, m, "banned1", "after a flood of small reports", true)
		if _, known := m.Gater().Standing(peerID(199)); !known {
			t.Error("the last one reported was forgotten at once, so nobody could ever get worse")
		}
	})
}

func TestManyReportsAtOnceAreOneBan(t *testing.T) {
	ladder := steps
	ladder.MaxPeersPerAddr = 2
	m, host := newLadder(t, ladder)
	const peers = 300
	for i := range peers {
		var all sync.WaitGroup
		host.Connect(peerID(i), connmgrtest.From(addr4(i, i)))
		begin := make(chan struct{})
		for range 4 {
			all.Go(func() {
				<-begin
				report(t, m, peerID(i), 60)
			})
		}
		close(begin)
		all.Wait()
		if s, _ := m.Gater().Standing(peerID(i)); s.Bans != 1 {
			t.Fatalf("peer %d: four reports at once led to %+v, want one ban", i, s)
		}
	}
}

func TestReportsAndRulesAtOnce(t *testing.T) {
	ladder := steps
	ladder.MaxPeers, ladder.MaxPeersPerAddr = 50, 1
	m, host := newLadder(t, ladder)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 150 {
				id := peerID((n*7 + i) % 90)
				host.Connect(id, connmgrtest.From(addr4(n%3, n%10)))
				report(t, m, id, float64(1+n%60))
				m.Gater().Standing(id)
				if n%10 == 0 {
					_, _ = m.Gater().Unblock(context.Background(), connmgr.PeerTarget(id))
				}
				host.Disconnect(id)
			}
		})
	}
	all.Wait()
	if n := m.Gater().Stats().ReportedPeers; n == 0 || n > 50 {
		t.Errorf("%d peers are remembered, want some, and at most 50", n)
	}
}

func TestHugeWeightsDoNotLastForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newLadder(t, connmgr.LadderConfig{DisconnectAt: 20, HalfLife: time.Minute})
		for range 3 {
			report(t, m, "a", math.MaxFloat64)
		}
		if s, _ := m.Gater().Standing("a"); math.IsInf(s.Score, 0) || math.IsNaN(s.Score) {
			t.Errorf("the score is %v, want a number", s.Score)
		}
		advance(2000 * time.Minute) // more half-lives than any number has
		if s, known := m.Gater().Standing("a"); known {
			t.Errorf("the standing is %+v, want it forgotten", s)
		}
	})
}

func TestBansForGoodAreBansToo(t *testing.T) {
	for what, ladder := range map[string]connmgr.LadderConfig{
		"the first":  {BanAt: 1, FirstBan: math.MaxInt64, MaxBan: math.MaxInt64},
		"the second": {BanAt: 1, FirstBan: 200 * 365 * 24 * time.Hour, MaxBan: math.MaxInt64},
	} {
		t.Run(what, func(t *testing.T) {
			store := connmgrtest.NewStore()
			cfg := tight(1000, 1000)
			cfg.Gate = connmgr.GateConfig{Ladder: ladder, Store: store}
			m, err := connmgr.New(cfg)
			if err != nil { // a limit that is said is as good
				if !strings.Contains(err.Error(), "Ban") {
					t.Errorf("New: %v, want an error about the length of bans", err)
				}
				return
			}
			defer closeManager(t, m)
			ban(t, m, "a")
			if what == "the second" {
				_, _ = m.Gater().Unblock(context.Background(), connmgr.PeerTarget("a"))
				ban(t, m, "a")
			}
			expectBanned(t, m, "a", "banned for good", true)
			if again, err := connmgr.New(cfg); err != nil {
				t.Errorf("a restart with the rules that the ladder saved: %v", err)
			} else {
				closeManager(t, again)
			}
		})
	}
}

func TestLaddersOutOfRangeAreErrorsThatNameTheField(t *testing.T) {
	for field, change := range map[string]func(*connmgr.LadderConfig){
		"DisconnectAt":    func(c *connmgr.LadderConfig) { c.DisconnectAt = -1 },
		"BanAt":           func(c *connmgr.LadderConfig) { c.BanAt = math.NaN() },
		"above BanAt":     func(c *connmgr.LadderConfig) { c.DisconnectAt = 51 },
		"HalfLife":        func(c *connmgr.LadderConfig) { c.HalfLife = -time.Second },
		"FirstBan":        func(c *connmgr.LadderConfig) { c.FirstBan = connmgr.Zero },
		"MaxBan":          func(c *connmgr.LadderConfig) { c.MaxBan = time.Minute },
		"MaxPeersPerAddr": func(c *connmgr.LadderConfig) { c.MaxPeersPerAddr = -1 },
		"MaxPeers is":     func(c *connmgr.LadderConfig) { c.MaxPeers = connmgr.Zero },
		"other fields":    func(c *connmgr.LadderConfig) { c.DisconnectAt, c.BanAt = 0, 0 },
	} {
		c := steps
		change(&c)
		if _, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Ladder: c}}); err == nil ||
			!strings.HasPrefix(err.Error(), "connmgr: Ladder") || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error is %v, want one about Ladder that names it", field, err)
		}
	}
	for _, c := range []connmgr.LadderConfig{{}, connmgr.DefaultLadder(), {BanAt: 1}, {DisconnectAt: 1}, {BanAt: 1, FirstBan: 48 * time.Hour}} {
		m, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Ladder: c}})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		closeManager(t, m)
	}
}
