package connmgrlibp2p_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// This file holds a datastore that fails when it is told to, and that forgets on a
// power failure what was not synced.

var errBroken = errors.New("broken on purpose")

// faultyDatastore is a datastore in memory. It has no batches by itself.
type faultyDatastore struct {
	*datastore.MapDatastore
	// calls counts operations, from 1; that of this number fails, and if forever is
	// set all that follow.
	calls, failAt int
	forever       bool
	// late says that an operation that fails was done all the same.
	late bool
	// onCall, if set, is called with the number of each operation, before it.
	onCall func(n int)
	// done are all operations, such as "put /key", and failed those that failed.
	done, failed []string
	// history is what happened that a power failure could undo or not.
	history []diskEvent
}

// diskEvent is a write, or else a sync of all writes before it.
type diskEvent struct {
	key    datastore.Key
	value  []byte
	delete bool
	sync   bool
}

func newFaulty(entries map[string]string) *faultyDatastore {
	d := &faultyDatastore{MapDatastore: datastore.NewMapDatastore()}
	for key, value := range entries {
		_ = d.MapDatastore.Put(context.Background(), datastore.NewKey(key), []byte(value))
	}
	return d
}

// call counts an operation, and does it unless it is to fail.
func (d *faultyDatastore) call(op string, f func()) error {
	d.calls++
	d.done = append(d.done, op)
	if d.onCall != nil {
		d.onCall(d.calls)
	}
	fails := d.calls == d.failAt || d.forever && d.failAt > 0 && d.calls > d.failAt
	if !fails || d.late {
		f()
	}
	if fails {
		d.failed = append(d.failed, op)
		return fmt.Errorf("%s: %w", op, errBroken)
	}
	return nil
}

func (d *faultyDatastore) put(key datastore.Key, value []byte) {
	_ = d.MapDatastore.Put(context.Background(), key, value)
	d.history = append(d.history, diskEvent{key: key, value: value})
}

func (d *faultyDatastore) delete(key datastore.Key) {
	_ = d.MapDatastore.Delete(context.Background(), key)
	d.history = append(d.history, diskEvent{key: key, delete: true})
}

func (d *faultyDatastore) Put(_ context.Context, key datastore.Key, value []byte) error {
	return d.call("put "+key.String(), func() { d.put(key, value) })
}

func (d *faultyDatastore) Delete(_ context.Context, key datastore.Key) error {
	return d.call("delete "+key.String(), func() { d.delete(key) })
}

func (d *faultyDatastore) Sync(_ context.Context, key datastore.Key) error {
	return d.call("sync "+key.String(), func() { d.history = append(d.history, diskEvent{sync: true}) })
}

func (d *faultyDatastore) Get(ctx context.Context, key datastore.Key) (value []byte, err error) {
	if failed := d.call("get "+key.String(), func() { value, err = d.MapDatastore.Get(ctx, key) }); failed != nil {
		return nil, failed
	}
	return value, err
}

func (d *faultyDatastore) Has(ctx context.Context, key datastore.Key) (has bool, err error) {
	if failed := d.call("has "+key.String(), func() { has, err = d.MapDatastore.Has(ctx, key) }); failed != nil {
		return false, failed
	}
	return has, err
}

// Query fails at once, or at any of its results.
func (d *faultyDatastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	results, err := d.MapDatastore.Query(ctx, q)
	if failed := d.call("query "+q.Prefix, func() {}); failed != nil || err != nil {
		return nil, errors.Join(failed, err)
	}
	return query.ResultsFromIterator(q, query.Iterator{Next: func() (query.Result, bool) {
		r, more := results.NextSync()
		if failed := d.call("next of query "+q.Prefix, func() {}); failed != nil {
			return query.Result{Error: failed}, true
		}
		return r, more
	}}), nil
}

// unsynced reports whether there are writes after the last sync.
func (d *faultyDatastore) unsynced() bool {
	return len(d.history) > 0 && !d.history[len(d.history)-1].sync
}

// Batch hides the embedded one.
func (d *faultyDatastore) Batch(context.Context) (datastore.Batch, error) {
	return nil, datastore.ErrBatchUnsupported
}

// atomicBatches gives a faulty datastore batches of which all is done or nothing.
type atomicBatches struct{ *faultyDatastore }

func (d atomicBatches) Batch(context.Context) (b datastore.Batch, err error) {
	err = d.call("batch", func() { b = &faultyBatch{d: d.faultyDatastore} })
	return b, err
}

// brokenBatches gives it batches that are no more than one write after the other, in
// any order, as go-datastore's own are.
type brokenBatches struct{ *faultyDatastore }

func (d brokenBatches) Batch(context.Context) (datastore.Batch, error) {
	return datastore.NewBasicBatch(plainDatastore{d.faultyDatastore}), nil
}

type faultyBatch struct {
	d     *faultyDatastore
	later []func()
}

func (b *faultyBatch) Put(_ context.Context, key datastore.Key, value []byte) error {
	return b.d.call("put "+key.String(), func() { b.later = append(b.later, func() { b.d.put(key, value) }) })
}

func (b *faultyBatch) Delete(_ context.Context, key datastore.Key) error {
	return b.d.call("delete "+key.String(), func() { b.later = append(b.later, func() { b.d.delete(key) }) })
}

func (b *faultyBatch) Commit(context.Context) error {
	return b.d.call("commit", func() {
		for _, f := range b.later {
			f()
		}
	})
}

// powerFailures calls f with everything that a disk could hold if the power failed at
// any moment of a history: what was synced, and any part of what was not.
func powerFailures(t *testing.T, start map[string]string, history []diskEvent, f func(what string, disk map[string]string)) {
	t.Helper()
	synced := start
	for from := 0; ; {
		to := from
		for to < len(history) && !history[to].sync {
			to++
		}
		writes := history[from:to]
		if len(writes) > 10 {
			t.Fatalf("%d writes without a sync are too many to try", len(writes))
		}
		for part := range 1 << len(writes) {
			disk := maps.Clone(synced)
			for i, w := range writes {
				if part&(1<<i) == 0 {
					continue
				}
				if w.delete {
					delete(disk, w.key.String())
				} else {
					disk[w.key.String()] = string(w.value)
				}
			}
			f(fmt.Sprintf("power failure after %d syncs, writes %b of %d done", countSyncs(history[:to]), part, len(writes)), disk)
			if part == 1<<len(writes)-1 {
				synced = disk
			}
		}
		if to == len(history) {
			return
		}
		from = to + 1
	}
}

func countSyncs(history []diskEvent) (n int) {
	for _, e := range history {
		if e.sync {
			n++
		}
	}
	return n
}
