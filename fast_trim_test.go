package connmgr

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// These tests trim crowds so large that the cut is guessed from a sample, and the table
// read on several processors, and hold the outcome against the dry run, which looks at
// everybody. Whatever a guess is worth, the same peers go in the same order.

// manyConn is a connection that reports its own end.
type manyConn struct {
	m       *Manager
	peer    NodeID
	dir     Direction
	streams int
	onStat  func()
	onClose func()

	asked, closed atomic.Int32
}

func (c *manyConn) RemotePeer() NodeID { return c.peer }

func (c *manyConn) Stat() ConnStat {
	c.asked.Add(1)
	if c.onStat != nil {
		c.onStat()
	}
	return ConnStat{Direction: c.dir, Streams: c.streams}
}

func (c *manyConn) CloseWithReason(Reason) error {
	c.closed.Add(1)
	if c.onClose != nil {
		c.onClose()
	}
	c.m.Disconnected(c.peer, c)
	return nil
}

// many is a manager with many peers, on several processors.
type many struct {
	*Manager
	t      *testing.T
	random *rand.Rand
	conns  []*manyConn
}

func newMany(t *testing.T, cfg Config) *many {
	t.Helper()
	before := runtime.GOMAXPROCS(4)
	cfg.Logger, cfg.ManualStart = slog.New(slog.DiscardHandler), true
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		runtime.GOMAXPROCS(before)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return &many{Manager: m, t: t, random: rand.New(rand.NewPCG(1, 2))}
}

func manyID(i int) NodeID { return NodeID(fmt.Sprintf("peer %06d", i)) }

func (m *many) connect(id NodeID, dir Direction) *manyConn {
	c := &manyConn{m: m.Manager, peer: id, dir: dir}
	m.conns = append(m.conns, c)
	m.Connected(id, c)
	return c
}

// limit sets low water, and what is above it close by.
func (m *many) limit(low, outbound int) {
	m.t.Helper()
	if err := m.SetLimits(Limits{LowWater: low, HighWater: low + 10, HardLimit: low + 20, OutboundFloor: outbound}); err != nil {
		m.t.Fatal(err)
	}
}

// expectPlan checks that a trim would close whom the dry run says, and spare nobody who
// ranks no higher than those that stay.
func (m *many) expectPlan(what string, trigger Trigger) []Verdict {
	m.t.Helper()
	dry := m.DryRun(trigger)
	want := slices.Collect(dry.Closed())
	p := new(planner)
	plan := m.plan(p, trigger)
	if plan.Figures != dry.Figures || !plan.GraceEnds.Equal(dry.GraceEnds) {
		m.t.Errorf("%s, %v: the figures are %+v, the dry run's %+v", what, trigger, plan.Figures, dry.Figures)
	}
	rank := 0
	for _, v := range plan.victims {
		for i := range v.keys {
			k := &v.keys[i]
			got := Verdict{Peer: m.table.idOf(k), Reason: v.reason, Score: k.score(), Rank: rank + 1, Conns: int(k.conns)}
			if rank >= len(want) || got != want[rank] {
				m.t.Fatalf("%s, %v: %v, unlike the dry run", what, trigger, got)
			}
			rank++
		}
		m.expectCut(what, &dry, v)
	}
	if rank != len(want) {
		m.t.Fatalf("%s, %v: %d peers go, the dry run says %d", what, trigger, rank, len(want))
	}
	return want
}

// expectCut checks that the cut is not below those that go, who would be spared, nor
// above those that stay instead.
func (m *many) expectCut(what string, dry *Plan, v victims) {
	m.t.Helper()
	lowest := math.MaxInt
	for i, r := range dry.reasons {
		if r == KeptAboveCut && (v.reason == ClosedLowScore || v.reason == ClosedForced) {
			lowest = min(lowest, dry.policy.Score(&dry.peers[i]))
		}
	}
	last := v.keys[len(v.keys)-1].score()
	if v.reason != ClosedHardLimit && v.reason != ClosedForcedProtected && (v.cut < last || v.cut > lowest) {
		m.t.Errorf("%s: those above a score of %d are spared; the last that goes has %d, the lowest that stays %d", what, v.cut, last, lowest)
	}
}

// expectTrim carries a trim out, and checks that it closes whom the dry run says.
func (m *many) expectTrim(what string, trigger Trigger) {
	m.t.Helper()
	want := m.expectPlan(what, trigger)
	res, err := m.trim(context.Background(), trigger)
	if err != nil || res.Spared+res.Failed+res.Hanging != 0 || !slices.Equal(res.Closed, want) {
		m.t.Errorf("%s, %v: %d peers closed, err %v, spared %d, failed %d, hanging %d; want the %d of the dry run in its order",
			what, trigger, len(res.Closed), err, res.Spared, res.Failed, res.Hanging, len(want))
	}
	goes := make(map[NodeID]bool)
	for _, v := range want {
		goes[v.Peer] = true
	}
	for _, c := range m.conns {
		if n := c.closed.Load(); n > 1 || (n == 1) != goes[c.peer] {
			m.t.Errorf("%s, %v: a connection of %v was closed %d times; in the dry run it goes: %v", what, trigger, c.peer, n, goes[c.peer])
		}
	}
}

// manyPeers is a kind of crowd: what the i-th peer is like.
type manyPeers struct {
	name  string
	peers int
	score func(r *rand.Rand, i int) int
	conns func(r *rand.Rand) int
	// others says how many in a hundred have streams, are outbound, protected, in grace.
	streams, outbound, protected, inGrace int
	alike                                 bool // all connected at the same time
}

var manyKinds = []manyPeers{
	{name: "a bit of everything", peers: 9200, score: func(r *rand.Rand, _ int) int { return r.IntN(100) - 50 }, conns: upTo(3), streams: 30, outbound: 30, protected: 10, inGrace: 10},
	{name: "spread scores", peers: 16_500, score: func(_ *rand.Rand, i int) int { return i * 7919 % 100_003 }, conns: upTo(1), streams: 20, outbound: 20},
	{name: "nobody differs", peers: 9200, score: same(7), conns: upTo(1), alike: true},
	{name: "equal scores", peers: 11_000, score: same(0), conns: upTo(2), streams: 50, outbound: 10},
	{name: "the low ones are busy", peers: 9200, score: func(_ *rand.Rand, i int) int { return i / 10 }, conns: upTo(1), streams: 95},
	{name: "the extremes", peers: 9200, score: func(r *rand.Rand, _ int) int {
		return []int{math.MinInt, math.MinInt + 1, -1, 0, math.MaxInt - 1, math.MaxInt}[r.IntN(6)]
	}, conns: upTo(2), streams: 50, outbound: 50, alike: true},
	{name: "most are protected", peers: 9200, score: func(r *rand.Rand, _ int) int { return r.IntN(9) }, conns: upTo(2), streams: 30, protected: 90},
	{name: "most are new", peers: 9200, score: func(r *rand.Rand, _ int) int { return r.IntN(9) }, conns: upTo(2), streams: 30, outbound: 30, inGrace: 90},
}

func same(n int) func(*rand.Rand, int) int { return func(*rand.Rand, int) int { return n } }
func upTo(n int) func(*rand.Rand) int      { return func(r *rand.Rand) int { return 1 + r.IntN(n) } }

// come connects the peers of a kind. Those in grace come last.
func (m *many) come(kind manyPeers) {
	percent := func(n int) bool { return m.random.IntN(100) < n }
	for i := range kind.peers {
		if i == kind.peers*(100-kind.inGrace)/100 {
			<-time.After(time.Hour)
		} else if !kind.alike && i%100 == 0 {
			<-time.After(time.Millisecond)
		}
		id := manyID(i)
		m.TagPeer(id, "a", kind.score(m.random, i))
		for range kind.conns(m.random) {
			dir := DirInbound
			if percent(kind.outbound) {
				dir = DirOutbound
			}
			if c := m.connect(id, dir); percent(kind.streams) {
				c.streams = 1 + m.random.IntN(3)
			}
		}
		if percent(kind.protected) {
			m.Protect(id, "x")
		}
	}
	<-time.After(time.Second)
}

func TestATrimOfManyClosesWhomTheDryRunNames(t *testing.T) {
	for i, kind := range manyKinds {
		synctest.Test(t, func(t *testing.T) {
			m := newMany(t, Config{GracePeriod: time.Minute, OutboundBonus: 3, ActiveBonus: 5})
			m.come(kind)
			open := m.ConnCount()
			triggers := []Trigger{TriggerManual, TriggerHardLimit, TriggerForce}
			for j, closes := range [][]int{{-5000, open / 10, open / 2}, {1, open / 20, open - 100}}[i%2] {
				m.limit(open-closes, 0)
				m.expectPlan(fmt.Sprint(kind.name, ", closing ", closes), triggers[(i+j)%3])
			}
			m.limit(open*9/10, open/5)
			m.expectPlan(kind.name+", with an outbound floor", TriggerManual)
			m.limit(open*9/10, 0)
			m.expectTrim(kind.name, triggers[i%3])
			m.limit(open*8/10, 0)
			for _, c := range m.conns {
				c.closed.Store(0)
			}
			m.expectPlan(kind.name+", trimmed before", TriggerForce)
		})
	}
}

// Strangers cannot choose who is in the sample; but should it be so, it must not matter.
func TestASampleThatMisleadsCostsTimeNotCorrectness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, Config{GracePeriod: Zero, ActiveBonus: 5000})
		const n = 9200
		for i := range n {
			m.TagPeer(m.connect(manyID(i), DirInbound).peer, "a", i)
		}
		m.limit(n*9/10, 0)
		sampled := m.sampled()
		if every := n / samples; len(sampled) != n/every {
			t.Errorf("%d of %d peers are in the sample, want one in %d", len(sampled), n, every)
		}
		for _, c := range m.conns {
			if !sampled[c] {
				c.streams = 1 // so it ranks far above where the sample says
			}
		}
		m.expectTrim("a sample that misleads", TriggerManual)
	})
}

// sampled returns the connections at which a trim looks to guess the cut.
func (m *many) sampled() map[*manyConn]bool {
	var s tally
	s.reset(m.policy(), TriggerManual, nil, 0)
	skip, every := 0, m.table.open()/samples
	for i := range m.table.shards {
		skip = m.table.sampleShard(&s, &m.table.shards[i], skip, every, m.table.now())
	}
	found := make(map[*manyConn]bool)
	for _, c := range s.conns {
		found[c.(*manyConn)] = true
	}
	return found
}

func TestATrimOfManyKeepsFewInMindAndAsksFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, Config{GracePeriod: Zero, ActiveBonus: 5})
		const n = 16_500
		for i := range n {
			m.TagPeer(m.connect(manyID(i), DirInbound).peer, "a", i*7919%100_003)
		}
		m.limit(n*9/10, 0)
		for _, c := range m.conns {
			c.asked.Store(0)
		}
		p := new(planner)
		m.plan(p, TriggerManual)
		asked := 0
		for _, c := range m.conns {
			asked += int(c.asked.Load())
		}
		if kept := len(p.established.keys); kept > n/5 {
			t.Errorf("to close a tenth of %d peers, %d are kept in mind, want at most a fifth", n, kept)
		}
		if len(p.parts) == 0 {
			t.Error("the table was read on one processor, want two")
		}
		if asked > n/5 {
			t.Errorf("to close a tenth of %d peers, %d are asked for their streams, want at most a fifth", n, asked)
		}
	})
}
