package connmgr

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// This file closes the victims of a plan: in order, several at once, each
// checked again just before. A connection that hangs in its Close takes one
// worker out; after closePatience another worker takes its place, and the trim
// does not wait for the lost one.

const (
	// closeWorkers is how many connections are closed at the same time. Closing
	// is mostly waiting for the kernel; 16 keeps two cores busy and no more.
	closeWorkers = 16
	// closePatience is how long a Close may take before the trim goes on without.
	// A Close that only sends a message and frees memory takes microseconds.
	closePatience = time.Second
)

// closer carries out one plan.
type closer struct {
	m       *Manager
	plan    *Plan
	started time.Time

	next atomic.Int64 // the next victim

	mu  sync.Mutex // guards res
	res *TrimResult
}

// closeWorker closes one victim after another.
type closeWorker struct {
	// busySince is when the worker turned to its victim, by closer.clock; 0 between
	// victims; workerLost once the trim has given it up. A lost worker must not touch
	// the plan's peers and victims, nor the result: their memory may serve the next
	// trim already.
	busySince atomic.Int64
}

const workerLost = -1

// run closes the plan's victims. It returns when all are closed or given up, or
// when ctx has ended and no Close is under way but those given up.
func (c *closer) run(ctx context.Context) {
	victims := len(c.plan.victims)
	if victims == 0 {
		return
	}
	exited := make(chan *closeWorker, victims+closeWorkers)
	workers := make(map[*closeWorker]bool)
	start := func() {
		w := new(closeWorker)
		if c.m.goIfOpen(func() { c.work(ctx, w); exited <- w }) {
			workers[w] = true
		}
	}
	for range min(victims, closeWorkers) {
		start()
	}
	patience := closePatience
	ended := ctx.Done()
	check := time.NewTicker(patience / 4)
	defer check.Stop()
	for len(workers) > 0 {
		select {
		case w := <-exited:
			delete(workers, w)
		case <-ended:
			// Nobody waits for the result any more; what is under way may finish.
			ended, patience = nil, closePatience/10
			check.Reset(patience / 4)
		case <-check.C:
			for w := range workers {
				since := w.busySince.Load()
				if since <= 0 || c.clock()-since < int64(patience) || !w.busySince.CompareAndSwap(since, workerLost) {
					continue
				}
				delete(workers, w)
				c.m.trims.hanging.Add(1)
				c.mu.Lock()
				c.res.Hanging++
				c.mu.Unlock()
				if ctx.Err() == nil {
					start()
				}
				// Where one hangs more may, and they must not hold up the trim for a
				// second each sixteen.
				if patience == closePatience {
					patience = closePatience / 10
					check.Reset(patience / 4)
				}
			}
		}
	}
	slices.SortFunc(c.res.Closed, func(a, b Verdict) int { return cmp.Compare(a.Rank, b.Rank) })
}

// clock returns the nanoseconds since the trim began, at least 1.
func (c *closer) clock() int64 { return int64(time.Since(c.started)) + 1 }

// finished reports whether every victim had its turn.
func (c *closer) finished() bool { return int(c.next.Load()) >= len(c.plan.victims) }

// work closes victims until there are none, ctx ends, or the worker is given up.
func (c *closer) work(ctx context.Context, w *closeWorker) {
	for ctx.Err() == nil && !c.m.closed.Load() {
		i := int(c.next.Add(1)) - 1
		if i >= len(c.plan.victims) {
			return
		}
		v := c.plan.victims[i]
		verdict := c.plan.verdict(v.peer, i+1)
		was := asPlanned{cut: v.cut, since: c.plan.peers[v.peer].Since}

		since := c.clock()
		w.busySince.Store(since)
		closed, failed := c.closePeer(verdict, was)
		verdict.Conns = closed
		if !w.busySince.CompareAndSwap(since, 0) {
			c.m.trims.hanging.Add(-1)
			if closed > 0 { // later than the trim could wait, but closed
				c.m.trims.record.addClosed(verdict.Reason)
				c.m.publishClosed(verdict, c.plan.Trigger)
			}
			return
		}

		c.mu.Lock()
		c.res.Failed += failed
		switch {
		case closed > 0:
			c.res.Closed = append(c.res.Closed, verdict)
		case failed == 0:
			c.res.Spared++
		}
		c.mu.Unlock()
		if closed > 0 {
			c.m.publishClosed(verdict, c.plan.Trigger)
		}
	}
}

// closePeer checks a victim once more and closes its connections, and returns
// how many it closed and how many would not be closed. Both are 0 if the peer is
// spared.
func (c *closer) closePeer(verdict Verdict, was asPlanned) (closed, failed int) {
	conns := c.recheck(verdict, was)
	host := c.m.cfg.Host
	switch {
	case len(conns) == 0:
		return 0, 0
	case host != nil:
		err := c.m.safely(func() error { return host.CloseConnection(verdict.Peer, verdict.Reason) })
		for _, conn := range conns {
			if c.m.table.endClose(verdict.Peer, conn, err) {
				closed++
			} else {
				c.m.closeFailed(verdict.Peer, err)
			}
		}
		return closed, len(conns) - closed
	case len(conns) == 1:
		if !c.closeConn(verdict, conns[0]) {
			return 0, 1
		}
		return 1, 0
	}
	// Those that hang must not keep the peer's others open: when no place has come
	// free for too long, their places are given up, and there are new ones.
	places := make(chan struct{}, closeWorkers)
	var ok atomic.Int64
	var all sync.WaitGroup
	for _, conn := range conns {
		select {
		case places <- struct{}{}:
		case <-time.After(closePatience):
			places = make(chan struct{}, closeWorkers)
			places <- struct{}{}
		}
		place := places
		all.Go(func() {
			if c.closeConn(verdict, conn) {
				ok.Add(1)
			}
			<-place
		})
	}
	all.Wait()
	closed = int(ok.Load())
	return closed, len(conns) - closed
}

func (c *closer) closeConn(verdict Verdict, conn Conn) bool {
	err := c.m.safely(func() error { return conn.CloseWithReason(verdict.Reason) })
	if !c.m.table.endClose(verdict.Peer, conn, err) {
		c.m.closeFailed(verdict.Peer, err)
		return false
	}
	return true
}

// asPlanned is what recheck holds the present against.
type asPlanned struct {
	cut   int
	since time.Time
}

// recheck looks at a victim once more, and marks its connections as closing. It
// returns none if the peer has left (it may have come back, and is new then), was
// protected since the plan was made, or has risen above the cut.
func (c *closer) recheck(verdict Verdict, was asPlanned) []Conn {
	policy := &c.plan.policy
	var streams int32
	if policy.ActiveBonus > 0 {
		streams = c.m.countStreams(c.m.table.openConns(verdict.Peer)...)
	}
	r := c.m.table
	now := r.now()
	s, rec := r.lock(verdict.Peer)
	defer s.mu.Unlock()
	if rec == nil {
		return nil
	}
	state, _ := r.peerStateLocked(s, rec, now)
	state.Streams = streams
	switch {
	case !state.Since.Equal(was.since),
		state.Protected && verdict.Reason != ClosedForcedProtected,
		policy.Score(&state) > was.cut:
		return nil
	}
	return r.beginCloseLocked(s, rec)
}

func (m *Manager) publishClosed(v Verdict, t Trigger) {
	m.events.publish(func() Event { return EventClosed{Verdict: v, Trigger: t, At: m.cfg.Clock.Now()} })
}

// closeFailed logs the first connection that would not close, and counts all.
func (m *Manager) closeFailed(peer NodeID, err error) {
	m.trims.record.closeErrors.Add(1)
	if m.faults.closing.CompareAndSwap(false, true) {
		m.log(slog.LevelWarn, "connmgr: closing a connection failed; later failures are only counted", "peer", peer.String(), "error", err)
	}
}
