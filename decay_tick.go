package connmgr

import (
	"fmt"
	"time"
)

// This file lets the values of decaying tags decay when they are due. One
// goroutine does; it sleeps until the next tag is due, and for ever while there
// are none.

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
		if !t.closed.Load() && (!ok || t.next < next) {
			next, ok = t.next, true
		}
	}
	return next, ok
}

// maxCatchUp is how many missed decays of a tag are made up for.
const maxCatchUp = 1000

// decayTick decays all tags that are due at a time. After a long sleep of the
// machine a tag can be due several times over; each time is made up for, in order.
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
	at     handle
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
	for ref, rec := range s.recordsLocked {
		for j := range rec.decayingLen() {
			e := rec.rare.decaying[j]
			// A value that came after the interval ended belongs to the next one.
			if at, ok := due[e.tag]; ok && e.added < at {
				visits = append(visits, visit{at: s.handle(ref, rec), peer: rec.id, entry: e})
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
	err := m.safely(func() error {
		v.after, v.remove = t.decay(m.decayingValue(v.peer, v.entry, at))
		return nil
	})
	if err != nil {
		m.logFaultOnce(&t.panicked, fmt.Errorf("decay function of %q, values stay as they are: %w", t.name, err))
	}
	return err == nil
}

// applyDecay stores what was decided, and returns what has changed meanwhile and
// must be decided anew; with force, both changes are added up instead.
func (s *shard) applyDecay(decided []visit, due map[*DecayingTag]instant, force bool) (again []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range decided {
		rec := s.handledLocked(v.at)
		if rec == nil {
			continue
		}
		e := rec.decayingEntry(v.entry.tag)
		if e == nil || e.added >= due[e.tag] { // gone, or gone and come anew
			continue
		}
		if e.changedSince(v.entry) {
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
