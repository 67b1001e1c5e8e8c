package apiload

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrlibp2p"
)

// This file follows what happens without the API, by a subscription of the manager's own.
// It is what the streams are held against.

// history is events, in order, in little memory.
type history struct {
	counts map[api.EventType]int
	chain  uint64 // depends on every event and on their order
}

func (h *history) add(kind api.EventType, hash uint64) {
	if h.counts == nil {
		h.counts = make(map[api.EventType]int)
	}
	h.counts[kind]++
	h.chain = (h.chain ^ hash) * 1099511628211 // as FNV does
}

func (h *history) total() (n int) {
	for _, count := range h.counts {
		n += count
	}
	return n
}

func hashOf(kind api.EventType, peer string, at time.Time) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(kind)+" "+peer+" "+at.UTC().Format(time.RFC3339Nano))
	return h.Sum64()
}

// EventResult is what happened.
type EventResult struct {
	// Trims is the trims that were to close something, and ToLow those of them that
	// nothing kept from it and that reached low water.
	Trims, ToLow int
	// Short is the trims that closed less than they should have, though nothing was in
	// their way.
	Short []string
	// Dropped is the events that did not fit the subscription's buffer. Then nothing can
	// be compared.
	Dropped uint64

	history history
	byPeer  map[string]int // of the peers that have streams
}

// Counts is how many events of each type there were.
func (e *EventResult) Counts() map[api.EventType]int { return e.history.counts }

// wanted returns how many events somebody should have got.
func (e *EventResult) wanted(w wish) (n int) {
	if w.peer != "" {
		return e.byPeer[w.peer]
	}
	for kind, count := range e.history.counts {
		if len(w.types) == 0 || slices.Contains(w.types, kind) {
			n += count
		}
	}
	return n
}

// follower follows the manager's events between two marks.
type follower struct {
	sub    *connmgr.Subscription
	names  connmgr.ListFormat
	first  connmgr.Limits // the marks
	last   connmgr.Limits
	done   chan struct{} // closed when the last mark has come
	result EventResult
	toLow  atomic.Int64 // result.ToLow, to look at meanwhile
}

// followBuffer is events. The follower is as quick as the journal, which has as many.
const followBuffer = 1 << 16

// follow begins to follow, at a moment at which nobody is connected, and returns the ID of
// the last event before that.
func (l *load) follow(ctx context.Context) (_ *follower, since uint64, err error) {
	core := l.node.manager.Core()
	limits := core.Limits()
	f := &follower{
		sub: core.Subscribe(followBuffer), names: connmgrlibp2p.ListFormat(), done: make(chan struct{}),
		first: limits, last: limits,
	}
	// Nobody else sets these. A new limit is an event that comes once, so it has one place
	// in every stream.
	f.first.LowWater, f.last.LowWater = l.cfg.Low/2, l.cfg.Low/2+1
	f.result.byPeer = make(map[string]int)
	for _, peer := range l.caller.peers[:watchedPeers] {
		f.result.byPeer[peer] = 0
	}
	go f.run()
	if err := core.SetLimits(f.first); err != nil {
		return nil, 0, err
	}
	if since, err = l.markID(ctx, f.first.LowWater); err != nil {
		return nil, 0, err
	}
	return f, since, core.SetLimits(limits)
}

// markID returns the ID that a mark has in the API.
func (l *load) markID(ctx context.Context, low int) (id uint64, err error) {
	err = until(ctx, func() bool {
		var list api.EventList
		if l.caller.getJSON(ctx, "/v1/events/recent?types=limits&limit=1", &list) != nil || len(list.Events) == 0 {
			return false
		}
		e := list.Events[0]
		id = e.ID
		return e.Limits != nil && e.Limits.LowWater == low
	})
	if err != nil {
		return 0, fmt.Errorf("wait for a change of limits to show in events/recent: %w", err)
	}
	return id, nil
}

func (f *follower) run() {
	defer close(f.done)
	begun := false
	for e := range f.sub.Events() {
		mark, isMark := e.(connmgr.EventLimits)
		if begun {
			f.note(e)
		}
		begun = begun || isMark && mark.Limits == f.first
		if isMark && mark.LowWater == f.last.LowWater {
			return
		}
	}
}

func (f *follower) note(e connmgr.Event) {
	var (
		id     connmgr.NodeID
		noPeer bool
		kind   api.EventType
		at     time.Time
	)
	switch e := e.(type) {
	case connmgr.EventConnected:
		kind, id, at = api.Connected, e.Peer, e.At
	case connmgr.EventDisconnected:
		kind, id, at = api.Disconnected, e.Peer, e.At
	case connmgr.EventClosed:
		kind, id, at = api.PeerClosed, e.Peer, e.At
	case connmgr.EventDenied:
		kind, id, noPeer, at = api.Denied, e.Err.Peer, !e.Err.HasPeer, e.At
	case connmgr.EventTrim:
		kind, noPeer, at = api.TrimEnded, true, e.Started.Add(e.Took)
		f.judge(&e.TrimResult)
	case connmgr.EventLimits:
		kind, noPeer, at = api.LimitsChanged, true, e.At
	case connmgr.EventRules:
		kind, noPeer, at = api.RulesChanged, true, e.At
	}
	peer := ""
	if !noPeer {
		peer = f.names.FormatPeer(id)
		if _, watched := f.result.byPeer[peer]; watched {
			f.result.byPeer[peer]++
		}
	}
	f.result.history.add(kind, hashOf(kind, peer, at))
}

// judge looks whether a trim went to low water.
func (f *follower) judge(t *connmgr.TrimResult) {
	if t.Target <= 0 {
		return
	}
	f.result.Trims++
	if t.Shortfall > 0 || t.Spared > 0 || t.Failed > 0 || t.Hanging > 0 {
		return // it is said what was in its way
	}
	closed := 0
	for _, v := range t.Closed {
		closed += v.Conns
	}
	if closed >= t.Target {
		f.result.ToLow++
		f.toLow.Add(1)
		return
	}
	f.result.Short = append(f.result.Short, fmt.Sprintf("a trim (%v) closed %d connections, want %d of %d to get to low water, as it says nothing of what kept it",
		t.Trigger, closed, t.Target, t.Counted))
}

// close ends following, if end has not. Closing twice is the same as once.
func (f *follower) close() { f.sub.Close() }

// end sets the last mark, at a moment at which nobody is connected, and returns what
// happened until then.
func (f *follower) end(ctx context.Context, n *node) (EventResult, error) {
	defer f.close()
	core := n.manager.Core()
	limits := core.Limits()
	limits.LowWater = f.last.LowWater
	if err := core.SetLimits(limits); err != nil {
		return EventResult{}, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return EventResult{}, ctx.Err()
	case <-time.After(patience):
		return EventResult{}, errors.New("the last event did not come from the manager's own subscription")
	}
	f.result.Dropped = f.sub.Dropped()
	return f.result, nil
}
