package journal

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is streams. A stream has no buffer: it is a place in the rings, and its
// reader takes from there what is behind that place. So what was remembered and what is
// new come in one way, without gap and without anything twice, and streams cost the
// collector nothing. A reader who is so slow that a ring has let go what he had not read
// is lost.

var (
	// ErrTooMany means that there are as many streams as there can be.
	ErrTooMany = errors.New("connmgr: too many event streams")
	// ErrLost means that a reader was too slow: events were forgotten before he read them.
	ErrLost = errors.New("connmgr: the reader of the event stream was too slow")
	// ErrEnded means that the manager or the stream is closed: no events will come.
	ErrEnded = errors.New("connmgr: the event stream has ended")
)

// Stream is a stream of events. Next must not be called by two goroutines at once.
type Stream struct {
	j *Journal
	w wanted
	// at is the ID up to which events have been read or passed over, and passed the last
	// one of each ring that the stream began behind, since it was gone already, or about
	// to be.
	at     uint64
	passed [kinds]uint64

	open bool // guarded by j.mu, as is lost
	lost bool
}

// Follow returns a stream of what happens, and with hasAfter, of what is remembered with
// an ID above after before that. Where the oldest of these are forgotten already, the next
// quarter of what is remembered of their kind is passed over too, so that the reader has
// time to catch up. An ID that there has not been yet counts as the last one. It fails with ErrTooMany. The stream must be closed.
func (j *Journal) Follow(f Filter, after uint64, hasAfter bool) (*Stream, error) {
	s := &Stream{j: j, w: j.wanted(f), open: true}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.streams >= j.options.MaxStreams {
		return nil, ErrTooMany
	}
	j.streams++
	s.at = j.last
	if hasAfter {
		s.at = min(after, j.last)
	}
	for k := range j.rings {
		s.passed[k] = j.rings[k].forgotten
		// Who begins where a full ring does would be lost with the next event. Where
		// something is missing at the beginning anyway, a quarter more gives him time.
		if r := &j.rings[k]; r.forgotten > s.at {
			s.passed[k] = r.at(r.len()/4 - 1).id
		}
	}
	return s, nil
}

// Streams returns how many streams are open.
func (j *Journal) Streams() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.streams
}

// LostStreams returns how many streams were ended since their readers were too slow.
func (j *Journal) LostStreams() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lost
}

// Next returns the next events, as many as there are but not more than 128, and waits
// for one if there is none. It fails with ErrLost, ErrEnded, or ctx.Err().
func (s *Stream) Next(ctx context.Context) ([]api.Event, error) {
	list, err := s.next(ctx, nil, nil)
	docs := make([]api.Event, len(list))
	for i, e := range list {
		docs[i] = s.j.event(e)
	}
	return docs, err
}

// nextMost is how many events Next returns at most. A reader has ten seconds to take
// them, which are some 50 KB.
const nextMost = 128

// next appends the next events to a list. It appends none if it was idle until a tick.
func (s *Stream) next(ctx context.Context, list []entry, tick <-chan time.Time) ([]entry, error) {
	for {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		list, more, err := s.take(list)
		if err != nil || len(list) > 0 {
			return list, err
		}
		select {
		case <-more:
		case <-tick:
			return list, nil
		case <-ctx.Done():
		}
	}
}

// take appends the events that there are, or returns a channel to wait on.
func (s *Stream) take(list []entry) ([]entry, <-chan struct{}, error) {
	j := s.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.lost {
		return list, nil, ErrLost
	}
	if !s.open {
		return list, nil, ErrEnded
	}
	for _, k := range s.w.kinds {
		if gone := j.rings[k].forgotten; gone > s.at && gone > s.passed[k] {
			s.loseLocked()
			return list, nil, ErrLost
		}
	}
	list = j.scanLocked(list, &s.w, s.at, &s.passed, nextMost)
	if len(list) == nextMost {
		s.at = list[nextMost-1].id
		return list, nil, nil
	}
	s.at = j.last
	if len(list) == 0 && j.ended {
		return list, nil, ErrEnded
	}
	j.waiting = j.waiting || len(list) == 0
	return list, j.more, nil
}

// Lost reports whether the stream has ended since its reader was too slow.
func (s *Stream) Lost() bool {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	return s.lost
}

// Close ends the stream. A Next that waits goes on waiting for its context. Closing twice
// is the same as once.
func (s *Stream) Close() {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.closeLocked()
}

func (s *Stream) closeLocked() {
	if s.open {
		s.open = false
		s.j.streams--
	}
}

// lose ends the stream since its reader is too slow.
func (s *Stream) lose() {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.loseLocked()
}

func (s *Stream) loseLocked() {
	if s.open {
		s.closeLocked()
		s.lost = true
		s.j.lost++
	}
}

// frameSlots is how many frames are kept, so that each is made once for all streams that
// are at about the same place. They take 2 MB.
const frameSlots = 1 << 12

// frame is an event as server-sent events have it.
type frame struct {
	id   uint64
	text []byte
}

type frameSlot = atomic.Pointer[frame]

// frame returns the frame of an entry. It must not be changed.
func (j *Journal) frame(e entry) []byte {
	slot := &j.frames[e.id%frameSlots]
	had := slot.Load()
	if had != nil && had.id == e.id {
		return had.text
	}
	made := &frame{e.id, appendFrame(nil, j.event(e))}
	if had == nil || had.id < e.id { // who replays what is old keeps it to himself
		slot.CompareAndSwap(had, made)
	}
	return made.text
}

func appendFrame(b []byte, doc api.Event) []byte {
	data, err := json.Marshal(doc)
	if err != nil {
		// A word or a number that this version has no text for.
		data, _ = json.Marshal(api.Event{ID: doc.ID, Type: doc.Type, At: doc.At, Text: doc.Text, Peer: doc.Peer})
	}
	if doc.ID != 0 {
		b = append(strconv.AppendUint(append(b, "id: "...), doc.ID, 10), '\n')
	}
	b = append(append(b, "event: "...), doc.Type...)
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}
