package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests follow a manager's life: New, Start, Close, and what works after.
// The helpers at the end serve the other tests of the manager as well.

func TestNewManagerWorksWithoutConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		if got, want := m.Limits(), (connmgr.Limits{LowWater: 100, HighWater: 400, HardLimit: 600}); got != want {
			t.Errorf("Limits() = %+v, want %+v", got, want)
		}
		connectMany(host, 401)
		advance(20 * time.Second)
		if host.Len() != 100 {
			t.Errorf("%d connections are open when grace is over, want low water, 100", host.Len())
		}
	})
}

func TestManagerWithoutStartDoesNothingInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 2)
		cfg.ManualStart = true
		cfg.EarlyTagTTL = time.Second
		m, host := newNode(t, cfg)
		tag := register(t, m, "decays", time.Minute, connmgr.DecayFixed(1))
		bump(t, tag, "stranger", 5)
		connectMany(host, 10)
		advance(time.Hour)
		if host.Len() != 10 || m.Tags().Sum("stranger") != 5 {
			t.Fatalf("before Start: %d connections, value %d; want 10 and 5", host.Len(), m.Tags().Sum("stranger"))
		}
		for range 2 {
			if err := m.Start(); err != nil {
				t.Errorf("Start: %v", err)
			}
		}
		synctest.Wait()
		if host.Len() != 1 {
			t.Errorf("after Start %d connections are open, want low water, 1", host.Len())
		}
	})
}

func TestTrimWorksBeforeStart(t *testing.T) {
	cfg := tight(1, 2)
	cfg.ManualStart = true
	m, host := newNode(t, cfg)
	connectMany(host, 10)
	if res := trim(t, m); len(res.Closed) != 9 || host.Len() != 1 {
		t.Errorf("closed %d peers and left %d connections, want 9 and 1", len(res.Closed), host.Len())
	}
}

func TestStartAfterCloseDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 2)
		cfg.ManualStart = true
		m, host := newNode(t, cfg)
		connectMany(host, 10)
		closeManager(t, m)
		if err := m.Start(); !errors.Is(err, connmgr.ErrClosed) {
			t.Errorf("Start = %v, want ErrClosed", err)
		}
		advance(time.Hour) // a goroutine left behind would fail the bubble
		if host.Len() != 10 {
			t.Errorf("a manager started after Close trimmed: %d connections left of 10", host.Len())
		}
	})
}

func TestCloseEndsBackgroundWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 5))
		tag := register(t, m, "decays", time.Minute, connmgr.DecayFixed(1))
		bump(t, tag, "p", 5)
		connectMany(host, 5)
		closeManager(t, m)
		if host.Len() != 5 {
			t.Errorf("Close closed connections: %d left of 5", host.Len())
		}
		if err := m.SetLimits(connmgr.Limits{}); err != nil {
			t.Errorf("SetLimits after Close: %v", err)
		}
		connectMany(host, 10)
		advance(24 * time.Hour)
		if host.Len() != 15 || m.Tags().Sum("p") != 5 {
			t.Errorf("a day after Close: %d connections, value %d; want 15 and 5", host.Len(), m.Tags().Sum("p"))
		}
	})
}

func TestCloseManyTimesAtOnce(t *testing.T) {
	for _, manual := range []bool{false, true} {
		cfg := tight(1, 2)
		cfg.ManualStart = manual
		m, host := newNode(t, cfg)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				connectMany(host, 5)
				if err := m.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		all.Wait()
	}
}

func TestCloseWaitsForATrimUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 100))
		var inClose atomic.Int32
		connectMany(host, 50, connmgrtest.OnClose(func(connmgr.Reason) error {
			inClose.Add(1)
			<-time.After(time.Second / 2)
			inClose.Add(-1)
			return nil
		}))
		trimmed := make(chan error)
		go func() {
			_, err := m.Trim(context.Background())
			trimmed <- err
		}()
		synctest.Wait()
		closeManager(t, m)
		if n := inClose.Load(); n != 0 {
			t.Errorf("Close returned while %d connections were being closed", n)
		}
		if left := host.Len(); left < 2 || left == 50 {
			t.Errorf("%d connections left; Close was to let the closings under way finish and begin no others", left)
		}
		if err := <-trimmed; !errors.Is(err, connmgr.ErrClosed) {
			t.Errorf("a trim that Close cut short returned %v, want ErrClosed", err)
		}
	})
}

func TestCloseDoesNotWaitForeverForAConnectionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		cfg := tight(0, 0)
		cfg.Logger = slog.New(slog.DiscardHandler)
		m, err := connmgr.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		host.Notify(m)
		conn := host.Connect("p", connmgrtest.HangOnClose())
		synctest.Wait() // the background trim hangs in it
		start := time.Now()
		second := make(chan error, 1)
		go func() { second <- m.Close() }()
		errs := []error{m.Close(), <-second}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("Close took %v, want at most the patience of a trim, a second or two", took)
		}
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("two Closes returned %v and %v, want an error from the first and nil from the other", errs[0], errs[1])
		}
		if err := errors.Join(errs...); err != nil && !strings.Contains(err.Error(), "1 peers") {
			t.Errorf("the error is %q, want it to say how many peers hang", err)
		}
		conn.Release()
	})
}

func TestEveryMethodWorksAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 20))
		tag := register(t, m, "score", time.Minute, connmgr.DecayNone())
		sub := m.Subscribe(100)
		known := host.Connect("known")
		closeManager(t, m)

		m.TagPeer("known", "a", 1)
		m.UpsertTag("known", "a", func(v int) int { return v + 1 })
		m.TagPeer("new", "b", 7)
		m.UntagPeer("new", "b")
		bump(t, tag, "known", 3)
		m.Protect("known", "x")
		if !m.IsProtected("known", "x") || m.Unprotect("known", "x") {
			t.Error("protections do not work after Close")
		}
		if got := m.Tags().Sum("known"); got != 5 {
			t.Errorf("Sum = %d, want 5", got)
		}
		if info, ok := m.PeerInfo("known"); !ok || len(info.Conns) != 1 {
			t.Errorf("PeerInfo = %+v, %v; want the connection known before Close", info, ok)
		}
		if _, ok := m.Explain("known", connmgr.TriggerManual); !ok {
			t.Error("Explain does not know the peer")
		}
		if plan := m.DryRun(connmgr.TriggerForce); plan.Total != 1 {
			t.Errorf("DryRun sees %d connections, want 1", plan.Total)
		}
		known.Drop()
		host.Connect("late")
		if s := m.Stats(); s.LateNotifications != 2 || s.Conns != 1 || m.ConnCount() != 1 {
			t.Errorf("late notifications %d, connections %d and %d; want 2, 1, 1", s.LateNotifications, s.Conns, m.ConnCount())
		}
		if err := tag.Close(); err != nil {
			t.Errorf("closing a tag: %v", err)
		}
		if _, err := m.RegisterDecayingTag("new", time.Minute, connmgr.DecayNone(), connmgr.BumpOverwrite()); !errors.Is(err, connmgr.ErrClosed) {
			t.Errorf("RegisterDecayingTag = %v, want ErrClosed", err)
		}
		m.TrimOpenConns(nil) //nolint:staticcheck // nil is allowed
		if _, err := m.Trim(context.Background()); !errors.Is(err, connmgr.ErrClosed) {
			t.Errorf("Trim = %v, want ErrClosed", err)
		}
		if _, err := m.ForceTrim(context.Background()); !errors.Is(err, connmgr.ErrClosed) {
			t.Errorf("ForceTrim = %v, want ErrClosed", err)
		}
		for range sub.Events() { // ends, since Close closed it
		}
	})
}

func TestAnyBytesAreAnID(t *testing.T) {
	ids := []connmgr.NodeID{"", " ", "\x00", "\x00\x00", "\xff\xfe\xfd", "ü", "plain", connmgr.NodeID(strings.Repeat("long", 10_000))}
	m, host := newNode(t, tight(0, 0+len(ids)))
	tag := register(t, m, "decays", time.Minute, connmgr.DecayNone())
	for i, id := range ids {
		m.TagPeer(id, "", i)
		m.TagPeer(id, "\xff", 1)
		m.UpsertTag(id, "", func(v int) int { return v + 100 })
		bump(t, tag, id, 10)
		m.Protect(id, "\x00")
		host.Connect(id)
	}
	for i, id := range ids {
		if got, want := m.Tags().Sum(id), i+111; got != want {
			t.Errorf("%v: Sum = %d, want %d", id, got, want)
		}
		if info, ok := m.PeerInfo(id); !ok || len(info.Conns) != 1 || info.Tags[""] != i+100 {
			t.Errorf("%v: PeerInfo = %+v, %v; want one connection and the tag with the empty name", id, info, ok)
		}
		if !m.IsProtected(id, "\x00") || m.Unprotect(id, "\x00") {
			t.Errorf("%v: protection under a binary tag does not work", id)
		}
	}
	if res := trim(t, m); len(res.Closed) != len(ids) || host.Len() != 0 {
		t.Errorf("closed %d peers and left %d connections, want %d and 0", len(res.Closed), host.Len(), len(ids))
	}
}

func TestIDsAreFitToPrint(t *testing.T) {
	for id, want := range map[connmgr.NodeID]string{
		"":          "",
		"12D3KooW":  "12D3KooW",
		"two words": "0x74776f20776f726473",
		"line\n":    "0x6c696e650a",
		"\xff\x00":  "0xff00",
	} {
		if got := id.String(); got != want {
			t.Errorf("NodeID(%q).String() = %q, want %q", string(id), got, want)
		}
	}
}

// newManager makes a manager that logs nothing, unless cfg says otherwise, and
// that is closed at the end of the test.
func newManager(t testing.TB, cfg connmgr.Config) *connmgr.Manager {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := connmgr.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { closeManager(t, m) })
	return m
}

func closeManager(t testing.TB, m *connmgr.Manager) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// newNode makes a manager and a host that notifies it.
func newNode(t testing.TB, cfg connmgr.Config) (*connmgr.Manager, *connmgrtest.Host) {
	t.Helper()
	m, host := newManager(t, cfg), connmgrtest.NewHost()
	host.Notify(m)
	return m, host
}

// tight is a configuration without grace, bonuses and hard limit, so that a
// test sees tags and watermarks alone.
func tight(low, high int) connmgr.Config {
	return connmgr.Config{
		LowWater:      orZero(low),
		HighWater:     orZero(high),
		HardLimit:     math.MaxInt,
		GracePeriod:   connmgr.Zero,
		OutboundBonus: connmgr.Zero,
		ActiveBonus:   connmgr.Zero,
	}
}

func orZero(n int) int {
	if n == 0 {
		return connmgr.Zero
	}
	return n
}

// peerID returns the ID of the i-th peer of connectMany.
func peerID(i int) connmgr.NodeID { return connmgr.NodeID(fmt.Sprintf("peer-%05d", i)) }

// connectMany opens n connections, to peer-00000 and so on.
func connectMany(host *connmgrtest.Host, n int, options ...connmgrtest.Option) []*connmgrtest.Conn {
	conns := make([]*connmgrtest.Conn, n)
	for i := range conns {
		conns[i] = host.Connect(peerID(i), options...)
	}
	return conns
}

// tagMany gives the i-th peer of connectMany the score i.
func tagMany(m *connmgr.Manager, n int) {
	for i := range n {
		m.TagPeer(peerID(i), "rank", i)
	}
}

func register(t testing.TB, m *connmgr.Manager, name string, interval time.Duration, decay connmgr.DecayFunc) *connmgr.DecayingTag {
	t.Helper()
	tag, err := m.RegisterDecayingTag(name, interval, decay, connmgr.BumpSumUnbounded())
	if err != nil {
		t.Fatalf("RegisterDecayingTag(%q): %v", name, err)
	}
	return tag
}

func bump(t testing.TB, tag *connmgr.DecayingTag, peer connmgr.NodeID, delta int) {
	t.Helper()
	if err := tag.Bump(peer, delta); err != nil {
		t.Errorf("Bump(%v, %d): %v", peer, delta, err)
	}
}

func trim(t testing.TB, m *connmgr.Manager) connmgr.TrimResult {
	t.Helper()
	res, err := m.Trim(context.Background())
	if err != nil {
		t.Errorf("Trim: %v", err)
	}
	return res
}

// advance lets time pass in the test's bubble, and everything that is due happen.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
