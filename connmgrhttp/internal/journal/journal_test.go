package journal_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests let things happen to a manager and look for them in its journal.

var evil = connmgr.Rule{Target: connmgr.PrefixTarget(netip.MustParsePrefix("10.0.0.0/8")), Reason: "port scans"}

// node is a manager with its host and its journal. It denies 10.0.0.0/8.
type node struct {
	t testing.TB
	*connmgr.Manager
	host *connmgrtest.Host
	j    *journal.Journal
}

func start(t testing.TB, o journal.Options) node {
	t.Helper()
	n := node{t: t, host: connmgrtest.NewHost()}
	var err error
	n.Manager, err = connmgr.New(connmgr.Config{
		LowWater: 1 << 20, HighWater: 1 << 20, HardLimit: math.MaxInt, GracePeriod: connmgr.Zero,
		Gate: connmgr.GateConfig{Rules: []connmgr.Rule{evil}},
		Host: n.host, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := n.Manager
	t.Cleanup(func() { m.Close() }) // and hold on to nothing else: a test measures memory
	n.host.Notify(n)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n.j = journal.Start(n.Manager, o)
	return n
}

// deny has the gate refuse connections from 10.0.0.1, one from each of some ports.
func (n node) deny(from, to int) {
	for port := from; port < to; port++ {
		addr := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(port))
		if n.Gater().InterceptAccept(addr) == nil {
			n.t.Fatalf("%v passed the gate, want it refused", addr)
		}
	}
}

func (n node) limit(low int) {
	l := n.Limits()
	l.LowWater = low
	if err := n.SetLimits(l); err != nil {
		n.t.Fatal(err)
	}
}

// settled waits until events have been collected, outside of a bubble.
func (n node) settled(count int, f journal.Filter) {
	n.t.Helper()
	for end := time.Now().Add(10 * time.Second); len(n.j.Recent(f, count)) < count; runtime.Gosched() {
		if time.Now().After(end) {
			n.t.Fatalf("%d events are remembered, want %d", len(n.j.Recent(f, count)), count)
		}
	}
}

// tell renders events, the first first.
func tell(events []api.Event) string {
	var words []string
	for _, e := range events {
		word := string(e.Type)
		if e.Peer != "" {
			word += " " + e.Peer
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestWhatHappenedIsToldNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		if got := n.j.Recent(journal.Filter{}, 10); got == nil || len(got) != 0 {
			t.Errorf("before anything has happened there is %#v, want an empty list that is not nil", got)
		}
		n.host.Connect("alice")
		n.host.Connect("bob", connmgrtest.Outbound())
		n.host.Connect("") // the empty ID is one like any other
		n.limit(1)
		n.deny(1, 2)
		_ = n.Gater().InterceptSecured(connmgr.DirInbound, "bob", netip.MustParseAddrPort("10.0.0.1:5"))
		if err := n.Gater().Block(t.Context(), connmgr.PeerTarget("alice"), 0, "spam"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()

		for _, c := range []struct {
			f     journal.Filter
			limit int
			want  string
		}{
			{journal.Filter{}, 100, "trim, disconnected 0x, closed 0x, closed alice, disconnected alice, rules, denied bob, denied, limits, connected 0x, connected bob, connected alice"},
			{journal.Filter{}, 3, "trim, disconnected 0x, closed 0x"},
			{journal.Filter{}, 0, ""},
			{journal.Filter{}, -1, ""},
			{journal.Filter{Types: []api.EventType{api.Denied, api.Connected}}, 100, "denied bob, denied, connected 0x, connected bob, connected alice"},
			{journal.Filter{Types: []api.EventType{api.Denied, api.Connected}}, 3, "denied bob, denied, connected 0x"},
			{journal.Filter{Types: []api.EventType{api.Lost}}, 100, ""},
			{journal.Filter{Peer: "bob", HasPeer: true}, 100, "denied bob, connected bob"},
			{journal.Filter{Peer: "alice", HasPeer: true}, 2, "closed alice, disconnected alice"},
			{journal.Filter{Peer: "alice", HasPeer: true, Types: []api.EventType{api.Connected, api.TrimEnded}}, 100, "connected alice"},
			{journal.Filter{Peer: "", HasPeer: true}, 100, "disconnected 0x, closed 0x, connected 0x"},
			{journal.Filter{Peer: "carol", HasPeer: true}, 100, ""},
		} {
			got := n.j.Recent(c.f, c.limit)
			// Which comes first, of the end of a connection and the word that it was
			// closed, is not said.
			told := strings.NewReplacer("closed 0x, disconnected 0x", "disconnected 0x, closed 0x",
				"disconnected alice, closed alice", "closed alice, disconnected alice").Replace(tell(got))
			if c.limit == 100 && told != c.want {
				t.Errorf("%+v finds\n%s\nwant\n%s", c.f, told, c.want)
			}
			if want := strings.Count(c.want, ", ") + 1; c.want != "" && len(got) != want {
				t.Errorf("%+v and a limit of %d find %d events, want %d", c.f, c.limit, len(got), want)
			}
			for i := 1; i < len(got); i++ {
				if got[i].ID >= got[i-1].ID {
					t.Errorf("%+v: event %d comes before %d, want the newest first", c.f, got[i-1].ID, got[i].ID)
				}
			}
		}
		closed := n.j.Recent(journal.Filter{Peer: "alice", HasPeer: true, Types: []api.EventType{api.PeerClosed}}, 1)
		if len(closed) != 1 || closed[0].Closed == nil || closed[0].Closed.Reason != connmgr.ClosedBlocked || !closed[0].At.Equal(time.Now()) {
			t.Errorf("the end of alice is %+v, want her blocked now", closed)
		}
	})
}

func TestIDsGrowAcrossRestartsAndFitAFloat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := uint64(0)
		for restart := range 3 {
			n := start(t, journal.Options{})
			n.deny(1, 1000)
			synctest.Wait()
			events := n.j.Recent(journal.Filter{}, 1000)
			if first := events[len(events)-1].ID; first <= last {
				t.Errorf("after restart %d the first ID is %d, want more than %d", restart, first, last)
			}
			if last = events[0].ID; last != events[len(events)-1].ID+998 || last > 1<<53 {
				t.Errorf("the last of 999 IDs is %d, want one more for each event, below 2^53", last)
			}
			n.Close()
			<-time.After(time.Second)
		}
	})
}

func TestAFloodOfOneKindDoesNotPushOutTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		n.host.Connect("alice")
		n.limit(5)
		n.ClosePeer("alice")
		for range 4 {
			n.deny(0, 10_000)
			synctest.Wait() // the collector gets its turn
		}
		if got := n.j.Recent(journal.Filter{Types: []api.EventType{api.Denied}}, 1_000_000); len(got) != 4096 || got[4095].Denied.Address != "10.0.0.1:5904" {
			t.Errorf("%d refusals are remembered, the first of %s, want the last 4096", len(got), got[len(got)-1].Denied.Address)
		}
		other := n.j.Recent(journal.Filter{Types: []api.EventType{api.Connected, api.PeerClosed, api.LimitsChanged}}, 10)
		if got := tell(other); got != "closed alice, limits, connected alice" {
			t.Errorf("beside 40,000 refusals there is %q, want alice and the limits", got)
		}
		if n.j.Dropped() != 0 {
			t.Errorf("%d events were missed", n.j.Dropped())
		}
	})
}

// crowd connects 17,000 peers and closes them, one after the other.
func (n node) crowd() {
	n.t.Helper()
	for i := range 17_000 {
		n.host.Connect(crowded(i))
		if n.ClosePeer(crowded(i)) != 1 {
			n.t.Fatalf("%v was not closed", crowded(i))
		}
	}
}

func crowded(i int) connmgr.NodeID { return connmgr.NodeID(fmt.Sprintf("12D3KooW-%043d", i)) }

func TestTheLastPeersClosedAreRememberedInBoundedNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		n.crowd()
		synctest.Wait()
		closed := n.j.Recent(journal.Filter{Types: []api.EventType{api.PeerClosed}}, 1_000_000)
		if len(closed) != 16_384 || closed[0].Peer != string(crowded(16_999)) || closed[16_383].Peer != string(crowded(616)) {
			t.Fatalf("%d peers are remembered as closed, want the last 16,384 of 17,000", len(closed))
		}
		for i, want := range map[int]int{0: 0, 615: 0, 616: 1, 5000: 1, 12_903: 1, 12_904: 3, 16_384: 3, 16_999: 3} {
			got := n.j.Recent(journal.Filter{Peer: crowded(i), HasPeer: true}, 10)
			if len(got) != want || want > 0 && got[len(got)-1].Peer != string(crowded(i)) {
				t.Errorf("of peer %d there is %q, want %d events", i, tell(got), want)
			}
		}
	})
}

func TestAFullJournalTakesBoundedMemory(t *testing.T) {
	n := start(t, journal.Options{})
	n.crowd()
	for i := range 4096 {
		_ = n.Gater().InterceptSecured(connmgr.DirInbound, crowded(i), netip.MustParseAddrPort("10.0.0.1:5"))
	}
	var rules []connmgr.Rule
	for port := range uint16(12) {
		rules = append(rules, connmgr.Rule{Target: connmgr.PortTarget(port), Reason: "a reason of usual length", Origin: "a list"})
	}
	for i := range 1024 {
		n.limit(i)
		if _, err := n.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Gater().Replace(t.Context(), "a list", rules[:12*(i%2)]); err != nil {
			t.Fatal(err)
		}
	}
	n.settled(1023, journal.Filter{Types: []api.EventType{api.RulesChanged}})
	s, err := n.j.Follow(journal.Filter{}, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	for read, most := 0, (16_384+3*4096+3*1023)*3/4; read < most; { // so all rings are full, and frames made
		events, err := s.Discard(t.Context())
		if err != nil {
			t.Fatalf("after %d of %d events: %v", read, most, err)
		}
		read += events
	}
	n.Close()
	<-n.j.Done()

	with := heap()
	runtime.KeepAlive(n.j)
	n.j, s = nil, nil
	size := with - heap()
	t.Logf("a full journal takes %d bytes", size)
	if size < 1<<20 || size > 16<<20 {
		t.Errorf("a full journal takes %d bytes, want at most 16 MiB (and more than 1, or this measured something else)", size)
	}
	runtime.KeepAlive(n.Manager)
	runtime.KeepAlive(n.host)
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestTheJournalEndsWithItsManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine remains
		n := start(t, journal.Options{})
		n.host.Connect("alice")
		n.Close()
		<-n.j.Done()
		if got := tell(n.j.Recent(journal.Filter{}, 10)); got != "connected alice" {
			t.Errorf("after the end there is %q, want what happened before", got)
		}
		late := journal.Start(n.Manager, journal.Options{})
		<-late.Done()
		if len(late.Recent(journal.Filter{}, 10)) != 0 || len(late.Samples().Samples) != 1 {
			t.Error("a journal of a closed manager remembers something beside its first sample")
		}
	})
}

func TestMissedEventsAreCountedAndWarnedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		n := start(t, journal.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Names:  wire.Names{Format: connmgr.ListFormat{FormatPeer: func(connmgr.NodeID) string { <-release; return "x" }}},
		})
		flood := func(peer connmgr.NodeID) {
			if err := n.Gater().Block(t.Context(), connmgr.PeerTarget(peer), time.Hour, ""); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the collector asks for the peer's name
			n.deny(0, 40_000)
			n.deny(0, 40_000)
			missed := n.j.Dropped()
			// Once for the rule and once for its line.
			release <- struct{}{}
			release <- struct{}{}
			synctest.Wait()
			if n.j.Dropped() != missed {
				t.Errorf("%d events more were missed though nothing happened", n.j.Dropped()-missed)
			}
		}
		flood("alice")
		const missed = 80_000 - 65_536
		if n.j.Dropped() != missed {
			t.Errorf("%d events were missed, want what did not fit: %d", n.j.Dropped(), missed)
		}
		flood("bob")
		if got := log.String(); strings.Count(got, "missing from the journal") != 1 || !strings.Contains(got, fmt.Sprint("events=", missed)) {
			t.Errorf("after two floods within a minute the log has\n%s\nwant one warning, about the first %d events", got, missed)
		}
		<-time.After(time.Minute)
		n.limit(5)
		synctest.Wait()
		if got := log.String(); strings.Count(got, "missing from the journal") != 2 || strings.Count(got, fmt.Sprint("events=", missed)) != 2 {
			t.Errorf("a minute later the log has\n%s\nwant a second warning, about %d events more", got, missed)
		}
	})
}

func TestNamesThatPanicDoNotEndTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{Names: wire.Names{Format: connmgr.ListFormat{FormatPeer: func(connmgr.NodeID) string { panic("no name") }}}})
		if err := n.Gater().Block(t.Context(), connmgr.PeerTarget("alice"), 0, ""); err != nil {
			t.Fatal(err)
		}
		n.limit(7)
		synctest.Wait()
		if got := tell(n.j.Recent(journal.Filter{}, 10)); got != "limits, rules" {
			t.Errorf("the journal has %q, want the rule in it and what came after", got)
		}
	})
}

func TestSamplesAreTakenEveryFiveSecondsForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		n := start(t, journal.Options{})
		first := n.j.Samples()
		if first.EverySeconds != 5 || len(first.Samples) != 1 || !first.Samples[0].At.Equal(begin) || first.Samples[0].HardLimit != nil {
			t.Fatalf("at first there is %+v, want one sample, without a hard limit", first)
		}
		if first.Samples[0].Open = 99; n.j.Samples().Samples[0].Open == 99 {
			t.Error("who gets samples can change the journal's")
		}
		n.host.Connect("alice")
		n.host.Connect("bob", connmgrtest.Outbound())
		n.host.Connect("bob", connmgrtest.Outbound())
		if err := n.SetLimits(connmgr.Limits{LowWater: 1, HighWater: 20, HardLimit: 30}); err != nil {
			t.Fatal(err)
		}
		<-time.After(4 * time.Second)
		synctest.Wait()
		if got := len(n.j.Samples().Samples); got != 1 {
			t.Errorf("after 4 s there are %d samples, want 1", got)
		}
		<-time.After(time.Second)
		synctest.Wait()
		got := n.j.Samples().Samples[1]
		if got.HardLimit == nil || *got.HardLimit != 30 || !got.At.Equal(begin.Add(5*time.Second)) {
			t.Errorf("the second sample is %+v, want it 5 s later and with the hard limit", got)
		}
		if got.HardLimit = nil; got != (api.Sample{At: got.At, Open: 3, Inbound: 1, Outbound: 2, LowWater: 1, HighWater: 20}) {
			t.Errorf("the second sample is %+v, want 3 connections, 2 of them outbound, and the new limits", got)
		}
		<-time.After(time.Hour)
		synctest.Wait()
		all := n.j.Samples().Samples
		if len(all) != 720 || all[719].At.Sub(all[0].At) != time.Hour-5*time.Second || !all[719].At.Equal(time.Now()) {
			t.Errorf("after an hour there are %d samples from %v to %v, want 720 up to now", len(all), all[0].At, all[len(all)-1].At)
		}
	})
}
