package connmgrhttp

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// This file bounds how many connections are served, and for how long one may be stuck when
// another needs its place, or when serving ends.

const (
	maxConns = 1024
	// blockedTime is how long a write must be blocked for its connection to count as stuck.
	blockedTime = time.Second
	// writeSize is how much is written at a time, in bytes. Whoever takes that much in
	// blockedTime is not stuck.
	writeSize = 32 << 10
	// lastWriteTime is how long such a write may take once serving ends.
	lastWriteTime = time.Second
)

// connLimiter is the connections that are being served.
type connLimiter struct {
	most int

	mu      sync.Mutex // guards all following fields, and those of the connections
	conns   map[*trackedConn]bool
	waiting *list.List // of *trackedConn: those without a request being worked on, the longest first
	writing *list.List // of *trackedConn: those with a write under way, the longest first
	active  int        // requests being worked on
	ending  bool       // no connection is admitted any more
	untaken int        // connections that did not take their answer since then
}

// trackedConn is a connection that is being served.
type trackedConn struct {
	net.Conn
	limiter *connLimiter

	waiting       *list.Element // in the limiter's list; nil while a request is being worked on
	waitingSince  time.Time
	writing       *list.Element // in the limiter's list; nil if no write is under way
	writingSince  time.Time
	writes        int // under way
	writeDeadline time.Time
	untaken       bool
	closed        bool
}

type trackedConnKey struct{}

func newConnLimiter(most int) *connLimiter {
	return &connLimiter{most: most, conns: make(map[*trackedConn]bool), waiting: list.New(), writing: list.New()}
}

// listen returns a listener of connections that are tracked.
func (l *connLimiter) listen(inner net.Listener) net.Listener {
	return &limitedListener{Listener: inner, limiter: l}
}

type limitedListener struct {
	net.Listener
	limiter *connLimiter
}

// Accept returns the next connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, evicted := l.limiter.admit(conn)
		if evicted != nil {
			_ = evicted.Conn.Close()
		}
		if c != nil {
			return c, nil
		}
		refuseConn(conn)
	}
}

// refuseConn tells a connection for which there is no room, as far as that takes no time.
func refuseConn(conn net.Conn) {
	const answer = `{"type":"urn:connmgr:problem:unavailable","title":"not at the moment","status":503,"detail":"there are too many connections"}` + "\n"
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = io.WriteString(conn, fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
	_ = conn.Close()
}

// admit tracks a connection; c is nil if there is no room. evicted is the one that had to
// leave for it, to be closed.
func (l *connLimiter) admit(conn net.Conn) (c, evicted *trackedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return nil, nil
	}
	if len(l.conns) >= l.most {
		evicted = l.stuckLocked()
		if evicted == nil {
			return nil, nil
		}
		evicted.leaveLocked()
	}
	c = &trackedConn{Conn: conn, limiter: l}
	l.conns[c] = true
	c.waitLocked()
	return c, evicted
}

// stuckLocked returns the connection that has been waiting for a request, or for its
// answer to be taken, for longest; nil if none is.
func (l *connLimiter) stuckLocked() *trackedConn {
	var stuck *trackedConn
	if e := l.waiting.Front(); e != nil {
		stuck = e.Value.(*trackedConn)
	}
	if e := l.writing.Front(); e != nil {
		c := e.Value.(*trackedConn)
		if time.Since(c.writingSince) > blockedTime && (stuck == nil || c.writingSince.Before(stuck.waitingSince)) {
			stuck = c
		}
	}
	return stuck
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// drain closes the connections that wait for a request, and sees to it that the others
// hold nothing up: of a body, nothing more is read, and writes must be quick.
func (l *connLimiter) drain() {
	l.mu.Lock()
	l.ending = true
	var idle []*trackedConn
	for c := range l.conns {
		if c.waiting != nil && c.writes == 0 {
			idle = append(idle, c)
			continue
		}
		_ = c.Conn.SetReadDeadline(longAgo)
		if c.writes > 0 {
			_ = c.Conn.SetWriteDeadline(c.lastWriteLocked())
		}
	}
	l.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}

// awaitRequests waits until no request is being worked on, at most for a time, and returns
// how many there are still.
func (l *connLimiter) awaitRequests(most time.Duration) int {
	end := time.Now().Add(most)
	for {
		l.mu.Lock()
		active := l.active
		l.mu.Unlock()
		if active == 0 || !time.Now().Before(end) {
			return active
		}
		<-time.After(10 * time.Millisecond)
	}
}

// countUntaken returns how many connections did not take their answer at the end.
func (l *connLimiter) countUntaken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.untaken
}

// trackActive returns a handler during which a connection does not count as waiting.
func (l *connLimiter) trackActive(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(trackedConnKey{}).(*trackedConn); ok {
			c.beginRequest()
			defer c.endRequest()
		}
		h.ServeHTTP(w, r)
	})
}

// withConn is an [http.Server]'s ConnContext, for trackActive.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, trackedConnKey{}, conn)
}

func (c *trackedConn) beginRequest() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.limiter.active++
	if c.waiting != nil {
		c.limiter.waiting.Remove(c.waiting)
		c.waiting = nil
	}
}

func (c *trackedConn) endRequest() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.limiter.active--
}

// onIdle is an [http.Server]'s ConnState. A connection waits for its next request when the
// end of the last answer has been written, which is after the handler has returned: closed
// in between, the answer would be cut off.
func onIdle(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*trackedConn)
	if !ok || state != http.StateIdle {
		return
	}
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if !c.closed && c.waiting == nil {
		c.waitLocked()
	}
}

func (c *trackedConn) waitLocked() {
	c.waitingSince = time.Now()
	c.waiting = c.limiter.waiting.PushBack(c)
}

// Write writes piece by piece, so that it is seen whether they are taken.
func (c *trackedConn) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(len(p), written+writeSize)]
		c.beginWrite()
		n, err := c.Conn.Write(piece)
		c.endWrite(err)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

func (c *trackedConn) beginWrite() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.limiter.ending {
		_ = c.Conn.SetWriteDeadline(c.lastWriteLocked())
	}
	c.writes++
	if c.writes == 1 && !c.closed {
		c.writingSince = time.Now()
		c.writing = c.limiter.writing.PushBack(c)
	}
}

func (c *trackedConn) endWrite(err error) {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.writes--
	if c.writes == 0 && c.writing != nil {
		c.limiter.writing.Remove(c.writing)
		c.writing = nil
	}
	if err != nil && c.limiter.ending && !c.untaken {
		c.untaken = true
		c.limiter.untaken++
	}
}

// lastWriteLocked is the deadline of a write at the end.
func (c *trackedConn) lastWriteLocked() time.Time {
	last := time.Now().Add(lastWriteTime)
	if !c.writeDeadline.IsZero() && c.writeDeadline.Before(last) {
		return c.writeDeadline
	}
	return last
}

// SetWriteDeadline is net.Conn's. At the end the deadline of a write is not put off.
func (c *trackedConn) SetWriteDeadline(t time.Time) error {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	c.writeDeadline = t
	if c.limiter.ending && c.writes > 0 {
		t = c.lastWriteLocked()
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetReadDeadline is net.Conn's. At the end nothing more is read.
func (c *trackedConn) SetReadDeadline(t time.Time) error {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.limiter.ending {
		t = longAgo
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is net.Conn's.
func (c *trackedConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close closes the connection, and gives its place back.
func (c *trackedConn) Close() error {
	c.limiter.mu.Lock()
	c.leaveLocked()
	c.limiter.mu.Unlock()
	return c.Conn.Close()
}

func (c *trackedConn) leaveLocked() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.limiter.conns, c)
	if c.waiting != nil {
		c.limiter.waiting.Remove(c.waiting)
		c.waiting = nil
	}
	if c.writing != nil {
		c.limiter.writing.Remove(c.writing)
		c.writing = nil
	}
}

// CloseWrite is what net/http closes with when the other side is still sending, so that it
// gets to read the answer.
func (c *trackedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
