package connmgr

import (
	"iter"
	"math"
	"slices"
	"unique"
)

// This file holds tags: the short list of a peer's tags and its sum, the seed's
// TagStore, and the manager's tag methods.

// TagStore is the seed's tag store, a view of the manager's table of peers. Get
// it from [Manager.Tags]. Methods may be called from several goroutines.
//
// Source: seed, tag store.
type TagStore struct{ table *registry }

// Set gives a peer a tag with a value, in place of the tag's earlier value. The
// peer need not be connected; see [Config] for how long its tags are kept then.
func (s *TagStore) Set(peer NodeID, tag string, value int) { s.table.setTag(peer, tag, value) }

// Remove takes a tag from a peer. That there is none is not an error.
func (s *TagStore) Remove(peer NodeID, tag string) { s.table.untag(peer, tag) }

// Sum returns the sum of the values of a peer's tags, decaying ones included. It
// is 0 for an unknown peer, takes constant time, and saturates.
func (s *TagStore) Sum(peer NodeID) int {
	sh, rec := s.table.lock(peer)
	defer sh.mu.Unlock()
	if rec != nil {
		return rec.sum
	}
	return 0
}

// Tags returns the view of the table that the seed calls the tag store.
func (m *Manager) Tags() *TagStore { return &TagStore{m.table} }

// TagPeer gives a peer a tag with a value, in place of the tag's earlier value.
// The peer need not be connected. Beyond [Config.MaxTagsPerPeer] a new tag is
// dropped and counted in [Stats.TagsRefused].
func (m *Manager) TagPeer(peer NodeID, tag string, value int) {
	m.table.setTag(peer, tag, value)
}

// setTag is an edit. It has a way of its own for a peer that has a record, since nothing
// else is called as often, and a record that gets a tag stays where it is filed.
func (r *registry) setTag(peer NodeID, tag string, value int) {
	s, rec := r.lock(peer)
	if rec != nil {
		s.setTagLocked(rec, tag, value, r.limits.tagsPerPeer)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	r.edit(peer, func(s *shard, rec *record) { s.setTagLocked(rec, tag, value, r.limits.tagsPerPeer) })
}

// UntagPeer takes a tag from a peer. That there is none is not an error.
func (m *Manager) UntagPeer(peer NodeID, tag string) { m.table.untag(peer, tag) }

// maxUpserts is how often UpsertTag and bumps run their function anew because
// the value changed meanwhile, before they add up both changes.
const maxUpserts = 8

// UpsertTag sets a tag to what upsert makes of its value, or of 0 if the peer
// does not have it. No other change of the tag is lost: if one happens while
// upsert runs, upsert runs again on the new value, so it should have no effects
// besides its result. It may call back into the manager; one that itself changes
// this very tag has both changes added up in the end.
func (m *Manager) UpsertTag(peer NodeID, tag string, upsert func(value int) int) {
	for try := 1; ; try++ {
		old := m.table.tag(peer, tag)
		value := upsert(old)
		stored := false
		m.table.edit(peer, func(sh *shard, rec *record) {
			current := rec.tags.get(tag)
			switch {
			case current == old:
			case try >= maxUpserts:
				value = addSaturating(current, subSaturating(value, old))
			default:
				return
			}
			sh.setTagLocked(rec, tag, value, m.table.limits.tagsPerPeer)
			stored = true
		})
		if stored {
			return
		}
	}
}

// tag returns the value of a peer's tag, 0 if it has none.
func (r *registry) tag(peer NodeID, tag string) int {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec != nil {
		return rec.tags.get(tag)
	}
	return 0
}

func (r *registry) untag(peer NodeID, tag string) {
	s, rec := r.lock(peer)
	defer s.mu.Unlock()
	if rec == nil {
		return
	}
	if old, ok := rec.tags.remove(tag); ok {
		rec.changeSum(old, 0)
		r.settleLocked(s, rec, rec.since)
	}
}

// setTagLocked sets a tag and keeps the sum, or counts the tag as refused.
func (s *shard) setTagLocked(rec *record, tag string, value, limit int) {
	if v := rec.tags.find(tag); v != nil {
		old := *v
		*v = value
		rec.changeSum(old, value)
		return
	}
	if s.hasRoomLocked(rec, limit) {
		rec.tags.add(tag, value)
		rec.changeSum(0, value)
	}
}

// hasRoomLocked reports whether a peer may have one tag more, and counts it as
// refused if not.
func (s *shard) hasRoomLocked(rec *record, limit int) bool {
	if rec.tagsLen() < limit {
		return true
	}
	s.counts.refused++
	return false
}

// tagsLen is the number of a peer's tags, decaying ones included.
func (rec *record) tagsLen() int { return rec.tags.len() + rec.decayingLen() }

// changeSum keeps the record's sum after one of its values changed. The sum is
// exact as long as it fits; if it does not, it is worked out anew.
func (rec *record) changeSum(old, value int) {
	const safe = math.MaxInt / 4 // no sum of three of these can overflow
	if -safe < old && old < safe && -safe < value && value < safe && -safe < rec.sum && rec.sum < safe {
		rec.sum += value - old
		return
	}
	var sum wideSum
	for _, v := range rec.tags.all() {
		sum.add(v)
	}
	if rec.rare != nil {
		for i := range rec.rare.decaying {
			sum.add(rec.rare.decaying[i].value)
		}
	}
	rec.sum = sum.saturated()
}

// tagSet is a peer's tags. Most peers have one or two, and those need no memory
// beyond the record; names are interned, so a tag on a million peers is stored
// once. The zero value is empty. There is no order.
type tagSet struct {
	first [2]tagEntry // filled from the front
	more  *[]tagEntry // used when first is full
}

type tagEntry struct {
	name  unique.Handle[string] // zero in an empty slot
	value int
}

var noTag unique.Handle[string]

// manyTags is from how many on comparing names costs more than interning one.
const manyTags = 8

func (t *tagSet) len() int {
	switch {
	case t.first[0].name == noTag:
		return 0
	case t.first[1].name == noTag:
		return 1
	case t.more == nil:
		return 2
	default:
		return 2 + len(*t.more)
	}
}

// at returns the i-th entry.
func (t *tagSet) at(i int) *tagEntry {
	if i < len(t.first) {
		return &t.first[i]
	}
	return &(*t.more)[i-len(t.first)]
}

// index returns the place of a tag, -1 if the set does not have it.
func (t *tagSet) index(name string) int {
	for i := range t.first {
		switch e := &t.first[i]; {
		case e.name == noTag:
			return -1
		case e.name.Value() == name:
			return i
		}
	}
	if t.more == nil { // nearly always
		return -1
	}
	same := func(e tagEntry) bool { return e.name.Value() == name }
	if len(t.first)+len(*t.more) > manyTags {
		interned := unique.Make(name)
		same = func(e tagEntry) bool { return e.name == interned }
	}
	if i := slices.IndexFunc(*t.more, same); i >= 0 {
		return len(t.first) + i
	}
	return -1
}

// find returns where the value of a tag is stored, or nil.
func (t *tagSet) find(name string) *int {
	if i := t.index(name); i >= 0 {
		return &t.at(i).value
	}
	return nil
}

// get returns the value of a tag, 0 if the set does not have it.
func (t *tagSet) get(name string) int {
	if v := t.find(name); v != nil {
		return *v
	}
	return 0
}

// add adds a tag that the set does not have.
func (t *tagSet) add(name string, value int) {
	e := tagEntry{unique.Make(name), value}
	if n := t.len(); n < len(t.first) {
		t.first[n] = e
		return
	}
	if t.more == nil {
		t.more = new([]tagEntry)
	}
	*t.more = append(*t.more, e)
}

// remove takes out a tag and returns the value it had.
func (t *tagSet) remove(name string) (value int, ok bool) {
	i := t.index(name)
	if i < 0 {
		return 0, false
	}
	n := t.len()
	e, last := t.at(i), t.at(n-1)
	value = e.value
	*e, *last = *last, tagEntry{}
	if n > len(t.first) {
		if *t.more = (*t.more)[:n-1-len(t.first)]; len(*t.more) == 0 {
			t.more = nil
		}
	}
	return value, true
}

// all yields the names and values.
func (t *tagSet) all() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for i := range t.len() {
			if e := t.at(i); !yield(e.name.Value(), e.value) {
				return
			}
		}
	}
}
