package connmgr

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"
)

// These tests let many do many things at once while large trims run, look at what such
// trims leave in memory, and at the short cuts of single calls.

func TestManyHandsWhileLargeTrimsRun(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero, ActiveBonus: 5, HighWater: 1 << 20, MaxIdlePeers: 1 << 16})
	const n = 10_000
	var safe []*manyConn
	for i := range n {
		c := m.connect(manyID(i), DirInbound)
		c.streams = i % 3 / 2
		m.TagPeer(c.peer, "a", m.random.IntN(100)-50)
		if i%50 == 0 {
			m.Protect(c.peer, "always")
			safe = append(safe, c)
		}
	}
	var done atomic.Bool
	var hands sync.WaitGroup
	added := make([][]*manyConn, 3)
	for g := range added {
		hands.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 3))
			for !done.Load() || len(added[g]) < 1000 {
				id := manyID(n*g + n + random.IntN(n)) // nobody else's
				old := manyID(random.IntN(n))
				switch random.IntN(6) {
				case 0, 1:
					c := &manyConn{m: m.Manager, peer: id, streams: random.IntN(2)}
					added[g] = append(added[g], c)
					m.Connected(id, c)
				case 2:
					if len(added[g]) > 0 {
						c := added[g][random.IntN(len(added[g]))]
						m.Disconnected(c.peer, c)
					}
				case 3:
					m.TagPeer(old, "b", random.IntN(100))
					m.TagPeer(id, "b", random.IntN(100))
				case 4:
					m.Protect(old, "now and then")
					m.Unprotect(old, "now and then")
				default:
					m.UntagPeer(old, "b")
				}
			}
		})
	}
	for _, trigger := range []Trigger{TriggerManual, TriggerHardLimit, TriggerManual} {
		m.limit(m.ConnCount()*9/10, 0)
		if _, err := m.trim(context.Background(), trigger); err != nil {
			t.Errorf("trim: %v", err)
		}
		m.DryRun(trigger)
	}
	done.Store(true)
	hands.Wait()

	for _, c := range safe {
		if c.closed.Load() != 0 {
			t.Errorf("%v was closed, though it was protected all the time", c.peer)
		}
	}
	all := slices.Concat(append(added, m.conns)...)
	known := 0
	for _, c := range all {
		if c.closed.Load() > 1 {
			t.Errorf("a connection of %v was closed %d times", c.peer, c.closed.Load())
		}
		if m.table.has(c.peer, c) {
			known++
		}
	}
	if s := m.Stats(); s.Conns != known || m.ConnCount() != known || s.Closing != 0 || s.Panics != 0 {
		t.Errorf("%d connections are known; the sums are %d and %d, closing %d, panics %d", known, s.Conns, m.ConnCount(), s.Closing, s.Panics)
	}
	for _, c := range all {
		m.Disconnected(c.peer, c)
	}
	if s := m.Stats(); s.Conns != 0 || s.Peers != 0 || m.ConnCount() != 0 || s.ProtectedPeers != len(safe) {
		t.Errorf("when all have left: connections %d (%d), peers %d, protected %d; want 0, 0, 0, %d", s.Conns, m.ConnCount(), s.Peers, s.ProtectedPeers, len(safe))
	}
}

// Lists of connections are kept from one trim to the next for their memory, not for what
// was in them.
func TestALargeTrimHoldsNoConnectionThatHasGone(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero, ActiveBonus: 5})
	const n = 17_000
	var gone []weak.Pointer[manyConn]
	for i := range n {
		c := &manyConn{m: m.Manager, peer: manyID(i)}
		gone = append(gone, weak.Make(c))
		m.Connected(c.peer, c)
		m.TagPeer(c.peer, "a", i%1000)
	}
	for _, left := range []int{n * 9 / 10, n / 2} { // the second looks at everybody
		m.limit(left, 0)
		if _, err := m.Trim(context.Background()); err != nil {
			t.Fatal(err)
		}
		runtime.GC() // one, so that what a trim keeps for the next one is still there
		held := 0
		for _, c := range gone {
			if c.Value() != nil {
				held++
			}
		}
		if held != left {
			t.Errorf("%d connections are held, want the %d that are open", held, left)
		}
	}
}

// countingClock counts how often it is asked.
type countingClock struct {
	systemClock
	asked *atomic.Int64
}

func (c countingClock) Now() time.Time { c.asked.Add(1); return c.systemClock.Now() }

func TestTaggingAConnectedPeerAsksNoClock(t *testing.T) {
	clock := countingClock{asked: new(atomic.Int64)}
	m := newMany(t, Config{Clock: clock, EarlyTagTTL: time.Hour})
	m.connect("connected", DirInbound)
	before := clock.asked.Load()
	m.TagPeer("connected", "a", 1)
	m.TagPeer("connected", "a", 2)
	m.TagPeer("connected", "b", 3)
	if asked := clock.asked.Load() - before; asked != 0 {
		t.Errorf("tagging a connected peer asked the clock %d times", asked)
	}
	m.TagPeer("early", "a", 1) // this one has to be dated, or it would be swept at once
	if clock.asked.Load() == before {
		t.Error("the tag of a peer that is not connected was not dated")
	}
	if lost := m.table.sweep(); len(lost) != 0 || m.Tags().Sum("early") != 1 || m.Tags().Sum("connected") != 5 {
		t.Errorf("sums are %d and %d, want 1 and 5", m.Tags().Sum("early"), m.Tags().Sum("connected"))
	}
}

// The system's clock is asked in another way, which must tell the same time.
func TestBothWaysToAskTheClockAgree(t *testing.T) {
	m := newMany(t, Config{})
	for range 100 {
		before := m.table.now()
		between := m.table.instant(m.cfg.Clock.Now())
		if after := m.table.now(); before > between || between > after {
			t.Fatalf("one way tells %d, then the other %d, then the first %d", before, between, after)
		}
	}
	ahead := newMany(t, Config{Clock: aheadClock{}})
	if now := time.Duration(ahead.table.now()); now < time.Hour {
		t.Errorf("a clock that is an hour further at each look is at %v", now)
	}
}

// aheadClock is an hour further at each look.
type aheadClock struct{ systemClock }

var aheadLooks atomic.Int64

func (aheadClock) Now() time.Time {
	return time.Now().Add(time.Duration(aheadLooks.Add(1)) * time.Hour)
}

// What a plan was allowed to leave out must not have had to go, and that shows in what it
// has taken.
func TestALaneSaysWhetherThoseLeftOutWouldHaveStayed(t *testing.T) {
	policy := Policy{ActiveBonus: 100}
	fill := func(bound *key, streams map[handle]int32) (*lane, look) {
		var l lane
		l.reset(bound, 100)
		for i := range 100 {
			l.add(&policy, &peerFacts{at: handle(i + 1), tagSum: i, conns: 1}, 0)
		}
		return &l, func(keys []key) {
			for i := range keys {
				keys[i].setStreams(&policy, streams[keys[i].at])
			}
		}
	}
	boundAt := func(score int) *key { return &key{words: [4]uint64{uint64(score) ^ signBit, 0, signBit}} }
	allBusy := make(map[handle]int32)
	for i := range handle(100) {
		allBusy[i+1] = 1
	}
	for _, tt := range []struct {
		what    string
		bound   *key
		target  int
		streams map[handle]int32
		enough  bool
		cut     int // the lowest score of those that stay, if it is enough
	}{
		{"nobody is left out", nil, 99, nil, true, 99},
		{"as many as go are in, the one at the bound included", boundAt(9), 10, nil, true, 10},
		{"one too few is in", boundAt(8), 10, nil, false, 0},
		{"nobody has to go", boundAt(8), 0, nil, true, 0},
		{"who goes has streams, and ranks behind those left out", boundAt(50), 10, allBusy, false, 0},
		{"one has streams, and another goes instead", boundAt(50), 10, map[handle]int32{3: 1}, true, 11},
		{"one has streams, and the other is left out", boundAt(9), 10, map[handle]int32{3: 1}, false, 0},
	} {
		l, look := fill(tt.bound, tt.streams)
		if tt.target > 0 {
			l.take(&order{}, tt.target, look)
		}
		if got := l.enough(tt.target); got != tt.enough {
			t.Errorf("%s: enough is %v, want %v", tt.what, got, tt.enough)
		}
		if cut := l.lowestLeft(); tt.enough && cut > tt.cut {
			t.Errorf("%s: the lowest score of those that stay is said to be %d, but is %d", tt.what, cut, tt.cut)
		}
		if l.conns != 100 {
			t.Errorf("%s: %d connections are counted, want all 100", tt.what, l.conns)
		}
	}
}

// A bound only leaves out who ranks behind it in all that is known.
func TestALaneKeepsWhoIsLikeItsBound(t *testing.T) {
	policy := Policy{}
	at := peerFacts{tagSum: 5, conns: 1, outbound: 1, age: time.Hour}
	score, tie, age := at.rank(&policy)
	var l lane
	for what, tt := range map[string]struct {
		peer peerFacts
		in   bool
	}{
		"alike":             {at, true},
		"a lower score":     {peerFacts{tagSum: 4, conns: 1, outbound: 1, age: 2 * time.Hour}, true},
		"a higher score":    {peerFacts{tagSum: 6, conns: 1, age: time.Minute}, false},
		"inbound":           {peerFacts{tagSum: 5, conns: 1, age: 2 * time.Hour}, true},
		"younger":           {peerFacts{tagSum: 5, conns: 1, outbound: 1, age: time.Minute}, true},
		"older":             {peerFacts{tagSum: 5, conns: 1, outbound: 1, age: 2 * time.Hour}, false},
		"from the future":   {peerFacts{tagSum: 5, conns: 1, outbound: 1, age: -time.Minute}, true},
		"a score below 0":   {peerFacts{tagSum: -5, conns: 1, outbound: 1, age: time.Hour}, true},
		"many connections":  {peerFacts{tagSum: 5, conns: 9, outbound: 9, age: time.Hour}, true},
		"older and inbound": {peerFacts{tagSum: 5, conns: 1, age: 9 * time.Hour}, true},
	} {
		l.reset(&key{words: [4]uint64{score, tie, age}}, 1)
		if in := l.add(&policy, &tt.peer, 0); in != tt.in || l.leftOut == tt.in {
			t.Errorf("%s: kept %v, want %v", what, in, tt.in)
		}
	}
}

// However a crowd is divided among processors, what they find together is what one finds.
func TestTalliesOfPartsJoinToThatOfTheWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 5))
	policy := &Policy{LowWater: 100, GracePeriod: time.Minute, OutboundBonus: 3}
	var facts []peerFacts
	for i := range 1000 {
		f := peerFacts{
			at: handle(i), age: time.Duration(random.IntN(200)) * time.Second, tagSum: random.IntN(100), conns: 1 + random.Int32N(3),
			protected: random.IntN(10) == 0, trusted: random.IntN(10) == 0, conn: &manyConn{peer: manyID(i)},
		}
		f.outbound = random.Int32N(f.conns + 1)
		facts = append(facts, f)
	}
	bound := &key{words: [4]uint64{50 ^ signBit, 0, signBit}}
	for _, trigger := range []Trigger{TriggerManual, TriggerHardLimit, TriggerForce} {
		for _, sizes := range [][]int{{0, 1000, 0}, {1000, 0, 0}, {1, 998, 1}, {300, 300, 400}} {
			var whole tally
			parts := make([]tally, len(sizes))
			whole.reset(policy, trigger, bound, 0)
			rest := facts
			for i, size := range sizes {
				parts[i].reset(policy, trigger, bound, 0)
				for j := range rest[:size] {
					whole.add(&rest[j])
					parts[i].add(&rest[j])
				}
				rest = rest[size:]
			}
			joined := &parts[0]
			joined.join(&parts[1])
			joined.join(&parts[2])
			if joined.figures != whole.figures || joined.oldestInGrace != whole.oldestInGrace || joined.outbound != whole.outbound {
				t.Errorf("%v, parts of %v: figures %+v, oldest in grace %v, outbound %d; the whole has %+v, %v, %d", trigger, sizes,
					joined.figures, joined.oldestInGrace, joined.outbound, whole.figures, whole.oldestInGrace, whole.outbound)
			}
			for i, lanes := range [][2]*lane{{&joined.established, &whole.established}, {&joined.inGrace, &whole.inGrace}, {&joined.protected, &whole.protected}} {
				if a, b := lanes[0], lanes[1]; !slices.Equal(a.keys, b.keys) || a.conns != b.conns || a.leftOut != b.leftOut {
					t.Errorf("%v, parts of %v, lane %d: %d candidates, %d connections, left out %v; the whole has %d, %d, %v", trigger, sizes, i,
						len(a.keys), a.conns, a.leftOut, len(b.keys), b.conns, b.leftOut)
				}
				for _, k := range lanes[0].keys {
					if conn := joined.conns[k.conn]; conn.RemotePeer() != manyID(int(k.at)) {
						t.Fatalf("%v, parts of %v: %v would be asked for %v", trigger, sizes, conn.RemotePeer(), manyID(int(k.at)))
					}
				}
			}
		}
	}
}
