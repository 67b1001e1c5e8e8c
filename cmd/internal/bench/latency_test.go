package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAPercentileIsTheTimeWithinWhichThatManyWereDone(t *testing.T) {
	upTo := func(n int) (times []time.Duration) {
		for i := range n {
			times = append(times, time.Duration(i+1))
		}
		return times
	}
	for _, test := range []struct {
		times    []time.Duration
		perMille int
		want     time.Duration
	}{
		{upTo(1000), 500, 500},
		{upTo(1000), 990, 990},
		{upTo(1000), 999, 999},
		{upTo(1000), 1000, 1000},
		{upTo(100_000), 999, 99_900},
		{upTo(7), 500, 4}, // 3 of 7 are less than half
		{upTo(7), 999, 7},
		{upTo(1), 500, 1},
		{nil, 999, 0},
	} {
		if got := percentile(test.times, test.perMille); got != test.want {
			t.Errorf("of 1 to %d, %d in a thousand are done within %d, want %d", len(test.times), test.perMille, got, test.want)
		}
	}
}

func TestCallsThatCannotBeMadeInTimeAreMadeLate(t *testing.T) {
	const stall = 20 * time.Millisecond
	m := &stalling{stall: stall, after: 1000, over: make(chan struct{})}
	load := newCallLoad(m, newCrowd(100), rand.New(rand.NewPCG(1, 2)))
	took := load.during(func() { <-m.over })

	calls := 0
	for kind := range callKinds {
		calls += len(load.took[kind])
	}
	if due := int(took / callEvery); calls < due-1 || calls > due+1 {
		t.Errorf("%d calls were made for %v, want all %d that were due", calls, took, due)
	}
	if tags := load.rows(latencyRow{})[callTag]; tags.longest < stall {
		t.Errorf("the longest tag took %v, want at least the %v for which one stalled", tags.longest, stall)
	}
	// Those that were due while it stalled had to wait, however little they took.
	late, least := 0, int(stall/2/callEvery/2)*9/10
	for _, d := range load.sinceDue[callTag] {
		if d >= stall/2 {
			late++
		}
	}
	if late < least {
		t.Errorf("%d tags were done %v or more after they were due, want at least %d", late, stall/2, least)
	}
}

// stalling is a manager that stalls in one tag. It is over after ten times as many.
type stalling struct {
	manager
	tags, after int
	stall       time.Duration
	over        chan struct{}
}

func (m *stalling) Notifee() network.Notifiee { return &network.NotifyBundle{} }

func (m *stalling) TagPeer(peer.ID, string, int) {
	switch m.tags++; m.tags {
	case m.after:
		<-time.After(m.stall)
	case 10 * m.after:
		close(m.over)
	}
}

func TestLatencyIsMeasuredForBothManagersWithAndWithoutATrim(t *testing.T) {
	const peers = 2000
	said := 0
	rows, err := measureLatency(t.Context(), peers, func(string) { said++ })
	if err != nil {
		t.Fatal(err)
	}
	if said == 0 {
		t.Error("there was no progress")
	}
	for _, c := range contenders {
		for _, name := range callNames {
			for _, trimming := range []bool{false, true} {
				i := slices.IndexFunc(rows, func(r latencyRow) bool {
					return r.manager == c.name && r.call == name && r.trimming == trimming
				})
				if i < 0 {
					t.Errorf("there is no row for %s of %s, trimming %v", name, c.name, trimming)
					continue
				}
				r := rows[i]
				if r.calls == 0 || r.p50 <= 0 || r.p50 > r.p99 || r.p99 > r.p999 || r.p999 > r.longest {
					t.Errorf("%+v: want calls, and times that grow", r)
				}
				if r.dueP999 < r.p999 || r.dueLongest < r.longest || r.dueP999 > r.dueLongest {
					t.Errorf("%+v: want no call to take less since it was due than since it was made", r)
				}
				if (r.trimTook > 0) != trimming {
					t.Errorf("%+v: want the time of a trim, if there was one", r)
				}
				if got, want := len(r.cells()), len(latencyHeader()); got != want {
					t.Errorf("a row has %d cells, and the header %d", got, want)
				}
			}
		}
	}
	if want := 2 * len(contenders) * callKinds; len(rows) != want {
		t.Errorf("there are %d rows, want %d", len(rows), want)
	}
}

func TestLatencyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measureLatency(ctx, 100, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("measureLatency returned %v, want context.Canceled", err)
	}
}

func TestPeersThatWereClosedComeBack(t *testing.T) {
	for _, c := range contenders {
		crowd := newCrowd(100)
		score := func(i int) int { return i }
		m, err := c.filled(90, crowd, score)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m.TrimOpenConns(t.Context())
			if closed := crowd.comeBack(m, score); closed != 10 {
				t.Errorf("%s: %d peers came back, want the 10 that were closed", c.name, closed)
			}
		}
		for i, id := range crowd.ids {
			if info := m.GetTagInfo(id); info == nil || info.Value != i {
				t.Fatalf("%s: peer %d is known as %+v, want it with value %d", c.name, i, info, i)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
