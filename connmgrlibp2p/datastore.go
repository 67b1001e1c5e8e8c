package connmgrlibp2p

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// This file keeps the gate's rules in a go-datastore, beside those of go-libp2p's
// gater. datastore_keys.go says which keys there are, datastore_details.go what is in
// ours, and datastore_save.go in which order they are written.

// RuleStore keeps rules in any go-datastore. It reads what go-libp2p's
// BasicConnectionGater saved, and go-libp2p's gater can read what it writes:
//
//   - A peer, an address or a prefix that is denied for good is where go-libp2p's
//     gater has it, and as go-libp2p's gater has it. Those entries are the truth: what
//     go-libp2p's gater added is a rule without reason and origin, and what it removed
//     is gone.
//   - Everything that go-libp2p's gater does not know (rules that end, allow rules,
//     ports, reasons and origins) is in details of our own, at keys that it does not
//     look at. So going back to it never makes a ban that ends one that does not.
//
// Rules that go-libp2p's gater adds or removes are seen by the next Load; two gaters
// must not use one datastore at the same time.
type RuleStore struct {
	ds datastore.Datastore

	loaded bool // both maps are filled
	// aliases holds the keys by which a target is denied in other words than ours,
	// such as 10.1.2.3/8 for 10.0.0.0/8, or 192.0.2.1/32 for 192.0.2.1.
	aliases map[connmgr.Target][]datastore.Key
	// untidy holds targets whose details have more in them than what holds now. The
	// next Save puts them in order.
	untidy map[connmgr.Target]struct{}
	// unsynced says that something was written since the datastore was last synced.
	unsynced bool
}

var _ connmgr.RuleStore = (*RuleStore)(nil)

// NewRuleStore returns a store of rules in a datastore, which must not be nil. The
// datastore is neither read nor written before the first call of a method, and never
// closed.
//
// As any [connmgr.RuleStore], it must not be used by several goroutines at once.
func NewRuleStore(ds datastore.Datastore) *RuleStore {
	if ds == nil {
		panic("connmgr: NewRuleStore needs a datastore, got nil")
	}
	return &RuleStore{ds: ds}
}

// Load returns all rules that the datastore holds. It writes nothing.
//
// An entry that does not mean a rule is an error that names its key: an address that
// has neither 4 nor 16 bytes, a prefix that does not parse, a key that says something
// else than its value, details of a newer version. Keys beside all of these are not
// looked at, as go-libp2p's gater does not look at them.
func (s *RuleStore) Load(ctx context.Context) ([]connmgr.Rule, error) {
	found, err := s.scan(ctx)
	if err != nil {
		return nil, err
	}
	s.aliases = make(map[connmgr.Target][]datastore.Key)
	s.untidy = make(map[connmgr.Target]struct{})
	rules := make([]connmgr.Rule, 0, len(found))
	for target, f := range found {
		rules = f.details.appendRules(rules, target, f.blocked)
		if len(f.aliases) > 0 {
			s.aliases[target] = f.aliases
		}
		if !f.details.tidy(f.blocked) {
			s.untidy[target] = struct{}{}
		}
	}
	s.loaded = true
	return rules, nil
}

// finding is what the datastore holds about one target.
type finding struct {
	blocked bool            // go-libp2p's gater would deny it
	aliases []datastore.Key // entries of go-libp2p's gater at other keys than ours
	details details
}

// scan reads everything under the namespace. It is one query, since some datastores
// look at all their keys for each.
func (s *RuleStore) scan(ctx context.Context) (map[connmgr.Target]finding, error) {
	results, err := s.ds.Query(ctx, query.Query{Prefix: namespace})
	if err != nil {
		return nil, opError("query", datastore.NewKey(namespace), err)
	}
	defer results.Close()

	found := make(map[connmgr.Target]finding)
	for {
		result, more := results.NextSync()
		switch err := ctx.Err(); {
		case err != nil:
			return nil, opError("load", datastore.NewKey(namespace), err)
		case !more:
			return found, nil
		case result.Error != nil:
			return nil, opError("query", datastore.NewKey(namespace), result.Error)
		}
		if err := readEntry(found, result.Key, result.Value); err != nil {
			return nil, fmt.Errorf("connmgr: datastore entry %q is not a rule: %w", result.Key, err)
		}
	}
}

// readEntry notes what an entry of the datastore says.
func readEntry(found map[connmgr.Target]finding, key string, value []byte) error {
	name, ours := strings.CutPrefix(key, namespace+"/")
	if !ours {
		return nil // the datastore is generous with what begins like the namespace
	}
	kind, text, _ := strings.Cut(name, "/")
	switch kind {
	case kindPeer, kindAddr, kindSubnet:
		target, err := parseShared(kind, text, value)
		if err != nil {
			return err
		}
		f := found[target]
		f.blocked = true
		if shared, _ := sharedEntry(target); shared.String() != key {
			f.aliases = append(f.aliases, datastore.RawKey(key))
		}
		found[target] = f
	case kindDetails:
		target, err := parseDetailsKey(text)
		if err != nil {
			return err
		}
		d, err := parseDetails(target, value)
		if err != nil {
			return err
		}
		f := found[target]
		f.details = d
		found[target] = f
	}
	return nil
}

// lookUp reads what the datastore holds about one target, and its details as they
// are written, nil if there are none.
func (s *RuleStore) lookUp(ctx context.Context, target connmgr.Target) (finding, []byte, error) {
	f := finding{aliases: s.aliases[target]}
	if sharable(target) {
		shared, _ := sharedEntry(target)
		for _, key := range append([]datastore.Key{shared}, f.aliases...) {
			has, err := s.ds.Has(ctx, key)
			if err != nil {
				return finding{}, nil, opError("look for", key, err)
			}
			if has {
				f.blocked = true
				break
			}
		}
	}
	key := detailsKey(target)
	value, err := s.ds.Get(ctx, key)
	switch {
	case errors.Is(err, datastore.ErrNotFound):
		return f, nil, nil
	case err != nil:
		return finding{}, nil, opError("get", key, err)
	}
	if f.details, err = parseDetails(target, value); err != nil {
		return finding{}, nil, fmt.Errorf("connmgr: datastore entry %q is not a rule: %w", key.String(), err)
	}
	return f, value, nil
}

// opError says at what, and at which key, a datastore failed.
func opError(op string, key datastore.Key, err error) error {
	return fmt.Errorf("connmgr: cannot %s %q in the datastore: %w", op, key.String(), err)
}
