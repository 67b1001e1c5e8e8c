package connmgr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests flood a node with newcomers and look at how often the hard limit
// makes it trim: a trim looks at every peer, so a stranger must not be able to set
// one off with each connection. A trim that frees a lot may come at once.

// flood opens connections to newcomers, with a pause after each, and returns the
// most that were ever open.
func flood(host *connmgrtest.Host, n int, pause time.Duration) (most int) {
	for i := range n {
		host.Connect("newcomer " + peerID(i))
		if pause > 0 {
			advance(pause)
		} else {
			synctest.Wait() // as soon as the manager has nothing to do
		}
		most = max(most, host.Len())
	}
	return most
}

func trimsOfAnyKind(m *connmgr.Manager) (n uint64) {
	for _, trims := range m.Stats().Trims {
		n += trims
	}
	return n
}

func TestAFloodAtTheHardLimitIsNotATrimForEachConnection(t *testing.T) {
	for _, tt := range []struct {
		what      string
		hard      int
		pause     time.Duration
		mostTrims uint64
		mostConns int
	}{
		{"at high water, all at once", 1000, 0, 11, 2000},
		{"at high water, within a second", 1000, time.Millisecond, 15, 1000 + 110},
		{"a little above, within a second", 1020, time.Millisecond, 15, 1020 + 110},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := tight(10, 1000)
			cfg.HardLimit = tt.hard
			cfg.GracePeriod = time.Hour
			m, host := newNode(t, cfg)
			connectMany(host, tt.hard)
			advance(time.Minute)
			before := trimsOfAnyKind(m)
			most := flood(host, 1000, tt.pause)
			if trims := trimsOfAnyKind(m) - before; trims == 0 || trims > tt.mostTrims {
				t.Errorf("%s: %d trims for 1,000 newcomers, want at least 1 and at most %d", tt.what, trims, tt.mostTrims)
			}
			if most > tt.mostConns {
				t.Errorf("%s: up to %d connections were open, want at most %d", tt.what, most, tt.mostConns)
			}
			advance(time.Second / 10)
			if host.Len() > tt.hard {
				t.Errorf("%s: %d connections are open a tenth of a second later, want the limit, %d, kept without another newcomer", tt.what, host.Len(), tt.hard)
			}
		})
	}
}

func TestAHardLimitFarAboveHighWaterIsEnforcedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(10, 1000) // the hard limit is the default, half as much again
		cfg.HardLimit = 0
		cfg.GracePeriod = time.Hour
		m, host := newNode(t, cfg)
		start := time.Now()
		if most := flood(host, 6000, 0); most != 1500 {
			t.Errorf("up to %d connections were open, want no more than the hard limit, 1,500, at any time", most)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("that took %v, want no time to pass", took)
		}
		// The first 1,501 set off one, and then each 501 that fill it up again.
		if trims := m.Stats().Trims[connmgr.TriggerHardLimit]; trims != 9 {
			t.Errorf("%d trims for 6,000 newcomers, want 9", trims)
		}
	})
}
