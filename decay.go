package connmgr

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds decaying tags: values that grow by bumps and shrink with time.
// A bump takes effect before Bump returns. decay_tick.go makes them shrink.

// ErrTagClosed is returned by methods of a decaying tag that has been closed.
var ErrTagClosed = errors.New("connmgr: decaying tag is closed")

// ErrTooManyTags is returned by Bump for a peer that has
// [Config.MaxTagsPerPeer] tags already.
var ErrTooManyTags = errors.New("connmgr: peer has too many tags")

// DecayFunc says what becomes of a value when its interval has passed: its new
// value, or that it is to be removed. Presets are [DecayNone], [DecayFixed],
// [DecayLinear], [DecayHalfLife] and [DecayExpireWhenInactive].
//
// It runs in the background, under no lock, and may call back into the manager.
// A panic in it is logged once for the tag, counted, and leaves the value as it
// was. It runs again if the value changes meanwhile.
type DecayFunc func(DecayingValue) (after int, remove bool)

// BumpFunc says what a bump by delta makes of a value. Presets are
// [BumpSumUnbounded], [BumpSumBounded] and [BumpOverwrite].
//
// It runs on the goroutine that bumps, under no lock, and may call back into the
// manager. It runs again if the value changes meanwhile.
type BumpFunc func(value DecayingValue, delta int) (after int)

// DecayingValue is the value of a decaying tag for one peer.
type DecayingValue struct {
	// Tag is the tag whose value this is.
	Tag *DecayingTag
	// Peer is the peer that has it.
	Peer NodeID
	// Added is when the peer got the tag.
	Added time.Time
	// LastBump is when the value was last bumped. Decay does not change it.
	LastBump time.Time
	// BumpedTo is the value that the last bump left, and BumpedFrom the time from
	// which that decays: the last decay before the bump, or Added if there was none.
	// From the two, what is left can be worked out at any time without adding up
	// the rounding of each decay.
	BumpedTo   int
	BumpedFrom time.Time
	// Now is the time for which the function is asked. In decay that is when the
	// interval ended, however late the function runs.
	Now time.Time
	// Value is the value now.
	Value int
}

// DecayingTag is a tag whose values decay. Methods may be called from several
// goroutines.
type DecayingTag struct {
	manager  *Manager
	name     string
	interval time.Duration
	decay    DecayFunc
	bump     BumpFunc
	closed   atomic.Bool
	closing  sync.Once
	panicked atomic.Bool // a panic of decay has been logged
	next     instant     // when it is due; guarded by decayer.mu
}

// decayingEntry is a peer's value of a decaying tag; see [DecayingValue].
type decayingEntry struct {
	tag        *DecayingTag
	value      int
	added      instant
	decayed    instant // the last decay, or added if there was none
	bumped     instant
	bumpedTo   int
	bumpedFrom instant
}

// decayer is the set of decaying tags. It is never locked together with a shard.
type decayer struct {
	mu      sync.Mutex // guards all following fields
	tags    map[string]*DecayingTag
	changed chan struct{} // wakes the goroutine; capacity 1
}

// RegisterDecayingTag makes a decaying tag. Its values decay once per interval,
// counted from now; an interval below [Config.DecayInterval] is raised to it. It
// fails if a tag of that name exists, if a function is nil, and after Close.
func (m *Manager) RegisterDecayingTag(name string, interval time.Duration, decay DecayFunc, bump BumpFunc) (*DecayingTag, error) {
	if decay == nil || bump == nil {
		return nil, fmt.Errorf("connmgr: decaying tag %q: decay and bump function must not be nil", name)
	}
	now := m.table.now()
	t := &DecayingTag{
		manager:  m,
		name:     name,
		interval: max(interval, m.cfg.DecayInterval),
		decay:    decay,
		bump:     bump,
	}
	t.next = now.plus(t.interval)
	d := &m.decay
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.closed.Load() {
		return nil, fmt.Errorf("connmgr: decaying tag %q: %w", name, ErrClosed)
	}
	if d.tags[name] != nil {
		return nil, fmt.Errorf("connmgr: decaying tag %q exists already", name)
	}
	if d.tags == nil {
		d.tags = make(map[string]*DecayingTag)
	}
	d.tags[name] = t
	notify(d.changed)
	return t, nil
}

// Name returns the tag's name.
func (t *DecayingTag) Name() string { return t.name }

// Interval returns the time between two decays, as it is in force.
func (t *DecayingTag) Interval() time.Duration { return t.interval }

// Bump changes the tag's value for a peer by means of its bump function, before
// it returns. A value that does not exist starts at 0. The peer need not be
// connected. It fails with [ErrTagClosed] after Close of the tag, and with
// [ErrTooManyTags].
func (t *DecayingTag) Bump(peer NodeID, delta int) error {
	m := t.manager
	now := m.table.now()
	for try := 1; ; try++ {
		old, existed := m.table.decayingEntry(peer, t)
		if !existed {
			old = newEntry(t, now)
		}
		after := t.bump(m.decayingValue(peer, old, now), delta)
		var err error
		stored := false
		m.table.edit(peer, func(s *shard, rec *record) {
			if stored = true; t.closed.Load() {
				err = fmt.Errorf("connmgr: bump of %q: %w", t.name, ErrTagClosed)
				return
			}
			e := rec.decayingEntry(t)
			if changed := (e != nil) != existed || e != nil && e.changedSince(old); changed && try < maxUpserts {
				stored = false
				return
			} else if changed && e != nil {
				after = addSaturating(e.value, subSaturating(after, old.value))
			}
			if e == nil {
				if !s.hasRoomLocked(rec, m.table.limits.tagsPerPeer) {
					err = fmt.Errorf("connmgr: bump of %q: %w", t.name, ErrTooManyTags)
					return
				}
				all := &rec.needRare().decaying
				*all = append(*all, newEntry(t, now))
				e = &(*all)[len(*all)-1]
			}
			before := e.value
			e.value, e.bumped = after, now
			e.bumpedTo, e.bumpedFrom = after, e.decayed
			rec.changeSum(before, after)
		})
		if stored {
			return err
		}
	}
}

func newEntry(t *DecayingTag, now instant) decayingEntry {
	return decayingEntry{tag: t, added: now, decayed: now, bumped: now, bumpedFrom: now}
}

// changedSince reports whether a value was bumped or decayed since it was read.
func (e *decayingEntry) changedSince(read decayingEntry) bool {
	return e.value != read.value || e.bumped != read.bumped
}

// Remove takes the tag from a peer, before it returns. That the peer does not
// have it is not an error. It fails with [ErrTagClosed] after Close of the tag.
func (t *DecayingTag) Remove(peer NodeID) error {
	if t.closed.Load() {
		return fmt.Errorf("connmgr: removal of %q: %w", t.name, ErrTagClosed)
	}
	r := t.manager.table
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec != nil {
		rec.removeDecaying(t)
		r.settleLocked(s, rec, rec.since)
	}
	return nil
}

// Close takes the tag from all peers and gives its name free, before it returns.
// Closing a tag twice is the same as once. It always returns nil.
func (t *DecayingTag) Close() error {
	t.closing.Do(t.takeBack)
	return nil
}

func (t *DecayingTag) takeBack() {
	t.closed.Store(true)
	r := t.manager.table
	// A bump that has passed its check before now stores under the shard's lock,
	// where it checks again, so what this walk has passed stays clean.
	for s := range r.eachShardLocked {
		for _, rec := range s.recordsLocked {
			if rec.removeDecaying(t) {
				r.settleLocked(s, rec, rec.since)
			}
		}
	}
	d := &t.manager.decay
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tags[t.name] == t {
		delete(d.tags, t.name)
	}
}

func (m *Manager) decayingValue(peer NodeID, e decayingEntry, now instant) DecayingValue {
	return DecayingValue{
		Tag:        e.tag,
		Peer:       peer,
		Added:      m.table.time(e.added),
		LastBump:   m.table.time(e.bumped),
		BumpedTo:   e.bumpedTo,
		BumpedFrom: m.table.time(e.bumpedFrom),
		Now:        m.table.time(now),
		Value:      e.value,
	}
}

// decayingEntry returns a peer's value of a tag.
func (r *registry) decayingEntry(peer NodeID, t *DecayingTag) (e decayingEntry, ok bool) {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec != nil {
		if e := rec.decayingEntry(t); e != nil {
			return *e, true
		}
	}
	return decayingEntry{}, false
}

func (rec *record) decayingEntry(t *DecayingTag) *decayingEntry {
	for i := range rec.decayingLen() {
		if e := &rec.rare.decaying[i]; e.tag == t {
			return e
		}
	}
	return nil
}

// removeDecaying takes a decaying tag from a peer and reports whether it had it.
func (rec *record) removeDecaying(t *DecayingTag) bool {
	e := rec.decayingEntry(t)
	if e == nil {
		return false
	}
	old := e.value
	all := &rec.rare.decaying
	last := len(*all) - 1
	*e, (*all)[last] = (*all)[last], decayingEntry{}
	if *all = (*all)[:last]; last == 0 {
		*all = nil
	}
	rec.changeSum(old, 0)
	rec.trimRare()
	return true
}

func (rec *record) decayingLen() int {
	if rec.rare == nil {
		return 0
	}
	return len(rec.rare.decaying)
}
