package connmgr

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
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
	// yieldEach is after how many victims others get a turn on the processor. Where Close
	// takes no time, the workers would keep it for themselves otherwise.
	yieldEach = 16
)

// closer carries out one plan.
type closer struct {
	m    *Manager
	plan *Plan
	// planned is the time of the plan.
	planned instant
	next    atomic.Int64 // the next victim
	// closed is what came of each victim. Conns is 0 for one that was not closed, or has
	// not been yet.
	closed []Verdict
}

func newCloser(m *Manager, plan *Plan) *closer {
	return &closer{m: m, plan: plan, planned: m.table.instant(plan.At), closed: make([]Verdict, plan.Closes())}
}

// closeWorker closes one victim after another.
type closeWorker struct {
	// turn is odd while the worker is busy with a victim, and one higher each time that
	// it begins with one or is done; workerLost once the trim has given it up. A lost
	// worker must not touch the plan and the closer: their memory may serve the next trim
	// already.
	turn atomic.Int64
	// The worker changes these between turns, so they can be read when it is lost in one.
	spared, failed int

	now   instant
	conns []Conn // of the victim

	_ [128]byte // keeps the next worker's turn off these cache lines
}

const workerLost = -1

// watched is what run knows of a worker.
type watched struct {
	turn  int64
	since time.Time
}

// run closes the plan's victims. It returns when all are closed or given up, or
// when ctx has ended and no Close is under way but those given up.
func (c *closer) run(ctx context.Context, res *TrimResult) {
	if len(c.closed) == 0 {
		return
	}
	exited, done := make(chan *closeWorker), make(chan struct{})
	defer close(done)
	workers := make(map[*closeWorker]watched)
	start := func() {
		w := new(closeWorker)
		work := func() {
			c.work(ctx, w)
			select {
			case exited <- w:
			case <-done: // it was lost
			}
		}
		if c.m.goIfOpen(work) {
			workers[w] = watched{1, time.Now()} // it begins at once
		}
	}
	left := func(w *closeWorker) {
		delete(workers, w)
		res.Spared += w.spared
		res.Failed += w.failed
	}
	for range min(len(c.closed), closeWorkers) {
		start()
	}
	patience := closePatience
	ended := ctx.Done()
	check := time.NewTicker(patience / 4)
	defer check.Stop()
	for len(workers) > 0 {
		select {
		case w := <-exited:
			if _, mine := workers[w]; mine {
				left(w)
			}
		case <-ended:
			// Nobody waits for the result any more; what is under way may finish.
			ended, patience = nil, closePatience/10
			check.Reset(patience / 4)
		case <-check.C:
			for w, was := range workers {
				turn := w.turn.Load()
				if turn != was.turn {
					workers[w] = watched{turn, time.Now()}
					continue
				}
				if turn&1 == 0 || time.Since(was.since) < patience || !w.turn.CompareAndSwap(turn, workerLost) {
					continue
				}
				left(w)
				c.m.trims.hanging.Add(1)
				res.Hanging++
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
	res.Closed = slices.DeleteFunc(c.closed, func(v Verdict) bool { return v.Conns == 0 })
}

// victim is a peer to close.
type victim struct {
	key    key
	reason Reason
	cut    int
}

// victim returns the i-th victim of the plan.
func (c *closer) victim(i int) victim {
	for _, v := range c.plan.victims {
		if i < len(v.keys) {
			return victim{key: v.keys[i], reason: v.reason, cut: v.cut}
		}
		i -= len(v.keys)
	}
	panic("connmgr: the plan has fewer victims than it says")
}

// finished reports whether every victim had its turn.
func (c *closer) finished() bool { return int(c.next.Load()) >= len(c.closed) }

// work closes victims until there are none, ctx ends, or the worker is given up.
func (c *closer) work(ctx context.Context, w *closeWorker) {
	w.now = c.planned
	for ctx.Err() == nil && !c.m.closed.Load() {
		i := int(c.next.Add(1)) - 1
		if i >= len(c.closed) {
			return
		}
		if i%yieldEach == 0 {
			runtime.Gosched() // see registry.feed
		}
		v := c.victim(i)
		turn := w.turn.Add(1)
		verdict := Verdict{Reason: v.reason, Rank: i + 1, Score: v.key.score()}
		failed := c.m.closeVictim(w, &v, &c.plan.policy, c.planned, &verdict)
		if !w.turn.CompareAndSwap(turn, turn+1) {
			c.m.trims.hanging.Add(-1)
			if verdict.Conns > 0 { // later than the trim could wait, but closed
				c.m.trims.record.addClosed(verdict.Reason)
				c.m.publishClosed(verdict, c.plan.Trigger)
			}
			return
		}
		w.failed += failed
		switch {
		case verdict.Conns > 0:
			c.closed[i] = verdict
			c.m.publishClosed(verdict, c.plan.Trigger)
		case failed == 0:
			w.spared++
		}
	}
}

// closeVictim checks a victim once more and closes its connections, puts the peer and how
// many it closed into the verdict, and returns how many would not be closed. Both
// numbers are 0 if the peer is spared.
func (m *Manager) closeVictim(w *closeWorker, v *victim, policy *Policy, planned instant, verdict *Verdict) (failed int) {
	verdict.Peer = m.claim(w, v, policy, planned)
	host := m.cfg.Host
	switch {
	case len(w.conns) == 0:
		return 0
	case host != nil:
		err := m.safely(func() error { return host.CloseConnection(verdict.Peer, verdict.Reason) })
		w.now = m.table.now()
		for _, conn := range w.conns {
			if m.table.endCloseAt(v.key.at, conn, err, w.now) {
				verdict.Conns++
			} else {
				m.closeFailed(verdict.Peer, err)
			}
		}
	case len(w.conns) == 1:
		if m.closeConn(v.key.at, w.conns[0], verdict, &w.now) {
			verdict.Conns = 1
		}
	default:
		verdict.Conns = m.closeAll(v.key.at, w.conns, *verdict)
	}
	return len(w.conns) - verdict.Conns
}

// closeAll closes several connections of a peer and returns how many it closed. Those that
// hang must not keep the others open: when no place has come free for too long, their
// places are given up, and there are new ones.
func (m *Manager) closeAll(at handle, conns []Conn, verdict Verdict) int {
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
			var now instant
			if m.closeConn(at, conn, &verdict, &now) {
				ok.Add(1)
			}
			<-place
		})
	}
	all.Wait()
	return int(ok.Load())
}

// closeConn closes a connection and reports whether that worked. It sets now to the time
// afterwards.
func (m *Manager) closeConn(at handle, conn Conn, verdict *Verdict, now *instant) bool {
	err := m.tryClose(conn, verdict.Reason)
	*now = m.table.now()
	if m.table.endCloseAt(at, conn, err, *now) {
		return true
	}
	m.closeFailed(verdict.Peer, err)
	return false
}

func (m *Manager) tryClose(conn Conn, why Reason) (err error) {
	defer m.recovered(&err)
	return conn.CloseWithReason(why)
}

// claim looks at a victim once more, marks its connections as closing, and returns its
// ID. There are none if the peer has left (it may have come back, and is new then), was
// protected since the plan was made, or has risen above the cut. Its connections are asked
// for their streams only if these can save it.
func (m *Manager) claim(w *closeWorker, v *victim, policy *Policy, planned instant) NodeID {
	id, ask := m.claimWith(w, v, policy, planned, nil)
	if ask {
		streams := m.countStreams(w.conns...)
		id, _ = m.claimWith(w, v, policy, planned, &streams)
	}
	return id
}

// claimWith is claim for a victim that has so many streams. If that is not known and
// matters, it only returns the connections to ask.
func (m *Manager) claimWith(w *closeWorker, v *victim, policy *Policy, planned instant, streams *int32) (id NodeID, ask bool) {
	w.conns = w.conns[:0]
	r := m.table
	s, rec := r.lockHandle(v.key.at)
	defer s.mu.Unlock()
	if rec == nil || rec.state != recordConnected {
		return "", false
	}
	var f peerFacts
	r.factsLocked(s, rec, w.now, &f)
	if streams != nil {
		f.streams = *streams
	}
	switch score := policy.score(f.tagSum, f.outbound, f.streams); {
	case rec.since != planned-instant(v.key.age()), f.protected && v.reason != ClosedForcedProtected, score > v.cut:
	case streams == nil && addSaturating(score, policy.ActiveBonus) > v.cut:
		ask = true
		w.conns = rec.openConns(w.conns)
	default:
		w.conns = r.beginCloseLocked(s, rec, w.conns)
	}
	return rec.id, ask
}

func (m *Manager) publishClosed(v Verdict, t Trigger) {
	m.publishDenied(v, t, Rule{}, netip.AddrPort{})
}

// publishDenied is publishClosed for a peer that a rule denies.
func (m *Manager) publishDenied(v Verdict, t Trigger, by Rule, addr netip.AddrPort) {
	m.events.publish(func() Event {
		return EventClosed{Verdict: v, Trigger: t, Rule: by, Addr: addr, At: m.cfg.Clock.Now()}
	})
}

// closeFailed logs the first connection that would not close, and counts all.
func (m *Manager) closeFailed(peer NodeID, err error) {
	m.trims.record.closeErrors.Add(1)
	if m.faults.closing.CompareAndSwap(false, true) {
		m.log(slog.LevelWarn, "connmgr: closing a connection failed; later failures are only counted", "peer", peer.String(), "error", err)
	}
}
