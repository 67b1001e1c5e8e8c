package connmgr

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// This file tells subscribers what happens. Nobody waits for a slow reader: what
// does not fit its buffer is dropped and counted.

// Event is something that happened: [EventConnected], [EventDisconnected],
// [EventClosed], [EventTrim], [EventLimits], [EventDenied] or [EventRules].
//
// Connections are closed several at once. So the EventClosed of a trim come
// about in the order of rank, the EventDisconnected of a peer can come before or
// after its EventClosed, and EventTrim comes when the trim has ended.
type Event interface{ event() }

// EventConnected is a new connection.
type EventConnected struct {
	Peer      NodeID
	Direction Direction
	// Addr is where it comes from or goes to; the zero AddrPort if that is not known, see
	// [AddrConn].
	Addr netip.AddrPort
	At   time.Time
}

// EventDisconnected is a connection that is gone, for whatever reason.
type EventDisconnected struct {
	Peer NodeID
	At   time.Time
}

// EventClosed is a peer whose connections the manager has closed: in a trim, for a
// rule, to make room for a newcomer, or for its misbehaviour.
type EventClosed struct {
	Verdict
	Trigger Trigger
	// Rule is the rule that denies, and Addr where the connection came from or went to
	// that it is about, for [TriggerRule]; zero otherwise.
	Rule Rule
	Addr netip.AddrPort
	At   time.Time
}

// EventTrim is a trim that has ended, whether or not it closed anything.
type EventTrim struct{ TrimResult }

// EventLimits is a change of limits.
type EventLimits struct {
	Limits
	At time.Time
}

// EventDenied is a connection that the gate refused.
type EventDenied struct {
	Err *DeniedError
	At  time.Time
}

// EventRules is a change of rules, all that came into force in one step. Subscribers
// share the slice: it must not be changed.
type EventRules struct {
	Changes []RuleChange
	// Expired says that the rules were removed since they had expired, some time ago.
	Expired bool
	At      time.Time
}

func (EventConnected) event()    {}
func (EventDisconnected) event() {}
func (EventClosed) event()       {}
func (EventTrim) event()         {}
func (EventLimits) event()       {}
func (EventDenied) event()       {}
func (EventRules) event()        {}

// Subscription is a stream of events, until Close. Methods may be called from
// several goroutines.
type Subscription struct {
	events  *events
	c       chan Event
	dropped atomic.Uint64
}

// Events returns the channel of the events. It is closed by Close of the
// subscription and by Close of the manager.
func (s *Subscription) Events() <-chan Event { return s.c }

// Dropped returns how many events did not fit the buffer.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. Closing twice is the same as once.
func (s *Subscription) Close() {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.events.removeLocked(s)
}

// Subscribe returns a stream of all events from now on, with room for the given
// number of them (at least 1). An event that finds no room is dropped and
// counted; nothing waits for a reader. After Close of the manager the stream is
// closed from the start.
func (m *Manager) Subscribe(buffer int) *Subscription {
	e := &m.events
	s := &Subscription{events: e, c: make(chan Event, max(1, buffer))}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		close(s.c)
		return s
	}
	if e.subscribers == nil {
		e.subscribers = make(map[*Subscription]struct{})
	}
	e.subscribers[s] = struct{}{}
	e.count.Store(int32(len(e.subscribers)))
	return s
}

// events is the set of subscriptions.
type events struct {
	count atomic.Int32 // of subscribers, to be asked without the lock

	mu          sync.Mutex // guards all following fields and closing a channel
	subscribers map[*Subscription]struct{}
	closed      bool
}

// publish tells subscribers of an event. It is made only if there are any.
func (e *events) publish(event func() Event) {
	if e.count.Load() == 0 {
		return
	}
	made := event() // it asks a clock, which is foreign: not under the lock
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subscribers {
		select {
		case s.c <- made:
		default:
			s.dropped.Add(1)
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for s := range e.subscribers {
		e.removeLocked(s)
	}
}

func (e *events) removeLocked(s *Subscription) {
	if _, ok := e.subscribers[s]; !ok {
		return
	}
	delete(e.subscribers, s)
	e.count.Store(int32(len(e.subscribers)))
	close(s.c)
}
