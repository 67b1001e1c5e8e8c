package connmgr_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests put bad connections among those of the host, one kind at a time,
// and mix kinds of faults. A fault costs what it spoils and nothing else, and the
// log says once for each kind that it happened.

// anonymous is a connection that cannot say who is at the other end.
type anonymous struct{ *connmgrtest.Conn }

func (anonymous) RemotePeer() connmgr.NodeID { panic("boom") }

func TestEachKindOfBadConnectionSpoilsNothingButItself(t *testing.T) {
	for what, bad := range map[string]connmgr.Conn{
		"a typed nil":               (*connmgrtest.Conn)(nil),
		"a RemotePeer that panics":  anonymous{connmgrtest.NewConn("bad")},
		"a Stat that panics":        rude{connmgrtest.NewConn("bad")},
		"a type without comparison": uncomparable{Conn: connmgrtest.NewConn("bad")},
	} {
		synctest.Test(t, func(t *testing.T) {
			var book logBook
			host := &oddHost{Host: connmgrtest.NewHost()}
			place := 0
			host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
				return slices.Insert(conns, place*len(conns)/2, bad)
			}
			cfg := tight(2, 4)
			cfg.Host, cfg.Logger = host, book.logger()
			m := newManager(t, cfg)
			sub := m.Subscribe(1000)
			for round := range 3 { // at the beginning, in the middle, at the end
				place = round
				for i := range 5 - host.Len() {
					host.Connect(peerID(10*round+i), connmgrtest.LoseDisconnected())
				}
				advance(connmgr.DefaultSilencePeriod)
				if host.Len() != 2 {
					t.Errorf("%s, place %d: %d connections are open, want low water, 2", what, round, host.Len())
				}
			}
			host.Disconnect(host.Connections()[0].RemotePeer())
			advance(connmgr.DefaultSilencePeriod)
			if host.Len() != 1 || m.ConnCount() != 1 || m.Stats().Closing != 0 {
				t.Errorf("%s: %d connections are open, %d known and %d closing; want 1, 1, 0: those gone are forgotten, the bad one is not counted",
					what, host.Len(), m.ConnCount(), m.Stats().Closing)
			}
			if plan := m.DryRun(connmgr.TriggerManual); plan.Total != 1 {
				t.Errorf("%s: DryRun sees %d connections, want 1", what, plan.Total)
			}
			for _, e := range closedEvents(sub) {
				if e.Peer == "bad" || e.Peer == "" {
					t.Errorf("%s: told that %q was closed, though nobody could", what, e.Peer)
				}
			}
			book.expect(t, what+": in all", "level=ERROR connection", "level=INFO closed_peers=3", "level=INFO closed_peers=3", "level=INFO closed_peers=3")
		})
	}
}

// A type can be comparable and a value of it not, if a field is an interface.
type wrapping struct{ connmgr.Conn }

func TestAConnectionThatHidesOneWithoutComparisonIsNeverTakenIn(t *testing.T) {
	bad := wrapping{uncomparable{Conn: connmgrtest.NewConn("p")}}
	m := newManager(t, tight(0, 100))
	expectPanic(t, nil, func() { m.Connected("p", bad) })
	expectConns(t, m, 0, 0, 0, 0)

	host := &oddHost{Host: connmgrtest.NewHost()}
	host.connections = func(conns []connmgr.Conn) []connmgr.Conn { return append(conns, bad) }
	cfg := tight(0, 100)
	cfg.Host = host
	m = newManager(t, cfg)
	connectMany(host.Host, 3)
	if res := trim(t, m); len(res.Closed) != 3 {
		t.Errorf("closed %v, want the three that are in order", closedPeers(res))
	}
}

// A connection that works when it is first seen and not later is still there.
func TestAConnectionThatGoesBadIsKnownOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		angry := new(atomic.Bool)
		c := moody{connmgrtest.NewConn("moody"), angry}
		host := &oddHost{Host: connmgrtest.NewHost()}
		host.connections = func(conns []connmgr.Conn) []connmgr.Conn { return append(conns, c) }
		m := newManager(t, connmgr.Config{Host: host})
		m.Connected("moody", c)
		m.TagPeer("moody", "a", 1)
		angry.Store(true)
		advance(time.Hour)
		expectConns(t, m, 1, 1, 0, 0)
		if s := m.Stats(); s.Panics != 0 {
			t.Errorf("%d panics: want a connection that is known not to be asked anew on every tick", s.Panics)
		}
	})
}

func TestOneKindOfFaultDoesNotSilenceAnother(t *testing.T) {
	type node struct {
		m    *connmgr.Manager
		host *connmgrtest.Host
		bad  atomic.Bool // the host lists a connection that panics
		mad  atomic.Bool // the host panics
	}
	faults := []struct {
		what string
		do   func(t *testing.T, n *node)
		logs []string
	}{
		{"a Stat that panics", func(t *testing.T, n *node) {
			n.bad.Store(true)
			trim(t, n.m)
		}, []string{"level=ERROR connection boom"}},
		{"a host that panics", func(t *testing.T, n *node) {
			n.mad.Store(true)
			if _, err := n.m.Trim(context.Background()); err == nil || !strings.Contains(err.Error(), "no answer") {
				t.Errorf("Trim = %v, want an error with the host's panic", err)
			}
		}, []string{"level=ERROR host no answer"}},
		{"a connection that would not close", func(t *testing.T, n *node) {
			n.host.Connect("stays", connmgrtest.FailOnClose(errors.New("no way")))
			trim(t, n.m)
			n.host.Disconnect("stays")
			trim(t, n.m) // without trouble, so that the next one is news
		}, []string{"level=WARN no way", "level=INFO failed=1"}},
		{"a decay function that panics", func(*testing.T, *node) {
			advance(time.Minute)
		}, []string{"level=ERROR decay sulks"}},
	}
	for first := range faults {
		synctest.Test(t, func(t *testing.T) {
			var book logBook
			n := new(node)
			host := &oddHost{Host: connmgrtest.NewHost()}
			host.connections = func(conns []connmgr.Conn) []connmgr.Conn {
				if n.mad.Load() {
					panic("no answer")
				}
				if n.bad.Load() {
					return append(conns, rude{connmgrtest.NewConn("rude")})
				}
				return conns
			}
			cfg := tight(0, 1000)
			cfg.Host, cfg.Logger = host, book.logger()
			n.m, n.host = newManager(t, cfg), host.Host
			n.host.Notify(n.m)
			tag := register(t, n.m, "decays", time.Minute, func(connmgr.DecayingValue) (int, bool) { panic("sulks") })
			for round := range 2 {
				for i := range faults {
					f := faults[(first+i)%len(faults)]
					if strings.Contains(f.what, "decay") {
						bump(t, tag, "p", 1)
					}
					f.do(t, n)
					n.bad.Store(false)
					n.mad.Store(false)
					_ = tag.Remove("p")
					want := f.logs
					if round > 0 {
						want = want[1:] // a trim's own line is no fault
					}
					book.expect(t, "after "+f.what+" (begun with "+faults[first].what+")", want...)
				}
			}
		})
	}
}

func TestADryRunSurvivesAHostThatPanics(t *testing.T) {
	host := &oddHost{Host: connmgrtest.NewHost()}
	host.connections = func(conns []connmgr.Conn) []connmgr.Conn { return conns }
	cfg := tight(2, 4)
	cfg.Host = host
	m := newManager(t, cfg)
	host.Connect("known")
	m.DryRun(connmgr.TriggerManual) // learns of it
	host.connections = func([]connmgr.Conn) []connmgr.Conn { panic("boom") }
	plan := m.DryRun(connmgr.TriggerManual)
	if _, known := m.Explain("known", connmgr.TriggerManual); plan.Total != 1 || !known || m.Stats().Panics != 2 {
		t.Errorf("%d connections in the plan, known %v, %d panics counted; want what was known before, 1, true, 2", plan.Total, known, m.Stats().Panics)
	}
}
