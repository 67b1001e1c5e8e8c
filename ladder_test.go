package connmgr_test

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests climb the ban ladder: from reports to a score, to a disconnect, to bans
// that get longer and end. What keeps it from growing without end is in
// ladder_bounds_test.go.

// steps is a ladder with round numbers.
var steps = connmgr.LadderConfig{
	DisconnectAt: 20, BanAt: 50, HalfLife: 10 * time.Minute,
	FirstBan: 30 * time.Minute, MaxBan: 4 * time.Hour,
}

// newLadder makes a manager with a ladder and a host that notifies it.
func newLadder(t testing.TB, ladder connmgr.LadderConfig, rules ...connmgr.Rule) (*connmgr.Manager, *connmgrtest.Host) {
	t.Helper()
	cfg := tight(1000, 1000)
	cfg.Gate = connmgr.GateConfig{Ladder: ladder, Rules: rules}
	return newNode(t, cfg)
}

// report tells of misbehaviour, which must not fail.
func report(t testing.TB, m *connmgr.Manager, peer connmgr.NodeID, weight float64) connmgr.Standing {
	t.Helper()
	s, err := m.Gater().Report(context.Background(), peer, weight, "misbehaved")
	if err != nil {
		t.Errorf("Report(%v, %v): %v", peer, weight, err)
	}
	return s
}

// ban reports a peer until it is banned from now on, and returns for how long.
func ban(t testing.TB, m *connmgr.Manager, peer connmgr.NodeID) time.Duration {
	t.Helper()
	s := report(t, m, peer, 1000)
	if s.BannedUntil.IsZero() {
		t.Fatalf("%v is not banned, its standing is %+v", peer, s)
	}
	return time.Until(s.BannedUntil)
}

// expectBanned checks whether a peer may be dialled.
func expectBanned(t testing.TB, m *connmgr.Manager, peer connmgr.NodeID, when string, want bool) {
	t.Helper()
	err := m.Gater().InterceptPeerDial(peer)
	if banned := errors.Is(err, connmgr.ErrPeerBlocked); banned != want {
		t.Errorf("%s: dialling %v gets %v, want banned %v", when, peer, err, want)
	}
}

// ladderRules returns the targets of the rules that the ladder made, in order.
func ladderRules(m *connmgr.Manager) (targets []string) {
	for r := range m.Gater().Rules() {
		if r.Origin == connmgr.LadderOrigin {
			targets = append(targets, r.Target.String())
		}
	}
	slices.Sort(targets)
	return targets
}

func TestAScoreDecaysByItsHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newLadder(t, steps)
		for _, tt := range []struct {
			after  time.Duration
			weight float64
			want   float64
		}{
			{0, 16, 16},
			{10 * time.Minute, 1, 9},
			{20 * time.Minute, 0.75, 3},
			{5 * time.Minute, 9, 3*math.Sqrt2/2 + 9},
		} {
			advance(tt.after)
			if s := report(t, m, "a", tt.weight); math.Abs(s.Score-tt.want) > 1e-9 || s.Bans != 0 || !s.BannedUntil.IsZero() {
				t.Errorf("%v later, after a report of %v, the standing is %+v; want a score of %v and no ban", tt.after, tt.weight, s, tt.want)
			}
		}
		before, _ := m.Gater().Standing("a")
		advance(30 * time.Minute)
		if s, known := m.Gater().Standing("a"); !known || math.Abs(s.Score-before.Score/8) > 1e-9 {
			t.Errorf("three half-lives later the standing is %+v, %v; want a score of %v", s, known, before.Score/8)
		}
		advance(24 * time.Hour)
		if s, known := m.Gater().Standing("a"); known {
			t.Errorf("a day later the peer is remembered with %+v, want it forgotten", s)
		}
	})
}

func TestThresholdsDisconnectAndBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newLadder(t, steps)
		sub := m.Subscribe(100)
		first, second := host.Connect("a"), host.Connect("a", connmgrtest.Outbound())
		m.Protect("a", "friend") // protection is for trims
		report(t, m, "a", 19)
		if !first.Open() || !second.Open() {
			t.Fatal("a peer below all thresholds was disconnected")
		}
		report(t, m, "a", 1)
		for _, c := range []*connmgrtest.Conn{first, second} {
			if reason, closed := c.ClosedFor(); !closed || reason != connmgr.ClosedMisbehaved {
				t.Errorf("at the first threshold: closed %v for %v, want it closed for %v", closed, reason, connmgr.ClosedMisbehaved)
			}
		}
		want := []connmgr.EventClosed{{
			Verdict: connmgr.Verdict{Peer: "a", Reason: connmgr.ClosedMisbehaved, Conns: 2},
			Trigger: connmgr.TriggerReport, At: time.Now(),
		}}
		if got := events[connmgr.EventClosed](sub); !slices.Equal(got, want) {
			t.Errorf("subscribers were told %+v, want %+v", got, want)
		}
		expectBanned(t, m, "a", "after a disconnect", false)

		third := host.Connect("a")
		s := report(t, m, "a", 30)
		if reason, closed := third.ClosedFor(); !closed || reason != connmgr.ClosedBlocked {
			t.Errorf("at the second threshold: closed %v for %v, want it closed for %v", closed, reason, connmgr.ClosedBlocked)
		}
		if until := time.Now().Add(30 * time.Minute); !s.BannedUntil.Equal(until) || s.Bans != 1 || s.Score != 0 {
			t.Errorf("standing %+v, want a first ban until %v and a score of 0", s, until)
		}
		var d *connmgr.DeniedError
		if err := m.Gater().InterceptPeerDial("a"); !errors.As(err, &d) || !d.Until.Equal(s.BannedUntil) ||
			d.Rule.Origin != connmgr.LadderOrigin || d.Rule.Reason != "misbehaved" {
			t.Errorf("dialling gets %v, want a refusal with the reason, by %q, until %v", err, connmgr.LadderOrigin, s.BannedUntil)
		}
		if again := report(t, m, "a", 1000); again != s {
			t.Errorf("a report of a banned peer changed its standing from %+v to %+v", s, again)
		}
		expectBanned(t, m, "b", "somebody else", false)
	})
}

func TestThresholdsWorkAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newLadder(t, connmgr.LadderConfig{DisconnectAt: 20})
		for range 5 {
			c := host.Connect("a")
			report(t, m, "a", 1e6)
			if reason, _ := c.ClosedFor(); reason != connmgr.ClosedMisbehaved {
				t.Errorf("closed for %v, want %v", reason, connmgr.ClosedMisbehaved)
			}
		}
		expectBanned(t, m, "a", "without a threshold for bans", false)
		m, host = newLadder(t, connmgr.LadderConfig{BanAt: 50})
		c := host.Connect("a")
		report(t, m, "a", 49)
		if !c.Open() {
			t.Error("without a threshold to disconnect, a peer was disconnected")
		}
		report(t, m, "a", 1)
		expectBanned(t, m, "a", "at the threshold", true)
	})
}

func TestBansGetLongerAndAreForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newLadder(t, steps)
		for i, minutes := range []int{30, 60, 120, 240, 240, 240} {
			want := time.Duration(minutes) * time.Minute
			if got := ban(t, m, "a"); got != want {
				t.Errorf("ban number %d takes %v, want %v", i+1, got, want)
			}
			if s, _ := m.Gater().Standing("a"); s.Bans != i+1 {
				t.Errorf("the standing is %+v, want %d bans", s, i+1)
			}
			advance(want - 1)
			expectBanned(t, m, "a", "just before the end", true)
			advance(1)
			expectBanned(t, m, "a", "at the end", false)
			advance(steps.MaxBan / 3)
		}
		advance(steps.MaxBan - steps.MaxBan/3 - 1)
		if got := ban(t, m, "a"); got != 4*time.Hour {
			t.Errorf("a ban just before forgiveness takes %v, want the longest", got)
		}
		advance(4*time.Hour + steps.MaxBan)
		if got := ban(t, m, "a"); got != 30*time.Minute {
			t.Errorf("a ban after forgiveness takes %v, want as long as the first", got)
		}
	})
}

func TestForgivenBansAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1000, 1000)
		cfg.ManualStart, cfg.Gate.Ladder = true, steps // nobody sweeps
		m, _ := newNode(t, cfg)
		advance(ban(t, m, "a") + steps.MaxBan)
		if s, known := m.Gater().Standing("a"); known && s != (connmgr.Standing{}) {
			t.Errorf("when its ban is forgiven the standing is %+v, want it as if there had been none", s)
		}
	})
}

func TestABanEndsByItselfAtItsMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1000, 1000)
		cfg.ManualStart, cfg.Gate.Ladder = true, steps // nobody sweeps
		m, _ := newNode(t, cfg)
		g := m.Gater()
		takes := ban(t, m, "a")
		advance(takes - 1)
		expectBanned(t, m, "a", "a nanosecond before", true)
		advance(1)
		for what, err := range map[string]error{
			"dial":     g.InterceptPeerDial("a"),
			"secured":  g.InterceptSecured(connmgr.DirInbound, "a", addr4(1, 1)),
			"upgraded": g.InterceptUpgraded(connmgr.DirInbound, "a", addr4(1, 1), connmgrtest.NewConn("a")),
		} {
			if err != nil {
				t.Errorf("%s at the moment the ban ends: %v", what, err)
			}
		}
		if s, _ := g.Standing("a"); !s.BannedUntil.IsZero() || s.Bans != 1 {
			t.Errorf("the standing is %+v, want no ban in force, and one so far", s)
		}
	})
}

func TestBansOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := connmgrtest.NewStore()
		cfg := tight(1000, 1000)
		cfg.Gate = connmgr.GateConfig{Ladder: steps, Store: store}
		cfg.Gate.Ladder.MaxPeersPerAddr = 1
		m, host := newNode(t, cfg)
		for _, id := range []connmgr.NodeID{"a", "b"} {
			host.Connect(id, connmgrtest.From(addr4(1, 1)))
			ban(t, m, id)
		}
		until, _ := m.Gater().Standing("a")
		closeManager(t, m)

		m, _ = newNode(t, cfg)
		expectBanned(t, m, "a", "after a restart", true)
		if s, known := m.Gater().Standing("a"); !known || !s.BannedUntil.Equal(until.BannedUntil) || s.Bans != 1 {
			t.Errorf("after a restart the standing is %+v, %v; want one ban until %v", s, known, until.BannedUntil)
		}
		if err := m.Gater().InterceptAccept(addr4(1, 1)); err == nil {
			t.Error("after a restart the banned address is let in")
		}
		if s := report(t, m, "a", 1000); !s.BannedUntil.Equal(until.BannedUntil) {
			t.Errorf("a report of a banned peer after a restart changed its ban from %v to %v", until.BannedUntil, s.BannedUntil)
		}
		advance(time.Until(until.BannedUntil))
		expectBanned(t, m, "a", "when the ban has ended", false)
		if err := m.Gater().InterceptAccept(addr4(1, 1)); err != nil {
			t.Errorf("when the bans have ended the address is refused: %v", err)
		}
		if got := ban(t, m, "a"); got != time.Hour {
			t.Errorf("the next ban takes %v, want it to be the second", got)
		}
		advance(48 * time.Hour)
		if rules := store.Rules(); len(rules) != 0 {
			t.Errorf("the store keeps %v days later, want nothing", rules)
		}
		if err := store.Misuse(); err != nil {
			t.Error(err)
		}
	})
}

func TestABanThatCannotBeSavedHoldsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := connmgrtest.NewStore()
		cfg := tight(1000, 1000)
		cfg.Gate = connmgr.GateConfig{Ladder: steps, Store: store}
		m, host := newNode(t, cfg)
		c := host.Connect("a")
		full := errors.New("disk full")
		store.FailSaves(full)
		s, err := m.Gater().Report(context.Background(), "a", 50, "")
		if !errors.Is(err, full) || s.Bans != 1 || s.BannedUntil.IsZero() {
			t.Errorf("Report = %+v, %v; want the ban and the store's error", s, err)
		}
		if c.Open() {
			t.Error("the connection stayed open since the ban could not be saved")
		}
		expectBanned(t, m, "a", "though it was not saved", true)
	})
}

func TestAPeerThatIsUnblockedStartsFromThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newLadder(t, steps)
		g := m.Gater()
		ban(t, m, "a")
		if n, err := g.Unblock(context.Background(), connmgr.PeerTarget("a")); n != 1 || err != nil {
			t.Fatalf("Unblock = %d, %v; want 1, nil", n, err)
		}
		expectBanned(t, m, "a", "after Unblock", false)
		if s, _ := g.Standing("a"); !s.BannedUntil.IsZero() {
			t.Errorf("after Unblock the standing is %+v, want it not to be banned", s)
		}
		c := host.Connect("a")
		if s := report(t, m, "a", 10); s.Score != 10 || !s.BannedUntil.IsZero() || !c.Open() {
			t.Errorf("after a small report the standing is %+v, open %v; want a score of 10 and no ban", s, c.Open())
		}
		if got := ban(t, m, "a"); got != time.Hour {
			t.Errorf("the next ban takes %v, want it to be the second", got)
		}
		expectBanned(t, m, "a", "banned again", true)
	})
}

func TestTrustedPeersAreNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newLadder(t, steps,
			connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")},
			connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PrefixTarget(netip.MustParsePrefix("5.0.1.0/24"))},
		)
		byName := host.Connect("friend", connmgrtest.From(addr4(2, 1)))
		byAddr := host.Connect("neighbour", connmgrtest.From(addr4(1, 1)))
		host.Connect("neighbour", connmgrtest.From(addr4(2, 2)))
		for _, id := range []connmgr.NodeID{"friend", "neighbour"} {
			if s := report(t, m, id, 1000); s != (connmgr.Standing{}) {
				t.Errorf("a report of %v led to %+v, want nothing", id, s)
			}
			if s, known := m.Gater().Standing(id); known {
				t.Errorf("%v is remembered with %+v", id, s)
			}
			expectBanned(t, m, id, "trusted", false)
		}
		if !byName.Open() || !byAddr.Open() {
			t.Error("a trusted peer was disconnected")
		}
		byAddr.Drop() // what is left is an address like any other
		ban(t, m, "neighbour")
	})
}

func TestTheLadderIsOffByDefault(t *testing.T) {
	m, host := newLadder(t, connmgr.LadderConfig{})
	c := host.Connect("a")
	for range 100 {
		if s := report(t, m, "a", 1e9); s != (connmgr.Standing{}) {
			t.Fatalf("a report led to %+v, want nothing", s)
		}
	}
	expectBanned(t, m, "a", "without a ladder", false)
	if s, known := m.Gater().Standing("a"); known || !c.Open() || m.Gater().Stats().ReportedPeers != 0 {
		t.Errorf("without a ladder: standing %+v, open %v, %d peers remembered; want nothing to happen", s, c.Open(), m.Gater().Stats().ReportedPeers)
	}
}

func TestReportsThatMakeNoSense(t *testing.T) {
	m, _ := newLadder(t, steps)
	for _, weight := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := m.Gater().Report(context.Background(), "a", weight, ""); err == nil || !strings.HasPrefix(err.Error(), "connmgr: ") || !strings.Contains(err.Error(), "weight") {
			t.Errorf("Report with a weight of %v: %v, want an error that says so", weight, err)
		}
	}
	for _, reason := range []string{"two\nlines", strings.Repeat("x", 2000)} {
		if _, err := m.Gater().Report(context.Background(), "a", 1000, reason); err == nil || !strings.Contains(err.Error(), "reason") {
			t.Errorf("Report with a bad reason: %v, want an error that says so", err)
		}
	}
	if s, known := m.Gater().Standing("a"); known {
		t.Errorf("bad reports led to %+v", s)
	}
	expectBanned(t, m, "a", "after bad reports", false)
	if got := report(t, m, "", 1); got.Score != 1 { // any ID is an ID
		t.Errorf("the empty ID's standing is %+v, want a score of 1", got)
	}
}
