package connmgr_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about the outbound floor: trims leave that many connections that we
// opened, the best ones, unless they are forced.

var floorTime = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// resident is a peer of a plan, written as "name score flags": out and in are followed by
// a number of connections (one without), new is in grace, safe is protected, busy has a
// stream.
func resident(t *testing.T, text string) connmgr.PeerState {
	t.Helper()
	words := strings.Fields(text)
	p := connmgr.PeerState{ID: connmgr.NodeID(words[0]), Since: floorTime.Add(-time.Hour)}
	if _, err := fmt.Sscan(words[1], &p.TagSum); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	for _, flag := range words[2:] {
		number := func(of string) int32 {
			n := int32(1)
			if _, err := fmt.Sscan(strings.TrimPrefix(flag, of), &n); err != nil && flag != of {
				t.Fatalf("%q: %v", text, err)
			}
			return n
		}
		switch {
		case strings.HasPrefix(flag, "out"):
			p.Outbound += number("out")
			p.Conns += number("out")
		case strings.HasPrefix(flag, "in"):
			p.Conns += number("in")
		case flag == "new":
			p.Since = floorTime.Add(-time.Second)
		case flag == "safe":
			p.Protected = true
		case flag == "busy":
			p.Streams = 1
		default:
			t.Fatalf("%q: what is %q?", text, flag)
		}
	}
	return p
}

func TestPlansKeepTheBestOutboundPeers(t *testing.T) {
	const floor, none = connmgr.CauseOutbound, connmgr.Cause(0)
	for what, tt := range map[string]struct {
		floor, low, high, hard int
		trigger                connmgr.Trigger
		peers                  []string
		goes                   string // the first to go first
		spared                 string // for the floor
		shortfall              int
		cause                  connmgr.Cause
	}{
		"no floor":                           {0, 0, 9, 9, 0, []string{"a 1 out", "b 2 out", "c 3 in"}, "a b c", "", 0, none},
		"the best one stays":                 {1, 0, 9, 9, 0, []string{"a 1 out", "b 2 out", "c 3 in"}, "a c", "b", 1, floor},
		"the best two stay":                  {2, 0, 9, 9, 0, []string{"a 1 out", "b 3 out", "c 2 out", "d 9 in"}, "a d", "b c", 2, floor},
		"all stay":                           {5, 0, 9, 9, 0, []string{"a 1 out", "b 2 out"}, "", "a b", 2, floor},
		"above the floor already":            {3, 0, 9, 9, 0, []string{"a 1 out", "b 2 out", "c 3 out", "d 4 out"}, "a", "b c d", 3, floor},
		"the target is met with others":      {1, 1, 9, 9, 0, []string{"a 1 out", "b 2 in"}, "b", "a", 0, none},
		"nothing to do":                      {1, 2, 9, 9, 0, []string{"a 1 out", "b 2 in"}, "", "", 0, none},
		"streams decide":                     {1, 1, 9, 9, 0, []string{"a 1 out busy", "b 1 out", "c 5 in"}, "b c", "a", 0, none},
		"protected ones keep the floor":      {1, 0, 9, 9, 0, []string{"a 1 out safe", "b 2 out"}, "b", "", 1, connmgr.CauseProtected},
		"protected ones, and one more":       {2, 0, 9, 9, 0, []string{"a 1 out safe", "b 2 out", "c 3 out"}, "b", "c", 2, floor | connmgr.CauseProtected},
		"newcomers keep the floor":           {1, 0, 9, 9, 0, []string{"a 1 out new", "b 2 out"}, "b", "", 0, none},
		"several connections of a peer":      {2, 0, 9, 9, 0, []string{"a 1 out", "b 2 out2", "c 3 out"}, "a c", "b", 2, floor},
		"one that is too big is passed over": {3, 0, 9, 9, 0, []string{"a 1 out3", "b 2 out", "c 3 out"}, "b c", "a", 3, floor},
		"inbound ones of an outbound peer":   {1, 0, 9, 9, 0, []string{"a 1 out in3", "b 2 in"}, "b", "a", 4, floor},

		"hard limit, established only": {1, 0, 2, 3, connmgr.TriggerHardLimit, []string{"a 1 out", "b 2 out", "c 3 in"}, "a c", "b", 1, floor},
		"hard limit, newcomers too":    {1, 0, 0, 1, connmgr.TriggerHardLimit, []string{"a 1 out", "n1 1 out new", "n2 2 in new"}, "a n2", "n1", 1, floor},
		"hard limit, newcomers' best stays": {
			2, 0, 0, 1, connmgr.TriggerHardLimit,
			[]string{"n1 1 out new", "n2 2 out new", "n3 3 out new", "n4 4 in new"},
			"n1 n4", "n2 n3", 2, floor,
		},
		"force knows no floor": {5, 0, 9, 9, connmgr.TriggerForce, []string{"a 1 out", "b 2 out new", "c 3 out safe"}, "a b c", "", 0, none},
	} {
		t.Run(what, func(t *testing.T) {
			policy := connmgr.Policy{LowWater: tt.low, HighWater: tt.high, HardLimit: tt.hard, GracePeriod: time.Minute, OutboundFloor: tt.floor}
			var peers connmgr.Snapshot
			for _, text := range tt.peers {
				peers = append(peers, resident(t, text))
			}
			plan := connmgr.PlanTrim(policy, peers, floorTime, tt.trigger)
			var goes, spared []string
			for v := range plan.Verdicts() {
				switch {
				case v.Reason.Closed():
					goes = append(goes, string(v.Peer))
				case v.Reason == connmgr.KeptOutboundFloor:
					spared = append(spared, string(v.Peer))
				}
			}
			slices.Sort(spared)
			want := strings.Fields(tt.spared)
			slices.Sort(want)
			if got := strings.Join(goes, " "); got != tt.goes || !slices.Equal(spared, want) {
				t.Errorf("%q go and %q stay for the floor, want %q and %q", got, spared, tt.goes, want)
			}
			if plan.Shortfall != tt.shortfall || plan.Cause != tt.cause {
				t.Errorf("shortfall %d, cause %v; want %d, %v", plan.Shortfall, plan.Cause, tt.shortfall, tt.cause)
			}
		})
	}
}

// TestNoPlanGoesBelowTheFloor holds for any crowd what the floor promises.
func TestNoPlanGoesBelowTheFloor(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 5))
		policy := connmgr.Policy{
			LowWater: rng.IntN(10), GracePeriod: time.Minute, OutboundFloor: 1 + rng.IntN(8),
			ActiveBonus: rng.IntN(3), OutboundBonus: rng.IntN(3), Budget: connmgr.Budget(rng.IntN(2)),
		}
		policy.HighWater = policy.LowWater + rng.IntN(10)
		policy.HardLimit = policy.HighWater + rng.IntN(10)
		var peers connmgr.Snapshot
		outbound := 0
		for i := range rng.IntN(25) {
			p := connmgr.PeerState{
				ID: peerID(i), TagSum: rng.IntN(4), Conns: int32(1 + rng.IntN(3)), Streams: int32(rng.IntN(2)),
				Since: floorTime.Add(-time.Duration(rng.IntN(120)) * time.Second), Protected: rng.IntN(5) == 0,
			}
			p.Outbound = int32(rng.IntN(int(p.Conns) + 1))
			outbound += int(p.Outbound)
			peers = append(peers, p)
		}
		for _, trigger := range []connmgr.Trigger{connmgr.TriggerManual, connmgr.TriggerHardLimit} {
			plan := connmgr.PlanTrim(policy, peers, floorTime, trigger)
			left, spared := outbound, 0
			for v := range plan.Verdicts() {
				p := peers[slices.IndexFunc(peers, func(p connmgr.PeerState) bool { return p.ID == v.Peer })]
				switch {
				case v.Reason.Closed():
					left -= int(p.Outbound)
				case v.Reason == connmgr.KeptOutboundFloor:
					if spared++; p.Outbound == 0 {
						t.Fatalf("seed %d: %v stays for the floor without an outbound connection", seed, v.Peer)
					}
				}
			}
			if left < min(outbound, policy.OutboundFloor) {
				t.Fatalf("seed %d, %v: %d of %d outbound connections are left, want the floor of %d: %+v", seed, trigger, left, outbound, policy.OutboundFloor, peers)
			}
			if plan.Cause&connmgr.CauseOutbound != 0 && spared == 0 {
				t.Fatalf("seed %d, %v: the cause is %v, but nobody stays for the floor", seed, trigger, plan.Cause)
			}
		}
	}
}

func TestTrimsKeepTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(0, 100)
		cfg.OutboundFloor = 3
		m, host := newNode(t, cfg)
		out := connectMany(host, 5, connmgrtest.Outbound())
		tagMany(m, 5)
		for i := range 5 {
			host.Connect(peerID(100+i), connmgrtest.Streams(1))
		}
		host.Connect(peerID(4)) // the best one has an inbound connection as well
		e, _ := m.Explain(peerID(3), connmgr.TriggerManual)
		if e.Verdict.Reason != connmgr.KeptOutboundFloor || !strings.Contains(e.Verdict.String(), "outbound floor") {
			t.Errorf("the verdict on the second best is %v, want it to stay for the outbound floor", e.Verdict)
		}
		res := trim(t, m)
		var open []connmgr.NodeID
		for _, c := range host.Connections() {
			open = append(open, c.RemotePeer())
		}
		if want := []connmgr.NodeID{peerID(2), peerID(3), peerID(4), peerID(4)}; !slices.Equal(open, want) {
			t.Errorf("open are %v, want the three best that we dialled, with all connections, %v", open, want)
		}
		want := connmgr.Figures{Total: 11, Counted: 11, Target: 11, Freed: 7, Shortfall: 4, Cause: connmgr.CauseOutbound}
		if res.Figures != want {
			t.Errorf("figures %+v, want %+v", res.Figures, want)
		}
		if text := res.LogValue().String(); !strings.Contains(text, "outbound floor") {
			t.Errorf("the log says %q, want the cause in it", text)
		}
		for _, c := range out[:2] {
			if reason, _ := c.ClosedFor(); reason != connmgr.ClosedLowScore {
				t.Errorf("%v was closed for %v, want %v", c.RemotePeer(), reason, connmgr.ClosedLowScore)
			}
		}
		if again := trim(t, m); len(again.Closed) != 0 {
			t.Errorf("a second trim closed %v, want nobody", closedPeers(again))
		}
		if _, err := m.ForceTrim(context.Background()); err != nil || host.Len() != 0 {
			t.Errorf("a forced trim left %d connections (%v), want none", host.Len(), err)
		}
	})
}

func TestBackgroundTrimsKeepTheFloorAndDoNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 4)
		cfg.HardLimit = 6
		cfg.OutboundFloor = 8
		cfg.GracePeriod = 30 * time.Second
		m, host := newNode(t, cfg)
		connectMany(host, 8, connmgrtest.Outbound())
		for i := range 5 {
			host.Connect(peerID(100 + i))
		}
		advance(time.Hour)
		if s := m.Stats(); s.Outbound != 8 || s.Inbound != 0 {
			t.Errorf("%d outbound and %d inbound connections are open, want the floor, 8, and none", s.Outbound, s.Inbound)
		}
		if n := trimsOfAnyKind(m); n > 400 {
			t.Errorf("%d trims in an hour that could not reach anything, want one in a silence period of 10 s", n)
		}
	})
}

func TestTheFloorCanBeChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 100))
		connectMany(host, 10, connmgrtest.Outbound())
		tagMany(m, 10)
		limits := m.Limits()
		for _, floor := range []int{20, 7, 3, 0} {
			limits.OutboundFloor = floor
			if err := m.SetLimits(limits); err != nil {
				t.Fatal(err)
			}
			trim(t, m)
			if want := min(10, floor); host.Len() != want {
				t.Errorf("floor %d: %d connections are open after a trim, want %d", floor, host.Len(), want)
			}
		}
		limits.OutboundFloor = -1
		if err := m.SetLimits(limits); err == nil || !strings.Contains(err.Error(), "OutboundFloor is -1") {
			t.Errorf("SetLimits with a floor of -1: %v, want an error that names it", err)
		}
		if _, err := connmgr.New(connmgr.Config{OutboundFloor: -2}); err == nil || !strings.Contains(err.Error(), "OutboundFloor is -2") {
			t.Errorf("New with a floor of -2: %v, want an error that names it", err)
		}
	})
}
