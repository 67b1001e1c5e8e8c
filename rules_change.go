package connmgr

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// This file changes rules while the gate is in use: in force first, then the live
// connections that they deny are closed, then they are saved.

// Add puts rules in force and saves them. A rule that is there already gets the new
// expiry and reason. Connections that the rules deny are closed before Add returns,
// but for those whose Close hangs.
//
// If one of the rules is not valid or has expired, none is added. If they cannot
// be saved, or ctx ends before they are, they are in force all the same, and the
// error says so.
func (g *Gater) Add(ctx context.Context, rules ...Rule) error {
	now := g.m.cfg.Clock.Now()
	changes := make([]RuleChange, 0, len(rules))
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return err
		}
		if r.Expired(now) {
			return fmt.Errorf("connmgr: rule about %v has expired already, at %s", r.Target, r.Expires.UTC().Format(time.RFC3339))
		}
		changes = append(changes, RuleChange{Rule: r})
	}
	_, err := g.apply(ctx, changes)
	return err
}

// Remove takes rules out and returns how many of them there were. Expiry and reason
// mean nothing here. Errors are as for [Gater.Add].
func (g *Gater) Remove(ctx context.Context, rules ...Rule) (removed int, err error) {
	changes := make([]RuleChange, 0, len(rules))
	for _, r := range rules {
		changes = append(changes, RuleChange{Rule: r, Remove: true})
	}
	return g.apply(ctx, changes)
}

// Block denies a target from now on, for some time or, if that is 0, for good, and
// closes the connections that this is about. A block of the target that is there already
// and ends later stays as it is; [Gater.Add] changes it.
func (g *Gater) Block(ctx context.Context, t Target, duration time.Duration, reason string) error {
	if duration < 0 {
		return fmt.Errorf("connmgr: blocking %v for %v: the duration must not be negative", t, duration)
	}
	r := Rule{Effect: Deny, Target: t, Reason: reason}
	if duration > 0 {
		r.Expires = g.m.cfg.Clock.Now().Add(duration)
	}
	if known := g.rules.Load().same(r); known != nil && known.expires > unixNano(r.Expires) {
		r = known.rule(t)
	}
	return g.Add(ctx, r)
}

// Unblock takes out all rules that deny exactly this target, whatever their origin,
// and returns their number. Something wider that is denied stays so: an allow rule
// opens a hole in it.
func (g *Gater) Unblock(ctx context.Context, t Target) (removed int, err error) {
	var rules []Rule
	for n := g.rules.Load().find(t); n != nil; n = n.next {
		if n.effect == Deny {
			rules = append(rules, n.rule(t))
		}
	}
	return g.Remove(ctx, rules...)
}

// RuleDiff is what a replacement changed.
type RuleDiff struct {
	// Added, Changed, Removed and Kept are numbers of rules. A changed one has a new
	// expiry or reason.
	Added, Changed, Removed, Kept int
}

// Replace puts rules in the place of all rules of one origin, in one step: there is
// no moment at which some of the old and some of the new are in force. The rules'
// own origin must be the same or empty. Of two rules that are the same the later
// counts; those that have expired are left out. Errors are as for [Gater.Add].
//
// It is meant for lists that are fetched again and again: what has not changed is
// not saved anew. An empty list removes all rules of the origin; who fetches lists looks
// at the number of rules first.
func (g *Gater) Replace(ctx context.Context, origin string, rules []Rule) (RuleDiff, error) {
	now := g.m.cfg.Clock.Now()
	fresh := new(ruleSet).edit(len(rules) + 1<<10) // what is to be, alone
	for _, r := range rules {
		if r.Origin != "" && r.Origin != origin {
			return RuleDiff{}, fmt.Errorf("connmgr: rule about %v has origin %q, where those of %q are replaced", r.Target, r.Origin, origin)
		}
		r.Origin = origin
		if err := r.Validate(); err != nil {
			return RuleDiff{}, err
		}
		if !r.Expired(now) {
			fresh.put(r)
		}
	}

	g.editing.Lock()
	old := g.rules.Load()
	var diff RuleDiff
	var changes []pendingChange
	for r := range old.all() {
		if r.Origin == origin && fresh.set.same(r) == nil {
			changes = append(changes, pendingChange{RuleChange: RuleChange{Rule: r, Remove: true}})
			diff.Removed++
		}
	}
	e := old.edit(len(changes) + fresh.set.count)
	for _, c := range changes {
		e.remove(c.Rule.Effect, c.Rule.Target, origin)
	}
	for r := range fresh.set.all() {
		before := e.set.count
		switch changed := e.put(r); {
		case !changed:
			diff.Kept++
			continue
		case e.set.count > before:
			diff.Added++
		default:
			diff.Changed++
		}
		changes = append(changes, pendingChange{RuleChange: RuleChange{Rule: r}, fresh: e.set.count > before})
	}
	made := bare(changes)
	round := g.finish(e, changes, EventRules{Changes: made, At: now})
	g.closeDenied(made)
	return diff, g.keeper.wait(ctx, round)
}

// apply makes changes and returns how many rules were removed.
func (g *Gater) apply(ctx context.Context, changes []RuleChange) (removed int, err error) {
	return g.applyThen(ctx, changes, func() {})
}

// applyThen calls inForce as soon as the changes are in force.
func (g *Gater) applyThen(ctx context.Context, changes []RuleChange, inForce func()) (removed int, err error) {
	now := g.m.cfg.Clock.Now()
	g.editing.Lock()
	e := g.rules.Load().edit(len(changes))
	made := make([]pendingChange, 0, len(changes))
	for _, c := range changes {
		before := e.set.count
		if c.Remove {
			if !e.remove(c.Rule.Effect, c.Rule.Target, c.Rule.Origin) {
				continue
			}
			removed++
		} else if !e.put(c.Rule) {
			continue
		}
		made = append(made, pendingChange{RuleChange: c, fresh: e.set.count > before})
	}
	if len(changes) > 1 {
		made = lastChanges(made) // somebody may name a rule twice
	}
	round := g.finish(e, made, EventRules{Changes: bare(made), At: now})
	inForce()
	// Rules that were there already may have connections that would not close then.
	g.closeDenied(changes)
	if !g.m.runs() { // then nobody else does
		g.sweepRules(g.m.cfg.Clock.Now())
	}
	return removed, g.keeper.wait(ctx, round)
}

// finish puts the edited rules in force, tells subscribers, and begins to save them.
// It unlocks editing only then, so that all of this is in one order.
func (g *Gater) finish(e *ruleEdit, changes []pendingChange, event EventRules) *saveRound {
	if len(changes) > 0 {
		g.rules.Store(&e.set)
		g.m.events.publish(func() Event { return event })
	}
	round := g.keeper.enqueue(changes)
	g.editing.Unlock()
	g.keeper.start(round)
	return round
}

// Rules yields the rules in force: those about peers in no particular order, then
// those about prefixes in the order of their addresses, then those about ports. It
// sees the rules of one moment, whatever is changed meanwhile.
func (g *Gater) Rules() iter.Seq[Rule] {
	set, now := g.rules.Load(), g.m.cfg.Clock.Now()
	return func(yield func(Rule) bool) {
		for r := range set.all() {
			if !r.Expired(now) && !yield(r) {
				return
			}
		}
	}
}

// sweepSpacing is the least time between two sweeps for expired rules. They do not
// decide any more; all that a sweep gains is memory.
const sweepSpacing = time.Minute

// sweep forgets rules that have expired, here and in the store, and misbehaviour of
// long ago, and has changes saved that could not be before.
func (g *Gater) sweep() {
	g.keeper.retry()
	now := g.m.cfg.Clock.Now()
	g.ladder.sweep(now)
	g.sweepRules(now)
}

// sweepRules forgets rules that have expired. The background loop calls it, and, for
// managers that have none, whoever changes rules.
func (g *Gater) sweepRules(now time.Time) {
	set, soonest := g.rules.Load(), g.nextSweep.Load()
	if now.UnixNano() < max(set.nextExpiry, soonest) || !g.nextSweep.CompareAndSwap(soonest, now.Add(sweepSpacing).UnixNano()) {
		return
	}
	var changes []pendingChange
	next := int64(neverExpires)
	for r := range set.all() {
		if r.Expired(now) {
			changes = append(changes, pendingChange{RuleChange: RuleChange{Rule: r, Remove: true}, ended: true})
		} else {
			next = min(next, unixNano(r.Expires))
		}
	}

	g.editing.Lock()
	current := g.rules.Load()
	e := current.edit(len(changes))
	if current == set { // else a rule may have come that ends sooner
		e.set.nextExpiry = next
	}
	changes = slices.DeleteFunc(changes, func(c pendingChange) bool {
		r := c.Rule
		known := current.same(r)
		return known == nil || known.expires > now.UnixNano() || !e.remove(r.Effect, r.Target, r.Origin)
	})
	if len(changes) == 0 {
		g.rules.Store(&e.set) // with the next expiry, if no more
		g.editing.Unlock()
		return
	}
	made := bare(changes)
	g.keeper.saveSoon(g.finish(e, changes, EventRules{Changes: made, Expired: true, At: now}))
	g.m.goIfOpen(func() { g.closeDenied(made) }) // a Close that hangs holds up no trim
}
