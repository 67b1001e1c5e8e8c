package connmgrbolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
	"go.etcd.io/bbolt"
)

// wantRefused fails the test unless Open refuses a file, for writing and for looking,
// with an error that wraps one and has some texts, and leaves the file as it is.
func wantRefused(t *testing.T, path string, wraps error, texts ...string) {
	t.Helper()
	before := mustRead(t, path)
	for _, opts := range [][]connmgrbolt.Option{nil, {connmgrbolt.ReadOnly()}} {
		s, err := connmgrbolt.Open(path, opts...)
		if err == nil {
			mustClose(t, s)
			t.Error("the file was opened")
			continue
		}
		wantError(t, err, path, wraps)
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error is %q, want one with %q", err, text)
			}
		}
	}
	if !bytes.Equal(mustRead(t, path), before) {
		t.Error("the file was changed")
	}
	// It is not locked any more.
	if _, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(0)); !strings.Contains(fmt.Sprint(err), texts[0]) {
		t.Errorf("a further Open: %v, want the same error", err)
	}
}

func TestANewFileIsForItsOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions of files are different there")
	}
	path := newPath(t)
	mustOpen(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the file is %v, want %v", info.Mode(), fs.FileMode(0o600))
	}
}

func TestAnEmptyFileIsANewOne(t *testing.T) {
	path := newPath(t)
	mustWrite(t, path, nil)
	wantInFile(t, path)
	s := mustOpen(t, path)
	mustSave(t, s, puts(peerRule(1)))
	mustClose(t, s)
	wantInFile(t, path, peerRule(1))
}

// A crash while bbolt makes a file leaves a part of its first write, or blocks of it
// that are still zero, or all of it, but no buckets.
func TestAFileThatWasNotFinishedIsANewOne(t *testing.T) {
	model := newPath(t)
	makeBolt(t, model, nil)
	whole := mustRead(t, model)
	zeros := make([]byte, len(whole))
	half := append(zeros[:len(whole)/2:len(whole)/2], whole[len(whole)/2:]...)
	for what, content := range map[string][]byte{
		"one byte":         whole[:1],
		"one block":        whole[:512],
		"one page":         whole[:4096],
		"two and a bit":    whole[:9000],
		"three pages":      whole[:12288],
		"one byte missing": whole[:len(whole)-1],
		"all":              whole,
		"zeros":            zeros,
		"second half":      half,
	} {
		t.Run(what, func(t *testing.T) {
			path := newPath(t)
			mustWrite(t, path, content)
			wantInFile(t, path)
			if !bytes.Equal(mustRead(t, path), content) {
				t.Error("ReadOnly changed the file")
			}
			s := mustOpen(t, path)
			mustSave(t, s, puts(peerRule(1)))
			mustClose(t, s)
			wantInFile(t, path, peerRule(1))
		})
	}
}

func TestAFileWhoseFirstTransactionWasNotFinishedIsANewOne(t *testing.T) {
	fresh, model, path := newPath(t), makeFile(t), newPath(t)
	makeBolt(t, fresh, nil)
	content := mustRead(t, model)
	// All is written but the meta page, which comes last.
	copy(content, mustRead(t, fresh)[:os.Getpagesize()])
	mustWrite(t, path, content)
	wantInFile(t, path)
	s := mustOpen(t, path)
	mustSave(t, s, puts(peerRule(1)))
	mustClose(t, s)
	wantInFile(t, path, peerRule(1))
}

func TestOtherFilesAreRefusedAndLeftAlone(t *testing.T) {
	for what, content := range map[string]string{
		"a list":       "10.0.0.0/8\n",
		"a long list":  strings.Repeat("10.0.0.0/8\n", 10_000),
		"one zero":     "\x00 and more",
		"zeros, a lot": strings.Repeat("\x00", 300_000),
		"zeros, and x": strings.Repeat("\x00", 4000) + "x",
	} {
		t.Run(what, func(t *testing.T) {
			path := newPath(t)
			mustWrite(t, path, []byte(content))
			wantRefused(t, path, connmgrbolt.ErrCorrupt, "damaged: ", "bolt file")
		})
	}
}

func TestABoltFileOfAnotherProgramIsRefusedAndLeftAlone(t *testing.T) {
	path := newPath(t)
	makeBolt(t, path, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("orders"))
		if err != nil {
			return err
		}
		return b.Put([]byte("1"), []byte("shoes"))
	})
	wantRefused(t, path, connmgrbolt.ErrForeign, "belongs to another program", `"orders"`)
}

// etcd's files, for one, have no list of free pages; bbolt would write one.
func TestABoltFileOfAnotherProgramWithoutFreelistIsLeftAlone(t *testing.T) {
	path := newPath(t)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("key"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, connmgrbolt.ErrForeign, "belongs to another program", `"key"`)
}

func TestBucketsOfOthersInOurFileAreKept(t *testing.T) {
	path := makeFile(t, peerRule(1))
	makeBolt(t, path, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("a"))
		if err != nil {
			return err
		}
		if b, err = b.CreateBucket([]byte("nested")); err != nil {
			return err
		}
		for i := range 1000 {
			if err := b.Put(binary.BigEndian.AppendUint16(nil, uint16(i)), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	})
	s := mustOpen(t, path)
	mustSave(t, s, puts(peerRule(2)))
	mustClose(t, s)
	wantInFile(t, path, peerRule(1), peerRule(2))
	makeBolt(t, path, func(tx *bbolt.Tx) error {
		if n := tx.Bucket([]byte("a")).Bucket([]byte("nested")).Stats().KeyN; n != 1000 {
			t.Errorf("the other bucket has %d keys left of 1000", n)
		}
		return nil
	})
}

// setFormat changes what the file says of its format.
func setFormat(t *testing.T, path string, value []byte) {
	t.Helper()
	makeBolt(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("connmgr")).Put([]byte("format"), value)
	})
}

func TestANewerFormatIsRefusedWithBothVersions(t *testing.T) {
	path := makeFile(t, peerRule(1))
	setFormat(t, path, sealed([]byte{0, 0, 0, 9}))
	wantRefused(t, path, connmgrbolt.ErrNewerFormat, "format 9 is newer than 1")
}

func TestARecordOfANewerFormatIsAnError(t *testing.T) {
	path := makeFile(t, peerRule(1))
	var key []byte
	makeBolt(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("connmgr.rules"))
		var value []byte
		key, value = b.Cursor().First()
		key, value = bytes.Clone(key), bytes.Clone(value)
		value[0] = 7
		// The checksum covers the key and what is before it.
		both := sealed(append(bytes.Clone(key), value[:len(value)-4]...))
		return b.Put(key, both[len(key):])
	})
	s := mustOpen(t, path)
	rules, err := s.Load(context.Background())
	wantError(t, err, path, connmgrbolt.ErrNewerFormat)
	for _, text := range []string{"format 7 is newer than 1", fmt.Sprintf("record %x: ", key)} {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("the error is %v, want one with %q", err, text)
		}
	}
	if rules != nil {
		t.Errorf("Load returned %v as well", rules)
	}
}

func TestAnImpossibleHeadIsAnError(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, path string){
		"format 0":         func(t *testing.T, path string) { setFormat(t, path, sealed(make([]byte, 4))) },
		"format too short": func(t *testing.T, path string) { setFormat(t, path, []byte{1}) },
		"format changed":   func(t *testing.T, path string) { setFormat(t, path, append(sealed([]byte{0, 0, 0, 1}), 1)[1:]) },
		"no rules": func(t *testing.T, path string) {
			makeBolt(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("connmgr.rules")) })
		},
		"no buckets": func(t *testing.T, path string) {
			makeBolt(t, path, func(tx *bbolt.Tx) error {
				if err := tx.DeleteBucket([]byte("connmgr")); err != nil {
					return err
				}
				return tx.DeleteBucket([]byte("connmgr.rules"))
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := makeFile(t, peerRule(1))
			change(t, path)
			wantRefused(t, path, connmgrbolt.ErrCorrupt, "damaged: ")
		})
	}
}

// TestRulesThatAreLostOrComeBackAreAnError changes records behind the store's back, in
// ways that leave each of them readable.
func TestRulesThatAreLostOrComeBackAreAnError(t *testing.T) {
	records := func(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("connmgr.rules")) }
	other := peerRule(1)
	other.Reason = "another"
	donor := makeFile(t, other, peerRule(9))
	for _, c := range []struct {
		what   string
		change func(b, donor *bbolt.Bucket) error
		text   string
	}{
		{"lost", func(b, _ *bbolt.Bucket) error {
			key, _ := b.Cursor().First()
			return b.Delete(key)
		}, "has 1 rules, must have 2"},
		{"come back", func(b, donor *bbolt.Bucket) error {
			return b.Put(donor.Cursor().Last())
		}, "has 3 rules, must have 2"},
		{"changed", func(b, donor *bbolt.Bucket) error {
			return b.Put(donor.Cursor().First())
		}, "2 rules are not those"},
		{"changed to a bucket", func(b, _ *bbolt.Bucket) error {
			_, err := b.CreateBucket([]byte("x"))
			return err
		}, "record 78: "},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := makeFile(t, peerRule(1), peerRule(2))
			db, err := bbolt.Open(donor, 0, &bbolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			makeBolt(t, path, func(tx *bbolt.Tx) error {
				return db.View(func(from *bbolt.Tx) error { return c.change(records(tx), records(from)) })
			})
			s := mustOpen(t, path)
			for _, save := range []bool{true, false} {
				rules, err := s.Load(context.Background())
				wantError(t, err, path, connmgrbolt.ErrCorrupt)
				if save && !strings.Contains(fmt.Sprint(err), c.text) {
					t.Errorf("the error is %v, want one with %q", err, c.text)
				}
				if rules != nil {
					t.Errorf("Load returned %v as well", rules)
				}
				if save { // it must not mend the account
					mustSave(t, s, puts(peerRule(3)))
				}
			}
		})
	}
}

func TestAMissingFolderIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "rules.db")
	for _, opts := range [][]connmgrbolt.Option{nil, {connmgrbolt.ReadOnly()}} {
		_, err := connmgrbolt.Open(path, opts...)
		wantError(t, err, path, fs.ErrNotExist)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the folder was made")
	}
}

func TestReadOnlyDoesNotMakeAFile(t *testing.T) {
	path := newPath(t)
	_, err := connmgrbolt.Open(path, connmgrbolt.ReadOnly())
	wantError(t, err, path, fs.ErrNotExist)
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was made")
	}
}

func TestAFolderIsNoFile(t *testing.T) {
	path := t.TempDir()
	for _, opts := range [][]connmgrbolt.Option{nil, {connmgrbolt.ReadOnly()}} {
		_, err := connmgrbolt.Open(path, opts...)
		wantError(t, err, path)
	}
}

func TestReadOnlySavesNothing(t *testing.T) {
	path := makeFile(t, peerRule(1))
	s := mustOpen(t, path, connmgrbolt.ReadOnly())
	wantRules(t, s, peerRule(1))
	wantError(t, s.Save(context.Background(), puts(peerRule(2))), path, connmgrbolt.ErrReadOnly)
	wantRules(t, s, peerRule(1))
}

func TestReadOnlyOpensAFileThatMustNotBeWritten(t *testing.T) {
	path := makeFile(t, peerRule(1))
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	wantInFile(t, path, peerRule(1))
}

func TestAFileCannotBeOpenTwiceInOneProcess(t *testing.T) {
	path := newPath(t)
	first := mustOpen(t, path)
	for _, opt := range []connmgrbolt.Option{nil, connmgrbolt.ReadOnly()} {
		opts := []connmgrbolt.Option{connmgrbolt.WithLockTimeout(0)}
		if opt != nil {
			opts = append(opts, opt)
		}
		_, err := connmgrbolt.Open(path, opts...)
		wantError(t, err, path, connmgrbolt.ErrLocked)
	}
	mustClose(t, first)
	mustOpen(t, path, connmgrbolt.WithLockTimeout(0))
}

func TestANegativeLockTimeoutIsAnError(t *testing.T) {
	path := newPath(t)
	_, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(-time.Second))
	wantError(t, err, path)
	if !strings.Contains(fmt.Sprint(err), "-1s") {
		t.Errorf("the error is %v, want one with the timeout", err)
	}
}

var _ connmgr.RuleStore = (*connmgrbolt.Store)(nil)
