package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
)

// This file asks a handler in this process as if it were that of a node elsewhere, so that
// what works on a node works on a file as well.

// Local returns a client of a handler that open returns when the first request is made. If
// it returns an error, so does each request. name is what errors call the handler, such as
// that of a file. There is no timeout: nobody else is waited for.
func Local(name string, open func() (http.Handler, error)) *Client {
	return &Client{
		where:   endpoint{name: clean(name), base: "http://localhost/"},
		timeout: math.MaxInt64,
		backoff: backoff,
		silence: streamSilence,
		local:   true,
		http:    &http.Client{Transport: inProcess(sync.OnceValues(open))},
	}
}

// IsLocal reports whether Local made the client: nobody is connected there.
func (c *Client) IsLocal() bool { return c.local }

// localError is an error of the function that Local was given.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// inProcess carries requests to a handler. Answers are held in memory, so streams do not
// work.
type inProcess func() (http.Handler, error)

// RoundTrip is http.RoundTripper's.
func (open inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close() // NewRequest has set one
	handler, err := open()
	if err != nil {
		return nil, &localError{err}
	}
	// A request over a socket, which is one that comes from this machine.
	r = r.Clone(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Net: "unix"}))
	r.RequestURI = r.URL.RequestURI()
	w := &answerWriter{header: make(http.Header), status: http.StatusOK}
	handler.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.status, Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// answerWriter collects an answer.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is http.ResponseWriter's.
func (w *answerWriter) Header() http.Header { return w.header }

// WriteHeader is http.ResponseWriter's.
func (w *answerWriter) WriteHeader(status int) { w.status = status }

// Write is http.ResponseWriter's.
func (w *answerWriter) Write(p []byte) (int, error) { return w.body.Write(p) }
