package connmgr_test

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests configure managers well and badly, and change the limits of one
// that runs.

func TestZeroMeansTheDefault(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  connmgr.Config
		want connmgr.Limits
	}{
		{"nothing set", connmgr.Config{}, connmgr.Limits{LowWater: 100, HighWater: 400, HardLimit: 600}},
		{"low set", connmgr.Config{LowWater: 50}, connmgr.Limits{LowWater: 50, HighWater: 400, HardLimit: 600}},
		{"low set above the default of high", connmgr.Config{LowWater: 500}, connmgr.Limits{LowWater: 500, HighWater: 500, HardLimit: 750}},
		{"high set", connmgr.Config{HighWater: 1000}, connmgr.Limits{LowWater: 100, HighWater: 1000, HardLimit: 1500}},
		{"high set below the default of low", connmgr.Config{HighWater: 5}, connmgr.Limits{LowWater: 5, HighWater: 5, HardLimit: 7}},
		{"both set", connmgr.Config{LowWater: 1, HighWater: 2}, connmgr.Limits{LowWater: 1, HighWater: 2, HardLimit: 3}},
		{"no hard limit", connmgr.Config{HardLimit: math.MaxInt}, connmgr.Limits{LowWater: 100, HighWater: 400, HardLimit: math.MaxInt}},
		{"practically no high water", connmgr.Config{HighWater: math.MaxInt}, connmgr.Limits{LowWater: 100, HighWater: math.MaxInt, HardLimit: math.MaxInt}},
		{"low is really zero", connmgr.Config{LowWater: connmgr.Zero, HighWater: 10}, connmgr.Limits{HighWater: 10, HardLimit: 15}},
		{"all are really zero", connmgr.Config{LowWater: connmgr.Zero, HighWater: connmgr.Zero, HardLimit: connmgr.Zero}, connmgr.Limits{}},
		{"high is really zero, so low is too", connmgr.Config{HighWater: connmgr.Zero}, connmgr.Limits{}},
	} {
		tt.cfg.ManualStart = true
		m, err := connmgr.New(tt.cfg)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := m.Limits(); got != tt.want {
			t.Errorf("%s: limits are %+v, want %+v", tt.name, got, tt.want)
		}
		closeManager(t, m)
	}
}

func TestBadConfigurationsAreRefusedByFieldAndValue(t *testing.T) {
	for _, tt := range []struct {
		cfg   connmgr.Config
		words []string
	}{
		{connmgr.Config{LowWater: 20, HighWater: 10}, []string{"LowWater", "20", "HighWater", "10"}},
		{connmgr.Config{LowWater: -1}, []string{"LowWater", "-1"}},
		{connmgr.Config{HighWater: -7}, []string{"HighWater", "-7"}},
		{connmgr.Config{HighWater: 10, HardLimit: 9}, []string{"HardLimit", "9", "HighWater", "10"}},
		{connmgr.Config{HardLimit: connmgr.Zero}, []string{"HardLimit", "0", "HighWater", "400"}},
		{connmgr.Config{GracePeriod: -time.Second}, []string{"GracePeriod", "-1s"}},
		{connmgr.Config{SilencePeriod: -time.Second}, []string{"SilencePeriod", "-1s"}},
		{connmgr.Config{SilencePeriod: connmgr.Zero}, []string{"SilencePeriod", "0s"}},
		{connmgr.Config{Budget: 7}, []string{"Budget", "7"}},
		{connmgr.Config{OutboundBonus: -3}, []string{"OutboundBonus", "-3"}},
		{connmgr.Config{ActiveBonus: -4}, []string{"ActiveBonus", "-4"}},
		{connmgr.Config{DecayInterval: -time.Minute}, []string{"DecayInterval", "-1m0s"}},
		{connmgr.Config{DecayInterval: connmgr.Zero}, []string{"DecayInterval", "0s"}},
		{connmgr.Config{TagRetention: -time.Minute}, []string{"TagRetention", "-1m0s"}},
		{connmgr.Config{EarlyTagTTL: -time.Minute}, []string{"EarlyTagTTL", "-1m0s"}},
		{connmgr.Config{MaxIdlePeers: -5}, []string{"MaxIdlePeers", "-5"}},
		{connmgr.Config{MaxTagsPerPeer: -5}, []string{"MaxTagsPerPeer", "-5"}},
		{connmgr.Config{MaxTagsPerPeer: connmgr.Zero}, []string{"MaxTagsPerPeer", "0"}},
		{connmgr.Config{MemoryHighWater: -0.1}, []string{"MemoryHighWater", "-0.1"}},
		{connmgr.Config{MemoryHighWater: 1.5}, []string{"MemoryHighWater", "1.5"}},
		{connmgr.Config{MemoryHighWater: math.NaN()}, []string{"MemoryHighWater", "NaN"}},
	} {
		m, err := connmgr.New(tt.cfg)
		if err == nil {
			t.Errorf("New accepted what it should refuse for %v", tt.words)
			closeManager(t, m)
			continue
		}
		if !strings.HasPrefix(err.Error(), "connmgr: ") {
			t.Errorf("%q does not begin with the package's name", err)
		}
		for _, word := range tt.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not have %q in it", err, word)
			}
		}
	}
}

func TestZeroMeansZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{
			LowWater:      connmgr.Zero,
			HighWater:     2,
			GracePeriod:   connmgr.Zero,
			OutboundBonus: connmgr.Zero,
			ActiveBonus:   connmgr.Zero,
		})
		// The order of equal scores is streams before direction; with the bonuses
		// none of these would have the score 0.
		connectMany(host, 2)
		for i := range 2 {
			e, _ := m.Explain(peerID(i), connmgr.TriggerManual)
			if e.Verdict.Score != 0 || e.Verdict.Reason != connmgr.ClosedLowScore {
				t.Errorf("verdict %+v; want score 0 and no grace", e.Verdict)
			}
		}
		trim(t, m)
		if host.Len() != 0 {
			t.Errorf("%d connections are left, want low water, 0", host.Len())
		}
	})
}

func TestBudgetTrimmableLeavesProtectedConnectionsOut(t *testing.T) {
	for budget, want := range map[connmgr.Budget]int{
		connmgr.BudgetAll:       15, // nothing but the protected ones
		connmgr.BudgetTrimmable: 25, // and ten others
	} {
		cfg := tight(10, 100)
		cfg.Budget = budget
		m, host := newNode(t, cfg)
		connectMany(host, 30)
		for i := range 15 {
			m.Protect(peerID(i), "x")
		}
		trim(t, m)
		if host.Len() != want {
			t.Errorf("budget %v: %d connections are left, want %d", budget, host.Len(), want)
		}
	}
}

func TestBadLimitsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(2, 10))
		connectMany(host, 8)
		before := m.Limits()
		for _, tt := range []struct {
			limits connmgr.Limits
			words  []string
		}{
			{connmgr.Limits{LowWater: 5, HighWater: 4, HardLimit: 9}, []string{"LowWater", "5", "HighWater", "4"}},
			{connmgr.Limits{LowWater: -1, HighWater: 4, HardLimit: 9}, []string{"LowWater", "-1"}},
			{connmgr.Limits{LowWater: -2, HighWater: -1, HardLimit: 9}, []string{"LowWater", "-2"}},
			{connmgr.Limits{LowWater: 1, HighWater: 4, HardLimit: 3}, []string{"HardLimit", "3", "HighWater", "4"}},
			{connmgr.Limits{LowWater: 1, HighWater: 4}, []string{"HardLimit", "0", "HighWater", "4"}}, // zero is zero here
		} {
			err := m.SetLimits(tt.limits)
			if err == nil {
				t.Errorf("SetLimits(%+v) succeeded", tt.limits)
				continue
			}
			for _, word := range append(tt.words, "connmgr: ") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not have %q in it", err, word)
				}
			}
		}
		advance(time.Hour)
		if m.Limits() != before || host.Len() != 8 {
			t.Errorf("limits are %+v with %d connections, want %+v and 8 as before", m.Limits(), host.Len(), before)
		}
	})
}

func TestGoodLimitsAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(2, 10))
		connectMany(host, 10)
		want := connmgr.Limits{LowWater: 3, HighWater: 9, HardLimit: 9}
		if err := m.SetLimits(want); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if m.Limits() != want || host.Len() != 3 {
			t.Errorf("limits are %+v with %d connections, want %+v and 3", m.Limits(), host.Len(), want)
		}
		// The next one has to wait for the silence period.
		if err := m.SetLimits(connmgr.Limits{LowWater: 0, HighWater: 1, HardLimit: 100}); err != nil {
			t.Fatal(err)
		}
		advance(connmgr.DefaultSilencePeriod - 1)
		if host.Len() != 3 {
			t.Errorf("%d connections in the silence, want 3", host.Len())
		}
		advance(1)
		if host.Len() != 0 {
			t.Errorf("%d connections after the silence, want 0", host.Len())
		}
		if err := m.SetLimits(connmgr.Limits{LowWater: 100, HighWater: 200, HardLimit: math.MaxInt}); err != nil {
			t.Fatal(err)
		}
		connectMany(host, 200)
		advance(time.Hour)
		if host.Len() != 200 {
			t.Errorf("%d connections left of 200 after the limits were raised", host.Len())
		}
	})
}

func TestWordsForHumans(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{connmgr.BudgetAll.String(), "all"},
		{connmgr.BudgetTrimmable.String(), "trimmable"},
		{connmgr.Budget(9).String(), "Budget(9)"},
		{connmgr.DirInbound.String(), "inbound"},
		{connmgr.DirOutbound.String(), "outbound"},
		{connmgr.DirUnknown.String(), "unknown"},
		{connmgr.Direction(9).String(), "unknown"},
		{connmgr.ClosedHardLimit.String(), "hard limit"},
		{connmgr.Reason(99).String(), "Reason(99)"},
		{connmgr.TriggerGrace.String(), "grace ended"},
		{connmgr.Trigger(99).String(), "Trigger(99)"},
		{connmgr.Cause(0).String(), "none"},
		{(connmgr.CauseGrace | connmgr.CauseProtected).String(), "protected and grace"},
		{connmgr.Cause(99).String(), "Cause(99)"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestClockOfTheUsersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := new(leapClock)
		cfg := tight(0, 100)
		cfg.GracePeriod = time.Hour
		cfg.Clock = clock
		cfg.Logger = slog.New(slog.DiscardHandler)
		m, host := newNode(t, cfg)
		host.Connect("p")
		trim(t, m)
		if host.Len() != 1 {
			t.Fatal("a connection was closed in its grace")
		}
		clock.ahead.Store(int64(time.Hour)) // no time passes but on this clock
		res := trim(t, m)
		if host.Len() != 0 || !res.Started.Equal(clock.Now()) {
			t.Errorf("%d connections left, trim at %v; want the clock's hour to end the grace", host.Len(), res.Started)
		}
	})
}
