package connmgr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests notify the manager of connections, rightly and wrongly. A Host as
// the source of truth is in host_test.go.

func TestConnectionsAreCountedUntilTheyGo(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	in, out := connmgrtest.NewConn("p"), connmgrtest.NewConn("p", connmgrtest.Outbound())
	odd := connmgrtest.NewConn("q", connmgrtest.Direction(connmgr.Direction(77)))
	m.Connected("p", in)
	m.Connected("p", out)
	m.Connected("q", odd)
	expectConns(t, m, 3, 1, 1, 1)
	m.Disconnected("p", in)
	expectConns(t, m, 2, 0, 1, 1)
	m.Disconnected("p", out)
	expectConns(t, m, 1, 0, 0, 1)
	m.Disconnected("q", odd)
	expectConns(t, m, 0, 0, 0, 0)
	if _, known := m.PeerInfo("p"); known {
		t.Error("a peer without connections, tags and protections is known")
	}
}

func TestAPeerHasManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{})
		start := time.Now()
		var conns []*connmgrtest.Conn
		for i := range 6 {
			direction := connmgrtest.Inbound()
			if i == 3 {
				direction = connmgrtest.Outbound()
			}
			conns = append(conns, host.Connect("p", direction))
			advance(time.Second)
		}
		for _, gone := range []int{0, 4, 2, 5, 3, 1} {
			info, _ := m.PeerInfo("p")
			last := time.Time{}
			open := 0
			for _, c := range info.Conns {
				if !c.Conn.(*connmgrtest.Conn).Open() || c.Closing {
					t.Errorf("PeerInfo lists a connection that is gone, or as closing: %+v", c)
				}
				if c.Opened.Before(last) {
					t.Error("PeerInfo does not list the oldest connection first")
				}
				if want := c.Conn.Stat().Direction; c.Direction != want {
					t.Errorf("PeerInfo says %v of a connection that is %v", c.Direction, want)
				}
				last = c.Opened
				open++
			}
			if want := len(host.Conns("p")); open != want {
				t.Errorf("PeerInfo lists %d connections, want %d", open, want)
			}
			if !info.FirstSeen.Equal(start) {
				t.Errorf("FirstSeen moved to %v after the start, want the time of the first connection", info.FirstSeen.Sub(start))
			}
			conns[gone].Drop()
		}
		if s := m.Stats(); s.Peers != 0 || s.Conns != 0 {
			t.Errorf("%d peers and %d connections are left", s.Peers, s.Conns)
		}
	})
}

func TestAPeerThatComesBackIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 100)
		cfg.GracePeriod = time.Minute
		m, host := newNode(t, cfg)
		host.Connect("p")
		host.Connect("q")
		m.Protect("q", "x") // remembered meanwhile, but not connected
		advance(time.Hour)
		for _, p := range []connmgr.NodeID{"p", "q"} {
			host.Disconnect(p)
			advance(time.Second)
			host.Connect(p)
			if info, _ := m.PeerInfo(p); !info.FirstSeen.Equal(time.Now()) {
				t.Errorf("%v: FirstSeen is %v ago, want now", p, time.Since(info.FirstSeen))
			}
		}
		m.Unprotect("q", "x")
		if res := trim(t, m); len(res.Closed) != 0 || res.InGrace != 2 {
			t.Errorf("closed %d, in grace %d; want a peer that came back to have its grace again", len(res.Closed), res.InGrace)
		}
	})
}

func TestASecondConnectionHasNoGraceOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(0, 100)
		cfg.GracePeriod = time.Minute
		m, host := newNode(t, cfg)
		host.Connect("p")
		advance(time.Minute)
		host.Connect("p")
		if res := trim(t, m); res.Freed != 2 || host.Len() != 0 {
			t.Errorf("freed %d, want both connections of a peer that is established", res.Freed)
		}
	})
}

func TestWrongNotificationsAreIgnoredAndCounted(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	first, second := connmgrtest.NewConn("p"), connmgrtest.NewConn("p")
	for range 3 {
		m.Connected("p", first)
		m.Connected("p", second)
	}
	m.Connected("p", nil)
	m.Disconnected("p", nil)
	m.Disconnected("p", connmgrtest.NewConn("p"))
	m.Disconnected("stranger", connmgrtest.NewConn("stranger"))
	m.TagPeer("tagged", "a", 1)
	m.Disconnected("tagged", connmgrtest.NewConn("tagged"))
	expectConns(t, m, 2, 2, 0, 0)
	m.Disconnected("p", first)
	m.Disconnected("p", first)
	m.Disconnected("p", second)
	m.Disconnected("p", second)
	expectConns(t, m, 0, 0, 0, 0)
	expectSum(t, m, "tagged", 1)

	s := m.Stats()
	if s.DuplicateConnects != 4 || s.UnknownDisconnects != 5 || s.NilNotifications != 2 || s.LateNotifications != 0 {
		t.Errorf("duplicates %d, unknown %d, nil %d, late %d; want 4, 5, 2, 0",
			s.DuplicateConnects, s.UnknownDisconnects, s.NilNotifications, s.LateNotifications)
	}
	closeManager(t, m)
	m.Connected("p", first)
	m.Disconnected("p", first)
	m.Connected("p", nil)
	if s := m.Stats(); s.LateNotifications != 2 || s.NilNotifications != 3 || s.Conns != 0 {
		t.Errorf("after Close: late %d, nil %d, connections %d; want 2, 3, 0", s.LateNotifications, s.NilNotifications, s.Conns)
	}
}

func TestDisconnectedKnowsConnectionsApart(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	type value struct { // equal values are the same connection
		connmgr.Conn
		serial int
	}
	inner := connmgrtest.NewConn("p")
	m.Connected("p", value{inner, 1})
	m.Connected("p", value{inner, 2})
	m.Connected("p", value{inner, 2})
	expectConns(t, m, 2, 2, 0, 0)
	m.Disconnected("p", value{inner, 1})
	if info, _ := m.PeerInfo("p"); len(info.Conns) != 1 || info.Conns[0].Conn != (value{inner, 2}) {
		t.Errorf("left is %+v, want the second connection", info.Conns)
	}
}

// uncomparable is a connection that breaks the one rule for connections.
type uncomparable struct {
	*connmgrtest.Conn
	_ []int
}

// rude is a connection whose Stat panics.
type rude struct{ *connmgrtest.Conn }

func (rude) Stat() connmgr.ConnStat { panic("boom") }

func TestBadConnectionsPanicAtTheirCallerAndLeaveNoLock(t *testing.T) {
	m := newManager(t, connmgr.Config{})
	good := connmgrtest.NewConn("p")
	m.Connected("p", good)
	expectPanic(t, nil, func() { m.Connected("p", uncomparable{Conn: good}) })
	expectPanic(t, nil, func() { m.Disconnected("p", uncomparable{Conn: good}) })
	expectPanic(t, "boom", func() { m.Connected("p", rude{good}) })
	expectConns(t, m, 1, 1, 0, 0)
	m.TagPeer("p", "a", 1)
	m.Disconnected("p", good)
	expectConns(t, m, 0, 0, 0, 0)
}

// chatty is a connection that asks the manager while the manager asks it.
type chatty struct {
	*connmgrtest.Conn
	m *connmgr.Manager
}

func (c chatty) Stat() connmgr.ConnStat {
	c.m.UpsertTag("bystander", "asked", func(v int) int { return v + 1 })
	c.m.Stats()
	c.m.PeerInfo(c.RemotePeer())
	return c.Conn.Stat()
}

func (c chatty) CloseWithReason(r connmgr.Reason) error {
	c.m.TagPeer(c.RemotePeer(), "closed", 1)
	c.m.Disconnected(c.RemotePeer(), c)
	return c.Conn.CloseWithReason(r)
}

func TestConnectionsMayCallBack(t *testing.T) {
	cfg := tight(2, 100)
	cfg.ActiveBonus = 5
	m := newManager(t, cfg)
	for i := range 10 {
		m.Connected(peerID(i), chatty{connmgrtest.NewConn(peerID(i)), m})
	}
	if _, known := m.Explain(peerID(0), connmgr.TriggerManual); !known {
		t.Error("Explain does not know a connected peer")
	}
	trim(t, m)
	if s := m.Stats(); s.Conns != 2 || s.Closing != 0 {
		t.Errorf("connections %d, closing %d; want 2 and 0", s.Conns, s.Closing)
	}
}

func expectConns(t testing.TB, m *connmgr.Manager, conns, in, out, unknown int) {
	t.Helper()
	s := m.Stats()
	if s.Conns != conns || m.ConnCount() != conns || s.Inbound != in || s.Outbound != out || s.UnknownDirection != unknown {
		t.Errorf("connections: %d (ConnCount %d), in %d, out %d, unknown %d; want %d, in %d, out %d, unknown %d",
			s.Conns, m.ConnCount(), s.Inbound, s.Outbound, s.UnknownDirection, conns, in, out, unknown)
	}
}
