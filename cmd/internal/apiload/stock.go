package apiload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
)

// This file takes stock of what a process holds, so that what is left behind shows.

// Stock is what the process holds at a moment at which nothing goes on.
type Stock struct {
	// Goroutines is their number.
	Goroutines int
	// Files is the open file descriptors; 0 if that is not known on this system.
	Files int
	// Heap is the bytes reachable.
	Heap uint64

	stacks []byte // of the goroutines, those that are alike counted
}

func takeStock() Stock {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	return Stock{
		Heap:       heapInUse(),
		Goroutines: runtime.NumGoroutine(), Files: openFiles(),
		stacks: stacks.Bytes(),
	}
}

// openFiles counts the files that are open, as far as the system says.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// How much more there may be after the load than before it. A leak of anything with every
// request, stream or connection would be hundreds or thousands.
const (
	// moreGoroutines is for those of go-libp2p and the runtime that come and go by
	// themselves, such as of 300 hosts that look at their addresses now and then.
	moreGoroutines = 20
	// moreFiles is for sockets that go-libp2p is about to close.
	moreFiles = 5
	// moreHeap, in bytes, is for what go-libp2p remembers, such as addresses for minutes.
	moreHeap = 4 << 20
	// journalEvent and journalMost are what the journal remembers on purpose: bytes for
	// each event, and what it says that it takes at most.
	journalEvent, journalMost = 1 << 10, 8 << 20
)

// leftBehind says what there is more than before, when so many events have happened.
func (before Stock) leftBehind(after Stock, events int) error {
	var errs []error
	if after.Goroutines > before.Goroutines+moreGoroutines {
		errs = append(errs, fmt.Errorf("%d goroutines after the load, %d before it, want at most %d more; now:\n%s",
			after.Goroutines, before.Goroutines, moreGoroutines, firstStacks(after.stacks)))
	}
	if after.Files > before.Files+moreFiles {
		errs = append(errs, fmt.Errorf("%d open files after the load, %d before it, want at most %d more", after.Files, before.Files, moreFiles))
	}
	more := uint64(moreHeap + min(events*journalEvent, journalMost))
	if after.Heap > before.Heap+more {
		errs = append(errs, fmt.Errorf("a heap of %s after the load, %s before it, want at most %s more",
			megabytes(after.Heap), megabytes(before.Heap), megabytes(more)))
	}
	return errors.Join(errs...)
}

// firstStacks returns the stacks that most goroutines have; the profile begins with them.
func firstStacks(stacks []byte) []byte {
	const most = 8 << 10
	return stacks[:min(len(stacks), most)]
}

func megabytes(bytes uint64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
