package connmgrbolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// This file says how a file of rules is opened: locked, checked, given to bbolt, and
// made if there is none.

// Option changes how [Open] opens a file.
type Option func(*options)

type options struct {
	lockTimeout time.Duration
	readOnly    bool
}

// defaultLockTimeout is long enough for a node that is restarted to see its
// predecessor end, and for a command that only looks.
const defaultLockTimeout = time.Second

// WithLockTimeout sets how long [Open] waits for whoever else has the file open: 1 s
// without this option, and not at all for zero. It must not be negative.
func WithLockTimeout(d time.Duration) Option {
	return func(o *options) { o.lockTimeout = d }
}

// ReadOnly opens a file to look at it. It is not changed, nor made if it is missing,
// and may be one that must not be written. Many can have it open so at once, but
// none while it is open for writing, and none can open it for writing meanwhile.
func ReadOnly() Option {
	return func(o *options) { o.readOnly = true }
}

// Open opens a file of rules. A file that is missing, or empty, is made, for its owner
// only (mode 0600); the folder must be there.
//
// All of the file is read and checked: less than 0.1 s for a million rules, if the
// system has it in its cache (BenchmarkMillionRules). The error wraps [ErrLocked],
// [ErrNewerFormat], [ErrCorrupt] or [ErrForeign] if that is what is wrong, and the file
// is then as it was. A second Open of one file waits for the first to be closed, in the
// same process too.
func Open(path string, opts ...Option) (*Store, error) {
	o := options{lockTimeout: defaultLockTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	if o.lockTimeout < 0 {
		return nil, inFile(path, fmt.Errorf("lock timeout is %v, must not be negative", o.lockTimeout))
	}
	s, err := open(path, o)
	if err != nil {
		return nil, inFile(path, err)
	}
	return s, nil
}

func open(path string, o options) (_ *Store, err error) {
	// A pipe would wait for somebody to write to it, a folder cannot be read.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	flags := os.O_RDWR | os.O_CREATE
	if o.readOnly {
		flags = os.O_RDONLY
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = release(file) // bbolt has, unless it has panicked or was not asked
		}
	}()
	if err := lock(file, o); err != nil {
		return nil, err
	}
	empty, err := inspect(file)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, file: file, readOnly: o.readOnly}
	if empty && o.readOnly {
		return s, nil // bbolt would have to make it first
	}
	if empty {
		if err := file.Truncate(0); err != nil {
			return nil, err
		}
	}
	if err := s.start(o, empty); err != nil {
		return nil, err
	}
	if !o.readOnly {
		syncFolder(path)
	}
	return s, nil
}

// lock waits for the file.
func lock(file *os.File, o options) error {
	const pause = 10 * time.Millisecond
	for start := time.Now(); ; {
		switch ok, err := tryLock(file, o.readOnly); {
		case err != nil:
			return fmt.Errorf("cannot be locked: %w", err)
		case ok:
			return nil
		}
		left := o.lockTimeout - time.Since(start)
		if left <= 0 {
			return locked(o)
		}
		time.Sleep(min(pause, left))
	}
}

// release gives a file back without bbolt.
func release(file *os.File) error {
	unlock(file)
	return file.Close()
}

func locked(o options) error {
	return &fault{kind: ErrLocked, text: fmt.Sprintf("in use by another process, or open twice in this one; waited %v", o.lockTimeout)}
}

// inspect reports whether nothing was ever saved in a file, and errs if the file is
// not one of ours.
func inspect(file *os.File) (empty bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if empty, err = unfinished(file, info.Size()); empty || err != nil {
		return empty, err
	}
	names, err := checkFile(file, info.Size())
	if err != nil {
		return false, err
	}
	ours := func(name []byte) bool { return bytes.Equal(name, headBucket) }
	if len(names) > 0 && !slices.ContainsFunc(names, ours) {
		return false, &fault{kind: ErrForeign, text: fmt.Sprintf("belongs to another program: it has bucket %q, but not %q", names[0], headBucket)}
	}
	return len(names) == 0, nil
}

// start gives the file to bbolt, and makes the buckets of a new one.
func (s *Store) start(o options, empty bool) error {
	return guard(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout:      max(o.lockTimeout, 1), // zero would mean for ever
			ReadOnly:     o.readOnly,
			FreelistType: bbolt.FreelistMapType, // the other is slow if much is free
			NoStatistics: true,
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return s.file, nil },
		})
		switch {
		case errors.Is(err, bolterrors.ErrTimeout):
			return locked(o)
		case err != nil:
			return err
		case empty:
			err = s.db.Update(create)
		default:
			err = s.db.View(func(tx *bbolt.Tx) error {
				_, _, err := buckets(tx)
				return err
			})
		}
		if err != nil {
			_ = s.db.Close()
		}
		return err
	})
}

// syncFolder makes the name of a new file durable, as bbolt makes only what is in it.
// Not every system and folder lets itself be synced, so errors mean nothing.
func syncFolder(path string) {
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
}
