package connmgrhttp

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// This file serves, so that whoever is slow, idle or many keeps nobody else out.

// Bounds of what Serve gives to each connection and to all of them. There is none for a
// whole answer, as streams have no end; the handler of [Handler] bounds its other answers
// and the bodies that it reads.
const (
	readHeaderTime = 5 * time.Second // for a request's headers, from their first byte
	idleTime       = 2 * time.Minute // between two requests of a connection
	maxHeaderBytes = 16 << 10
	drainTime      = 5 * time.Second // for requests to end once ctx has
	maxConns       = 1024
)

// Serve serves h on l until ctx ends or l fails, and closes l. When ctx ends, so do the
// contexts of all requests, and requests get 5 seconds to return; then Serve returns nil,
// or an error if some had to be cut off.
//
// At most 1024 connections are served at a time. When there are more, the one goes that
// has waited longest for its next request, or to finish sending its first; so a crowd of
// idle connections keeps nobody out. If none waits, the newcomer gets a 503.
//
// HTTP/1.1 without TLS is what it speaks: in front of other networks belongs a proxy, or a
// tunnel.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	if l == nil || h == nil {
		return errors.New("connmgr: connmgrhttp.Serve needs a listener and a handler, got nil")
	}
	return serve(ctx, l, h, maxConns)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, most int) error {
	c := newCrowd(most)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:                      loudly(c.working(h)),
		ReadHeaderTimeout:            readHeaderTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeaderBytes,
		Protocols:                    &protocols,
		DisableGeneralOptionsHandler: true, // the handler answers OPTIONS * as well
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, memberKey{}, conn)
		},
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // others' mistakes
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		// Those that wait for a request would be waited for as well.
		c.dismiss()
		draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err := server.Shutdown(draining)
		if err != nil {
			_ = server.Close()
			err = fmt.Errorf("connmgr: requests had to be cut off, for they did not return within %v of the end: %w", drainTime, err)
		}
		ended <- err
	})
	err := server.Serve(c.listen(l))
	if !stop() { // ctx has ended
		return <-ended
	}
	_ = server.Close()
	return fmt.Errorf("connmgr: serving at %v: %w", l.Addr(), err)
}

// loudly reports a handler's panic as an error: to net/http it is one of the many things
// that go wrong with connections, which are not worth a line.
func loudly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				slog.Error("connmgr: a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler) // cuts off the answer
		}()
		h.ServeHTTP(w, r)
	})
}

// crowd is the connections that are being served.
type crowd struct {
	most int

	mu      sync.Mutex // guards all following fields, and those of members
	members int
	waiting *list.List // of *member: those without a request being worked on, the longest first
	done    bool       // nobody is admitted any more
}

// member is a connection in the crowd.
type member struct {
	net.Conn
	crowd *crowd
	place *list.Element // in waiting; nil while a request is being worked on
	gone  bool          // closed
}

type memberKey struct{}

func newCrowd(most int) *crowd { return &crowd{most: most, waiting: list.New()} }

// listen returns a listener whose connections are members of the crowd.
func (c *crowd) listen(l net.Listener) net.Listener { return &crowdListener{Listener: l, crowd: c} }

type crowdListener struct {
	net.Listener
	crowd *crowd
}

// Accept returns the next connection that there is room for.
func (l *crowdListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		m, out := l.crowd.admit(conn)
		if out != nil {
			_ = out.Conn.Close()
		}
		if m != nil {
			return m, nil
		}
		turnAway(conn)
	}
}

// admit makes a connection a member; it is nil if there is no room. out is the one that
// had to leave for it, to be closed.
func (c *crowd) admit(conn net.Conn) (m, out *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, nil
	}
	if c.members >= c.most {
		longest := c.waiting.Front()
		if longest == nil {
			return nil, nil
		}
		out = longest.Value.(*member)
		out.leaveLocked()
	}
	m = &member{Conn: conn, crowd: c}
	m.place = c.waiting.PushBack(m)
	c.members++
	return m, out
}

// dismiss closes the connections that wait for a request.
func (c *crowd) dismiss() {
	c.mu.Lock()
	c.done = true
	var out []*member
	for e := c.waiting.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*member))
	}
	c.mu.Unlock()
	for _, m := range out {
		_ = m.Close()
	}
}

// working returns a handler during which a connection does not count as waiting.
func (c *crowd) working(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m, ok := r.Context().Value(memberKey{}).(*member); ok {
			m.work()
			defer m.wait()
		}
		h.ServeHTTP(w, r)
	})
}

func (m *member) work() {
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	if m.place != nil {
		m.crowd.waiting.Remove(m.place)
		m.place = nil
	}
}

func (m *member) wait() {
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	if !m.gone {
		m.place = m.crowd.waiting.PushBack(m)
	}
}

// Close takes the connection out of the crowd.
func (m *member) Close() error {
	m.crowd.mu.Lock()
	m.leaveLocked()
	m.crowd.mu.Unlock()
	return m.Conn.Close()
}

func (m *member) leaveLocked() {
	if m.gone {
		return
	}
	m.gone = true
	m.crowd.members--
	if m.place != nil {
		m.crowd.waiting.Remove(m.place)
		m.place = nil
	}
}

// CloseWrite is what net/http closes with when the other side is still sending, so that it
// gets to read the answer.
func (m *member) CloseWrite() error {
	if half, ok := m.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// turnAway tells a connection for which there is no room, as far as that takes no time.
func turnAway(conn net.Conn) {
	const answer = `{"type":"urn:connmgr:problem:unavailable","title":"not at the moment","status":503,"detail":"there are too many connections"}` + "\n"
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = io.WriteString(conn, fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
	_ = conn.Close()
}
