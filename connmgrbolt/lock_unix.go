//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package connmgrbolt

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file, for one or (shared) for many, and reports whether it could.
// The lock is the one that bbolt uses, so that the check of the file is already
// covered by it. It ends with unlock.
func tryLock(f *os.File, shared bool) (bool, error) {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	for {
		switch err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// unlock ends a lock. Closing the file is not enough as long as bbolt has it mapped to
// memory, which is for ever if bbolt has panicked.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
