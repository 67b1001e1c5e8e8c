package connmgrlibp2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dep2p/connmgr"
	"github.com/ipfs/go-datastore"
)

// This file changes rules in a datastore so that the rules of a target are, whatever
// happens in between, as they were before or as they shall be.
//
// Whether a target is denied for good is at one key, the rest is at another. If only
// one of them changes, that is one write. Otherwise there are three steps:
//
//	prepare: the details say what holds before and what holds after
//	commit:  go-libp2p's entry comes or goes, which is the change
//	tidy:    the details say only what holds now
//
// Each step is one batch for all targets, if the datastore has batches, and is synced
// before the next one begins. Batches need not be atomic, and many are not: it is one
// write in the commit that changes the rules of a target anyway. Where batches are
// atomic, so is the whole Save, since what the other steps write changes no rule.
// Mostly there is but the commit.
//
// Transactions are not used. They would give no more than that, and cost much:
// leveldb locks out all other writers for their duration, badger bounds their size, and
// the wrappers that most programs put around a datastore do not pass them on.

// Save makes the changes durable: the datastore is synced before it returns. No write
// is begun once ctx has ended.
//
// If it returns an error, the rules about each target are as they were or as they
// shall be. On a datastore whose batches are atomic, that is so for all targets
// together. Which of both is sure only when Save is tried again, or after Load.
func (s *RuleStore) Save(ctx context.Context, changes []connmgr.RuleChange) error {
	if err := checkChanges(changes); err != nil {
		return err
	}
	if !s.loaded {
		if _, err := s.Load(ctx); err != nil {
			return err
		}
	}
	var p plan
	groups := s.byTarget(changes)
	for _, g := range groups {
		if err := ctx.Err(); err != nil {
			return opError("save", datastore.NewKey(namespace), err)
		}
		if err := s.planTarget(ctx, &p, g); err != nil {
			return err
		}
	}
	for _, g := range groups {
		s.untidy[g.target] = struct{}{} // unless we come to the end
	}
	if err := s.carryOut(ctx, &p); err != nil {
		return err
	}
	clear(s.untidy)
	return nil
}

// checkChanges returns an error if a change is about no rule.
func checkChanges(changes []connmgr.RuleChange) error {
	for _, c := range changes {
		rule := c.Rule
		if c.Remove {
			rule.Expires, rule.Reason = connmgr.Rule{}.Expires, ""
		}
		if err := rule.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// group is what changes about one target.
type group struct {
	target  connmgr.Target
	changes []connmgr.RuleChange
}

// byTarget groups changes. Untidy targets are there too, if need be without a change.
func (s *RuleStore) byTarget(changes []connmgr.RuleChange) []group {
	groups := make([]group, 0, len(changes))
	at := make(map[connmgr.Target]int, len(changes))
	find := func(target connmgr.Target) *group {
		i, ok := at[target]
		if !ok {
			i = len(groups)
			at[target] = i
			groups = append(groups, group{target: target})
		}
		return &groups[i]
	}
	for _, c := range changes {
		g := find(c.Rule.Target)
		g.changes = append(g.changes, c)
	}
	for target := range s.untidy {
		find(target)
	}
	return groups
}

// plan is what a Save writes.
type plan struct{ prepare, commit, tidy []write }

// write is a value for a key, or the end of it.
type write struct {
	key    datastore.Key
	value  []byte
	delete bool
}

// planTarget adds what is to be done about one target.
func (s *RuleStore) planTarget(ctx context.Context, p *plan, g group) error {
	target := g.target
	was, written, err := s.lookUp(ctx, target)
	if err != nil {
		return err
	}
	before := was.details.appendRules(nil, target, was.blocked)
	after := apply(before, g.changes)
	block := slices.ContainsFunc(after, permanent)
	final := settled(after)
	end, err := final.encode()
	if err != nil {
		return opError("encode", detailsKey(target), err)
	}
	if block == was.blocked {
		p.commit = appendDetails(p.commit, target, written, end)
		return nil
	}

	interim := between(before, after)
	if block {
		interim = between(after, before)
	}
	middle, err := interim.encode()
	if err != nil {
		return opError("encode", detailsKey(target), err)
	}
	shared, value := sharedEntry(target)
	p.prepare = appendDetails(p.prepare, target, written, middle)
	if block {
		p.commit = append(p.commit, write{key: shared, value: value})
	} else {
		for _, key := range append([]datastore.Key{shared}, was.aliases...) {
			p.commit = append(p.commit, write{key: key, delete: true})
		}
	}
	p.tidy = appendDetails(p.tidy, target, middle, end)
	return nil
}

// apply returns rules as they are after changes.
func apply(rules []connmgr.Rule, changes []connmgr.RuleChange) []connmgr.Rule {
	rules = slices.Clone(rules)
	for _, c := range changes {
		rules = slices.DeleteFunc(rules, c.Rule.Same)
		if !c.Remove {
			rules = append(rules, c.Rule)
		}
	}
	return rules
}

// appendDetails adds the write that makes details what they shall be, if there is
// anything to write.
func appendDetails(writes []write, target connmgr.Target, is, shall []byte) []write {
	if bytes.Equal(is, shall) {
		return writes
	}
	return append(writes, write{key: detailsKey(target), value: shall, delete: shall == nil})
}

// carryOut does what is planned, and syncs each step. What a Save that failed has
// left in the air is synced with the first, even if there is nothing to prepare.
func (s *RuleStore) carryOut(ctx context.Context, p *plan) error {
	for _, step := range [][]write{p.prepare, p.commit, p.tidy} {
		if err := s.write(ctx, step); err != nil {
			return err
		}
		if err := s.sync(ctx); err != nil {
			return err
		}
	}
	return nil
}

// write does all writes, in one batch if the datastore has batches.
func (s *RuleStore) write(ctx context.Context, writes []write) error {
	if len(writes) == 0 {
		return nil
	}
	var to datastore.Write = s.ds
	batch, err := newBatch(ctx, s.ds)
	if err != nil {
		return fmt.Errorf("connmgr: cannot begin a batch in the datastore: %w", err)
	}
	if batch != nil {
		to = batch
	}
	s.unsynced = true
	for _, w := range writes {
		op, err := "put", ctx.Err()
		switch {
		case err != nil:
		case w.delete:
			op, err = "delete", to.Delete(ctx, w.key)
		default:
			err = to.Put(ctx, w.key, w.value)
		}
		if err != nil {
			return opError(op, w.key, err)
		}
	}
	if batch != nil {
		err := ctx.Err()
		if err == nil {
			err = batch.Commit(ctx)
		}
		if err != nil {
			return fmt.Errorf("connmgr: cannot commit a batch of %d writes, the first of %q, in the datastore: %w", len(writes), writes[0].key.String(), err)
		}
	}
	return nil
}

// newBatch returns a new batch, nil if the datastore has none. Wrappers have the
// method even if what they wrap has not.
func newBatch(ctx context.Context, ds datastore.Datastore) (datastore.Batch, error) {
	batching, ok := ds.(datastore.Batching)
	if !ok {
		return nil, nil
	}
	batch, err := batching.Batch(ctx)
	if errors.Is(err, datastore.ErrBatchUnsupported) {
		return nil, nil
	}
	return batch, err
}

// sync makes durable what was written, if anything was.
func (s *RuleStore) sync(ctx context.Context) error {
	if !s.unsynced {
		return nil
	}
	key := datastore.NewKey(namespace)
	err := ctx.Err()
	if err == nil {
		err = s.ds.Sync(ctx, key)
	}
	if err != nil {
		return opError("sync", key, err)
	}
	s.unsynced = false
	return nil
}
