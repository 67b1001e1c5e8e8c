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
	// endTime is the least that is left for the end of an answer, when its handler has
	// returned.
	endTime = 2 * time.Second
	// hangUpTime is how long is listened to a body that nobody reads.
	hangUpTime = time.Second
)

// answer is a ResponseWriter that gives whoever asked a time to take the answer. It runs
// from the first byte: how long the work takes is another matter. A handler that sets a
// deadline itself is left alone.
type answer struct {
	http.ResponseWriter
	control  *http.ResponseController
	begun    bool
	deadline time.Time
	body     *body // nil if there is none
}

func newAnswer(w http.ResponseWriter) *answer {
	return &answer{ResponseWriter: w, control: http.NewResponseController(w)}
}

// begin starts the time, once. That a server knows no deadlines, as recorders in tests, is
// no reason to fail.
func (a *answer) begin() {
	if !a.begun {
		_ = a.SetWriteDeadline(time.Now().Add(answerTime))
	}
}

// end is for what net/http still does when the handler has returned: it writes what it
// holds back, and a stream's last deadline may have passed by then; and it reads what is
// left of a body.
func (a *answer) end() {
	a.begin()
	if a.body != nil && !a.body.read {
		_ = a.control.SetReadDeadline(time.Now().Add(hangUpTime))
	}
	if !a.deadline.IsZero() && time.Until(a.deadline) < endTime {
		_ = a.SetWriteDeadline(time.Now().Add(endTime))
	}
}

// hangUp makes the answer the connection's last if the request has a body, which is then
// not read.
func (a *answer) hangUp(r *http.Request) {
	if r.ContentLength != 0 {
		a.Header().Set("Connection", "close")
		_ = a.control.SetReadDeadline(time.Now().Add(hangUpTime))
	}
}

// Write is http.ResponseWriter's.
func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, which would not learn from Flush that nobody
// reads any more.
func (a *answer) FlushError() error {
	a.begin()
	return a.control.Flush()
}

// Flush is http.Flusher's.
func (a *answer) Flush() { _ = a.FlushError() }

// SetWriteDeadline is for http.ResponseController.
func (a *answer) SetWriteDeadline(t time.Time) error {
	a.begun = true
	a.deadline = t
	return a.control.SetWriteDeadline(t)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
