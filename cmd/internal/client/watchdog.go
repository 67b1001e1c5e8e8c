package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// This file ends requests that take too long: those with one answer as a whole, streams
// when they have been silent for too long.

// silentError is why a watchdog has ended a request.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string { return fmt.Sprintf("no answer within %v", e.after) }
func (e *silentError) Timeout() bool { return true }

// watchdog cancels a context unless it is fed or stopped in time.
type watchdog struct {
	ctx    context.Context // of one request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	after  atomic.Int64 // a time.Duration
}

func newWatchdog(ctx context.Context, after time.Duration) (context.Context, *watchdog) {
	w := new(watchdog)
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.after.Store(int64(after))
	w.timer = time.AfterFunc(after, func() {
		w.cancel(&silentError{time.Duration(w.after.Load())})
	})
	return w.ctx, w
}

// feed begins the time anew, from now on with another length.
func (w *watchdog) feed(after time.Duration) {
	w.after.Store(int64(after))
	w.timer.Reset(after)
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// because returns why a request ended: the watchdog if it was that, or else err.
func (w *watchdog) because(err error) error {
	var silent *silentError
	if errors.As(context.Cause(w.ctx), &silent) {
		return silent
	}
	return err
}

// watchedBody is the body of an answer. Its context lives until it is closed.
type watchedBody struct {
	io.ReadCloser
	watchdog *watchdog
	silence  time.Duration // how long to wait for the next piece; 0 if the whole has a time
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.silence > 0 {
		b.watchdog.feed(b.silence)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.watchdog.because(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watchdog.stop()
	return b.ReadCloser.Close()
}
