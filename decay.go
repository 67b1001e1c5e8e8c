package connmgr

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds decaying tags: values that grow by bumps and shrink with time.
// A bump takes effect before Bump returns. One goroutine decays; it sleeps until
// the next tag is due and does not run while there are no tags.

// ErrClosed is returned by calls that need background work of a manager that is
// closed.
var ErrClosed = errors.New("connmgr: manager is closed")

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
			switch {
			case e == nil && existed, e != nil && (!existed || e.value != old.value || e.bumped != old.bumped):
				if try < maxUpserts {
					stored = false
					return
				}
				if e != nil {
					after = addSaturating(e.value, subSaturating(after, old.value))
				}
			}
			if e == nil {
				if rec.tags.len()+rec.decayingLen() >= m.table.limits.tagsPerPeer {
					s.counts.refused++
					err = fmt.Errorf("connmgr: bump of %q: %w", t.name, ErrTooManyTags)
					return
				}
				if rec.rare == nil {
					rec.rare = new(rare)
				}
				rec.rare.decaying = append(rec.rare.decaying, newEntry(t, now))
				e = &rec.rare.decaying[len(rec.rare.decaying)-1]
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

// Remove takes the tag from a peer, before it returns. That the peer does not
// have it is not an error. It fails with [ErrTagClosed] after Close of the tag.
func (t *DecayingTag) Remove(peer NodeID) error {
	if t.closed.Load() {
		return fmt.Errorf("connmgr: removal of %q: %w", t.name, ErrTagClosed)
	}
	r := t.manager.table
	s := r.lock(peer)
	defer s.mu.Unlock()
	if rec := s.findLocked(peer); rec != nil {
		rec.removeDecaying(t)
		r.settleLocked(s, rec, rec.since)
	}
	return nil
}

// Close takes the tag from all peers and gives its name free, before it returns.
// Closing a tag twice is the same as once. It always returns nil.
func (t *DecayingTag) Close() error {
	if !t.closed.CompareAndSwap(false, true) {
		return nil
	}
	r := t.manager.table
	// A bump that has passed its check before now stores under the shard's lock,
	// where it checks again, so what this walk has passed stays clean.
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for rec := range s.recordsLocked {
			if rec.removeDecaying(t) {
				r.settleLocked(s, rec, rec.since)
			}
		}
		s.mu.Unlock()
	}
	d := &t.manager.decay
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tags[t.name] == t {
		delete(d.tags, t.name)
	}
	return nil
}

// decayInBackground decays the values of each tag when it is due, until Close.
func (m *Manager) decayInBackground() {
	d := &m.decay
	for {
		var timer <-chan time.Time
		if next, ok := d.nextDue(); ok {
			now := m.table.now()
			if next <= now {
				m.decayTick(now)
				continue
			}
			timer = m.cfg.Clock.After(time.Duration(next - now))
		}
		select {
		case <-m.stop:
			return
		case <-d.changed:
		case <-timer:
		}
	}
}

func (d *decayer) nextDue() (next instant, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tags {
		if !ok || t.next < next {
			next, ok = t.next, true
		}
	}
	return next, ok
}

// maxCatchUp is how many missed decays of a tag are made up for.
const maxCatchUp = 1000

// decayTick decays all tags that are due at a time. After a long sleep of the
// machine a tag can be due several times over; each time is made up for, in
// order, so values do not depend on how punctual the goroutine was.
func (m *Manager) decayTick(now instant) {
	d := &m.decay
	due := make(map[*DecayingTag]instant)
	for {
		clear(due)
		d.mu.Lock()
		for _, t := range d.tags {
			if t.next <= now && !t.closed.Load() {
				// Whoever set the clock ahead by years does not wait for it all.
				if behind := time.Duration(now-t.next) / t.interval; behind > maxCatchUp {
					t.next += instant(behind-maxCatchUp) * instant(t.interval)
				}
				due[t] = t.next
				t.next = t.next.plus(t.interval)
			}
		}
		d.mu.Unlock()
		if len(due) == 0 {
			return
		}
		for i := range m.table.shards {
			if m.closed.Load() {
				return
			}
			m.decayShard(&m.table.shards[i], due)
		}
	}
}

// visit is a value to decay: as it was read, and what the function made of it.
type visit struct {
	peer   NodeID
	entry  decayingEntry
	after  int
	remove bool
}

// decayShard decays the due values of one shard: read under the lock, decide
// without it, store under it. A value that changed in between is decided anew.
func (m *Manager) decayShard(s *shard, due map[*DecayingTag]instant) {
	var visits []visit
	s.mu.Lock()
	for rec := range s.recordsLocked {
		for i := range rec.decayingLen() {
			e := rec.rare.decaying[i]
			// A value bumped after the interval ended belongs to the next one.
			if at, ok := due[e.tag]; ok && e.added < at {
				visits = append(visits, visit{peer: rec.id, entry: e})
			}
		}
	}
	s.mu.Unlock()

	for try := 1; len(visits) > 0; try++ {
		decided := visits[:0]
		for _, v := range visits {
			if m.decideDecay(&v, due[v.entry.tag]) {
				decided = append(decided, v)
			}
		}
		visits = s.applyDecay(decided, due, try >= maxUpserts)
	}
}

// decideDecay calls the tag's decay function. If it panics, the value stays.
func (m *Manager) decideDecay(v *visit, at instant) (ok bool) {
	t := v.entry.tag
	defer func() {
		if p := recover(); p != nil {
			m.panics.Add(1)
			m.logFaultOnce(&t.panicked, fmt.Errorf("decay function of %q panicked, values stay as they are: %v", t.name, p))
		}
	}()
	v.after, v.remove = t.decay(m.decayingValue(v.peer, v.entry, at))
	return true
}

// applyDecay stores what was decided, and returns what has changed meanwhile and
// must be decided anew; with force, both changes are added up instead.
func (s *shard) applyDecay(decided []visit, due map[*DecayingTag]instant, force bool) (again []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range decided {
		rec := s.findLocked(v.peer)
		if rec == nil {
			continue
		}
		e := rec.decayingEntry(v.entry.tag)
		if e == nil {
			continue
		}
		if e.value != v.entry.value || e.bumped != v.entry.bumped {
			if !force {
				v.entry = *e
				again = append(again, v)
				continue
			}
			v.after = addSaturating(e.value, subSaturating(v.after, v.entry.value))
			v.remove = false
		}
		if v.remove {
			// An idle record that loses its last tag so is left to the next sweep.
			rec.removeDecaying(v.entry.tag)
			continue
		}
		before := e.value
		e.value, e.decayed = v.after, due[e.tag]
		rec.changeSum(before, v.after)
	}
	return again
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
	s := r.lock(peer)
	defer s.mu.Unlock()
	if rec := s.findLocked(peer); rec != nil {
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

// recordsLocked yields all records in use.
func (s *shard) recordsLocked(yield func(*record) bool) {
	left := s.used
	for _, chunk := range s.chunks {
		for i := range chunk {
			if left == 0 {
				return
			}
			left--
			if rec := &chunk[i]; rec.state != recordFree && !yield(rec) {
				return
			}
		}
	}
}
