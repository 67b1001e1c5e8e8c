package journal

import (
	"hash/maphash"
	"sort"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is what is remembered: a ring for each kind of event, so that a flood of one
// kind does not push out the others.

const (
	// closedRemembered is the peers closed that are remembered: that is what people ask
	// about hours later, and a trim of a large node closes thousands.
	closedRemembered = 1 << 14
	// floodRemembered is what is remembered of the kinds that strangers can bring about
	// as fast as they please. It is also how far a stream may be behind: less than a
	// second of a flood.
	floodRemembered = 1 << 12
	// rareRemembered is what is remembered of the kinds that do not come in floods.
	rareRemembered = 1 << 10
)

// kindTable is the kinds of events, by their numbers here.
var kindTable = [...]struct {
	name       api.EventType
	remembered int
}{
	{api.Connected, floodRemembered},
	{api.Disconnected, floodRemembered},
	{api.PeerClosed, closedRemembered},
	{api.TrimEnded, rareRemembered},
	{api.LimitsChanged, rareRemembered},
	{api.Denied, floodRemembered},
	{api.RulesChanged, rareRemembered},
}

const kinds = len(kindTable)

// kindOf returns the number of an event's kind, and false for a kind not known here.
func kindOf(e connmgr.Event) (k int, ok bool) {
	switch e.(type) {
	case connmgr.EventConnected:
		return 0, true
	case connmgr.EventDisconnected:
		return 1, true
	case connmgr.EventClosed:
		return 2, true
	case connmgr.EventTrim:
		return 3, true
	case connmgr.EventLimits:
		return 4, true
	case connmgr.EventDenied:
		return 5, true
	case connmgr.EventRules:
		return 6, true
	}
	return 0, false
}

// peerOf returns the peer that an event is about, and false if it is about none. What is
// no event of the core is a document, of a kind that is about none.
func peerOf(what any) (connmgr.NodeID, bool) {
	switch e := what.(type) {
	case connmgr.EventConnected:
		return e.Peer, true
	case connmgr.EventDisconnected:
		return e.Peer, true
	case connmgr.EventClosed:
		return e.Peer, true
	case connmgr.EventDenied:
		return e.Err.Peer, e.Err.HasPeer
	}
	return "", false
}

// hash returns a number for a peer, never 0.
func (j *Journal) hash(peer connmgr.NodeID) uint64 {
	return maphash.String(j.seed, string(peer)) | 1
}

// entry is an event in a ring.
type entry struct {
	id   uint64
	what any // a connmgr.Event, or an *api.Event without its ID
}

// ring is the last events of a kind, by ID. It grows up to its bound.
type ring struct {
	most    int
	entries []entry
	// peers is the hash of the peer that each entry is about, or 0. To look for a peer
	// takes a look at these alone: 8 bytes for each event, and no pointers.
	peers []uint64
	// oldest is where the oldest entry is.
	oldest int
	// forgotten is the ID of the last entry that was pushed out, 0 if none was.
	forgotten uint64
}

func (r *ring) add(e entry, peer uint64) {
	if len(r.entries) < r.most {
		r.entries, r.peers = append(r.entries, e), append(r.peers, peer)
		return
	}
	r.forgotten = r.entries[r.oldest].id
	r.entries[r.oldest], r.peers[r.oldest] = e, peer
	if r.oldest++; r.oldest == r.most {
		r.oldest = 0
	}
}

func (r *ring) len() int { return len(r.entries) }

// slot returns where the i-th entry is, 0 the oldest.
func (r *ring) slot(i int) int {
	if i += r.oldest; i >= len(r.entries) {
		i -= len(r.entries)
	}
	return i
}

func (r *ring) at(i int) entry { return r.entries[r.slot(i)] }

// after returns which is the first entry with an ID above the one given.
func (r *ring) after(id uint64) int {
	return sort.Search(len(r.entries), func(i int) bool { return r.at(i).id > id })
}

// from returns which entry, from the i-th on, is the first that is about a peer with the
// given hash; the length if none is. 0 stands for every peer, and for none.
func (r *ring) from(i int, hash uint64) int {
	for ; hash != 0 && i < len(r.peers) && r.peers[r.slot(i)] != hash; i++ {
	}
	return i
}

// before returns which entry is the last before the i-th that is about a peer with the
// given hash; -1 if none is. 0 stands for every peer, and for none.
func (r *ring) before(i int, hash uint64) int {
	for i--; hash != 0 && i >= 0 && r.peers[r.slot(i)] != hash; i-- {
	}
	return i
}
