package connmgrbolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"go.etcd.io/bbolt"
)

// This file damages a bolt file in ways that chance hardly finds, with the checksums of
// its meta pages in order.

// boltFile is the bytes of a bolt file.
type boltFile []byte

func readBoltFile(t *testing.T, path string) boltFile {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newBoltFile returns a file of rules in a tree of two levels.
func newBoltFile(t *testing.T) boltFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		var changes []connmgr.RuleChange
		for i := range 300 {
			changes = append(changes, connmgr.RuleChange{Rule: connmgr.Rule{
				Target: connmgr.PeerTarget(connmgr.NodeID(fmt.Sprintf("peer-%03d", i))),
				Reason: fmt.Sprint("round ", round),
			}})
		}
		if err := s.Save(context.Background(), changes); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return readBoltFile(t, path)
}

// meta returns the latest meta page.
func (b boltFile) meta(t *testing.T) meta {
	t.Helper()
	m, err := parseMeta(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := parseMeta(b[m.pageSize:], 1)
	if err != nil {
		t.Fatal(err)
	}
	if other.txid > m.txid {
		return other
	}
	return m
}

func (b boltFile) page(t *testing.T, id uint64) []byte {
	t.Helper()
	size := b.meta(t).pageSize
	return b[id*size:][:size]
}

// rules returns the root of the rules, a branch page, and its first leaf.
func (b boltFile) rules(t *testing.T) (branch, leaf []byte) {
	t.Helper()
	root := b.page(t, b.meta(t).root)
	i := bytes.Index(root, rulesBucket)
	if i < 0 {
		t.Fatal("the root does not have the rules")
	}
	branch = b.page(t, order.Uint64(root[i+len(rulesBucket):]))
	if order.Uint16(branch[8:]) != branchPage {
		t.Fatal("the rules are in one page, want a tree")
	}
	return branch, b.page(t, order.Uint64(elementOf(branch, 0)[8:]))
}

func elementOf(page []byte, i int) []byte { return page[pageHeader+i*elementSize:][:elementSize] }

// keyOf returns the key of an element, to be changed in place.
func keyOf(page []byte, i int) []byte {
	e, at := elementOf(page, i), 4 // the position, and behind it the size
	if order.Uint16(page[8:]) == branchPage {
		at = 0
	}
	start := pageHeader + i*elementSize + int(order.Uint32(e[at:]))
	return page[start:][:order.Uint32(e[at+4:])]
}

// changeMeta changes both meta pages and sets their checksums right.
func (b boltFile) changeMeta(t *testing.T, change func(meta []byte)) {
	t.Helper()
	for i, size := 0, int(b.meta(t).pageSize); i < 2; i++ {
		m := b[i*size+pageHeader:][:metaSize]
		change(m)
		h := fnv.New64a()
		h.Write(m[:metaSize-8])
		order.PutUint64(m[metaSize-8:], h.Sum64())
	}
}

func (b boltFile) check() ([][]byte, error) {
	return checkFile(bytes.NewReader(b), int64(len(b)))
}

func TestASoundFileIsNotDamaged(t *testing.T) {
	names, err := newBoltFile(t).check()
	if err != nil || !slices.EqualFunc(names, [][]byte{headBucket, rulesBucket}, bytes.Equal) {
		t.Errorf("a sound file has buckets %q, %v", names, err)
	}
}

func TestWhatWouldMisleadBboltIsFound(t *testing.T) {
	sound := newBoltFile(t)
	count := func(page []byte, n uint16) { order.PutUint16(page[10:], n) }
	for _, c := range []struct {
		what, text string
		change     func(b boltFile)
	}{
		{"no element in a branch", "is empty", func(b boltFile) {
			branch, _ := b.rules(t)
			count(branch, 0)
		}},
		{"a branch that leads to itself", "is in two places", func(b boltFile) {
			branch, _ := b.rules(t)
			copy(elementOf(branch, 1)[8:], branch[:8])
		}},
		{"a branch that leads out of the file", "is outside", func(b boltFile) {
			branch, _ := b.rules(t)
			order.PutUint64(elementOf(branch, 1)[8:], 1<<40)
		}},
		{"a branch that leads to a meta page", "page 1 is outside", func(b boltFile) {
			branch, _ := b.rules(t)
			order.PutUint64(elementOf(branch, 1)[8:], 1)
		}},
		{"two keys in the wrong order", "out of order", func(b boltFile) {
			_, leaf := b.rules(t)
			first, second := bytes.Clone(keyOf(leaf, 0)), bytes.Clone(keyOf(leaf, 1))
			copy(keyOf(leaf, 0), second)
			copy(keyOf(leaf, 1), first)
		}},
		{"a key twice", "out of order", func(b boltFile) {
			_, leaf := b.rules(t)
			copy(keyOf(leaf, 1), keyOf(leaf, 0))
		}},
		{"no key", "out of order", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(elementOf(leaf, 0)[8:], 0)
		}},
		{"a key below what leads to it", "out of order", func(b boltFile) {
			branch, _ := b.rules(t)
			key := keyOf(branch, 1)
			key[len(key)-1]++
		}},
		{"a key above what comes next", "out of order", func(b boltFile) {
			_, leaf := b.rules(t)
			keyOf(leaf, int(order.Uint16(leaf[10:]))-1)[0] = 0xff
		}},
		{"more elements than a page has room for", "no room for 65535 elements", func(b boltFile) {
			_, leaf := b.rules(t)
			count(leaf, 0xffff)
		}},
		{"an element outside of its page", "is outside of it", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(elementOf(leaf, 3)[12:], 1<<31)
		}},
		{"an element in the place of another", "is outside of it", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(elementOf(leaf, 3)[4:], 16)
		}},
		{"an unknown flag", "has flags", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(elementOf(leaf, 3), 2)
		}},
		{"a rule that says it is a bucket", "bucket", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(elementOf(leaf, 3), bucketElement)
		}},
		{"a bucket without a header", "is cut short", func(b boltFile) {
			order.PutUint32(elementOf(b.page(t, b.meta(t).root), 1)[12:], bucketSize-1)
		}},
		{"a bucket without a page", "is no bucket", func(b boltFile) {
			root := b.page(t, b.meta(t).root)
			order.PutUint64(root[bytes.Index(root, rulesBucket)+len(rulesBucket):], 0)
		}},
		{"a leaf that says it is a list of free pages", "neither branch nor leaf", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint16(leaf[8:], freelistPage)
		}},
		{"overflow beyond the end", "is outside", func(b boltFile) {
			_, leaf := b.rules(t)
			order.PutUint32(leaf[12:], 1<<30)
		}},
		{"a page with another's number", "says that it is page", func(b boltFile) {
			_, leaf := b.rules(t)
			leaf[0] ^= 0x40
		}},
		{"a list of free pages that is none", "no list of free pages", func(b boltFile) {
			order.PutUint16(b.page(t, b.meta(t).freelist)[8:], leafPage)
		}},
		{"more free pages than the list has room for", "no room for 5000 free pages", func(b boltFile) {
			count(b.page(t, b.meta(t).freelist), 5000)
		}},
		{"very many free pages", "free pages", func(b boltFile) {
			list := b.page(t, b.meta(t).freelist)
			count(list, 0xffff)
			order.PutUint64(list[pageHeader:], 1<<40)
		}},
		{"a free page that is in use", "is in two places", func(b boltFile) {
			_, leaf := b.rules(t)
			copy(b.page(t, b.meta(t).freelist)[pageHeader:], leaf[:8])
		}},
		{"a meta page with another's number", "has changed", func(b boltFile) { b[0] = 1 }},
		{"a meta page that says it is a leaf", "has changed", func(b boltFile) { order.PutUint16(b[8:], leafPage) }},
		{"a version of bolt that is not known", "version 3", func(b boltFile) { order.PutUint32(b[20:], 3) }},
		{"pages of no size", "pages have 0 bytes", func(b boltFile) {
			b.changeMeta(t, func(m []byte) { order.PutUint32(m[8:], 0) })
		}},
		{"pages of an odd size", "pages have 5000 bytes", func(b boltFile) {
			b.changeMeta(t, func(m []byte) { order.PutUint32(m[8:], 5000) })
		}},
		{"an end beyond the file's", "must have at least", func(b boltFile) {
			b.changeMeta(t, func(m []byte) { order.PutUint64(m[40:], 1<<50) })
		}},
		{"a root beyond the end", "is outside", func(b boltFile) {
			b.changeMeta(t, func(m []byte) { order.PutUint64(m[16:], 1<<50) })
		}},
		{"transactions that are not in a row", "two in a row", func(b boltFile) {
			b.changeMeta(t, func(m []byte) { order.PutUint64(m[48:], 10*order.Uint64(m[48:])) })
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := slices.Clone(sound)
			c.change(b)
			names, err := b.check()
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("the error is %v, want one that says that the file is damaged, with %q", err, c.text)
			}
			if names != nil {
				t.Errorf("there are buckets %q as well", names)
			}
		})
	}
}

func TestMetaPagesThatHaveBeenMadeEqualAreNoDamage(t *testing.T) {
	b := newBoltFile(t)
	m := b.meta(t)
	from, to := m.txid%2, 1-m.txid%2
	copy(b[to*m.pageSize+pageHeader:][:metaSize], b[from*m.pageSize+pageHeader:][:metaSize])
	if _, err := b.check(); err != nil {
		t.Error(err)
	}
}

func TestBucketsThatAreTooDeepAreDamage(t *testing.T) {
	for depth, want := range map[int]bool{maxDepth / 2: true, 2 * maxDepth: false} {
		path := filepath.Join(t.TempDir(), "deep.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("b"))
			for range depth {
				if err == nil {
					b, err = b.CreateBucket([]byte("b"))
				}
			}
			return err
		})
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := readBoltFile(t, path).check(); (err == nil) != want {
			t.Errorf("%d buckets in each other: %v, want them to be good: %v", depth, err, want)
		}
	}
}
