package connmgr_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests ask the manager for reasons.

func TestExplainAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := connmgr.Config{LowWater: 2, HighWater: 10, GracePeriod: time.Minute, OutboundBonus: 7, ActiveBonus: 30}
		m, host := newNode(t, cfg)
		tag := register(t, m, "decays", 0, connmgr.DecayNone())
		host.Connect("plain")
		host.Connect("outbound", connmgrtest.Outbound())
		host.Connect("busy", connmgrtest.Streams(2))
		host.Connect("both", connmgrtest.Outbound())
		host.Connect("both", connmgrtest.Streams(1))
		host.Connect("rich")
		m.TagPeer("rich", "a", math.MaxInt)
		host.Connect("friend")
		m.Protect("friend", "x")
		for _, p := range []connmgr.NodeID{"plain", "outbound", "busy", "both", "friend"} {
			m.TagPeer(p, "a", 100)
			bump(t, tag, p, 1000)
		}
		advance(time.Minute)
		host.Connect("new")
		m.TagPeer("only tagged", "a", 5)

		for _, tt := range []struct {
			peer                   connmgr.NodeID
			tags, outbound, active int
			reason                 connmgr.Reason
			conns, rank            int
		}{
			{"plain", 1100, 0, 0, connmgr.ClosedLowScore, 1, 1},
			{"outbound", 1100, 7, 0, connmgr.ClosedLowScore, 1, 2},
			{"busy", 1100, 0, 30, connmgr.ClosedLowScore, 1, 3},
			{"both", 1100, 7, 30, connmgr.ClosedLowScore, 2, 4},
			{"rich", math.MaxInt, 0, 0, connmgr.KeptAboveCut, 1, 0},
			{"friend", 1100, 0, 0, connmgr.KeptProtected, 1, 0},
			{"new", 0, 0, 0, connmgr.KeptInGrace, 1, 0},
			{"only tagged", 5, 0, 0, connmgr.NotConnected, 0, 0},
		} {
			e, known := m.Explain(tt.peer, connmgr.TriggerManual)
			if !known {
				t.Errorf("Explain does not know %v", tt.peer)
				continue
			}
			if e.TagSum != tt.tags || e.OutboundBonus != tt.outbound || e.ActiveBonus != tt.active {
				t.Errorf("%v: %d + %d + %d, want %d + %d + %d", tt.peer, e.TagSum, e.OutboundBonus, e.ActiveBonus, tt.tags, tt.outbound, tt.active)
			}
			score := tt.tags + tt.outbound + tt.active
			want := connmgr.Verdict{Peer: tt.peer, Reason: tt.reason, Score: score, Rank: tt.rank, Conns: tt.conns}
			if e.Verdict != want {
				t.Errorf("%v: verdict %+v, want %+v", tt.peer, e.Verdict, want)
			}
			if e.Info.Value != tt.tags || len(e.Info.Conns) != tt.conns || e.Plan.Total != 8 {
				t.Errorf("%v: info has value %d and %d connections, plan %d in all; want %d, %d, 8",
					tt.peer, e.Info.Value, len(e.Info.Conns), e.Plan.Total, tt.tags, tt.conns)
			}
		}
		if _, known := m.Explain("stranger", connmgr.TriggerManual); known {
			t.Error("Explain knows a peer that the manager does not know")
		}
		if host.Len() != 8 || len(m.Stats().Trims) != 0 {
			t.Error("explaining closed something, or counts as a trim")
		}
	})
}

func TestADryRunIsWhatTheTrimThenDoes(t *testing.T) {
	type how struct {
		trigger connmgr.Trigger
		trim    func(*connmgr.Manager) (connmgr.TrimResult, error)
	}
	for seed := range uint64(30) {
		for _, h := range []how{
			{connmgr.TriggerManual, func(m *connmgr.Manager) (connmgr.TrimResult, error) { return m.Trim(context.Background()) }},
			{connmgr.TriggerForce, func(m *connmgr.Manager) (connmgr.TrimResult, error) { return m.ForceTrim(context.Background()) }},
		} {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				m, host := newNode(t, connmgr.Config{LowWater: 1 + rng.IntN(60), HighWater: 1000, GracePeriod: 10 * time.Second})
				for range 150 {
					p := peerID(rng.IntN(100))
					host.Connect(p, connmgrtest.Streams(rng.IntN(3)), connmgrtest.Direction(connmgr.Direction(rng.IntN(3))))
					m.TagPeer(p, "a", rng.IntN(4)*10)
					if rng.IntN(8) == 0 {
						m.Protect(p, "x")
					}
					advance(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
				dry := m.DryRun(h.trigger)
				if again := m.DryRun(h.trigger); !slices.Equal(slices.Collect(dry.Closed()), slices.Collect(again.Closed())) {
					t.Errorf("seed %d: two dry runs differ", seed)
				}
				res, err := h.trim(m)
				if err != nil {
					t.Fatal(err)
				}
				if want := slices.Collect(dry.Closed()); !slices.Equal(res.Closed, want) {
					t.Errorf("seed %d: the %v trim closed %v, want what the dry run said: %v", seed, h.trigger, res.Closed, want)
				}
				if res.Figures != dry.Figures || !res.GraceEnds.Equal(dry.GraceEnds) {
					t.Errorf("seed %d: figures %+v, want %+v", seed, res.Figures, dry.Figures)
				}
				for v := range dry.Verdicts() {
					if host.Connected(v.Peer) == v.Reason.Closed() {
						t.Errorf("seed %d: %v is open %v, but its verdict is %v", seed, v.Peer, host.Connected(v.Peer), v.Reason)
					}
				}
			})
		}
	}
}

func TestAPlanHasOneVerdictForEveryConnectedPeer(t *testing.T) {
	m, host := newNode(t, tight(3, 100))
	connectMany(host, 10)
	connectMany(host, 5)
	m.TagPeer("not connected", "a", 1)
	plan := m.DryRun(connmgr.TriggerManual)
	seen := map[connmgr.NodeID]int{}
	for v := range plan.Verdicts() {
		seen[v.Peer]++
	}
	if len(seen) != 10 || plan.Peers() != 10 {
		t.Errorf("verdicts for %d peers, Peers() = %d; want 10", len(seen), plan.Peers())
	}
	for i := range 10 {
		if seen[peerID(i)] != 1 {
			t.Errorf("%v has %d verdicts, want 1", peerID(i), seen[peerID(i)])
		}
	}
}

func TestPeerInfoOfPeersWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		if _, known := m.PeerInfo("stranger"); known {
			t.Error("a stranger is known")
		}
		host.Connect("left")
		m.TagPeer("left", "b", 2)
		advance(time.Minute)
		host.Disconnect("left")
		m.TagPeer("tagged", "a", 1)
		m.Protect("protected", "z")
		m.Protect("protected", "y")
		since := time.Now()
		advance(time.Minute)
		for p, want := range map[connmgr.NodeID]string{
			"left":      "2 map[b:2] [] 0",
			"tagged":    "1 map[a:1] [] 0",
			"protected": "0 map[] [y z] 0",
		} {
			info, known := m.PeerInfo(p)
			got := fmt.Sprint(info.Value, info.Tags, info.Protections, len(info.Conns))
			if !known || got != want || !info.FirstSeen.Equal(since) {
				t.Errorf("%v: known %v: %s since %v, want %s since a minute", p, known, got, info.FirstSeen, want)
			}
		}
	})
}

func TestAnAnswerIsTheCallersOwn(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("p")
	m.TagPeer("p", "a", 1)
	m.Protect("p", "x")
	info, _ := m.PeerInfo("p")
	info.Tags["a"], info.Protections[0], info.Conns[0] = 99, "changed", connmgr.ConnInfo{}
	info, _ = m.PeerInfo("p")
	if info.Tags["a"] != 1 || info.Protections[0] != "x" || info.Conns[0].Conn == nil {
		t.Errorf("changing an answer changed the manager: %+v", info)
	}
}
