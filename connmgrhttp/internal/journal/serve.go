package journal

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file writes a stream as server-sent events. What a reader gets is written as fast
// as he reads, many events at a time when there are many, and who does not read for a
// while is dropped.

const (
	// writeTimeout is how long a reader may take for what is written at once.
	writeTimeout = 10 * time.Second
	// lostTimeout is how long the last word to a reader who was too slow may take.
	lostTimeout = time.Second
	// keepAlive is how long nothing is written before a comment is, so that neither side
	// nor anything between takes the connection for dead.
	keepAlive = 15 * time.Second
	// retryMillis is what readers are told to wait before they connect again.
	retryMillis = 2000
)

// Serve answers a request with a stream of events (see [Journal.Follow]) until the reader
// goes, is too slow, the request's context ends, or the manager is closed.
//
// It returns an error only if nothing was written: ErrTooMany, or that w cannot flush.
// The request should have passed everything that can refuse it. Deadlines of the server
// do not apply to it; those of w are set by means of [http.ResponseController].
func (j *Journal) Serve(w http.ResponseWriter, r *http.Request, f Filter, after uint64, hasAfter bool) error {
	s, err := j.Follow(f, after, hasAfter)
	if err != nil {
		return err
	}
	defer s.Close()
	out := writer{ResponseWriter: w, control: http.NewResponseController(w), patient: j.patient}
	if err := out.begin(r); err != nil {
		return err
	}
	if r.Method != http.MethodHead {
		s.serve(r, &out)
		// The server has the end of the answer to write.
		_ = out.control.SetWriteDeadline(time.Now().Add(out.patient))
	}
	return nil
}

func (s *Stream) serve(r *http.Request, out *writer) {
	err := out.write(out.patient, fmt.Appendf(nil, "retry: %d\n\n", retryMillis))
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	var (
		list   []entry
		frames [][]byte
	)
	for err == nil {
		list, err = s.next(r.Context(), list[:0], idle.C)
		if errors.Is(err, ErrLost) {
			lost := api.Event{Type: api.Lost, At: time.Now().UTC(), Text: "events came faster than they were read; what is not here can be asked for again by the last ID"}
			_ = out.write(lostTimeout, appendFrame(nil, lost))
		}
		if err != nil {
			return
		}
		frames = frames[:0]
		for _, e := range list {
			frames = append(frames, s.j.frame(e))
		}
		if len(list) == 0 {
			frames = append(frames, []byte(": \n\n"))
		}
		clear(list)
		err = out.write(out.patient, frames...)
		clear(frames)
		idle.Reset(keepAlive)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.lose()
	}
}

// writer writes to a reader within deadlines.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	patient time.Duration
}

// begin sends the header.
func (w *writer) begin(r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events to itself
	if r.ProtoMajor == 1 {
		// The deadlines would be those of the next request too.
		h.Set("Connection", "close")
	}
	if r.Method == http.MethodHead {
		return nil
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(w.patient))
	err := w.control.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		for _, name := range []string{"Content-Type", "Cache-Control", "X-Accel-Buffering", "Connection"} {
			h.Del(name)
		}
		return fmt.Errorf("connmgr: streaming events: %T cannot flush: %w", w.ResponseWriter, err)
	}
	return nil // if it failed, so will what comes next
}

// write writes texts and flushes. If it takes too long, the error is
// os.ErrDeadlineExceeded.
func (w *writer) write(limit time.Duration, texts ...[]byte) error {
	end := time.Now().Add(limit)
	// Where there are no deadlines, as in a test, nothing is slow.
	_ = w.control.SetWriteDeadline(end)
	err := w.writeAll(texts)
	// With HTTP/2 a deadline that passes ends a stream that is idle, too.
	_ = w.control.SetWriteDeadline(time.Time{})
	if err != nil && !time.Now().Before(end) { // HTTP/2 has other errors for it
		return os.ErrDeadlineExceeded
	}
	return err
}

func (w *writer) writeAll(texts [][]byte) error {
	for _, text := range texts {
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return w.control.Flush()
}
