package connmgrbolt

import (
	"errors"
	"fmt"
	"io/fs"
)

// This file says what can be wrong with a file of rules.

// The errors of this package name the file, and wrap one of these where it applies.
// What the operating system said is wrapped too: that a file or folder is missing is
// fs.ErrNotExist, that it may not be written fs.ErrPermission.
var (
	// ErrLocked is wrapped if somebody else has the file open.
	ErrLocked = errors.New("connmgrbolt: file is in use")
	// ErrNewerFormat is wrapped if a newer version of this package wrote the file.
	ErrNewerFormat = errors.New("connmgrbolt: file has a newer format")
	// ErrCorrupt is wrapped if the file is damaged, or no bolt file at all.
	ErrCorrupt = errors.New("connmgrbolt: file is damaged")
	// ErrForeign is wrapped if the file is a bolt file of another program.
	ErrForeign = errors.New("connmgrbolt: file belongs to another program")
	// ErrClosed is wrapped if the store has been closed.
	ErrClosed = errors.New("connmgrbolt: store is closed")
	// ErrReadOnly is wrapped by Save if the store was opened with ReadOnly.
	ErrReadOnly = errors.New("connmgrbolt: store is read-only")
)

// fault is what is wrong with a file, before its name is known.
type fault struct {
	kind error // one of the above
	text string
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

// damaged says that the file cannot be trusted.
func damaged(format string, args ...any) error {
	return &fault{kind: ErrCorrupt, text: "damaged: " + fmt.Sprintf(format, args...)}
}

// fileError is an error with the name of the file.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return "connmgrbolt: " + e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// inFile puts the name of the file to an error, once.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	var named *fs.PathError
	if errors.As(err, &named) && named.Path == path {
		err = fmt.Errorf("%s: %w", named.Op, named.Err)
	}
	return &fileError{path: path, err: err}
}
