package connmgr

import (
	"cmp"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// This file closes connections without a plan: those that a rule denies, the one
// that makes room for a newcomer, those of a peer that misbehaves or that somebody asks
// to close. Protection from trims does not protect from any of this but displacement,
// and limits of parallel work and patience are those of closer.go.

// ClosePeer closes all connections of a peer, protected or not, and returns how many of
// them it closed. It returns when that is done, but does not wait for a Close that
// hangs. A peer that is not connected is no error. After Close of the manager it closes
// nothing.
//
// Nothing keeps the peer from coming back; [Gater.Block] does.
func (m *Manager) ClosePeer(peer NodeID) (conns int) {
	if m.closed.Load() {
		return 0
	}
	_ = m.refresh() // the host may know of connections that we don't; logged and counted
	e := m.evictPeer(peer, ClosedOnRequest, func(Conn, Direction) bool { return true })
	if e == nil {
		return 0
	}
	_, conns = m.evict(TriggerRequest, e)
	return conns
}

// eviction is a peer's connections that have to go, already marked as closing.
type eviction struct {
	verdict Verdict
	conns   []Conn
	// rule and addr are those of the first connection that a rule denies.
	rule Rule
	addr netip.AddrPort

	// first is what came of closing the first connection; 0 as long as nobody knows.
	first atomic.Int32

	// These are guarded by evictor.mu.
	closed, left int
	told, hangs  bool
}

// The values of eviction.first.
const (
	firstClosed = 1 + iota
	firstFailed
)

// note keeps what came of closing the first connection.
func (of *eviction) note(c Conn, closed bool) {
	switch {
	case c != of.conns[0]:
	case closed:
		of.first.Store(firstClosed)
	default:
		of.first.Store(firstFailed)
	}
}

// evictor closes the connections of evictions, several at once.
type evictor struct {
	m       *Manager
	trigger Trigger
	list    []*eviction
	allDone chan struct{}

	mu   sync.Mutex // guards all following fields
	peer int        // whose connection is next,
	conn int        // and which one
	left int        // connections that are not closed yet
}

// evict closes connections, and returns when they are closed or hang; see closer.go.
// It returns how many had been closed by then, of how many peers.
func (m *Manager) evict(trigger Trigger, list ...*eviction) (peers, conns int) {
	e := &evictor{m: m, trigger: trigger, list: list, allDone: make(chan struct{})}
	for _, of := range list {
		of.left = len(of.conns)
		e.left += of.left
	}
	if e.left == 0 {
		return 0, 0
	}
	workers := min(e.left, closeWorkers)
	check := time.NewTimer(closePatience)
	defer check.Stop()
	for handedOut, done := false, false; !handedOut && !done; handedOut = e.handedOut() {
		for range workers {
			if !m.goIfOpen(e.work) { // the manager is closed, and its host is closing
				e.giveUp()
			}
		}
		select {
		case <-e.allDone:
			done = true
		case <-check.C: // if workers hang, others take their places, and patience is less
			check.Reset(closePatience / 10)
		}
	}
	select {
	case <-e.allDone:
	case <-check.C:
	}
	for _, of := range list {
		if closed := e.tell(of, true); closed > 0 {
			peers++
			conns += closed
		}
	}
	return peers, conns
}

// tell counts a peer and tells subscribers of it, once: when all of its connections
// are done, or now, when those that are not done hang. It returns how many are closed.
func (e *evictor) tell(of *eviction, now bool) (closed int) {
	e.mu.Lock()
	if now && of.left > 0 {
		of.hangs = true
		e.m.trims.hanging.Add(1)
	}
	due := !of.told && of.closed > 0 && (now || of.left == 0)
	of.told = of.told || due
	of.verdict.Conns = of.closed
	verdict := of.verdict
	e.mu.Unlock()
	if due {
		e.m.trims.record.addClosed(verdict.Reason)
		e.m.publishDenied(verdict, e.trigger, of.rule, of.addr)
	}
	return verdict.Conns
}

// handedOut reports whether every connection has its worker.
func (e *evictor) handedOut() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peer == len(e.list)
}

// take returns the next connection to close.
func (e *evictor) take() (*eviction, Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer == len(e.list) {
		return nil, nil
	}
	of := e.list[e.peer]
	c := of.conns[e.conn]
	if e.conn++; e.conn == len(of.conns) {
		e.peer, e.conn = e.peer+1, 0
	}
	return of, c
}

func (e *evictor) work() {
	for of, c := e.take(); of != nil; of, c = e.take() {
		err := e.m.safely(func() error { return c.CloseWithReason(of.verdict.Reason) })
		closed := e.m.table.endCloseThen(of.verdict.Peer, c, err, func(closed bool) { of.note(c, closed) })
		if !closed {
			e.m.closeFailed(of.verdict.Peer, err)
		}
		e.done(of, closed)
	}
}

// done notes that a connection's Close has returned. Whoever waits for all of them goes
// on when everybody has been told.
func (e *evictor) done(of *eviction, closed bool) {
	e.mu.Lock()
	if closed {
		of.closed++
	}
	if of.left--; of.left == 0 && of.hangs {
		e.m.trims.hanging.Add(-1)
	}
	e.mu.Unlock()
	e.tell(of, false)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left == 0 {
		close(e.allDone)
	}
}

// giveUp lets the connections count again that nobody will close.
func (e *evictor) giveUp() {
	for of, c := e.take(); of != nil; of, c = e.take() {
		e.m.table.endClose(of.verdict.Peer, c, ErrClosed)
		of.note(c, false)
		e.done(of, false)
	}
}

// evictPeer marks the connections of a peer for which pick is true, and returns them,
// nil if there are none. pick may be foreign code; it runs without a lock.
func (m *Manager) evictPeer(peer NodeID, reason Reason, pick func(Conn, Direction) bool) *eviction {
	r := m.table
	var picked []Conn
	for _, slot := range r.heldSlots(peer) {
		if slot.phase == phaseOpen && pick(slot.conn, slot.direction) {
			picked = append(picked, slot.conn)
		}
	}
	if len(picked) == 0 {
		return nil
	}
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec == nil {
		return nil
	}
	e := &eviction{verdict: Verdict{Peer: peer, Reason: reason, Score: rec.sum}}
	for _, c := range picked {
		if slot := rec.slot(c); slot != nil && r.markClosingLocked(s, slot) {
			e.conns = append(e.conns, c)
		}
	}
	if len(e.conns) == 0 {
		return nil
	}
	return e
}

// remoteAddr returns the address of a connection's other side, if it knows.
func (m *Manager) remoteAddr(c Conn) (addr netip.AddrPort) {
	if ac, ok := c.(AddrConn); ok {
		_ = m.safely(func() error { addr = ac.RemoteAddrPort(); return nil })
	}
	return addr
}

// closeDenied closes the live connections that are denied since rules changed: one
// that denies came, or one that allows went and had made a hole in another.
func (g *Gater) closeDenied(changes []RuleChange) {
	var peers []NodeID
	everybody, refreshed := false, g.m.cfg.Host == nil
	for _, c := range changes {
		if c.Remove != (c.Rule.Effect == Allow) {
			continue
		}
		if !refreshed { // the host may know of connections that we don't
			_, refreshed = g.m.refresh(), true
		}
		if id, ok := c.Rule.Target.Peer(); ok {
			peers = append(peers, id)
		} else {
			everybody = true // an address tells nothing about who is there
		}
	}
	if everybody {
		peers = g.m.table.connectedPeers()
	}
	var list []*eviction
	for _, id := range peers {
		if e := g.denied(id); e != nil {
			list = append(list, e)
		}
	}
	g.m.evict(TriggerRule, list...)
}

// denied marks the connections of a peer that the rules deny.
func (g *Gater) denied(peer NodeID) *eviction {
	set := g.rules.Load()
	var first *DeniedError
	e := g.m.evictPeer(peer, ClosedBlocked, func(c Conn, dir Direction) bool {
		denial := g.denial(set, peer, c, dir)
		first = cmp.Or(first, denial)
		return denial != nil
	})
	if e != nil {
		e.rule, e.addr = first.Rule, first.Addr
	}
	return e
}

// denial returns why a live connection is denied; nil if it is not.
func (g *Gater) denial(set *ruleSet, peer NodeID, c Conn, dir Direction) *DeniedError {
	who := subject{peer: peer, hasPeer: true, dialled: dir == DirOutbound}
	if set.prefixes != nil || set.ports != nil {
		who.addr = g.m.remoteAddr(c)
	}
	now := g.moment()
	outcome, _ := set.judge(&who, &now)
	if outcome == Passed {
		return nil
	}
	return set.denial(AtUpgraded, outcome, &who, &now)
}

// closeIfDenied looks at a connection that has just been reported: a rule may have
// come between the gate's last checkpoint and now, or the host may not ask the gate.
func (g *Gater) closeIfDenied(peer NodeID, c Conn, dir Direction) {
	set := g.rules.Load()
	if set.count == 0 || g.denial(set, peer, c, dir) == nil {
		return
	}
	g.m.goIfOpen(func() {
		if e := g.denied(peer); e != nil {
			g.m.evict(TriggerRule, e)
		}
	})
}
