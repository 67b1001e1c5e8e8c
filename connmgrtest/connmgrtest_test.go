package connmgrtest_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests check that the fake host does what its comments say, since tests
// of other things rely on it.

// diary is a notifiee that writes down what it is told.
type diary struct {
	mu      sync.Mutex
	entries []string
	then    func(connmgr.Conn) // called at Connected, if not nil
}

func (d *diary) write(what string, peer connmgr.NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, what+string(peer))
}

func (d *diary) Connected(peer connmgr.NodeID, c connmgr.Conn) {
	d.write("+", peer)
	if d.then != nil {
		d.then(c)
	}
}

func (d *diary) Disconnected(peer connmgr.NodeID, _ connmgr.Conn) { d.write("-", peer) }

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.entries, want) {
		t.Errorf("the notifiee was told %v, want %v", d.entries, want)
	}
}

func expectPeers(t *testing.T, h *connmgrtest.Host, want ...connmgr.NodeID) {
	t.Helper()
	var got []connmgr.NodeID
	for _, c := range h.Connections() {
		got = append(got, c.RemotePeer())
	}
	if !slices.Equal(got, want) {
		t.Errorf("Connections() has %v, want %v", got, want)
	}
	if h.Len() != len(want) {
		t.Errorf("Len() = %d, want %d", h.Len(), len(want))
	}
}

func TestConnectionsAreListedInTheOrderTheyWereOpened(t *testing.T) {
	h := connmgrtest.NewHost()
	h.Connect("c")
	first := h.Connect("a")
	h.Connect("b")
	second := h.Connect("a")
	expectPeers(t, h, "c", "a", "b", "a")
	if got := h.Conns("a"); !slices.Equal(got, []*connmgrtest.Conn{first, second}) {
		t.Errorf("Conns(a) = %v, want the two connections of a, the first opened first", got)
	}
	if !h.Connected("a") || h.Connected("nobody") {
		t.Errorf("Connected: a %v, nobody %v; want true, false", h.Connected("a"), h.Connected("nobody"))
	}
	if n := h.Disconnect("a"); n != 2 {
		t.Errorf("Disconnect(a) = %d, want 2", n)
	}
	expectPeers(t, h, "c", "b")
}

func TestOrderSurvivesManyDepartures(t *testing.T) {
	h := connmgrtest.NewHost()
	var want []connmgr.NodeID
	for i := range 1000 {
		id := connmgr.NodeID(fmt.Sprint(i))
		c := h.Connect(id)
		if i%10 == 7 {
			want = append(want, id)
		} else if i%2 == 0 {
			c.Drop()
		}
	}
	for i := range 1000 {
		if i%10 != 7 {
			h.Disconnect(connmgr.NodeID(fmt.Sprint(i)))
		}
	}
	expectPeers(t, h, want...)
}

func TestStatSaysWhatTheOptionsSaid(t *testing.T) {
	opened := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	h := connmgrtest.NewHost()
	for _, tt := range []struct {
		conn *connmgrtest.Conn
		want connmgr.ConnStat
	}{
		{h.Connect("p"), connmgr.ConnStat{Direction: connmgr.DirInbound}},
		{connmgrtest.NewConn("p"), connmgr.ConnStat{Direction: connmgr.DirInbound}},
		{h.Connect("p", connmgrtest.Outbound(), connmgrtest.Inbound()), connmgr.ConnStat{Direction: connmgr.DirInbound}},
		{h.Connect("p", connmgrtest.Outbound(), connmgrtest.Streams(3)), connmgr.ConnStat{Direction: connmgr.DirOutbound, Streams: 3}},
		{h.Connect("p", connmgrtest.Direction(connmgr.DirUnknown), connmgrtest.Opened(opened)), connmgr.ConnStat{Opened: opened}},
	} {
		if got := tt.conn.Stat(); got != tt.want {
			t.Errorf("Stat() = %+v, want %+v", got, tt.want)
		}
		tt.conn.SetStreams(9)
		if got := tt.conn.Stat().Streams; got != 9 {
			t.Errorf("Streams after SetStreams(9) = %d", got)
		}
		if got := tt.conn.StatCalls(); got != 2 {
			t.Errorf("StatCalls() = %d, want 2", got)
		}
	}
}

func TestClosingIsRecordedAndTold(t *testing.T) {
	h, d := connmgrtest.NewHost(), new(diary)
	h.Notify(d)
	a, b := h.Connect("a"), h.Connect("b")
	if _, closed := a.ClosedFor(); closed || !a.Open() {
		t.Error("a connection is closed before anybody closed it")
	}
	for range 2 {
		if err := a.CloseWithReason(connmgr.ClosedLowScore); err != nil {
			t.Errorf("CloseWithReason: %v", err)
		}
	}
	b.Drop()
	b.Drop()
	if err := b.CloseWithReason(connmgr.ClosedForced); err != nil {
		t.Errorf("closing a connection that is gone: %v", err)
	}
	if reason, closed := a.ClosedFor(); !closed || reason != connmgr.ClosedLowScore || a.Open() || a.CloseCalls() != 2 {
		t.Errorf("a: reason %v, closed %v, open %v, %d calls; want low score, true, false, 2", reason, closed, a.Open(), a.CloseCalls())
	}
	if _, closed := b.ClosedFor(); closed || b.Open() {
		t.Error("a connection that was dropped counts as closed with a reason, or as open")
	}
	if want := []connmgrtest.Closing{{Peer: "a", Conn: a, Reason: connmgr.ClosedLowScore}}; !slices.Equal(h.Closed(), want) {
		t.Errorf("Closed() = %v, want %v", h.Closed(), want)
	}
	d.expect(t, "+a", "+b", "-a", "-b")
}

func TestHostClosesAllConnectionsOfAPeer(t *testing.T) {
	h := connmgrtest.NewHost()
	no := errors.New("no")
	first := h.Connect("a")
	h.Connect("a", connmgrtest.FailOnClose(no))
	last := h.Connect("a")
	h.Connect("b")
	if err := h.CloseConnection("a", connmgr.ClosedForced); !errors.Is(err, no) {
		t.Errorf("CloseConnection = %v, want the error of the connection that failed", err)
	}
	if first.Open() || last.Open() {
		t.Error("a connection stayed open since another one of the peer failed")
	}
	expectPeers(t, h, "a", "b")
	if err := h.CloseConnection("nobody", connmgr.ClosedForced); err != nil {
		t.Errorf("CloseConnection of a peer without connections: %v", err)
	}
}

func TestFailuresLeaveTheConnectionOpen(t *testing.T) {
	h, d := connmgrtest.NewHost(), new(diary)
	h.Notify(d)
	panics := h.Connect("p", connmgrtest.PanicOnClose("boom"))
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("CloseWithReason panicked with %v, want boom", p)
			}
		}()
		_ = panics.CloseWithReason(connmgr.ClosedForced)
	}()
	if !panics.Open() || len(h.Closed()) != 0 {
		t.Error("a connection whose Close panicked is not open any more")
	}
	d.expect(t, "+p")
	panics.SetOnClose(nil)
	if err := panics.CloseWithReason(connmgr.ClosedForced); err != nil || panics.Open() {
		t.Errorf("after SetOnClose(nil): err %v, open %v; want nil, false", err, panics.Open())
	}
	d.expect(t, "+p", "-p")
}

func TestHookSeesTheReasonAndMayCallBack(t *testing.T) {
	h := connmgrtest.NewHost()
	var reason connmgr.Reason
	var c *connmgrtest.Conn
	c = h.Connect("p", connmgrtest.OnClose(func(r connmgr.Reason) error {
		reason = r
		h.Connect("q")
		c.Drop()
		return nil
	}))
	if err := c.CloseWithReason(connmgr.ClosedHardLimit); err != nil {
		t.Fatal(err)
	}
	if reason != connmgr.ClosedHardLimit {
		t.Errorf("the hook got %v, want %v", reason, connmgr.ClosedHardLimit)
	}
	if len(h.Closed()) != 0 {
		t.Error("a connection that was dropped by its hook counts as closed with a reason")
	}
	expectPeers(t, h, "q")
}

func TestCloseHangsUntilReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := connmgrtest.NewHost()
		c := h.Connect("p", connmgrtest.HangOnClose())
		returned := false
		go func() {
			_ = c.CloseWithReason(connmgr.ClosedForced)
			returned = true
		}()
		<-time.After(time.Hour)
		if returned || !c.Open() || c.CloseCalls() != 1 {
			t.Fatalf("returned %v, open %v, %d calls; want false, true, 1", returned, c.Open(), c.CloseCalls())
		}
		c.Release()
		c.Release()
		synctest.Wait()
		if !returned || c.Open() {
			t.Errorf("after Release: returned %v, open %v; want true, false", returned, c.Open())
		}
		again := h.Connect("p", connmgrtest.HangOnClose())
		again.Release()
		if err := again.CloseWithReason(connmgr.ClosedForced); err != nil || again.Open() {
			t.Errorf("released before Close: err %v, open %v; want nil, false", err, again.Open())
		}
	})
}

func TestLostNotifications(t *testing.T) {
	h, d := connmgrtest.NewHost(), new(diary)
	early := h.Connect("early")
	h.Notify(d)
	h.Connect("a", connmgrtest.LoseConnected()).Drop()
	h.Connect("b", connmgrtest.LoseDisconnected()).Drop()
	h.Connect("c", connmgrtest.LoseConnected(), connmgrtest.LoseDisconnected()).Drop()
	early.Drop()
	d.expect(t, "-a", "+b", "-early")
}

func TestDisconnectedNeverComesBeforeConnectedHasReturned(t *testing.T) {
	h, first, second := connmgrtest.NewHost(), new(diary), new(diary)
	first.then = func(c connmgr.Conn) {
		_ = c.CloseWithReason(connmgr.ClosedForced)
		first.write("returning ", "")
	}
	h.Notify(first)
	h.Notify(second)
	h.Connect("p")
	first.expect(t, "+p", "returning ", "-p")
	second.expect(t, "+p", "-p")
	expectPeers(t, h)
}

func TestConnWithoutHost(t *testing.T) {
	c := connmgrtest.NewConn("p")
	if err := c.CloseWithReason(connmgr.ClosedForced); err != nil || c.Open() {
		t.Errorf("err %v, open %v; want nil, false", err, c.Open())
	}
	connmgrtest.NewConn("q").Drop()
}

func TestHostInManyHandsAtOnce(t *testing.T) {
	h := connmgrtest.NewHost()
	m, err := connmgr.New(connmgr.Config{Host: h, ManualStart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h.Notify(m)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 200 {
				id := connmgr.NodeID(fmt.Sprint(g, i%5))
				c := h.Connect(id, connmgrtest.Streams(i))
				switch i % 4 {
				case 0:
					c.Drop()
				case 1:
					_ = h.CloseConnection(id, connmgr.ClosedForced)
				case 2:
					h.Notify(new(diary))
				}
				_, _ = h.Connections(), h.Closed()
			}
		})
	}
	all.Wait()
	for _, c := range h.Connections() {
		c.(*connmgrtest.Conn).Drop()
	}
	expectPeers(t, h)
	if s := m.Stats(); s.Conns != 0 || s.Peers != 0 {
		t.Errorf("after all are gone, the manager knows %d connections of %d peers, want none", s.Conns, s.Peers)
	}
}
