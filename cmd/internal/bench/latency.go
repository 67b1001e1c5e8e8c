package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file measures how long the calls take that a node makes while its manager
// trims.
//
// The calls come by a clock, one every callEvery, and not one after the other. A
// caller that waits for its call before it makes the next one makes few calls just
// when they take long, and its percentiles look better than they are. Here calls that
// are late are made up for, and all that were due while the trim ran are made.
//
// Two times are taken of each call. One is from the call to its return: what the
// manager does, its locks, and whatever stops a goroutine in the middle of it. That is
// what the bound of 1 ms is about. The other is from when the call was due. It has in
// it, besides, how long the caller had to wait for a processor and for the calls
// before it. That is the stricter one, and the one that a node feels; but a machine
// that others use as well spoils it first, even with no trim at all. Therefore both
// are taken a second time with no trim.
//
// The caller waits for the next call in a loop, since sleeping is not exact to
// microseconds. So it needs a processor of its own, and on a machine with two a trim
// has only the other: it takes longer here than by itself.

const (
	callEvery = 10 * time.Microsecond
	// enoughCalls is how many calls of a kind there have to be: with fewer, chance
	// decides on 99.9 %. One trim may be too short for that; then there are more, each
	// as large as the first.
	enoughCalls = 20_000
	mostTrims   = 50
	// freshConns is how many connections come and go, and freshAtOnce how many of them
	// are open at the same time.
	freshConns, freshAtOnce = 4096, 64
	// unhurried is how long the calls are made with no trim.
	unhurried = time.Second
)

// latencyRow is how long calls of one kind took.
type latencyRow struct {
	manager  string
	call     string
	trimming bool // else nothing but the calls was going on
	calls    int
	// From the call to its return.
	p50, p99, p999, longest time.Duration
	// From when the call was due.
	dueP999, dueLongest time.Duration
	trimTook            time.Duration // the median, if there were several
}

func latencyHeader() []string {
	return []string{
		"manager", "call", "meanwhile", "calls", "50 %", "99 %", "99.9 %", "longest",
		"99.9 % since due", "longest since due",
	}
}

func (r latencyRow) cells() []string {
	meanwhile := "nothing"
	if r.trimming {
		meanwhile = "a trim of " + writeDuration(r.trimTook)
	}
	return []string{
		r.manager, r.call, meanwhile, thousands(r.calls),
		writeDuration(r.p50), writeDuration(r.p99), writeDuration(r.p999), writeDuration(r.longest),
		writeDuration(r.dueP999), writeDuration(r.dueLongest),
	}
}

// measureLatency measures both managers, with a crowd of so many peers and trims that
// close a tenth. When ctx ends, it returns as soon as the trim does that is running.
func measureLatency(ctx context.Context, peers int, progress func(string)) ([]latencyRow, error) {
	var rows []latencyRow
	for _, c := range contenders {
		of, err := c.latency(ctx, peers, progress)
		if err != nil {
			return nil, fmt.Errorf("latency of %s: %w", c.name, err)
		}
		rows = append(rows, of...)
	}
	return rows, nil
}

func (c contender) latency(ctx context.Context, peers int, progress func(string)) ([]latencyRow, error) {
	progress(fmt.Sprintf("latency: %s gets %d peers", c.name, peers))
	random := rand.New(rand.NewPCG(1, 2))
	score := func(int) int { return random.IntN(1000) }
	crowd := newCrowd(peers)
	m, err := c.filled(peers-peers/10, crowd, score)
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.Close() }()

	load := newCallLoad(m, crowd, random)
	runtime.GC()
	load.during(func() {
		select {
		case <-ctx.Done():
		case <-time.After(unhurried):
		}
	})
	rows := load.rows(latencyRow{manager: c.name})

	load.forget()
	var took []time.Duration
	for n := 1; n <= mostTrims && !load.enough(); n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		progress(fmt.Sprintf("latency: %s, trim %d", c.name, n))
		runtime.GC() // of what was made to prepare this, not of what a trim makes
		took = append(took, load.during(func() { m.TrimOpenConns(ctx) }))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if closed := crowd.comeBack(m, score); closed < peers/20 {
			return nil, fmt.Errorf("a trim was to close %d of %d peers, and closed %d", peers/10, peers, closed)
		}
	}
	slices.Sort(took)
	return append(rows, load.rows(latencyRow{manager: c.name, trimming: true, trimTook: took[len(took)/2]})...), nil
}

// comeBack has all peers connect again whose connections a trim has closed, and
// returns how many these are.
func (c *crowd) comeBack(m manager, score func(i int) int) (closed int) {
	notifee := m.Notifee()
	for i, conn := range c.conns {
		if !conn.closed.Load() {
			continue
		}
		closed++
		notifee.Disconnected(nil, conn)
		conn.closed.Store(false)
		notifee.Connected(nil, conn)
		m.TagPeer(conn.remote, "kad", score(i))
		m.TagPeer(conn.remote, "bitswap", 0)
	}
	return closed
}

// The kinds of calls. Half of all calls are tags.
const (
	callTag = iota
	callConnected
	callDisconnected
	callKinds
)

var (
	callNames = [callKinds]string{"TagPeer", "Connected", "Disconnected"}
	callOrder = [...]int{callTag, callConnected, callTag, callDisconnected}
)

// callLoad is the calls that a manager gets.
type callLoad struct {
	manager manager
	notifee network.Notifiee
	known   []peer.ID
	fresh   []*fakeConn
	made    int // how many calls so far
	came    int // how many connections have come so far; freshAtOnce fewer have gone
	random  *rand.Rand

	took, sinceDue [callKinds][]time.Duration
}

func newCallLoad(m manager, crowd *crowd, random *rand.Rand) *callLoad {
	l := &callLoad{manager: m, notifee: m.Notifee(), known: crowd.ids, random: random}
	for i := range freshConns {
		l.fresh = append(l.fresh, newFakeConn(peerID(len(crowd.ids)+i), 0))
	}
	for kind := range callKinds {
		// Room for a trim of 20 s. Beyond that it grows, between two calls.
		l.took[kind] = make([]time.Duration, 0, 1<<20)
		l.sinceDue[kind] = make([]time.Duration, 0, 1<<20)
	}
	for ; l.came < freshAtOnce; l.came++ {
		l.notifee.Connected(nil, l.fresh[l.came])
	}
	return l
}

// during makes the calls that are due while work runs, and returns how long it ran.
func (l *callLoad) during(work func()) time.Duration {
	var began, ended atomic.Int64 // since the epoch
	ended.Store(math.MaxInt64)
	epoch := time.Now()
	var all sync.WaitGroup
	all.Go(func() {
		began.Store(int64(time.Since(epoch)))
		work()
		ended.Store(int64(time.Since(epoch)))
	})
	for began.Load() == 0 {
		runtime.Gosched()
	}
	due := time.Duration(began.Load())
	for ; ; l.made++ {
		due += callEvery
		start := time.Since(epoch)
		for start < due {
			start = time.Since(epoch)
		}
		if int64(due) >= ended.Load() {
			break
		}
		kind := callOrder[l.made%len(callOrder)]
		l.call(kind)
		end := time.Since(epoch)
		l.took[kind] = append(l.took[kind], end-start)
		l.sinceDue[kind] = append(l.sinceDue[kind], end-due)
	}
	all.Wait()
	return time.Duration(ended.Load() - began.Load())
}

func (l *callLoad) call(kind int) {
	switch kind {
	case callTag:
		l.manager.TagPeer(l.known[l.random.IntN(len(l.known))], "bitswap", l.random.IntN(16))
	case callConnected:
		l.notifee.Connected(nil, l.fresh[l.came%freshConns])
		l.came++
	case callDisconnected:
		l.notifee.Disconnected(nil, l.fresh[(l.came-freshAtOnce-1)%freshConns])
	}
}

func (l *callLoad) enough() bool {
	for _, took := range l.took {
		if len(took) < enoughCalls {
			return false
		}
	}
	return true
}

// forget drops the times taken so far.
func (l *callLoad) forget() {
	for kind := range callKinds {
		l.took[kind], l.sinceDue[kind] = l.took[kind][:0], l.sinceDue[kind][:0]
	}
}

// rows returns a row for each kind of call, with what is common to all in it.
func (l *callLoad) rows(common latencyRow) []latencyRow {
	var rows []latencyRow
	for kind, took := range l.took {
		slices.Sort(took)
		due := l.sinceDue[kind]
		slices.Sort(due)
		r := common
		r.call, r.calls = callNames[kind], len(took)
		r.p50, r.p99, r.p999, r.longest = percentile(took, 500), percentile(took, 990), percentile(took, 999), percentile(took, 1000)
		r.dueP999, r.dueLongest = percentile(due, 999), percentile(due, 1000)
		rows = append(rows, r)
	}
	return rows
}

// percentile returns the time within which so many in a thousand were done, 0 if there
// were none. The times are sorted.
func percentile(sorted []time.Duration, perMille int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*perMille + 999) / 1000
	return sorted[max(rank, 1)-1]
}
