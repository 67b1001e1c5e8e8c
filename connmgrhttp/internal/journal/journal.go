// Package journal remembers what a manager did, and tells it to those who follow.
package journal

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file collects. One subscription serves everybody: what an event costs the manager
// does not depend on how many follow. The collecting goroutine puts events into rings and
// nothing more; documents are made by those who read (read.go, stream.go, serve.go).

const (
	// DefaultMaxStreams is how many streams there can be at a time.
	DefaultMaxStreams = 256

	// backlog is how many events can wait to be collected, 1 MiB of them. A trim of a
	// large node closes tens of thousands of peers within a fraction of a second, and on
	// a busy machine the collector may not get a turn for as long.
	backlog = 1 << 16
	// batch is how many events are put into the rings at a time.
	batch = 256
	// gap is the least time between two times at which streams are woken, so that under
	// load each of them gets many events at once.
	gap = 10 * time.Millisecond
	// warnEvery is the least time between two warnings about missed events.
	warnEvery = time.Minute
)

// Options says how a journal works. The zero value works.
type Options struct {
	// Names says how documents name peers.
	Names wire.Names
	// Logger gets a warning when events were missed, at most one a minute. Nil means
	// slog.Default().
	Logger *slog.Logger
	// MaxStreams is how many streams there can be at a time. 0 means DefaultMaxStreams.
	MaxStreams int
}

// Journal is what happened and what happens. Its methods can be called from several
// goroutines at once, and after the manager is closed.
type Journal struct {
	manager *connmgr.Manager
	options Options
	events  *connmgr.Subscription
	seed    maphash.Seed  // of the hashes of peers: strangers choose IDs
	done    chan struct{} // closed when the goroutine has ended
	patient time.Duration // how long a reader may take for what is written at once
	frames  [frameSlots]frameSlot

	mu      sync.Mutex // guards all following fields; no foreign code runs under it
	rings   [kinds]ring
	last    uint64        // the ID of the last event
	more    chan struct{} // closed when there is more, or the end
	waiting bool          // somebody waits for more
	ended   bool          // the manager is closed
	streams int
	lost    uint64 // streams
	samples []api.Sample
}

// Start makes a journal of a manager, and a goroutine that ends when the manager is
// closed.
//
// What it remembers is bounded: the last 16,384 peers closed, and of other kinds of events
// the last 1,024 or 4,096 each. That is at most 16 MiB, what is kept for streams included,
// with IDs and reasons of usual length.
func Start(m *connmgr.Manager, o Options) *Journal {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	j := &Journal{
		manager: m, options: o, events: m.Subscribe(backlog), seed: maphash.MakeSeed(),
		done: make(chan struct{}), patient: writeTimeout, more: make(chan struct{}),
	}
	for k := range j.rings {
		j.rings[k].most = kindTable[k].remembered
	}
	// IDs begin at the time in microseconds. So they grow across restarts too, as long as
	// events are fewer than a million a second and the clock is not set back, and until
	// the year 2255 JavaScript's numbers can hold them.
	j.last = uint64(max(0, time.Now().UnixMicro()))
	j.sample()
	go j.run()
	return j
}

// Dropped returns how many events were missed since they came faster than they were
// collected.
func (j *Journal) Dropped() uint64 { return j.events.Dropped() }

func (j *Journal) run() {
	defer close(j.done)
	samples := time.NewTicker(sampleEvery)
	defer samples.Stop()
	pause := time.NewTimer(gap)
	pause.Stop()
	defer pause.Stop()
	var (
		list   []collected
		paused bool // streams are to be woken when the pause is over
		woken  time.Time
		missed missed
	)
	for open := true; open; {
		select {
		case <-samples.C:
			j.sample()
		case <-pause.C:
			paused, woken = false, time.Now()
			j.wake(false)
		case e, ok := <-j.events.Events():
			list, open = j.gather(list[:0], e, ok)
			waiting := j.add(list)
			clear(list) // what the rings let go shall be free
			missed.warn(j.options.Logger, j.Dropped())
			switch rest := gap - time.Since(woken); {
			case !waiting || paused:
			case rest > 0:
				paused = true
				pause.Reset(rest)
			default:
				woken = time.Now()
				j.wake(false)
			}
		}
	}
	j.wake(true)
}

// missed is the events that were missed.
type missed struct {
	told uint64 // how many have been warned about
	at   time.Time
}

func (m *missed) warn(log *slog.Logger, total uint64) {
	if total == m.told || time.Since(m.at) < warnEvery {
		return
	}
	log.Warn("connmgr: events came faster than they were collected, and are missing from the journal", "events", total-m.told)
	m.told, m.at = total, time.Now()
}

// collected is an event on its way into a ring.
type collected struct {
	kind int
	what any
	peer uint64 // hash of the peer that it is about; 0 if it is about none
}

// gather appends an event and those behind it that are there already, at most a batch. It
// reports false when there will be none any more.
func (j *Journal) gather(list []collected, e connmgr.Event, ok bool) ([]collected, bool) {
	for ok {
		if c, known := j.collect(e); known {
			list = append(list, c)
		}
		if len(list) == batch {
			return list, true
		}
		select {
		case e, ok = <-j.events.Events():
		default:
			return list, true
		}
	}
	return list, false
}

// collect says what is kept of an event.
func (j *Journal) collect(e connmgr.Event) (c collected, known bool) {
	k, known := kindOf(e)
	if !known {
		return collected{}, false
	}
	c = collected{kind: k, what: e}
	if peer, ok := peerOf(e); ok {
		c.peer = j.hash(peer)
	}
	switch e.(type) {
	case connmgr.EventTrim, connmgr.EventRules:
		c.what = j.document(e) // the event itself can hold a million peers or rules
	}
	return c, true
}

// document makes the document of an event in the background, where a panic of the
// functions that name peers must not end the program.
func (j *Journal) document(e connmgr.Event) (doc *api.Event) {
	defer func() {
		if r := recover(); r != nil {
			j.options.Logger.Error("connmgr: naming a peer panicked", "panic", r)
			k, _ := kindOf(e)
			doc = &api.Event{Type: kindTable[k].name, At: time.Now().UTC(), Text: fmt.Sprintf("%s, but its peers could not be named", kindTable[k].name)}
		}
	}()
	return new(j.options.Names.Event(e))
}

// add puts events into the rings, and reports whether somebody waits for them.
func (j *Journal) add(list []collected) (waiting bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range list {
		c := &list[i]
		j.last++
		j.rings[c.kind].add(entry{j.last, c.what}, c.peer)
	}
	return j.waiting && len(list) > 0
}

// wake wakes those who wait for more.
func (j *Journal) wake(end bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = j.ended || end
	if j.waiting {
		close(j.more)
		j.more, j.waiting = make(chan struct{}), false
	}
}
