package connmgr_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests ask for trims: what they close and report, who joins whom, and
// when a context ends. Trims that nobody asks for are in background_test.go,
// and how victims are closed in closer_test.go.

func TestATrimClosesTheLowestRankedDownToLowWater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(6, 100))
		connectMany(host, 10)
		tagMany(m, 10)
		start := time.Now()
		res := trim(t, m)
		if got, want := closedPeers(res), []connmgr.NodeID{peerID(0), peerID(1), peerID(2), peerID(3)}; !slices.Equal(got, want) {
			t.Errorf("closed %v, want %v", got, want)
		}
		for i, v := range res.Closed {
			if want := (connmgr.Verdict{Peer: peerID(i), Reason: connmgr.ClosedLowScore, Score: i, Rank: i + 1, Conns: 1}); v != want {
				t.Errorf("verdict %d is %+v, want %+v", i, v, want)
			}
		}
		want := connmgr.Figures{Total: 10, Counted: 10, Target: 4, Freed: 4}
		if res.Figures != want || res.Trigger != connmgr.TriggerManual || !res.Started.Equal(start) {
			t.Errorf("figures %+v, trigger %v, started %v; want %+v, manual, %v", res.Figures, res.Trigger, res.Started, want, start)
		}
		if reason, closed := host.Closed()[0].Conn.ClosedFor(); !closed || reason != connmgr.ClosedLowScore {
			t.Errorf("the connection was told %v, want %v", reason, connmgr.ClosedLowScore)
		}
	})
}

func TestATrimWithNothingToDo(t *testing.T) {
	m, host := newNode(t, tight(6, 100))
	for _, n := range []int{0, 6} {
		for i := range n {
			host.Connect(peerID(i))
		}
		if res := trim(t, m); len(res.Closed) != 0 || res.Total != n || host.Len() != n {
			t.Errorf("of %d connections a trim to 6 closed %v", n, closedPeers(res))
		}
	}
}

func TestLiveConnectionsDecideBetweenPeersOfOneTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, connmgr.Config{LowWater: connmgr.Zero, HighWater: 100, GracePeriod: connmgr.Zero})
		host.Connect("outbound and busy", connmgrtest.Outbound(), connmgrtest.Streams(1))
		host.Connect("busy", connmgrtest.Streams(1))
		host.Connect("outbound", connmgrtest.Outbound())
		host.Connect("old")
		advance(time.Second)
		host.Connect("young")
		host.Connect("disliked", connmgrtest.Outbound(), connmgrtest.Streams(9))
		m.TagPeer("disliked", "bad", -1000)
		want := []connmgr.NodeID{"disliked", "young", "old", "outbound", "busy", "outbound and busy"}
		if got := closedPeers(trim(t, m)); !slices.Equal(got, want) {
			t.Errorf("they went in the order %q, want %q", got, want)
		}
	})
}

func TestOddNumbersOfStreams(t *testing.T) {
	m, host := newNode(t, connmgr.Config{LowWater: connmgr.Zero, HighWater: 10_000, GracePeriod: connmgr.Zero})
	host.Connect("one", connmgrtest.Streams(1))
	host.Connect("many", connmgrtest.Streams(1<<20))
	for range 2500 { // together more than fits 32 bits
		host.Connect("most", connmgrtest.Streams(1<<20))
	}
	host.Connect("negative", connmgrtest.Streams(-5))
	want := []connmgr.NodeID{"negative", "one", "many", "most"}
	if got := closedPeers(trim(t, m)); !slices.Equal(got, want) {
		t.Errorf("they went in the order %q, want %q", got, want)
	}
	for _, streams := range [][2]int{{math.MaxInt, math.MaxInt}, {3, -5}, {3, math.MinInt}} {
		host.Connect("odd", connmgrtest.Streams(streams[0]))
		host.Connect("odd", connmgrtest.Streams(streams[1]))
		if e, _ := m.Explain("odd", connmgr.TriggerManual); e.ActiveBonus != connmgr.DefaultActiveBonus {
			t.Errorf("two connections with %d streams earn a bonus of %d, want one that is busy to suffice", streams, e.ActiveBonus)
		}
		host.Disconnect("odd")
	}
}

func TestClosingAPeerClosesAllItsConnections(t *testing.T) {
	m, host := newNode(t, tight(3, 100))
	for range 4 {
		host.Connect("many")
	}
	host.Connect("one")
	m.TagPeer("one", "a", 1)
	res := trim(t, m)
	if host.Len() != 1 || res.Freed != 4 || len(res.Closed) != 1 || res.Closed[0].Conns != 4 {
		t.Errorf("%d connections are left, freed %d, closed %+v; want all 4 of one peer closed", host.Len(), res.Freed, res.Closed)
	}
}

func TestForceTrimMindsNeitherGraceNorAtLastProtection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(2, 100)
		cfg.GracePeriod = time.Hour
		m, host := newNode(t, cfg)
		connectMany(host, 6)
		tagMany(m, 6)
		for i := range 4 {
			m.Protect(peerID(i), "x")
		}
		if res := trim(t, m); len(res.Closed) != 0 {
			t.Errorf("a normal trim closed %v", closedPeers(res))
		}
		res, err := m.ForceTrim(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		want := []connmgr.NodeID{peerID(4), peerID(5), peerID(0), peerID(1)} // unprotected first
		if !slices.Equal(closedPeers(res), want) || host.Len() != 2 {
			t.Errorf("closed %v and left %d, want %v and 2", closedPeers(res), host.Len(), want)
		}
		for i, reason := range []connmgr.Reason{connmgr.ClosedForced, connmgr.ClosedForced, connmgr.ClosedForcedProtected, connmgr.ClosedForcedProtected} {
			if res.Closed[i].Reason != reason {
				t.Errorf("%v was closed for %v, want %v", res.Closed[i].Peer, res.Closed[i].Reason, reason)
			}
		}
		if !m.IsProtected(peerID(0), "x") {
			t.Error("a peer closed by force lost its protection")
		}
	})
}

func TestTrimsAskedForMindNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tight(1, 5)
		cfg.SilencePeriod = time.Hour
		m, host := newNode(t, cfg)
		for round := range 3 {
			connectMany(host, 5)
			m.TrimOpenConns(context.Background())
			if host.Len() != 1 {
				t.Errorf("round %d: %d connections left, want 1", round, host.Len())
			}
			host.Disconnect(host.Connections()[0].RemotePeer())
		}
	})
}

// slowNode is a node with n connections each of which takes a while to close.
// At 16 at a time, a trim of all 64 takes four times as long.
func slowNode(t *testing.T, cfg connmgr.Config, each time.Duration) (*connmgr.Manager, *connmgrtest.Host) {
	t.Helper()
	m, host := newNode(t, cfg)
	connectMany(host, 64, connmgrtest.OnClose(func(connmgr.Reason) error {
		<-time.After(each)
		return nil
	}))
	tagMany(m, 64)
	return m, host
}

type outcome struct {
	res  connmgr.TrimResult
	err  error
	took time.Duration
}

func begin(ctx context.Context, trim func(context.Context) (connmgr.TrimResult, error)) <-chan outcome {
	done, began := make(chan outcome, 1), time.Now()
	go func() {
		res, err := trim(ctx)
		done <- outcome{res, err, time.Since(began)}
	}()
	synctest.Wait()
	return done
}

func TestWhoAsksDuringATrimJoinsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), time.Second/2)
		ctx := context.Background()
		first := begin(ctx, m.Trim)
		advance(time.Second)
		second, third := begin(ctx, m.Trim), begin(nil, m.Trim) //nolint:staticcheck // nil is allowed
		for i, done := range []<-chan outcome{first, second, third} {
			o := <-done
			if o.err != nil || len(o.res.Closed) != 64 {
				t.Errorf("caller %d: closed %d, err %v; want the result of the one trim, 64", i+1, len(o.res.Closed), o.err)
			}
			if late := time.Duration(min(i, 1)) * time.Second; o.took != 2*time.Second-late {
				t.Errorf("caller %d waited %v, want %v", i+1, o.took, 2*time.Second-late)
			}
		}
		if s := m.Stats(); s.Trims[connmgr.TriggerManual] != 1 || host.Len() != 0 {
			t.Errorf("%d trims ran, %d connections left; want 1 and 0", s.Trims[connmgr.TriggerManual], host.Len())
		}
	})
}

func TestForceIsNotContentWithAWeakerTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), time.Second/2)
		m.Protect(peerID(0), "x")
		weak := begin(context.Background(), m.Trim)
		force := begin(context.Background(), m.ForceTrim)
		if o := <-weak; o.err != nil || o.res.Trigger != connmgr.TriggerManual || len(o.res.Closed) != 63 {
			t.Errorf("the first caller got %v with %d closed, err %v; want its own trim with 63", o.res.Trigger, len(o.res.Closed), o.err)
		}
		o := <-force
		if o.err != nil || o.res.Trigger != connmgr.TriggerForce || !slices.Equal(closedPeers(o.res), []connmgr.NodeID{peerID(0)}) {
			t.Errorf("ForceTrim got %v with %v closed, err %v; want its own trim with the protected peer", o.res.Trigger, closedPeers(o.res), o.err)
		}
		if host.Len() != 0 {
			t.Errorf("%d connections are left, want none", host.Len())
		}
	})
}

func TestAWeakerCallerIsContentWithForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := slowNode(t, tight(0, 100), time.Second/2)
		force := begin(context.Background(), m.ForceTrim)
		weak := begin(context.Background(), m.Trim)
		if o := <-weak; o.err != nil || o.res.Trigger != connmgr.TriggerForce || len(o.res.Closed) != 64 {
			t.Errorf("the second caller got %v with %d closed, err %v; want the result of the forced trim", o.res.Trigger, len(o.res.Closed), o.err)
		}
		<-force
		if s := m.Stats(); s.Trims[connmgr.TriggerManual] != 0 {
			t.Error("a trim of its own ran for the weaker caller")
		}
	})
}

func TestAContextThatHasEndedTrimsNothing(t *testing.T) {
	m, host := newNode(t, tight(0, 100))
	connectMany(host, 5)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if res, err := m.Trim(ctx); !errors.Is(err, context.Canceled) || len(res.Closed) != 0 || res.Trigger != connmgr.TriggerManual {
		t.Errorf("Trim = %+v, %v; want nothing done, and context.Canceled", res, err)
	}
	m.TrimOpenConns(ctx)
	if s := m.Stats(); host.Len() != 5 || len(s.Trims) != 0 {
		t.Errorf("%d connections left of 5, trims %v; want no trim at all", host.Len(), s.Trims)
	}
}

func TestATrimStopsWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), 50*time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 70*time.Millisecond)
		defer cancel()
		o := <-begin(ctx, m.Trim)
		if !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want context.DeadlineExceeded", o.err)
		}
		if len(o.res.Closed) != 32 || host.Len() != 32 || o.took != 100*time.Millisecond {
			t.Errorf("closed %d, left %d, after %v; want the 32 whose closing had begun, after 100ms", len(o.res.Closed), host.Len(), o.took)
		}
		if res := trim(t, m); len(res.Closed) != 32 {
			t.Errorf("the next trim closed %d, want the other 32", len(res.Closed))
		}
	})
}

func TestAContextThatEndsDoesNotWaitForSlowClosings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), 10*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		o := <-begin(ctx, m.Trim)
		if !errors.Is(o.err, context.DeadlineExceeded) || o.took > 300*time.Millisecond {
			t.Errorf("err %v after %v, want context.DeadlineExceeded soon after 100ms", o.err, o.took)
		}
		if len(o.res.Closed) != 0 || o.res.Hanging != 16 || m.Stats().HangingPeers != 16 {
			t.Errorf("closed %d, hanging %d; want those under way, 16, to be given up", len(o.res.Closed), o.res.Hanging)
		}
		advance(10 * time.Second)
		if host.Len() != 48 || m.ConnCount() != 48 || m.Stats().HangingPeers != 0 {
			t.Errorf("later %d are open, %d known, %d hang; want 48, 48, 0", host.Len(), m.ConnCount(), m.Stats().HangingPeers)
		}
	})
}

func TestATrimGoesOnForThoseWhoStillWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), time.Second/2)
		ctx, cancel := context.WithCancel(context.Background())
		impatient := begin(ctx, m.Trim)
		patient := begin(context.Background(), m.Trim)
		advance(100 * time.Millisecond)
		cancel()
		if o := <-impatient; !errors.Is(o.err, context.Canceled) || o.took != 100*time.Millisecond || len(o.res.Closed) != 0 {
			t.Errorf("the first caller got %d closed and %v after %v; want an empty result and Canceled at once", len(o.res.Closed), o.err, o.took)
		}
		if o := <-patient; o.err != nil || len(o.res.Closed) != 64 || host.Len() != 0 {
			t.Errorf("the second caller got %d closed and %v, %d are left; want all 64", len(o.res.Closed), o.err, host.Len())
		}
	})
}

func TestWhoJoinsATrimThatIsStoppingGetsAWholeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := slowNode(t, tight(0, 100), 50*time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		first := begin(ctx, m.Trim)
		advance(10 * time.Millisecond)
		cancel()
		synctest.Wait()
		if o := <-begin(context.Background(), m.Trim); o.err != nil || len(o.res.Closed) != 48 || host.Len() != 0 {
			t.Errorf("closed %d, err %v, left %d; want the 48 that the stopped trim left", len(o.res.Closed), o.err, host.Len())
		}
		if o := <-first; len(o.res.Closed) != 16 {
			t.Errorf("the stopped trim closed %d, want 16", len(o.res.Closed))
		}
	})
}

func TestTrimsAfterCloseReturnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 100))
		connectMany(host, 3)
		closeManager(t, m)
		for _, trim := range []func(context.Context) (connmgr.TrimResult, error){m.Trim, m.ForceTrim} {
			o := <-begin(nil, trim) //nolint:staticcheck // nil is allowed
			if !errors.Is(o.err, connmgr.ErrClosed) || o.took != 0 || host.Len() != 3 {
				t.Errorf("err %v after %v, %d connections left; want ErrClosed at once and all 3", o.err, o.took, host.Len())
			}
		}
	})
}

func closedPeers(res connmgr.TrimResult) (peers []connmgr.NodeID) {
	for _, v := range res.Closed {
		peers = append(peers, v.Peer)
	}
	return peers
}
