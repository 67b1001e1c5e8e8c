// Package client asks a running node through the API of connmgrhttp, for the commands
// that work against one.
//
// Nothing that answers is trusted: answers are bounded in size and in time, what is not
// the API's is an error that says so, and texts of errors have no control characters.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is the exchange of one request and its answer. calls.go has the requests
// there are, errors.go what can go wrong, watch.go the one answer that does not end.

const (
	// DefaultTimeout is how long an answer may take unless Options says otherwise.
	DefaultTimeout = 30 * time.Second

	// maxDocument bounds an answer in memory, in bytes: a thousand peers, each with as
	// many tags as a manager keeps.
	maxDocument = 64 << 20
	maxProblem  = 64 << 10
	maxHeader   = 64 << 10

	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json"
	mediaText    = "text/plain"
	mediaEvents  = "text/event-stream"
)

// Options says which node to ask, and how.
type Options struct {
	// Address is where the API is: "host:port", a URL of http or https, which may have
	// a path, or "unix:PATH". Empty is DefaultAddress.
	Address string
	// Token is the bearer token; empty is none.
	Token string
	// Timeout is how long an answer may take, and how long a stream may be silent at
	// its beginning; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Client asks one node. Its methods can be called from several goroutines at once.
type Client struct {
	where   endpoint
	token   string
	timeout time.Duration
	http    *http.Client
	backoff func(attempt int) time.Duration // between attempts to reconnect a stream
	silence time.Duration                   // how long an open stream may be silent
	local   bool                            // a handler in this process answers
}

// New returns a client. An address that is none, or a token that cannot be sent, is an
// error.
func New(opts Options) (*Client, error) {
	where, err := parseAddress(opts.Address)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(opts.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("connmgr: the token has a blank, a control character or one that is not ASCII, so it is no token")
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	var dialer net.Dialer
	transport := &http.Transport{
		// No proxy: the API is for the machine's own operator.
		DialContext:            dialer.DialContext,
		MaxResponseHeaderBytes: maxHeader,
		TLSHandshakeTimeout:    opts.Timeout,
	}
	if where.socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", where.socket)
		}
	}
	return &Client{
		where:   where,
		token:   opts.Token,
		timeout: opts.Timeout,
		backoff: backoff,
		silence: streamSilence,
		http: &http.Client{
			Transport: transport,
			// The API redirects nobody, and a token must not follow.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Address returns where the API is, as errors and people call it.
func (c *Client) Address() string { return c.where.name }

// SendsTokenInClear reports whether the token goes over a network unencrypted.
func (c *Client) SendsTokenInClear() bool { return c.token != "" && c.where.clear }

// Close ends the connections that are kept for later.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Answer is a document as it came: what programs get, and what it says to this one.
type Answer[T any] struct {
	raw  []byte
	from string
}

// Raw returns the document as the node wrote it. It is valid JSON.
func (a Answer[T]) Raw() json.RawMessage { return a.raw }

// Document returns what the document says. Members that this program does not know are
// passed over; an answer of another kind is an *AnswerError.
func (a Answer[T]) Document() (*T, error) {
	doc := new(T)
	if err := json.Unmarshal(a.raw, doc); err != nil {
		return nil, &AnswerError{Address: a.from, Reason: "its answer is not understood (" + clean(err.Error()) +
			"); a newer node may use words that this command does not know: --json shows them"}
	}
	return doc, nil
}

// request is one request. Its path is relative to the API, with percent signs.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	kind         string // the Content-Type of the body
	accept       string
}

// exchange sends a request and returns its whole answer.
func exchange[T any](ctx context.Context, c *Client, r request) (Answer[T], error) {
	if r.accept == "" {
		r.accept = mediaJSON
	}
	res, err := c.send(ctx, r, 0)
	if err != nil {
		return Answer[T]{}, err
	}
	defer res.Body.Close()
	raw, err := readAtMost(res.Body, maxDocument)
	if err != nil {
		return Answer[T]{}, c.broken(err)
	}
	if !json.Valid(raw) {
		return Answer[T]{}, c.foreign("its answer says that it is JSON, and is not")
	}
	return Answer[T]{raw, c.where.name}, nil
}

// send sends a request and returns the answer if it is a success of the right kind. Its
// body must be closed. The answer has to come to its end within the client's timeout, or
// if silence is not 0, to begin in that time and then not to be silent for longer.
func (c *Client) send(ctx context.Context, r request, silence time.Duration) (*http.Response, error) {
	target := c.where.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	ctx, watchdog := newWatchdog(ctx, c.timeout)
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		watchdog.stop()
		return nil, fmt.Errorf("connmgr: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", r.accept+", "+mediaProblem)
	req.Header.Set("User-Agent", "connmgr")
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		defer watchdog.stop()
		return nil, c.unanswered(watchdog.because(err))
	}
	body := &watchedBody{ReadCloser: res.Body, watchdog: watchdog}
	res.Body = body
	if err := c.judge(res, r.accept); err != nil {
		res.Body.Close()
		return nil, err
	}
	if body.silence = silence; silence > 0 {
		watchdog.feed(silence)
	}
	return res, nil
}

// judge returns an error unless an answer is a success of the kind that was asked for.
func (c *Client) judge(res *http.Response, want string) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")) // none is "", and wrong too
	switch {
	case res.StatusCode >= 400 && kind == mediaProblem:
		raw, err := readAtMost(res.Body, maxProblem)
		if err != nil {
			return c.broken(err)
		}
		var p api.Problem
		if err := json.Unmarshal(raw, &p); err != nil {
			return c.foreign(fmt.Sprintf("it answered %s with a problem that is none", clean(res.Status)))
		}
		p.Status = res.StatusCode // what counts is what the answer was
		p.Type, p.Title, p.Detail, p.Field = clean(p.Type), clean(p.Title), clean(p.Detail), clean(p.Field)
		return &StatusError{
			Address: c.where.name, Problem: p, RetryAfter: retryAfter(res.Header),
			TokenSent: c.token != "", Local: c.local,
		}
	case res.StatusCode < 200 || res.StatusCode > 299:
		return c.foreign(fmt.Sprintf("it answered %s%s", clean(res.Status), withKind(kind)))
	case kind != want:
		return c.foreign(fmt.Sprintf("it answered%s where %s was asked for", withKind(kind), want))
	}
	return nil
}

func withKind(kind string) string {
	if kind == "" {
		return " without a Content-Type"
	}
	return " with " + clean(kind)
}

// foreign is the error about an answer that the API does not give.
func (c *Client) foreign(reason string) error {
	return &AnswerError{Address: c.where.name, Reason: reason}
}

// broken is the error about an answer that began and did not come to its end.
func (c *Client) broken(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return c.foreign(err.Error())
	case errors.Is(err, context.Canceled):
		return err
	}
	return &UnreachableError{Address: c.where.name, Begun: true, Err: err}
}

// unanswered is the error about a request to which no answer began.
func (c *Client) unanswered(err error) error {
	if e, ok := errors.AsType[*localError](err); ok {
		return e.err
	}
	switch text := err.Error(); {
	case errors.Is(err, context.Canceled):
		return err
	case strings.Contains(text, "readLoopPeekFailLocked"): // net/http's word for it
		return c.foreign("it spoke before it was asked, as no HTTP server does")
	case strings.Contains(text, "malformed HTTP"), strings.Contains(text, "gave HTTP response to HTTPS"),
		strings.Contains(text, "server response headers exceeded"), strings.Contains(text, "tls: "):
		return c.foreign(clean(withoutURL(err).Error()))
	}
	return &UnreachableError{Address: c.where.name, Err: withoutURL(err)}
}

// withoutURL takes off the words "Get http://..." that repeat what the address says.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

var errTooLarge = errors.New("its answer is larger than any of the API's")

// readAtMost reads all, which must not be more than limit bytes.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, errTooLarge
	}
	return raw, err
}
