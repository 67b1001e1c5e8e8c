package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about full doors at which it is hard to make room: connections that
// hang in their Close, hosts that report late or never that one is gone, floods, and
// limits that are exceeded already, so that one place less does not help.

// countingHost is a host whose list of connections takes time, so that a search for the
// lowest-ranked does.
type countingHost struct {
	*lobby
	takes time.Duration

	mu     sync.Mutex // guards all following fields
	conns  []connmgr.Conn
	listed int
}

func (h *countingHost) Connections() []connmgr.Conn {
	if h.takes > 0 {
		<-time.After(h.takes)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed++
	return append([]connmgr.Conn(nil), h.conns...)
}

func (h *countingHost) CloseConnection(connmgr.NodeID, connmgr.Reason) error { return nil }

func (h *countingHost) lists() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listed
}

// newCountingHost makes a lobby whose manager asks a host.
func newCountingHost(t *testing.T, cfg connmgr.Config, takes time.Duration) *countingHost {
	t.Helper()
	h := &countingHost{takes: takes}
	cfg.Host = h
	h.lobby = newLobby(t, cfg)
	return h
}

func (h *countingHost) fill(t *testing.T, n int) (guests []*guest) {
	t.Helper()
	for i := range n {
		v := h.dialIn(t, peerID(i))
		h.mu.Lock()
		h.conns = append(h.conns, v)
		h.mu.Unlock()
		guests = append(guests, v)
	}
	return guests
}

func TestAFloodOfEqualNewcomersIsNotASearchForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const residents, newcomers, search = 200, 5000, 10 * time.Millisecond
		cfg := fullHouse(residents)
		cfg.ActiveBonus = 20 // so that a search asks for streams
		cfg.SilencePeriod = time.Hour
		h := newCountingHost(t, cfg, search)
		guests := h.fill(t, residents)
		asked := func() (n int) {
			for _, v := range guests {
				n += v.StatCalls()
			}
			return n
		}
		before, start := asked(), time.Now()
		for i := range newcomers {
			_, err := h.enter(connmgr.DirInbound, connmgr.NodeID(fmt.Sprint("new", i)), nowhere)
			expectRefusal(t, "an equal newcomer", err, connmgr.OverHardLimit)
			advance(time.Millisecond)
		}
		took := time.Since(start)
		if searches, most := h.lists(), int(took/(20*search))+1; searches == 0 || searches > most {
			t.Errorf("%d searches in %v for %d newcomers, want at least 1, and at most a twentieth of the time, %d", searches, took, newcomers, most)
		}
		if calls := asked() - before; calls > h.lists()*residents {
			t.Errorf("connections were asked %d times in %d searches, want each at most once in a search", calls, h.lists())
		}
	})
}

func TestAFloodAtADoorWhereNobodyMayGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := fullHouse(50)
		cfg.SilencePeriod = time.Hour
		h := newCountingHost(t, cfg, 10*time.Millisecond)
		h.fill(t, 50)
		for i := range 50 {
			h.m.Protect(peerID(i), "x")
		}
		start := time.Now()
		var all sync.WaitGroup
		for i := range 2000 {
			all.Go(func() {
				asked := time.Now()
				_, err := h.enter(connmgr.DirInbound, connmgr.NodeID(fmt.Sprint("new", i)), nowhere)
				expectRefusal(t, "a newcomer", err, connmgr.OverHardLimit)
				if took := time.Since(asked); took > 2*time.Second {
					t.Errorf("newcomer %d waited %v for its refusal, want not much longer than a second", i, took)
				}
			})
			advance(time.Millisecond)
		}
		all.Wait()
		took := time.Since(start)
		if most := int(took/(200*time.Millisecond)) + 1; h.lists() > most {
			t.Errorf("%d searches in %v, want at most a twentieth of the time, %d", h.lists(), took, most)
		}
	})
}

func TestOneThatHangsIsGivenUpAndTheNextOneGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, fullHouse(3))
		hangs := l.dialIn(t, peerID(0), connmgrtest.HangOnClose())
		l.dialIn(t, peerID(1))
		l.dialIn(t, peerID(2))
		tagMany(l.m, 3)
		l.m.TagPeer("new", "a", 50)
		start := time.Now()
		l.dialIn(t, "new")
		if took := time.Since(start); took < time.Second || took > 2*time.Second {
			t.Errorf("the newcomer waited %v for one that hangs, want not much longer than a second", took)
		}
		if l.now("all") != 3 {
			t.Errorf("%d connections are open, want the one that hangs to keep its place beside 2 others", l.now("all"))
		}
		hangs.Release()
		synctest.Wait()
		if s := l.m.Stats(); s.Conns != 2 || s.Closing != 0 || s.ClosedPeers[connmgr.ClosedDisplaced] != 2 {
			t.Errorf("%d connections, %d closing, %d peers displaced when it has closed after all; want 2, 0, 2",
				s.Conns, s.Closing, s.ClosedPeers[connmgr.ClosedDisplaced])
		}
	})
}

// Many a Close reports trouble with its farewell, and closes. Here that the connection is
// gone is reported between the error and what the door makes of it.
func TestOneThatFailsToCloseAndIsGoneAllTheSameLeavesOnePlace(t *testing.T) {
	var goneNow func()
	cfg := fullHouse(2)
	cfg.Logger = slog.New(whenLogged{func() { goneNow() }})
	l := newLobby(t, cfg)
	first, second := l.dialIn(t, peerID(0), connmgrtest.FailOnClose(errors.New("broken pipe"))), l.dialIn(t, peerID(1))
	tagMany(l.m, 2)
	goneNow = first.leave // the first time that the manager has something to log
	l.m.TagPeer("new", "a", 50)
	third := l.dialIn(t, "new")
	var more []*guest
	for i := range 5 {
		if v, err := l.enter(connmgr.DirInbound, connmgr.NodeID(fmt.Sprint("equal", i)), nowhere); err == nil {
			more = append(more, v)
		}
	}
	l.expectMost(t, "all", 2)
	for _, v := range append(more, second, third) {
		v.leave()
	}
	if l.expectEmpty(t); t.Failed() {
		return // counts below zero must not be searched
	}
	l.dialIn(t, "a")
	l.dialIn(t, "b")
	_, err := l.enter(connmgr.DirInbound, "c", nowhere)
	expectRefusal(t, "one too many, after all that", err, connmgr.OverHardLimit)
}

// whenLogged is a log that calls a function instead of writing.
type whenLogged struct{ then func() }

func (whenLogged) Enabled(context.Context, slog.Level) bool    { return true }
func (w whenLogged) Handle(context.Context, slog.Record) error { w.then(); return nil }
func (w whenLogged) WithAttrs([]slog.Attr) slog.Handler        { return w }
func (w whenLogged) WithGroup(string) slog.Handler             { return w }

// InterceptUpgraded promises that it takes not much longer than a second. Strangers
// choose how many of the lowest-ranked hang.
func TestManyThatHangDoNotHoldUpANewcomerForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, fullHouse(40))
		var guests []*guest
		for i := range 40 {
			guests = append(guests, l.dialIn(t, peerID(i), connmgrtest.HangOnClose()))
		}
		l.m.TagPeer("new", "a", 50)
		start := time.Now()
		_, err := l.enter(connmgr.DirInbound, "new", nowhere)
		expectRefusal(t, "a newcomer where all hang", err, connmgr.OverHardLimit)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the newcomer waited %v, want not much longer than a second", took)
		}
		for _, v := range guests {
			v.Release()
		}
		synctest.Wait()
	})
}

// Hosts such as go-libp2p's report from another goroutine that a connection is gone.
func TestOneGoesForEachNewcomerEvenIfThatIsReportedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, fullHouse(20))
		for i := range 20 {
			v := l.dialIn(t, peerID(i))
			v.report = func(v *guest) {
				time.AfterFunc(time.Millisecond, func() { l.m.Disconnected(v.RemotePeer(), v) })
			}
		}
		for i := range 3 {
			id := connmgr.NodeID(fmt.Sprint("new", i))
			l.m.TagPeer(id, "a", 50)
			_, err := l.enter(connmgr.DirInbound, id, nowhere)
			expectRefusal(t, "a better newcomer", err, connmgr.Passed)
			if n := len(l.closedPeers()); n != i+1 {
				t.Fatalf("%d peers have gone for %d newcomers, want one for each", n, i+1)
			}
			advance(time.Second)
		}
	})
}

// With more connections than the limit allows, since outbound ones are not refused, one
// that goes does not make room. Either enough go, or nobody does.
func TestNobodyGoesInVain(t *testing.T) {
	type people map[connmgr.Direction]int
	for what, tt := range map[string]struct {
		hard, maxInbound int
		there            people
		limit            func(*lobby) error // put in force when they are there
	}{
		"hard limit, beside outbound ones": {10, 0, people{connmgr.DirInbound: 9, connmgr.DirOutbound: 9}, nil},
		"inbound limit lowered": {100, 20, people{connmgr.DirInbound: 20}, func(l *lobby) error {
			return l.g.SetLimits(connmgr.GateLimits{MaxInbound: 10})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := tight(tt.hard, tt.hard)
				cfg.HardLimit, cfg.LowWater = tt.hard, tt.hard
				cfg.SilencePeriod = time.Hour
				cfg.Gate.Limits.MaxInbound = tt.maxInbound
				cfg.ManualStart = true // no trim meddles
				l := newLobby(t, cfg)
				for _, dir := range []connmgr.Direction{connmgr.DirInbound, connmgr.DirOutbound} {
					for i := range tt.there[dir] {
						id := connmgr.NodeID(fmt.Sprint(dir, i))
						if _, err := l.enter(dir, id, nowhere); err != nil {
							t.Fatalf("%v was refused: %v", id, err)
						}
					}
				}
				if tt.limit != nil {
					if err := tt.limit(l); err != nil {
						t.Fatal(err)
					}
				}
				l.m.TagPeer("new", "a", 50)
				_, err := l.enter(connmgr.DirInbound, "new", nowhere)
				if n := len(l.closedPeers()); err != nil && n > 0 {
					t.Errorf("%d peers were closed to make room, and the newcomer was refused all the same: %v", n, err)
				} else if most := l.g.Limits().MaxInbound; err == nil && (l.m.ConnCount() > tt.hard || most > 0 && l.now("inbound") > most) {
					t.Errorf("a newcomer passed, beyond the limit: %d connections, %d inbound", l.m.ConnCount(), l.now("inbound"))
				}
			})
		})
	}
}

func TestEachOfManyNewcomersAtOnceTakesOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const residents, newcomers = 30, 10
		l := newLobby(t, fullHouse(residents))
		for i := range residents {
			l.dialIn(t, peerID(i), connmgrtest.OnClose(func(connmgr.Reason) error {
				<-time.After(10 * time.Millisecond)
				return nil
			}))
		}
		var all sync.WaitGroup
		for i := range newcomers {
			id := connmgr.NodeID(fmt.Sprint("new", i))
			l.m.TagPeer(id, "a", 50)
			all.Go(func() {
				_, err := l.enter(connmgr.DirInbound, id, nowhere)
				expectRefusal(t, "a better newcomer", err, connmgr.Passed)
			})
		}
		all.Wait()
		if n := len(l.closedPeers()); n != newcomers || l.now("all") != residents {
			t.Errorf("%d peers went for %d newcomers, and %d connections are open; want one to go for each, and %d", n, newcomers, l.now("all"), residents)
		}
		l.expectMost(t, "all", residents)
	})
}

// Those who wait for a search may be refused in the end. What comes free meanwhile is not
// theirs alone.
func TestFreePlacesAreTakenWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := fullHouse(20)
		cfg.SilencePeriod = time.Hour
		h := newCountingHost(t, cfg, 500*time.Millisecond)
		guests := h.fill(t, 20)
		for i := range 20 {
			h.m.Protect(peerID(i), "x")
		}
		var all sync.WaitGroup
		passed := 0
		for i := range 15 {
			all.Go(func() {
				if _, err := h.enter(connmgr.DirInbound, connmgr.NodeID(fmt.Sprint("waits", i)), nowhere); err == nil {
					h.count(1, "passed")
				}
			})
		}
		advance(100 * time.Millisecond)
		for _, v := range guests[:8] {
			v.leave()
		}
		h.mu.Lock()
		h.conns = h.conns[8:]
		h.mu.Unlock()
		for i := range 8 {
			if _, err := h.enter(connmgr.DirInbound, connmgr.NodeID(fmt.Sprint("new", i)), nowhere); err == nil {
				passed++
			}
		}
		all.Wait()
		if passed += h.now("passed"); passed != 8 {
			t.Errorf("%d of 23 newcomers passed when 8 places came free, want 8", passed)
		}
		h.expectMost(t, "all", 20)
	})
}

// A connection whose end nobody reported keeps its place until the host is asked. At a
// full door it is.
func TestNobodyIsRefusedOrGoesForOneThatHasLongBeenGone(t *testing.T) {
	for what, tt := range map[string]struct {
		limits connmgr.GateLimits
		peer   connmgr.NodeID
		tag    int
	}{
		"hard limit, an equal newcomer":    {connmgr.GateLimits{}, "new", 0},
		"hard limit, a better newcomer":    {connmgr.GateLimits{}, "new", 50},
		"inbound limit, an equal newcomer": {connmgr.GateLimits{MaxInbound: 5}, "new", 0},
		"inbound limit, a better newcomer": {connmgr.GateLimits{MaxInbound: 5}, "new", 50},
		"limit per peer":                   {connmgr.GateLimits{MaxPerPeer: 1}, peerID(1), 0},
		"limit per prefix": {connmgr.GateLimits{
			PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 5}},
		}, "new", 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := fullHouse(5)
				cfg.SilencePeriod = time.Hour // no tick asks the host
				cfg.Gate.Limits = tt.limits
				h := newCountingHost(t, cfg, 0)
				for i := range 5 {
					v, err := h.enter(connmgr.DirInbound, peerID(i), addr4(1, i))
					if err != nil {
						t.Fatal(err)
					}
					v.report = func(*guest) {}
					if i == 1 {
						v.leave()
						continue
					}
					h.conns = append(h.conns, v)
				}
				advance(time.Minute)
				h.m.TagPeer(tt.peer, "a", tt.tag)
				err := h.g.InterceptUpgraded(connmgr.DirInbound, tt.peer, addr4(1, 9), connmgrtest.NewConn(tt.peer))
				expectRefusal(t, "a newcomer at a door that only seems full", err, connmgr.Passed)
				if closed := h.closedPeers(); len(closed) != 0 {
					t.Errorf("%v went for the newcomer, though a place was free", closed)
				}
			})
		})
	}
}
