package connmgrhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
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
	drainTime      = 5 * time.Second // for requests to return once ctx has ended
	cutOffTime     = time.Second     // for those that a slow client held up to return, once it is cut off
)

// Serve serves h on l until ctx ends or l fails, and closes l. When ctx ends, so do the
// contexts of all requests, and requests get 5 seconds to return; then Serve returns nil,
// or an error if some have not returned. Clients do not hold that up: bodies that have not
// arrived by then are not read any further, and whoever does not take an answer, 32 KiB a
// second, is cut off. That is no error.
//
// At most 1024 connections are served at a time. When there are more, the one goes that
// has been stuck for longest: waiting for its next request, or to finish sending its
// first, or, for more than a second, not taking its answer. So neither a crowd of idle
// connections nor one that does not read keeps anybody out. If none is stuck, the newcomer
// gets a 503.
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
	limiter := newConnLimiter(most)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:                      logPanics(limiter.trackActive(h)),
		ReadHeaderTimeout:            readHeaderTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeaderBytes,
		Protocols:                    &protocols,
		DisableGeneralOptionsHandler: true, // the handler answers OPTIONS * as well
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext:                  withConn,
		ConnState:                    onIdle,
		ErrorLog:                     slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // others' mistakes
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limiter.drain()
		err := shutDown(context.WithoutCancel(ctx), server, limiter)
		if n := limiter.countUntaken(); n > 0 {
			slog.Info("connmgr: clients that did not take their answers were cut off", "connections", n)
		}
		ended <- err
	})
	err := server.Serve(limiter.listen(l))
	if !stop() { // ctx has ended
		return <-ended
	}
	_ = server.Close()
	return fmt.Errorf("connmgr: serving at %v: %w", l.Addr(), err)
}

// shutDown waits for requests to return.
func shutDown(ctx context.Context, server *http.Server, limiter *connLimiter) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	_ = server.Close()
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("connmgr: the listener did not close: %w", err)
	}
	// Those that a client held up return now; those that remain are our own fault.
	if n := limiter.awaitRequests(cutOffTime); n > 0 {
		return fmt.Errorf("connmgr: requests had to be cut off, for %d did not return within %v of the end: %w", n, drainTime, err)
	}
	return nil
}

// logPanics reports a handler's panic as an error: to net/http it is one of the many things
// that go wrong with connections, which are not worth a line.
func logPanics(h http.Handler) http.Handler {
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
