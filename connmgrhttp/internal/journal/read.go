package journal

import (
	"slices"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file looks for events: which of them somebody wants, over all rings in the order
// of their IDs.

// Filter says which events are wanted. The zero value wants all.
type Filter struct {
	// Types are the types wanted; without any, all are.
	Types []api.EventType
	// Peer is the peer that the events are about, if HasPeer. Events about nobody, such
	// as trims, and refusals of somebody who was not known yet, are not wanted then.
	Peer    connmgr.NodeID
	HasPeer bool
}

// wanted is a filter made ready.
type wanted struct {
	kinds   []int
	peer    connmgr.NodeID
	hash    uint64 // of the peer, 0 without one
	hasPeer bool
}

func (j *Journal) wanted(f Filter) wanted {
	w := wanted{peer: f.Peer, hasPeer: f.HasPeer}
	if f.HasPeer {
		w.hash = j.hash(f.Peer)
	}
	for k := range kindTable {
		if len(f.Types) == 0 || slices.Contains(f.Types, kindTable[k].name) {
			w.kinds = append(w.kinds, k)
		}
	}
	return w
}

// is reports whether the i-th entry of a ring, whose hash fits, is wanted.
func (w *wanted) is(r *ring, i int) bool {
	if !w.hasPeer {
		return true
	}
	peer, ok := peerOf(r.at(i).what)
	return ok && peer == w.peer
}

// from returns which entry of a ring, from the i-th on, is the first that is wanted; the
// ring's length if none is.
func (w *wanted) from(r *ring, i int) int {
	for i = r.from(i, w.hash); i < r.len() && !w.is(r, i); i = r.from(i+1, w.hash) {
	}
	return i
}

// before returns which entry of a ring is the last before the i-th that is wanted; -1 if
// none is.
func (w *wanted) before(r *ring, i int) int {
	for i = r.before(i, w.hash); i >= 0 && !w.is(r, i); i = r.before(i, w.hash) {
	}
	return i
}

// Recent returns what is remembered, the newest first, at most as many events as given.
// It never returns nil.
func (j *Journal) Recent(f Filter, limit int) []api.Event {
	list := j.newest(j.wanted(f), limit)
	docs := make([]api.Event, len(list))
	for i, e := range list {
		docs[i] = j.event(e)
	}
	return docs
}

func (j *Journal) newest(w wanted, most int) (list []entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var next [kinds]int
	for _, k := range w.kinds {
		next[k] = w.before(&j.rings[k], j.rings[k].len())
	}
	for len(list) < most {
		var best entry
		from := -1
		for _, k := range w.kinds {
			if next[k] < 0 {
				continue
			}
			if e := j.rings[k].at(next[k]); from < 0 || e.id > best.id {
				best, from = e, k
			}
		}
		if from < 0 {
			break
		}
		list = append(list, best)
		next[from] = w.before(&j.rings[from], next[from])
	}
	return list
}

// scanLocked appends the events after an ID that are wanted, the oldest first, at most as
// many as given. Of each ring it passes over those up to another ID.
func (j *Journal) scanLocked(list []entry, w *wanted, id uint64, passed *[kinds]uint64, most int) []entry {
	var next [kinds]int
	for _, k := range w.kinds {
		next[k] = w.from(&j.rings[k], j.rings[k].after(max(id, passed[k])))
	}
	for range most {
		var best entry
		from := -1
		for _, k := range w.kinds {
			if next[k] == j.rings[k].len() {
				continue
			}
			if e := j.rings[k].at(next[k]); from < 0 || e.id < best.id {
				best, from = e, k
			}
		}
		if from < 0 {
			break
		}
		list = append(list, best)
		next[from] = w.from(&j.rings[from], next[from]+1)
	}
	return list
}

// event returns the document of an entry.
func (j *Journal) event(e entry) (doc api.Event) {
	switch what := e.what.(type) {
	case *api.Event:
		doc = *what
	case connmgr.Event:
		doc = j.options.Names.Event(what)
	}
	doc.ID = e.id
	return doc
}
