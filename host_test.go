package connmgr_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests give the manager a Host, whose word is the truth: lost
// notifications, hosts that send none, and hosts that misbehave.

// newHosted makes a manager whose Host is also its notifier.
func newHosted(t testing.TB, cfg connmgr.Config) (*connmgr.Manager, *connmgrtest.Host) {
	t.Helper()
	host := connmgrtest.NewHost()
	cfg.Host = host
	m := newManager(t, cfg)
	host.Notify(m)
	return m, host
}

func TestALostConnectedIsMendedByTheNextTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, tight(2, 4))
		connectMany(host, 9, connmgrtest.LoseConnected())
		if m.ConnCount() != 0 {
			t.Fatal("the test is wrong: the notifications were not lost")
		}
		advance(connmgr.DefaultSilencePeriod)
		if host.Len() != 2 || m.ConnCount() != 2 {
			t.Errorf("%d connections are open, %d known; want low water, 2", host.Len(), m.ConnCount())
		}
	})
}

func TestALostDisconnectedIsMendedByTheNextTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, tight(2, 100))
		m.TagPeer("p", "a", 1)
		host.Connect("p", connmgrtest.LoseDisconnected())
		host.Connect("p")
		host.Connect("q")
		advance(time.Second)
		host.Disconnect("p")
		if m.ConnCount() != 2 {
			t.Fatal("the test is wrong: the notification was not lost")
		}
		advance(connmgr.DefaultSilencePeriod)
		expectConns(t, m, 1, 1, 0, 0)
		if s := m.Stats(); s.Peers != 1 || s.IdlePeers != 1 {
			t.Errorf("connected peers %d, idle %d; want 1 and 1", s.Peers, s.IdlePeers)
		}
	})
}

func TestATrimAsksTheHostFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, tight(2, 100))
		connectMany(host, 10, connmgrtest.LoseDisconnected())
		tagMany(m, 10)
		advance(time.Second)
		for i := range 7 {
			host.Disconnect(peerID(i))
		}
		host.Connect("unnoticed", connmgrtest.LoseConnected())
		if plan := m.DryRun(connmgr.TriggerManual); plan.Total != 4 || plan.Closes() != 2 {
			t.Errorf("DryRun sees %d connections and closes %d, want 4 and 2", plan.Total, plan.Closes())
		}
		res := trim(t, m)
		if res.Total != 4 || len(res.Closed) != 2 || res.Closed[0].Peer != "unnoticed" || res.Closed[1].Peer != peerID(7) {
			t.Errorf("of %d connections closed %v, want of 4 the one not notified and %v", res.Total, res.Closed, peerID(7))
		}
	})
}

func TestAHostWithoutNotificationsIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost() // notifies nobody
		cfg := tight(5, 10)
		cfg.Host = host
		cfg.GracePeriod = 3 * time.Second
		m := newManager(t, cfg)
		connectMany(host, 30, connmgrtest.Outbound())
		advance(time.Minute)
		if host.Len() != 5 {
			t.Errorf("%d connections are open, want low water, 5", host.Len())
		}
		expectConns(t, m, 5, 0, 5, 0)
		if s := m.Stats(); s.Closing != 0 || s.Peers != 5 {
			t.Errorf("closing %d, peers %d; want 0 and 5: the host says that the others are gone", s.Closing, s.Peers)
		}
	})
}

func TestTheHostSaysSinceWhenAConnectionIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(0, 100)
		cfg.GracePeriod = time.Minute
		m, host := newHosted(t, cfg)
		advance(time.Hour)
		now := time.Now()
		for p, opened := range map[connmgr.NodeID]time.Time{
			"old":      now.Add(-time.Minute),
			"older":    now.Add(-24 * time.Hour), // than the manager
			"ancient":  time.Unix(0, 0),
			"young":    now.Add(-time.Minute + time.Second),
			"unknown":  {},
			"tomorrow": now.Add(24 * time.Hour),
		} {
			host.Connect(p, connmgrtest.LoseConnected(), connmgrtest.Opened(opened))
			host.Connect("notified "+p, connmgrtest.Opened(opened)) // dated by its notification
		}
		trim(t, m)
		for p, established := range map[connmgr.NodeID]bool{
			"old": true, "older": true, "ancient": true, "young": false, "unknown": false, "tomorrow": false,
		} {
			if host.Connected(p) == established {
				t.Errorf("%v: open %v, want the established ones closed and the others in grace", p, host.Connected(p))
			}
			if !host.Connected("notified " + p) {
				t.Errorf("notified %v was closed in its grace", p)
			}
		}
		advance(time.Minute)
		trim(t, m)
		if host.Len() != 0 {
			t.Errorf("%d connections are open after a minute, want none: %v", host.Len(), host.Connections())
		}
	})
}

// oddHost is a host that a test can make misbehave.
type oddHost struct {
	*connmgrtest.Host
	connections func([]connmgr.Conn) []connmgr.Conn
}

func (h *oddHost) Connections() []connmgr.Conn { return h.connections(h.Host.Connections()) }

func TestAConnectionNotifiedWhileTheHostIsAskedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &oddHost{Host: connmgrtest.NewHost()}
		cfg := tight(10, 20)
		cfg.Host = host
		m := newManager(t, cfg)
		host.Notify(m)
		host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
			advance(time.Millisecond)
			host.Connect("meanwhile")
			return append(conns, nil, nil) // and nils in the list do no harm
		}
		trim(t, m)
		if m.ConnCount() != 1 {
			t.Error("a connection notified after the host had listed its own was forgotten")
		}
	})
}

func TestConnectedAfterTheHostHasToldIsADuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, connmgr.Config{})
		c := host.Connect("p", connmgrtest.LoseConnected())
		advance(connmgr.DefaultSilencePeriod)
		m.Connected("p", c)
		expectConns(t, m, 1, 1, 0, 0)
		if s := m.Stats(); s.DuplicateConnects != 1 {
			t.Errorf("DuplicateConnects = %d, want 1", s.DuplicateConnects)
		}
	})
}

func TestAHostThatPanicsDoesNotStopTrims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		var broken atomic.Bool
		host := &oddHost{Host: connmgrtest.NewHost()}
		host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
			if broken.Load() {
				panic("boom")
			}
			return conns
		}
		cfg := tight(2, 100)
		cfg.Host = host
		cfg.Logger = book.logger()
		m := newManager(t, cfg)
		host.Notify(m)
		broken.Store(true)
		connectMany(host.Host, 9)
		for range 2 {
			if _, err := m.Trim(context.Background()); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Errorf("Trim = %v, want an error with the host's panic", err)
			}
		}
		if host.Len() != 2 {
			t.Errorf("%d connections are open, want 2: the notifications told enough", host.Len())
		}
		advance(time.Minute)
		if s := m.Stats(); s.Panics < 8 {
			t.Errorf("Stats.Panics = %d, want those of two trims and of six ticks", s.Panics)
		}
		book.expect(t, "after many panics and a trim", "level=ERROR boom", "level=INFO closed_peers=7")
		host.Connect("unnoticed", connmgrtest.LoseConnected())
		broken.Store(false)
		advance(connmgr.DefaultSilencePeriod)
		expectConns(t, m, 3, 3, 0, 0)
	})
}

// nasty is a connection of which the host tells, but which cannot be asked.
type nasty struct{ *connmgrtest.Conn }

func (nasty) RemotePeer() connmgr.NodeID { panic("boom") }

func TestABadConnectionOfTheHostDoesNotHideTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &oddHost{Host: connmgrtest.NewHost()}
		host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
			bad := connmgrtest.NewConn("bad")
			return append([]connmgr.Conn{nasty{bad}, rude{bad}, uncomparable{Conn: bad}}, conns...)
		}
		cfg := tight(2, 4)
		cfg.Host = host
		m := newManager(t, cfg)
		connectMany(host.Host, 9)
		advance(connmgr.DefaultSilencePeriod)
		if host.Len() != 2 {
			t.Errorf("%d connections are open, want 2: one that panics is no reason to forget the others", host.Len())
		}
		if s := m.Stats(); s.Panics < 3 {
			t.Errorf("Stats.Panics = %d, want each counted", s.Panics)
		}
	})
}

func TestAHostThatHangsHoldsUpNeitherContextsNorClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		host := &oddHost{Host: connmgrtest.NewHost()}
		host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
			<-release
			return conns
		}
		cfg := tight(2, 4)
		cfg.Host = host
		cfg.Logger = slog.New(slog.DiscardHandler)
		m, err := connmgr.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		host.Notify(m)
		host.Connect("p")
		m.TagPeer("p", "a", 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := begin(ctx, m.Trim)
		advance(5 * time.Second)
		select {
		case o := <-done:
			if !errors.Is(o.err, context.DeadlineExceeded) {
				t.Errorf("Trim = %v, want context.DeadlineExceeded", o.err)
			}
		default:
			t.Error("Trim has not returned 4 s after its context ended")
		}
		start := time.Now()
		if err := m.Close(); err == nil || time.Since(start) > 3*time.Second {
			t.Errorf("Close = %v after %v, want an error after a second or two", err, time.Since(start))
		}
		close(release)
	})
}

func TestTheHostClosesThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, tight(0, 100))
		refuse := errors.New("no way")
		host.Connect("two")
		host.Connect("two")
		host.Connect("bad", connmgrtest.FailOnClose(refuse))
		host.Connect("bad")
		host.Connect("worse", connmgrtest.PanicOnClose("boom"))
		res := trim(t, m)
		closed := make(map[connmgr.NodeID]int)
		for _, v := range res.Closed {
			closed[v.Peer] = v.Conns
		}
		if len(closed) != 2 || closed["two"] != 2 || closed["bad"] != 1 {
			t.Errorf("closed %v, want both of two, and of bad the one that lets itself be closed", closed)
		}
		if res.Failed == 0 {
			t.Error("Failed = 0, want the connections that the host could not close")
		}
		if m.ConnCount() != host.Len() {
			t.Errorf("%d connections are known, %d open; want the same: those that failed count as open", m.ConnCount(), host.Len())
		}
		for _, c := range append(host.Conns("bad"), host.Conns("worse")...) {
			c.SetOnClose(nil)
		}
		trim(t, m)
		if host.Len() != 0 || m.ConnCount() != 0 {
			t.Errorf("second try: %d open, %d known; want none", host.Len(), m.ConnCount())
		}
	})
}

func TestAHostThatHangsInCloseDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newHosted(t, tight(0, 100))
		connectMany(host, 40)
		hung := host.Connect("hangs", connmgrtest.HangOnClose())
		start := time.Now()
		res := trim(t, m)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the trim took %v, want about a second", took)
		}
		if host.Len() != 1 || res.Hanging != 1 || len(res.Closed) != 40 {
			t.Errorf("open %d, hanging %d, closed %d; want 1, 1, 40", host.Len(), res.Hanging, len(res.Closed))
		}
		hung.Release()
	})
}

func TestAfterCloseTheHostIsNotAskedAgain(t *testing.T) {
	host := &oddHost{Host: connmgrtest.NewHost()}
	asked := 0
	host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
		asked++
		return conns
	}
	m := newManager(t, connmgr.Config{Host: host, ManualStart: true})
	m.DryRun(connmgr.TriggerManual)
	closeManager(t, m)
	m.DryRun(connmgr.TriggerManual)
	m.TrimOpenConns(context.Background())
	if asked != 1 {
		t.Errorf("the host was asked %d times, want once, before Close", asked)
	}
}
