package connmgrprom_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/dep2p/connmgr/connmgrtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// These tests look at what a registry gathers from a real manager to which things happen.

func TestConnectionsAndPeersAreThoseOfTheManager(t *testing.T) {
	n := newNode(t, noGrace)
	n.connect(3, "in")
	n.connect(2, "out", connmgrtest.Outbound())
	n.connect(1, "odd", connmgrtest.Direction(connmgr.DirUnknown))
	n.host.Connect("out0")
	n.Protect("in0", "friend")
	n.Protect("absent", "friend")
	n.TagPeer("stranger", "known", 1)
	n.expect(samples{
		`connmgr_connections{direction="inbound"}`:  4,
		`connmgr_connections{direction="outbound"}`: 2,
		`connmgr_connections{direction="unknown"}`:  1,
		`connmgr_open_connections`:                  7,
		`connmgr_closing_connections`:               0,
		`connmgr_peers`:                             6,
		`connmgr_protected_peers`:                   2,
		`connmgr_idle_peers`:                        1,
	})
}

func TestLimitsAreThoseInForce(t *testing.T) {
	n := newNode(t, connmgr.Config{LowWater: 2, HighWater: 4, HardLimit: math.MaxInt, OutboundFloor: 1})
	n.expect(samples{
		`connmgr_low_water_connections`:      2,
		`connmgr_high_water_connections`:     4,
		`connmgr_hard_limit_connections`:     math.Inf(1),
		`connmgr_outbound_floor_connections`: 1,
	})
	if err := n.SetLimits(connmgr.Limits{LowWater: 3, HighWater: 6, HardLimit: 9}); err != nil {
		t.Fatal(err)
	}
	n.expect(samples{
		`connmgr_low_water_connections`:      3,
		`connmgr_high_water_connections`:     6,
		`connmgr_hard_limit_connections`:     9,
		`connmgr_outbound_floor_connections`: 0,
	})
}

func TestTrimsAreCountedAndTheLastIsShown(t *testing.T) {
	n := newNode(t, noGrace)
	n.expect(samples{
		`connmgr_trims_total{trigger="manual"}`:           0,
		`connmgr_closed_peers_total{reason="low_score"}`:  0,
		`connmgr_last_trim_timestamp_seconds`:             0,
		`connmgr_last_trim_shortfall_connections`:         0,
		`connmgr_closed_peers_total{reason="misbehaved"}`: 0,
	})
	n.connect(6, "plain")
	n.connect(3, "friend")
	for i := range 3 {
		n.Protect(connmgr.NodeID(fmt.Sprint("friend", i)), "friend")
	}
	before := time.Now()
	res := n.trim()
	n.expect(samples{
		`connmgr_trims_total{trigger="manual"}`:                     1,
		`connmgr_trims_total{trigger="force"}`:                      0,
		`connmgr_closed_peers_total{reason="low_score"}`:            6,
		`connmgr_last_trim_counted_connections`:                     9,
		`connmgr_last_trim_target_connections`:                      7,
		`connmgr_last_trim_protected_connections`:                   3,
		`connmgr_last_trim_in_grace_connections`:                    0,
		`connmgr_last_trim_shortfall_connections`:                   1,
		`connmgr_last_trim_shortfall_cause{cause="protected"}`:      1,
		`connmgr_last_trim_shortfall_cause{cause="grace"}`:          0,
		`connmgr_last_trim_shortfall_cause{cause="outbound_floor"}`: 0,
		`connmgr_last_trim_duration_seconds`:                        res.Took.Seconds(),
		`connmgr_last_trim_planning_seconds`:                        res.Planning.Seconds(),
	})
	if at := n.samples()["connmgr_last_trim_timestamp_seconds"]; math.Abs(at-float64(before.Unix())) > 60 {
		t.Errorf("the last trim began at %v, want about %v", at, before.Unix())
	}
	if _, err := n.ForceTrim(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.expect(samples{
		`connmgr_trims_total{trigger="force"}`:                  1,
		`connmgr_closed_peers_total{reason="forced_protected"}`: 1,
	})
}

func TestConnectionsInGraceAreShown(t *testing.T) {
	n := newNode(t, connmgr.Config{LowWater: 2, HighWater: 4})
	n.connect(6, "new")
	n.trim()
	n.expect(samples{
		`connmgr_last_trim_in_grace_connections`:           6,
		`connmgr_last_trim_shortfall_cause{cause="grace"}`: 1,
	})
}

func TestFaultsOfConnectionsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{LowWater: connmgr.Zero, HighWater: 4, GracePeriod: connmgr.Zero})
		n.connect(2, "hangs", connmgrtest.HangOnClose())
		n.connect(3, "fails", connmgrtest.FailOnClose(errors.New("no")))
		n.connect(1, "panics", connmgrtest.PanicOnClose("no"))
		n.trim()
		n.expect(samples{
			`connmgr_hanging_peers`:       2,
			`connmgr_closing_connections`: 2,
			`connmgr_close_errors_total`:  4,
			`connmgr_panics_total`:        1,
		})
		for i := range 2 {
			n.host.Conns(connmgr.NodeID(fmt.Sprint("hangs", i)))[0].Release()
		}
		synctest.Wait()
		n.expect(samples{`connmgr_hanging_peers`: 0, `connmgr_closing_connections`: 0})
	})
}

func TestPeersThatRiseWhileATrimRunsAreSpared(t *testing.T) {
	n := newNode(t, connmgr.Config{LowWater: 1, HighWater: 4, GracePeriod: connmgr.Zero})
	n.connect(100, "plain", connmgrtest.OnClose(func(connmgr.Reason) error {
		for i := range 100 {
			n.Protect(connmgr.NodeID(fmt.Sprint("plain", i)), "late")
		}
		return nil
	}))
	res := n.trim()
	if res.Spared == 0 {
		t.Fatal("nobody was spared, so this shows nothing")
	}
	n.expect(samples{`connmgr_spared_peers_total`: float64(res.Spared)})
}

func TestIgnoredNotificationsAreCountedByKind(t *testing.T) {
	n := newNode(t, connmgr.Config{})
	conn := connmgrtest.NewConn("alice")
	n.Connected("alice", conn)
	n.Connected("alice", conn)
	for range 2 {
		n.Disconnected("bob", connmgrtest.NewConn("bob"))
	}
	for range 3 {
		n.Connected("carol", nil)
	}
	_ = n.Close()
	for range 4 {
		n.Connected("dave", connmgrtest.NewConn("dave"))
	}
	n.expect(samples{
		`connmgr_ignored_notifications_total{kind="duplicate_connect"}`:  1,
		`connmgr_ignored_notifications_total{kind="unknown_disconnect"}`: 2,
		`connmgr_ignored_notifications_total{kind="nil"}`:                3,
		`connmgr_ignored_notifications_total{kind="late"}`:               4,
	})
}

func TestTagsRefusedAndIdlePeersForgottenAreCounted(t *testing.T) {
	n := newNode(t, connmgr.Config{MaxTagsPerPeer: 2, MaxIdlePeers: 3})
	for i := range 5 {
		n.TagPeer("alice", fmt.Sprint("tag", i), 1)
	}
	for i := range 1000 {
		n.TagPeer(connmgr.NodeID(fmt.Sprint("stranger", i)), "known", 1)
	}
	s := n.Stats()
	if s.IdleEvicted == 0 {
		t.Fatal("no idle peer was forgotten, so this shows nothing")
	}
	n.expect(samples{
		`connmgr_refused_tags_total`:                       3,
		`connmgr_forgotten_idle_peers_total{cause="room"}`: float64(s.IdleEvicted),
		`connmgr_forgotten_idle_peers_total{cause="age"}`:  0,
	})
}

func TestTheGateIsCountedByCheckpointAndOutcome(t *testing.T) {
	cfg := noGrace
	cfg.Gate.Limits = connmgr.GateLimits{MaxPerPeer: 1, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, Rate: 1, Burst: 2}}}
	cfg.Gate.Ladder = connmgr.DefaultLadder()
	n := newNode(t, cfg)
	g := n.Gater()
	addr := netip.MustParseAddrPort("192.0.2.1:4001")
	n.host.Connect("alice")
	err := g.Add(context.Background(),
		connmgr.Rule{Target: connmgr.PeerTarget("mallory")},
		connmgr.Rule{Target: connmgr.PrefixTarget(netip.MustParsePrefix("203.0.113.0/24"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Report(context.Background(), "carol", 1, "slow"); err != nil {
		t.Fatal(err)
	}
	_ = g.InterceptPeerDial("mallory")
	_ = g.InterceptAddrDial("alice", netip.MustParseAddrPort("203.0.113.9:1"))
	for range 5 {
		_ = g.InterceptAccept(addr)
	}
	_ = g.InterceptSecured(connmgr.DirInbound, "mallory", addr)
	_ = g.InterceptUpgraded(connmgr.DirInbound, "bob", addr, connmgrtest.NewConn("bob"))
	_ = g.InterceptUpgraded(connmgr.DirInbound, "alice", addr, connmgrtest.NewConn("alice"))
	n.expect(samples{
		`connmgr_gate_decisions_total{checkpoint="peer_dial",outcome="denied_peer"}`:       1,
		`connmgr_gate_decisions_total{checkpoint="peer_dial",outcome="passed"}`:            0,
		`connmgr_gate_decisions_total{checkpoint="address_dial",outcome="denied_address"}`: 1,
		`connmgr_gate_decisions_total{checkpoint="accept",outcome="passed"}`:               2,
		`connmgr_gate_decisions_total{checkpoint="accept",outcome="rate_limit"}`:           3,
		`connmgr_gate_decisions_total{checkpoint="secured",outcome="denied_peer"}`:         1,
		`connmgr_gate_decisions_total{checkpoint="upgraded",outcome="passed"}`:             1,
		`connmgr_gate_decisions_total{checkpoint="upgraded",outcome="peer_limit"}`:         1,
		`connmgr_gate_rules`:                2,
		`connmgr_gate_arriving_connections`: 1,
		`connmgr_gate_tracked_prefixes`:     float64(g.Stats().TrackedPrefixes),
		`connmgr_gate_reported_peers`:       1,
	})
}

func TestANewcomerThatTakesAPlaceIsCounted(t *testing.T) {
	n := newNode(t, connmgr.Config{LowWater: 1, HighWater: 2, HardLimit: 2, GracePeriod: connmgr.Zero})
	n.connect(2, "plain")
	n.TagPeer("alice", "useful", 50)
	conn := connmgrtest.NewConn("alice")
	if err := n.Gater().InterceptUpgraded(connmgr.DirInbound, "alice", netip.AddrPort{}, conn); err != nil {
		t.Fatal(err)
	}
	n.expect(samples{
		`connmgr_gate_displaced_peers_total`:             1,
		`connmgr_closed_peers_total{reason="displaced"}`: 1,
	})
}

func TestRulesThatCannotBeSavedAreShown(t *testing.T) {
	n := newNode(t, connmgr.Config{})
	n.store.FailSaves(errors.New("disk full"))
	_ = n.Gater().Block(context.Background(), connmgr.PeerTarget("mallory"), 0, "")
	n.expect(samples{`connmgr_gate_unsaved_rule_changes`: 1, `connmgr_gate_rules`: 1})
}

func TestSeveralManagersFitOneRegistry(t *testing.T) {
	n := newNode(t, noGrace, connmgrprom.WithLabels(prometheus.Labels{"network": "public"}),
		connmgrprom.WithLabels(prometheus.Labels{"zone": "a"}), connmgrprom.WithScores(), connmgrprom.WithTrimDurations())
	other := newNode(t, noGrace)
	c := connmgrprom.NewCollector(other.Manager, connmgrprom.WithScores(), connmgrprom.WithTrimDurations(),
		connmgrprom.WithLabels(prometheus.Labels{"network": "private", "zone": "a"}))
	defer c.Close()
	n.registry.MustRegister(c)
	n.connect(1, "one")
	other.connect(2, "two")
	n.expect(samples{
		`connmgr_peers{network="public",zone="a"}`:             1,
		`connmgr_peers{network="private",zone="a"}`:            2,
		`connmgr_peer_score_count{network="private",zone="a"}`: 2,
	})
	if err := n.registry.Register(connmgrprom.NewCollector(other.Manager, connmgrprom.WithLabels(prometheus.Labels{"network": "public", "zone": "a"}))); err == nil {
		t.Error("two collectors with the same labels were registered, want an error")
	}
	if err := prometheus.NewRegistry().Register(connmgrprom.NewCollector(other.Manager, connmgrprom.WithLabels(prometheus.Labels{"reason": "x"}))); err == nil {
		t.Error("a constant label named as a metric's own was registered, want an error")
	}
}

func TestItCanBeScrapedByManyWhileThingsHappenAndAfterClose(t *testing.T) {
	n := newNode(t, connmgr.Config{LowWater: 20, HighWater: 40, GracePeriod: connmgr.Zero},
		connmgrprom.WithScores(), connmgrprom.WithTrimDurations())
	var scrapes, life sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		scrapes.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := n.registry.Gather(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	life.Go(func() {
		for i := range 300 {
			n.host.Connect(connmgr.NodeID(fmt.Sprint("peer", i)))
			if i%50 == 49 {
				n.TrimOpenConns(context.Background())
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		n.collector.Close()
	})
	life.Wait()
	close(done)
	scrapes.Wait()
	got := n.samples()
	if got["connmgr_trims_total{trigger=\"manual\"}"] != 6 || got["connmgr_trim_duration_seconds_count"] != 6 {
		t.Errorf("after Close %v trims and %v durations are shown, want 6 of each",
			got["connmgr_trims_total{trigger=\"manual\"}"], got["connmgr_trim_duration_seconds_count"])
	}
}

func TestPromlintHasNothingToSay(t *testing.T) {
	n := newNode(t, noGrace, connmgrprom.WithScores(), connmgrprom.WithTrimDurations())
	n.connect(9, "plain")
	n.trim()
	problems, err := testutil.GatherAndLint(n.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNoPeerIsNamedAndSeriesAreBounded(t *testing.T) {
	n := newNode(t, noGrace, connmgrprom.WithScores(), connmgrprom.WithTrimDurations())
	before := slices.Sorted(maps.Keys(n.samples()))
	n.connect(200, "somebody")
	n.trim()
	_ = n.Gater().Block(context.Background(), connmgr.PeerTarget("somebody-else"), 0, "somebody")
	_ = n.Gater().InterceptPeerDial("somebody-else")
	after := slices.Sorted(maps.Keys(n.samples()))
	if !slices.Equal(before, after) {
		t.Errorf("200 peers, a trim and a refusal changed the series from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if len(after) > 200 {
		t.Errorf("there are %d series, want at most 200", len(after))
	}
}

func TestACollectorNeedsAManager(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); got != "connmgr: connmgrprom.NewCollector: the manager is nil" {
			t.Errorf("NewCollector(nil) panics with %q", got)
		}
	}()
	connmgrprom.NewCollector(nil)
}
