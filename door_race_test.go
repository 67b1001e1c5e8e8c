package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests flood the door from many goroutines and look whether a limit is ever
// exceeded, if only for an instant. The lobby is what counts: it has a connection open
// from the moment the gate lets it in until its Close returns. It serves the other
// tests of the door as well.

// lobby is a host that asks the gate before it lets anybody in.
type lobby struct {
	m *connmgr.Manager
	g *connmgr.Gater

	mu   sync.Mutex     // guards all following fields
	open map[string]int // connections open now, by what limits are about
	most map[string]int // and the most that ever were
	// closed is the peers of the connections that the manager closed, in order.
	closed []connmgr.NodeID
}

// newLobby makes a manager with a gate, and a lobby in front of it.
func newLobby(t testing.TB, cfg connmgr.Config) *lobby {
	t.Helper()
	m := newManager(t, cfg)
	return &lobby{m: m, g: m.Gater(), open: make(map[string]int), most: make(map[string]int)}
}

func (l *lobby) count(n int, what ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range what {
		l.open[w] += n
		l.most[w] = max(l.most[w], l.open[w])
	}
}

// now returns how many connections are open that a limit is about, and most how many
// there ever were. "all", "inbound" and "outbound" are without trusted ones.
func (l *lobby) now(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[what]
}

// guest is a connection that the gate has let in.
type guest struct {
	*connmgrtest.Conn
	lobby  *lobby
	counts []string
	gone   atomic.Bool
	// report tells the manager that the guest is gone; the lobby's own way if it is nil.
	report func(*guest)
}

// arrive asks all checkpoints about a newcomer. One that passes is open, but the
// manager has not been told.
func (l *lobby) arrive(dir connmgr.Direction, peer connmgr.NodeID, addr netip.AddrPort, options ...connmgrtest.Option) (*guest, error) {
	var err error
	if dir == connmgr.DirOutbound {
		err = errors.Join(l.g.InterceptPeerDial(peer), l.g.InterceptAddrDial(peer, addr))
	} else {
		err = l.g.InterceptAccept(addr)
	}
	if err != nil {
		return nil, err
	}
	if err := l.g.InterceptSecured(dir, peer, addr); err != nil {
		return nil, err
	}
	options = append([]connmgrtest.Option{connmgrtest.Direction(dir), connmgrtest.From(addr)}, options...)
	v := &guest{Conn: connmgrtest.NewConn(peer, options...), lobby: l}
	if err := l.g.InterceptUpgraded(dir, peer, addr, v); err != nil {
		return nil, err
	}
	if !l.g.Lookup(peer, addr).Trusted() {
		v.counts = []string{"all", dir.String(), "peer " + string(peer)}
		if dir != connmgr.DirOutbound && addr.IsValid() {
			prefix, _ := addr.Addr().Prefix(24)
			v.counts = append(v.counts, prefix.String())
		}
	}
	l.count(+1, v.counts...)
	return v, nil
}

// enter is arrive, and tells the manager of a newcomer that passes.
func (l *lobby) enter(dir connmgr.Direction, peer connmgr.NodeID, addr netip.AddrPort, options ...connmgrtest.Option) (*guest, error) {
	v, err := l.arrive(dir, peer, addr, options...)
	if err == nil {
		l.m.Connected(peer, v)
	}
	return v, err
}

// dialIn is enter for somebody inbound who must pass.
func (l *lobby) dialIn(t testing.TB, peer connmgr.NodeID, options ...connmgrtest.Option) *guest {
	t.Helper()
	v, err := l.enter(connmgr.DirInbound, peer, netip.AddrPort{}, options...)
	if err != nil {
		t.Fatalf("%v was refused: %v", peer, err)
	}
	return v
}

// closedPeers returns the peers of which the manager has closed connections, each once,
// in the order of their closing.
func (l *lobby) closedPeers() []connmgr.NodeID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Compact(slices.Clone(l.closed))
}

// leave ends the connection, and tells the manager.
func (v *guest) leave() {
	if !v.gone.CompareAndSwap(false, true) {
		return
	}
	v.lobby.count(-1, v.counts...)
	if v.report != nil {
		v.report(v)
		return
	}
	v.lobby.m.Disconnected(v.RemotePeer(), v)
}

// giveUp ends a connection that the manager has not been told of.
func (v *guest) giveUp() {
	if v.gone.CompareAndSwap(false, true) {
		v.lobby.count(-1, v.counts...)
		v.lobby.g.Release(v.RemotePeer(), v)
	}
}

// CloseWithReason does what the options say, and then leaves.
func (v *guest) CloseWithReason(reason connmgr.Reason) error {
	if err := v.Conn.CloseWithReason(reason); err != nil {
		return err
	}
	v.lobby.mu.Lock()
	v.lobby.closed = append(v.lobby.closed, v.RemotePeer())
	v.lobby.mu.Unlock()
	v.leave()
	return nil
}

// addr4 returns the host-th address of the net-th /24 of 5.0.0.0/8.
func addr4(net, host int) netip.AddrPort {
	ip := netip.AddrFrom4([4]byte{5, byte(net >> 8), byte(net), byte(host)})
	return netip.AddrPortFrom(ip, 4001)
}

// expectRefusal checks that an error is a refusal with an outcome.
func expectRefusal(t testing.TB, what string, err error, want connmgr.Outcome) *connmgr.DeniedError {
	t.Helper()
	var denied *connmgr.DeniedError
	switch {
	case want == connmgr.Passed:
		if err != nil {
			t.Errorf("%s: refused with %v, want it to pass", what, err)
		}
	case !errors.As(err, &denied):
		t.Errorf("%s: got %v, want a refusal for the %v", what, err, want)
	case denied.Outcome != want || !errors.Is(err, connmgr.ErrConnectionDenied):
		t.Errorf("%s: refused with %v, want the %v", what, err, want)
	}
	return denied
}

// storm lets goroutines come and go at the door, with all that can happen there.
func (l *lobby) storm(seed uint64, goroutines, arrivals int, dirs ...connmgr.Direction) {
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var mine []*guest
			for range arrivals {
				peer := connmgr.NodeID(fmt.Sprint("peer", rng.IntN(200)))
				if rng.IntN(10) == 0 {
					peer = connmgr.NodeID(fmt.Sprint("friend", rng.IntN(5)))
				}
				if rng.IntN(4) == 0 {
					l.m.TagPeer(peer, "rank", rng.IntN(50))
				}
				v, err := l.arrive(dirs[rng.IntN(len(dirs))], peer, addr4(rng.IntN(8), rng.IntN(4)))
				for range rng.IntN(20) {
					runtime.Gosched()
				}
				switch what := rng.IntN(10); {
				case err != nil:
				case what == 0:
					v.giveUp()
				case what == 1: // it goes before the manager hears of it
					v.leave()
				default:
					l.m.Connected(peer, v)
					mine = append(mine, v)
				}
				if len(mine) > rng.IntN(30) {
					n := rng.IntN(len(mine))
					mine[n].leave()
					mine = append(mine[:n], mine[n+1:]...)
				}
			}
			for _, v := range mine {
				v.leave()
			}
		})
	}
	all.Wait()
}

// expectEmpty checks that nothing is counted any more that has left.
func (l *lobby) expectEmpty(t *testing.T) {
	t.Helper()
	s, g := l.m.Stats(), l.g.Stats()
	if s.Conns != 0 || s.Inbound+s.Outbound+s.UnknownDirection != 0 || s.Peers != 0 || s.Closing != 0 || l.m.ConnCount() != 0 {
		t.Errorf("when all have left, %d connections (%d inbound, %d outbound, %d unknown, %d closing) of %d peers are counted, want none",
			s.Conns, s.Inbound, s.Outbound, s.UnknownDirection, s.Closing, s.Peers)
	}
	if g.Arriving != 0 {
		t.Errorf("when all have left, %d are arriving, want none", g.Arriving)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, n := range l.open {
		if n != 0 {
			t.Errorf("the test is wrong: it has %d open of %s when all have left", n, what)
		}
	}
}

// expectMost checks that a limit was never exceeded. That it mattered is seen from how
// close it was, where enough connections come for that to be no matter of chance;
// friends, which are not counted, take some of the places.
func (l *lobby) expectMost(t *testing.T, what string, limit int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch most := l.most[what]; {
	case most > limit:
		t.Errorf("%s: %d connections were open at one time, want never more than %d", what, most, limit)
	case most == 0, limit >= 10 && most < limit/2:
		t.Errorf("the test is wrong: %s: no more than %d connections were open, the limit of %d was never near", what, most, limit)
	}
}

func TestNoLimitIsExceededForAnInstant(t *testing.T) {
	const inbound, outbound = connmgr.DirInbound, connmgr.DirOutbound
	for what, tt := range map[string]struct {
		hard   int
		limits connmgr.GateLimits
		dirs   []connmgr.Direction
		most   map[string]int
	}{
		"hard limit": {30, connmgr.GateLimits{}, []connmgr.Direction{inbound}, map[string]int{"all": 30}},
		"inbound limit": {10_000, connmgr.GateLimits{MaxInbound: 25}, []connmgr.Direction{inbound, outbound}, map[string]int{
			"inbound": 25,
		}},
		"hard limit and unknown direction": {30, connmgr.GateLimits{}, []connmgr.Direction{inbound, connmgr.DirUnknown}, map[string]int{"all": 30}},
		"prefix limit": {10_000, connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 3}}}, []connmgr.Direction{inbound}, map[string]int{
			"5.0.0.0/24": 3, "5.0.7.0/24": 3,
		}},
		"all at once": {20, connmgr.GateLimits{MaxInbound: 18, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 4}}}, []connmgr.Direction{inbound}, map[string]int{
			"inbound": 18, "5.0.3.0/24": 4,
		}},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLobby(t, connmgr.Config{LowWater: 5, HighWater: min(tt.hard, 20), HardLimit: tt.hard, Gate: connmgr.GateConfig{Limits: tt.limits}})
			for i := range 5 {
				allow := connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget(connmgr.NodeID(fmt.Sprint("friend", i)))}
				if err := l.g.Add(context.Background(), allow); err != nil {
					t.Fatal(err)
				}
			}
			l.storm(1, 24, 60, tt.dirs...)
			for w, limit := range tt.most {
				l.expectMost(t, w, limit)
			}
			l.expectEmpty(t)
			if n := l.g.Stats().TrackedPrefixes; n != 0 {
				t.Errorf("when all have left, %d prefixes are tracked, want none", n)
			}
			for cp, outcomes := range l.g.Stats().Checks {
				for o, n := range outcomes {
					if o == connmgr.OverHardLimit && tt.hard == 10_000 {
						t.Errorf("%d connections were refused at %v for the %v, which is far away", n, cp, o)
					}
				}
			}
		})
	}
}

func TestAPeerHasNoMoreConnectionsThanItMayForAnInstant(t *testing.T) {
	l := newLobby(t, connmgr.Config{HighWater: 10_000, Gate: connmgr.GateConfig{Limits: connmgr.GateLimits{MaxPerPeer: 3}}})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 200 {
				if v, err := l.enter(connmgr.DirInbound, "many", addr4(1, 1)); err == nil {
					runtime.Gosched()
					v.leave()
				}
			}
		})
	}
	all.Wait()
	l.expectMost(t, "peer many", 3)
	l.expectEmpty(t)
}

// TestOnePlaceIsTakenByOne lets several goroutines ask at the very same moment, again and
// again.
func TestOnePlaceIsTakenByOne(t *testing.T) {
	const goroutines, rounds = 3, 100
	cfg := fullHouse(1)
	cfg.ManualStart = true
	l := newLobby(t, cfg)
	var round, asked, passed atomic.Int64
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			peer := peerID(i)
			for r := range int64(rounds) {
				for round.Add(1); round.Load() < (r+1)*goroutines; { // until all are here
					runtime.Gosched()
				}
				c := connmgrtest.NewConn(peer)
				err := l.g.InterceptUpgraded(connmgr.DirInbound, peer, nowhere, c)
				if err == nil {
					passed.Add(1)
				}
				for asked.Add(1); asked.Load() < (r+1)*goroutines; { // until all have an answer
					runtime.Gosched()
				}
				if err == nil {
					l.g.Release(peer, c)
				}
			}
		})
	}
	all.Wait()
	if n := passed.Load(); n != rounds {
		t.Errorf("%d of %d newcomers got the only place in %d rounds, want one in each", n, goroutines*rounds, rounds)
	}
}

func TestLimitsAndRulesThatChangeInAFloodLeaveNothingBehind(t *testing.T) {
	limits := connmgr.GateLimits{MaxInbound: 20, MaxPerPeer: 4, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 6}}}
	l := newLobby(t, connmgr.Config{LowWater: 10, HighWater: 20, HardLimit: 40, SilencePeriod: time.Millisecond, Gate: connmgr.GateConfig{Limits: limits}})
	stop := make(chan struct{})
	var meddler sync.WaitGroup
	meddler.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			limits.MaxInbound = 15 + i%10
			if err := l.g.SetLimits(limits); err != nil {
				t.Errorf("SetLimits: %v", err)
				return
			}
			peer := connmgr.PeerTarget(connmgr.NodeID(fmt.Sprint("peer", i%200)))
			if err := l.g.Block(context.Background(), peer, 0, ""); err != nil {
				t.Errorf("Block: %v", err)
			}
			if _, err := l.g.Unblock(context.Background(), peer); err != nil {
				t.Errorf("Unblock: %v", err)
			}
			_, _ = l.m.Trim(context.Background())
		}
	})
	l.storm(2, 16, 100, connmgr.DirInbound, connmgr.DirOutbound)
	close(stop)
	meddler.Wait()
	l.expectEmpty(t)
	if n := l.g.Stats().TrackedPrefixes; n != 0 {
		t.Errorf("when all have left, %d prefixes are tracked, want none", n)
	}
}
