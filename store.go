package connmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// This file says how rules survive restarts: what a store has to do, and how the
// gater hands it what has changed.

// RuleStore keeps rules across restarts. Package connmgrbolt has one in a file of
// its own, package connmgrlibp2p one in any go-datastore.
//
// The gater calls Load once, before anything else, and never two methods at once.
// No method is called under a lock of the manager, but none may wait for the gater.
// The gater does not close a store; who opened it does, after the manager.
type RuleStore interface {
	// Load returns all rules, those that have expired meanwhile too. If a single one
	// cannot be read it returns an error that names the file or key, since a node
	// that starts without a part of its rules has lost them without notice.
	Load(ctx context.Context) ([]Rule, error)
	// Save makes changes durable before it returns. After an error each rule is as it
	// was or as it was to be; the gater hands over the same changes again. No two
	// changes are about the same rule. The slice is the caller's. A store takes every
	// rule that passes [Rule.Validate]: one that it refuses keeps the others that come
	// with it from being saved.
	Save(ctx context.Context, changes []RuleChange) error
}

// RuleChange is a rule to be kept, or one to be forgotten.
type RuleChange struct {
	Rule Rule
	// Remove says that the rule is to be forgotten; its expiry and reason mean
	// nothing then. A rule that the store does not have is no error.
	Remove bool
}

// pendingChange is a change with what the keeper knows about it.
type pendingChange struct {
	RuleChange
	// fresh says that no store has heard of the rule yet, so that nothing has to be
	// saved if it goes before it was saved.
	fresh bool
	// ended says that the rule is removed since it has expired.
	ended bool
	// latest is the latest end of a version of the rule that a Save that failed may
	// have left in the store, in Unix nanoseconds; 0 if there is none.
	latest int64
}

// bare returns changes as others see them.
func bare(pending []pendingChange) []RuleChange {
	changes := make([]RuleChange, len(pending))
	for i := range pending {
		changes[i] = pending[i].RuleChange
	}
	return changes
}

// ruleKeeper saves changes in the order in which they came into force, those of
// several callers together where they come faster than the store saves. What could
// not be saved is tried again with the next change, and on the background tick.
type ruleKeeper struct {
	m     *Manager
	store RuleStore // nil: rules end with the process

	mu sync.Mutex // guards all following fields
	// pending is what is in force and not saved, the oldest change first.
	pending []pendingChange
	// unique says that no two of them are about the same rule.
	unique bool
	// next is the round that will save it; nil if nobody waits for one.
	next *saveRound
	busy bool // a round is being saved

	unsaved atomic.Int64 // changes that the last round could not save
	logged  atomic.Bool
}

// saveRound is one call of Save.
type saveRound struct {
	done chan struct{}
	err  error // valid once done is closed
}

// enqueue notes changes that have come into force, no two about the same rule, and
// returns the round that will save them, nil if there is no store. The caller holds
// the lock under which they came into force, so that the order is the same.
func (k *ruleKeeper) enqueue(changes []pendingChange) *saveRound {
	if k.store == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case len(k.pending) == 0 && len(changes) == 0:
		return nil
	case len(k.pending) == 0:
		k.pending, k.unique = changes, true
	default:
		k.pending, k.unique = append(k.pending, changes...), false
	}
	if k.next == nil {
		k.next = &saveRound{done: make(chan struct{})}
	}
	return k.next
}

// start has a round saved.
func (k *ruleKeeper) start(round *saveRound) {
	if round != nil && k.begin() && !k.m.goIfOpen(k.saveAll) {
		go k.saveAll() // a closed manager does not wait for it; the caller does
	}
}

// ErrNotSaved is wrapped by the errors of methods that change rules if the change is in
// force, but not saved, or not known to be. Saving it is tried again.
var ErrNotSaved = errors.New("connmgr: the rules are in force, but not saved")

// wait waits until a round has been saved. When ctx ends first, it goes on without
// the caller.
func (k *ruleKeeper) wait(ctx context.Context, round *saveRound) error {
	if round == nil {
		return nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	select {
	case <-round.done:
		if round.err != nil {
			return fmt.Errorf("%w: they could not be: %w", ErrNotSaved, round.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w, as far as is known: %w", ErrNotSaved, ctx.Err())
	}
}

// begin reports whether the caller is to call saveAll: nobody else is at it.
func (k *ruleKeeper) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy {
		return false
	}
	k.busy = true
	return true
}

// saveAll saves round after round until nobody waits for one.
func (k *ruleKeeper) saveAll() {
	for {
		k.mu.Lock()
		round, changes := k.next, k.pending
		if round == nil {
			k.busy = false
			k.mu.Unlock()
			return
		}
		if !k.unique {
			changes = lastChanges(changes)
		}
		k.next, k.pending = nil, nil
		k.mu.Unlock()

		if len(changes) > 0 {
			round.err = k.m.safely(func() error { return k.store.Save(context.Background(), bare(changes)) })
		}
		if round.err == nil {
			k.unsaved.Store(0)
			k.logged.Store(false)
		} else {
			for i := range changes { // who knows what a Save that failed has done
				if c := &changes[i]; !c.Remove {
					c.latest = max(c.latest, unixNano(c.Rule.Expires))
				}
			}
			k.mu.Lock()
			k.pending = append(changes, k.pending...) // what came meanwhile is newer
			k.unique = k.next == nil
			k.mu.Unlock()
			k.unsaved.Store(int64(len(changes)))
		}
		close(round.done)
	}
}

// retry has changes saved that could not be before, unless the store is at work.
func (k *ruleKeeper) retry() {
	k.mu.Lock()
	busy := k.busy
	k.mu.Unlock()
	if !busy && k.unsaved.Load() > 0 {
		k.saveSoon(k.enqueue(nil))
	}
}

// saveSoon has a round saved that nobody else waits for.
func (k *ruleKeeper) saveSoon(round *saveRound) {
	if round == nil {
		return
	}
	k.m.goIfOpen(func() {
		k.start(round)
		if err := k.wait(context.Background(), round); err != nil {
			k.m.logFaultOnce(&k.logged, err)
		}
	})
}

// lastChanges leaves of all changes of one rule the last.
func lastChanges(changes []pendingChange) []pendingChange {
	type id struct {
		effect Effect
		target Target
		origin string
	}
	at := make(map[id]int, len(changes))
	out := make([]pendingChange, 0, len(changes))
	for _, c := range changes {
		key := id{c.Rule.Effect, c.Rule.Target, c.Rule.Origin}
		i, seen := at[key]
		if !seen {
			at[key] = len(out)
			out = append(out, c)
			continue
		}
		c.fresh, c.latest = out[i].fresh, out[i].latest
		out[i] = c
	}
	return slices.DeleteFunc(out, func(c pendingChange) bool { return c.Remove && c.fresh && c.harmless() })
}

// harmless reports whether nothing of a rule that is removed can come back from the
// store, which had no version of it before: none was ever given to it, or what a Save
// that failed may have left has ended with the rule.
func (c *pendingChange) harmless() bool {
	return c.latest == 0 || c.ended && c.latest <= unixNano(c.Rule.Expires)
}
