package guard

import (
	"net/http"
	"time"
)

// This file bounds how long an answer may take to be taken, so that one who does not read
// holds nothing up.

const (
	// answerTime is how long an answer may take to be taken.
	answerTime = 30 * time.Second
	// publicTime is the same for answers that anybody can ask for, and so for refusals.
	publicTime = 5 * time.Second
	// endTime is the least that is left for the end of an answer, when its handler has
	// returned.
	endTime = 2 * time.Second
	// hangUpTime is how long is listened to a body that nobody reads.
	hangUpTime = time.Second
)

// responseWriter is a ResponseWriter that gives whoever asked a time to take the answer.
// It runs from the first byte: how long the work takes is another matter. A handler that
// sets a deadline itself is left alone.
type responseWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration // from the first byte
	begun    bool
	deadline time.Time
	body     *body // nil if there is none
}

func newResponseWriter(w http.ResponseWriter) *responseWriter {
	return &responseWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: publicTime}
}

// begin starts the time, once. That a server knows no deadlines, as recorders in tests, is
// no reason to fail.
func (w *responseWriter) begin() {
	if !w.begun {
		_ = w.SetWriteDeadline(time.Now().Add(w.patience))
	}
}

// end is for what net/http still does when the handler has returned: it writes what it
// holds back, and a stream's last deadline may have passed by then; and it reads what is
// left of a body.
func (w *responseWriter) end() {
	w.begin()
	if w.body != nil && !w.body.read {
		_ = w.control.SetReadDeadline(time.Now().Add(hangUpTime))
	}
	if !w.deadline.IsZero() && time.Until(w.deadline) < endTime {
		_ = w.SetWriteDeadline(time.Now().Add(endTime))
	}
}

// hangUp makes the answer the connection's last if the request has a body, which is then
// not read.
func (w *responseWriter) hangUp(r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = w.control.SetReadDeadline(time.Now().Add(hangUpTime))
	}
}

// Write is http.ResponseWriter's.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, which would not learn from Flush that nobody
// reads any more.
func (w *responseWriter) FlushError() error {
	w.begin()
	return w.control.Flush()
}

// Flush is http.Flusher's.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// SetWriteDeadline is for http.ResponseController.
func (w *responseWriter) SetWriteDeadline(t time.Time) error {
	w.begun = true
	w.deadline = t
	return w.control.SetWriteDeadline(t)
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
