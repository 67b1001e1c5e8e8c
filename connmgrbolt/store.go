package connmgrbolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"go.etcd.io/bbolt"
)

// This file says how rules are loaded and saved.

// Store keeps rules in a file. It is made by [Open].
//
// Methods may be called from several goroutines; they wait for each other.
type Store struct {
	path     string
	readOnly bool

	mu     sync.Mutex // guards all following fields
	file   *os.File
	db     *bbolt.DB // nil: nothing was ever saved, and nothing can be
	closed bool
	// broken is why bbolt can no longer be used: it has panicked, and may have left
	// its locks held.
	broken error
}

var _ connmgr.RuleStore = (*Store)(nil)

// Path returns the path that the file was opened with.
func (s *Store) Path() string { return s.path }

// Load returns all rules, those that have expired too, in no particular order.
// Expiries are in UTC.
//
// If a single rule cannot be read, or one is missing or too many, there are no rules
// but an error that wraps [ErrCorrupt] and names the file and, in hexadecimal, the
// key of the record.
func (s *Store) Load(ctx context.Context) ([]connmgr.Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rules []connmgr.Rule
	err := s.run(func() error {
		if s.db == nil {
			return ctx.Err()
		}
		return s.db.View(func(tx *bbolt.Tx) (err error) {
			rules, err = load(ctx, tx)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return rules, nil
}

func load(ctx context.Context, tx *bbolt.Tx) ([]connmgr.Rule, error) {
	head, records, err := buckets(tx)
	if err != nil {
		return nil, err
	}
	want, err := getTally(head)
	if err != nil {
		return nil, err
	}
	var is tally
	known := make(texts)
	rules := make([]connmgr.Rule, 0, min(want.count, uint64(tx.Size())/minValue))
	c := records.Cursor()
	for key, value := c.First(); key != nil; key, value = c.Next() {
		if is.count%pollEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rule, err := decodeRecord(key, value, known)
		if err != nil {
			return nil, err
		}
		is.add(value)
		rules = append(rules, rule)
	}
	if is.count != want.count {
		return nil, damaged("it has %d rules, must have %d", is.count, want.count)
	}
	if is.sum != want.sum {
		return nil, damaged("its %d rules are not those that were saved last", is.count)
	}
	return rules, nil
}

// pollEvery is the number of rules between two looks at the context.
const pollEvery = 1024

// Save puts and removes rules, all of them or none. When it returns nil they are on
// the disk. Rules are validated first.
//
// An error, such as of a full disk, leaves the rules as they were before, and the
// next Save may succeed. Only if the very last write fails, that of the page that makes
// a transaction valid, it is open whether the rules are saved; to save them again is
// safe. A context that ends stops it until the writing begins.
func (s *Store) Save(ctx context.Context, changes []connmgr.RuleChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run(func() error {
		if s.readOnly {
			return &fault{kind: ErrReadOnly, text: "opened with ReadOnly, nothing can be saved"}
		}
		records, err := encode(ctx, changes)
		if err != nil || len(records) == 0 {
			return err
		}
		return s.db.Update(func(tx *bbolt.Tx) error { return apply(ctx, tx, records) })
	})
}

// record is a change in the form in which it is written.
type record struct {
	key   []byte
	value []byte // nil: remove it
	index int    // among the changes
}

// encode returns changes as records in the order of their keys: bbolt puts keys that
// come in order at the end of a page, and others with a search and a shift.
func encode(ctx context.Context, changes []connmgr.RuleChange) ([]record, error) {
	records := make([]record, len(changes))
	var room []byte
	for i, change := range changes {
		if i%pollEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rule := change.Rule
		if change.Remove {
			rule.Expires, rule.Reason = time.Time{}, ""
		}
		if err := rule.Validate(); err != nil {
			return nil, err
		}
		peer, _ := rule.Target.Peer()
		if need := 64 + len(peer) + len(rule.Origin) + len(rule.Reason); cap(room)-len(room) < need {
			room = make([]byte, 0, max(need, 64<<10)) // one allocation for many records
		}
		start := len(room)
		var err error
		if room, err = appendKey(room, rule); err != nil {
			return nil, err
		}
		r := record{key: room[start:], index: i}
		if !change.Remove {
			start = len(room)
			room = appendValue(room, r.key, rule)
			r.value = room[start:]
		}
		records[i] = r
	}
	slices.SortFunc(records, func(a, b record) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return a.index - b.index // of two about one rule the last decides
	})
	return records, nil
}

func apply(ctx context.Context, tx *bbolt.Tx, records []record) error {
	head, bucket, err := buckets(tx)
	if err != nil {
		return err
	}
	sum, err := getTally(head)
	if err != nil {
		return err
	}
	if len(records) >= bulk {
		bucket.FillPercent = bulkFill
	}
	for i, r := range records {
		if i%pollEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		old := bucket.Get(r.key)
		if old != nil {
			if len(old) < minValue {
				return fmt.Errorf("record %s: %w", shown(r.key), damaged("its value has %d bytes", len(old)))
			}
			sum.remove(old)
		}
		switch {
		case r.value != nil:
			sum.add(r.value)
			if !bytes.Equal(old, r.value) { // a list that is refreshed is mostly the same
				err = bucket.Put(r.key, r.value)
			}
		case old != nil:
			err = bucket.Delete(r.key)
		}
		if err != nil {
			return err
		}
	}
	return putTally(head, sum)
}

// Many rules at once come in order and mostly stay together, so pages are filled
// almost full; bbolt's half is better where single ones come in between.
const (
	bulk     = 10_000
	bulkFill = 0.9
)

// Close closes the file, after a Load or Save that is at work. Closing it again does
// nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.db == nil || s.broken != nil {
		// bbolt would wait for locks that nobody releases.
		return inFile(s.path, release(s.file))
	}
	return inFile(s.path, guard(s.db.Close))
}

// run runs what a method does with the file, if that is still possible, and puts the
// file's name to its error.
func (s *Store) run(do func() error) error {
	switch {
	case s.closed:
		return inFile(s.path, &fault{kind: ErrClosed, text: "the store is closed"})
	case s.broken != nil:
		return inFile(s.path, s.broken)
	}
	err := guard(do)
	if p := new(panicked); errors.As(err, &p) {
		s.broken = p
	}
	return inFile(s.path, err)
}

// guard turns a panic of bbolt, and a fault in the memory to which it has mapped the
// file, into an error.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p}
		}
	}()
	return do()
}

type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprintf("damaged: bbolt cannot go on: %v", p.value) }
func (p *panicked) Unwrap() error { return ErrCorrupt }
