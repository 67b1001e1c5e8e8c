package connmgr

import (
	"sync"
	"sync/atomic"
)

// This file counts. Every fault that is not returned to a caller is in here.

// Stats is what the manager has and has done. Counters start at New.
type Stats struct {
	// Conns is the open connections, those that are being closed not counted.
	Conns int
	// Inbound, Outbound and UnknownDirection are the connections by direction,
	// those that are being closed included.
	Inbound, Outbound, UnknownDirection int
	// Closing is the connections that a trim has closed and that have not been
	// reported as gone yet.
	Closing int
	// Peers is the peers with a connection.
	Peers int
	// ProtectedPeers is the peers that are protected, connected or not.
	ProtectedPeers int
	// IdlePeers is the peers remembered for their tags alone.
	IdlePeers int

	// Trims is the trims that have ended, by what set them off.
	Trims map[Trigger]uint64
	// ClosedPeers is the peers closed, by reason.
	ClosedPeers map[Reason]uint64
	// SparedPeers is the victims of a plan that were not closed after all.
	SparedPeers uint64
	// LastTrim is the last trim that has ended, without its list of closed peers.
	// Its Started is zero if there was none.
	LastTrim TrimResult

	// CloseErrors is the connections that would not close, each time counted.
	CloseErrors uint64
	// HangingPeers is the peers with a connection whose Close has been given up
	// and has not returned to this moment.
	HangingPeers int
	// Panics is the panics of foreign code that were caught in the background.
	Panics uint64
	// DuplicateConnects, UnknownDisconnects, NilNotifications and
	// LateNotifications are the notifications that were ignored: of a connection
	// known already, of one not known, of none, and after Close. With a Host, some
	// of the first two are normal: the host's own word can come first.
	DuplicateConnects, UnknownDisconnects, NilNotifications, LateNotifications uint64
	// TagsRefused is the tags dropped since a peer had too many.
	TagsRefused uint64
	// IdleEvicted and IdleExpired are the idle peers forgotten for want of room,
	// and for their age.
	IdleEvicted, IdleExpired uint64
}

// Stats returns the manager's statistics. The counts of connections and peers are
// consistent within a shard of the table, not across all.
func (m *Manager) Stats() Stats {
	c := m.table.counts()
	s := Stats{
		Conns:              c.conns[DirInbound] + c.conns[DirOutbound] + c.conns[DirUnknown] - c.closing - c.arriving,
		Inbound:            c.conns[DirInbound],
		Outbound:           c.conns[DirOutbound],
		UnknownDirection:   c.conns[DirUnknown],
		Closing:            c.closing,
		Peers:              c.peers,
		ProtectedPeers:     c.protected,
		IdlePeers:          int(m.table.idle.Load()),
		Trims:              make(map[Trigger]uint64),
		ClosedPeers:        make(map[Reason]uint64),
		CloseErrors:        m.trims.record.closeErrors.Load(),
		HangingPeers:       int(m.trims.hanging.Load()),
		Panics:             m.panics.Load(),
		DuplicateConnects:  m.ignored.duplicate.Load(),
		UnknownDisconnects: m.ignored.unknown.Load(),
		NilNotifications:   m.ignored.null.Load(),
		LateNotifications:  m.ignored.late.Load(),
		TagsRefused:        c.refused,
		IdleEvicted:        c.evicted,
		IdleExpired:        c.expired,
	}
	m.trims.record.fill(&s)
	return s
}

// ConnCount returns the number of open connections, those that are being closed
// not counted. It is cheap.
func (m *Manager) ConnCount() int { return m.table.open() }

// trimRecord remembers the trims that have ended.
type trimRecord struct {
	closeErrors atomic.Uint64

	mu     sync.Mutex // guards all following fields
	trims  [len(triggerTexts)]uint64
	closed [len(reasonTexts)]uint64
	spared uint64
	last   TrimResult // without Closed
	ended  uint64     // the number of trims so far
	noted  struct {   // of the trim before, see note
		cause   Cause
		trouble int
	}
}

func (t *trimRecord) add(res *TrimResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trims[res.Trigger]++
	for _, v := range res.Closed {
		t.closed[v.Reason]++
	}
	t.spared += uint64(res.Spared)
	t.ended++
	t.last = *res
	t.last.Closed = nil
}

// addClosed counts a peer that was closed after its trim had ended.
func (t *trimRecord) addClosed(reason Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed[reason]++
}

// lastTrim returns the last trim that has ended, without its closed peers, and
// its number.
func (t *trimRecord) lastTrim() (last TrimResult, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.ended
}

// note takes note of what is wrong with a trim, and reports what of it is new: a
// shortfall due to protections that the trim before did not have, and another
// number of connections that would not close.
func (t *trimRecord) note(res *TrimResult) (shortfall, trouble bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shortfall = res.Cause&CauseProtected != 0 && t.noted.cause&CauseProtected == 0
	trouble = res.Failed+res.Hanging > 0 && res.Failed+res.Hanging != t.noted.trouble
	t.noted.cause, t.noted.trouble = res.Cause, res.Failed+res.Hanging
	return shortfall, trouble
}

func (t *trimRecord) fill(s *Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, n := range t.trims {
		if n > 0 {
			s.Trims[Trigger(i)] = n
		}
	}
	for i, n := range t.closed {
		if n > 0 {
			s.ClosedPeers[Reason(i)] = n
		}
	}
	s.SparedPeers = t.spared
	s.LastTrim = t.last
}
