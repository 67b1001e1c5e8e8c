package connmgr_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests look at how victims are closed: each is checked again just before,
// and a connection that hangs, fails or panics does not spoil it for the others.

// The manager closes this many connections at once. Tests that want to act
// between the plan and the closing of a victim let as many hang first.
const closedAtOnce = 16

// heldTrim starts a trim to low water 1 of closedAtOnce established peers whose
// connections hang, and of all others, and lets the test act while those that
// hang hold the others up. Then it releases them and returns what the trim did.
func heldTrim(t *testing.T, m *connmgr.Manager, host *connmgrtest.Host, act func()) connmgr.TrimResult {
	t.Helper()
	var hung []*connmgrtest.Conn
	for i := range closedAtOnce {
		c := host.Connect(peerID(90_000+i), connmgrtest.HangOnClose())
		m.TagPeer(c.RemotePeer(), "first to go", -1_000_000)
		hung = append(hung, c)
	}
	advance(time.Hour)
	done := begin(context.Background(), m.Trim)
	for _, c := range hung {
		if c.CloseCalls() != 1 {
			t.Fatal("the test is wrong: somebody else than the connections that hang went first")
		}
	}
	act()
	for _, c := range hung {
		c.Release()
	}
	o := <-done
	if o.err != nil {
		t.Errorf("Trim: %v", o.err)
	}
	return o.res
}

func TestAVictimIsCheckedAgainJustBeforeItIsClosed(t *testing.T) {
	for what, tt := range map[string]struct {
		act    func(m *connmgr.Manager, host *connmgrtest.Host, victim *connmgrtest.Conn)
		spared bool
	}{
		"protected": {func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) { m.Protect(v.RemotePeer(), "x") }, true},
		"raised above the cut": {func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) {
			m.TagPeer(v.RemotePeer(), "a", 1000)
		}, true},
		"raised to the cut": {func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) {
			m.TagPeer(v.RemotePeer(), "a", 100)
		}, false},
		"raised, but still below those that stay": {func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) {
			m.TagPeer(v.RemotePeer(), "a", 50)
		}, false},
		"lowered": {func(m *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) {
			m.TagPeer(v.RemotePeer(), "a", -10)
		}, false},
		"busy now": {func(_ *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) { v.SetStreams(3) }, true},
		"gone":     {func(_ *connmgr.Manager, _ *connmgrtest.Host, v *connmgrtest.Conn) { v.Drop() }, true},
		"outbound as well": {func(_ *connmgr.Manager, host *connmgrtest.Host, v *connmgrtest.Conn) {
			host.Connect(v.RemotePeer(), connmgrtest.Outbound())
		}, true},
		"gone and back, and new again": {func(_ *connmgr.Manager, host *connmgrtest.Host, v *connmgrtest.Conn) {
			v.Drop()
			host.Connect(v.RemotePeer())
		}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := tight(1, 1000)
			cfg.GracePeriod = time.Minute
			cfg.ActiveBonus, cfg.OutboundBonus = 200, 200
			m, host := newNode(t, cfg)
			host.Connect("best")
			m.TagPeer("best", "a", 100)
			victim, other := host.Connect("victim"), host.Connect("other victim")
			m.TagPeer("other victim", "a", 10) // the last to go; the lowest that stays has 100
			res := heldTrim(t, m, host, func() { tt.act(m, host, victim) })
			if other.Open() || !host.Connected("best") {
				t.Errorf("%s: the other victim is open (%v) or the best peer was closed (%v)", what, other.Open(), !host.Connected("best"))
			}
			listed := slices.ContainsFunc(res.Closed, func(v connmgr.Verdict) bool { return v.Peer == "victim" })
			if want := map[bool]int{true: 1}[tt.spared]; listed == tt.spared || res.Spared != want {
				t.Errorf("%s: among the closed %v, Spared %d; want %v, %d", what, listed, res.Spared, !tt.spared, want)
			}
			if got := m.Stats().SparedPeers; got != uint64(res.Spared) {
				t.Errorf("%s: Stats has %d spared peers, the trim %d", what, got, res.Spared)
			}
			if reason, closed := victim.ClosedFor(); closed && (tt.spared || reason != connmgr.ClosedLowScore) {
				t.Errorf("%s: the connection was closed for %v", what, reason)
			}
		})
	}
}

func TestForceSparesOnlyThoseProtectedSinceThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 100))
		for i := range closedAtOnce {
			m.TagPeer(host.Connect(peerID(i), connmgrtest.OnClose(func(connmgr.Reason) error {
				<-time.After(time.Second / 2)
				return nil
			})).RemotePeer(), "a", -1)
		}
		early, late := host.Connect("protected early"), host.Connect("protected late")
		m.Protect("protected early", "x")
		done := begin(context.Background(), m.ForceTrim)
		m.Protect("protected late", "x")
		o := <-done
		if early.Open() || !late.Open() || o.res.Spared != 1 {
			t.Errorf("protected before the plan: open %v; since: open %v; spared %d; want false, true, 1", early.Open(), late.Open(), o.res.Spared)
		}
	})
}

func TestAConnectionThatHangsDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		var hung []*connmgrtest.Conn
		for _, p := range []connmgr.NodeID{"hangs", "two, one hangs"} {
			hung = append(hung, host.Connect(p, connmgrtest.HangOnClose()))
		}
		sibling := host.Connect("two, one hangs")
		connectMany(host, 200)
		done := begin(context.Background(), m.Trim)
		if host.Len() != 2 || sibling.Open() {
			t.Errorf("%d connections are open while 2 hang, want all others closed at once", host.Len())
		}
		o := <-done
		if o.took > 3*time.Second/2 {
			t.Errorf("the trim took %v, want not much more than a second", o.took)
		}
		if o.err != nil || o.res.Hanging != 2 || len(o.res.Closed) != 200 {
			t.Errorf("hanging %d, closed %d, err %v; want 2, 200, nil", o.res.Hanging, len(o.res.Closed), o.err)
		}
		if s := m.Stats(); s.HangingPeers != 2 || s.Conns != 0 || s.Closing != 2 {
			t.Errorf("hanging %d, connections %d, closing %d; want 2, 0, 2: what is being closed does not count", s.HangingPeers, s.Conns, s.Closing)
		}

		advance(time.Hour)
		connectMany(host, 5)
		for range 3 {
			if o := <-begin(context.Background(), m.Trim); o.took != 0 {
				t.Errorf("a later trim took %v, want it not to be delayed by what hangs", o.took)
			}
		}
		for _, c := range hung {
			if c.CloseCalls() != 1 {
				t.Errorf("a connection that hangs was closed %d times", c.CloseCalls())
			}
			c.Release()
		}
		synctest.Wait()
		if s := m.Stats(); s.HangingPeers != 0 || s.Closing != 0 || host.Len() != 0 {
			t.Errorf("after release: hanging %d, closing %d, open %d; want none", s.HangingPeers, s.Closing, host.Len())
		}
	})
}

func TestManyThatHangDelayTheOthersByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		hung := connectMany(host, closedAtOnce, connmgrtest.HangOnClose())
		for i := range hung {
			m.TagPeer(peerID(i), "first to go", -1)
		}
		for i := range 50 {
			host.Connect(peerID(1000 + i))
		}
		done := begin(context.Background(), m.Trim)
		advance(3 * time.Second / 2)
		if host.Len() != closedAtOnce {
			t.Errorf("%d connections are open after 1.5 s, want only those that hang, %d", host.Len(), closedAtOnce)
		}
		if o := <-done; o.took > 3*time.Second || o.res.Hanging != closedAtOnce || len(o.res.Closed) != 50 {
			t.Errorf("the trim took %v, hanging %d, closed %d; want at most 3 s, %d, 50", o.took, o.res.Hanging, len(o.res.Closed), closedAtOnce)
		}
		for _, c := range hung {
			c.Release()
		}
	})
}

func TestAHundredThatHangDoNotHoldUpATrimForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		hung := connectMany(host, 100, connmgrtest.HangOnClose())
		if o := <-begin(context.Background(), m.Trim); o.took > 3*time.Second || o.res.Hanging != 100 {
			t.Errorf("the trim took %v, hanging %d; want at most 3 s, and 100", o.took, o.res.Hanging)
		}
		for _, c := range hung {
			c.Release()
		}
	})
}

func TestAConnectionThatClosesLateIsToldAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 1000))
		c := host.Connect("late", connmgrtest.HangOnClose())
		sub := m.Subscribe(10)
		trim(t, m)
		if got, want := tell(sub), "manual trim of 0"; got != want || len(m.Stats().ClosedPeers) != 0 {
			t.Errorf("while it hangs: told %q, closed %v; want %q and none", got, m.Stats().ClosedPeers, want)
		}
		c.Release()
		synctest.Wait()
		want := "-late, closed late for low score by manual rank 1"
		if got := tell(sub); got != want || m.Stats().ClosedPeers[connmgr.ClosedLowScore] != 1 {
			t.Errorf("when it has closed: told %q, closed %v; want %q and one", got, m.Stats().ClosedPeers, want)
		}
	})
}

func TestTheManagerWorksWhileAConnectionHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(0, 1000)
		cfg.ActiveBonus = 100
		m, host := newNode(t, cfg)
		c := host.Connect("p", connmgrtest.HangOnClose())
		begin(context.Background(), m.Trim)
		m.TagPeer("p", "a", 1)
		m.Protect("p", "x")
		if info, _ := m.PeerInfo("p"); len(info.Conns) != 1 || !info.Conns[0].Closing {
			t.Errorf("PeerInfo = %+v, want a connection that is being closed", info)
		}
		c.SetStreams(5)
		second, third := host.Connect("p"), host.Connect("p")
		expectConns(t, m, 2, 3, 0, 0)
		e, known := m.Explain("p", connmgr.TriggerManual)
		if want := (connmgr.Verdict{Peer: "p", Reason: connmgr.KeptProtected, Score: 1, Conns: 2}); !known || e.Verdict != want {
			t.Errorf("Explain = %+v, %v; want %+v: what is being closed does not count, nor do its streams", e.Verdict, known, want)
		}
		third.Drop()
		second.Drop()
		c.Drop() // its Close hangs all the same
		expectConns(t, m, 0, 0, 0, 0)
		c.Release()
		synctest.Wait()
		if s := m.Stats(); s.Closing != 0 || s.HangingPeers != 0 || s.ProtectedPeers != 1 {
			t.Errorf("closing %d, hanging %d, protected %d; want 0, 0, 1", s.Closing, s.HangingPeers, s.ProtectedPeers)
		}
	})
}

func TestFailuresAreCountedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 100))
		bad := []*connmgrtest.Conn{
			host.Connect("fails", connmgrtest.FailOnClose(errors.New("no way"))),
			host.Connect("fails in part", connmgrtest.FailOnClose(errors.New("no way"))),
			host.Connect("panics", connmgrtest.PanicOnClose("boom")),
		}
		host.Connect("fails in part")
		res := trim(t, m)
		if res.Failed != 3 || !slices.Equal(closedPeers(res), []connmgr.NodeID{"fails in part"}) || res.Closed[0].Conns != 1 {
			t.Errorf("failed %d, closed %+v; want 3, and the one connection that would go", res.Failed, res.Closed)
		}
		if s := m.Stats(); s.CloseErrors != 3 || s.Conns != 3 || s.Closing != 0 {
			t.Errorf("errors %d, connections %d, closing %d; want 3, 3, 0: those that failed count as open", s.CloseErrors, s.Conns, s.Closing)
		}
		for _, c := range bad {
			c.SetOnClose(nil)
		}
		trim(t, m)
		if host.Len() != 0 {
			t.Errorf("%d connections are open, want none: the next trim tries those that failed again", host.Len())
		}
	})
}

func TestWhatIsBeingClosedIsNotClosedTwiceNorCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(4, 8))
		conns := connectMany(host, 8, connmgrtest.LoseDisconnected()) // closed, but nobody says so
		trim(t, m)
		if m.ConnCount() != 4 || m.Stats().Closing != 4 {
			t.Errorf("connections %d, closing %d; want 4 and 4", m.ConnCount(), m.Stats().Closing)
		}
		for i := range 4 {
			host.Connect(peerID(100 + i))
		}
		advance(time.Second)
		if res := trim(t, m); res.Total != 8 || res.Freed != 4 {
			t.Errorf("total %d, freed %d; want 8 and 4: those closed before do not count", res.Total, res.Freed)
		}
		for _, c := range conns {
			if c.CloseCalls() > 1 {
				t.Errorf("%v was closed %d times", c.RemotePeer(), c.CloseCalls())
			}
		}
	})
}

// A host that takes a Close without error, but keeps the connection, is asked
// again after half a minute.
func TestAConnectionThatIsNeverReportedAsGoneCountsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, tight(1, 5))
		var stubborn []*ignoring
		for i := range 6 {
			c := &ignoring{NodeID: peerID(i)}
			stubborn = append(stubborn, c)
			m.Connected(peerID(i), c)
		}
		synctest.Wait()
		if m.ConnCount() != 1 {
			t.Fatalf("%d connections count after the first trim, want 1", m.ConnCount())
		}
		advance(time.Minute)
		asked := 0
		for _, c := range stubborn {
			asked += c.closes
		}
		if asked <= 5 {
			t.Errorf("after a minute the connections have been closed %d times in all, want them tried again", asked)
		}
		for _, c := range stubborn {
			m.Disconnected(c.NodeID, c)
		}
		if s := m.Stats(); s.Conns != 0 || s.Closing != 0 || m.ConnCount() != 0 {
			t.Errorf("after all are gone: connections %d (%d), closing %d; want none", s.Conns, m.ConnCount(), s.Closing)
		}
	})
}

// ignoring is a connection that takes no notice of being closed.
type ignoring struct {
	connmgr.NodeID
	closes int
}

func (c *ignoring) RemotePeer() connmgr.NodeID           { return c.NodeID }
func (c *ignoring) Stat() connmgr.ConnStat               { return connmgr.ConnStat{} }
func (c *ignoring) CloseWithReason(connmgr.Reason) error { c.closes++; return nil }
