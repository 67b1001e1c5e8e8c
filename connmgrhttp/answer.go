package connmgrhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file turns what a function returns into an answer, and errors into problems.

// document returns what a request is answered with, or an error: an *api.Problem, or
// something that nobody expected.
type document func(r *http.Request) (any, error)

// created is a document that is answered with 201.
type created struct{ doc any }

// answer serves a document.
func (h *handler) answer(f document) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		doc, err := f(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		status := http.StatusOK
		if c, ok := doc.(created); ok {
			doc, status = c.doc, http.StatusCreated
		}
		body, err := json.Marshal(doc)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		body = append(body, '\n')
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = w.Write(body) // whoever asked may have gone
	}
}

// patience is how long a request may wait for its turn, for a plan, and for connections
// that are asked. A plan of a million peers takes about a second; longer than this,
// something hangs.
const patience = 10 * time.Second

// search serves a document that takes a look at all peers or all rules.
func (h *handler) search(f document) http.HandlerFunc {
	return h.answer(func(r *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		if err := h.heavy.enter(ctx); err != nil {
			return nil, err
		}
		defer h.heavy.leave()
		return f(r.WithContext(ctx))
	})
}

// change serves a document that says what a request has changed. Plans made before are
// out of date then. It leaves a line in the log: what was changed by hand is looked for
// there first.
func (h *handler) change(f document) http.HandlerFunc {
	return h.answer(func(r *http.Request) (any, error) {
		doc, err := f(r)
		if p, ok := errors.AsType[*api.Problem](err); err != nil && (!ok || !p.InForce) {
			return nil, err
		}
		h.plans.forget()
		h.log.InfoContext(r.Context(), "connmgr: changed through the API", "request", r.Method+" "+r.URL.Path, "answer", summary(doc, err))
		return doc, err
	})
}

// summary is a document in a line of the log, without its end if that is long.
func summary(doc any, err error) string {
	if err != nil {
		return err.Error()
	}
	if c, ok := doc.(created); ok {
		doc = c.doc
	}
	const most = 500
	text, _ := json.Marshal(doc) // it is marshalled again as the answer, and an error is said there
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// places bounds how many requests of a kind are worked on at a time.
type places chan struct{}

// enter waits for a place, for a while.
func (p places) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return refuse(problem.Unavailable, "", "the request's turn did not come in time; %d others were being worked on", cap(p))
	}
}

func (p places) leave() { <-p }

// fail answers with a problem. One that nobody expected is logged, and not shown.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		problem.Write(w, *p)
		return
	}
	switch {
	case errors.Is(err, connmgr.ErrClosed):
		problem.Write(w, problem.Unavailable.With("the manager is closed: the node is about to stop"))
		return
	case errors.Is(err, journal.ErrTooMany):
		problem.Write(w, problem.TooManyStreams.With("as many event streams are open as are allowed; close one, or come again later"))
		return
	}
	h.log.ErrorContext(r.Context(), "connmgr: a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	problem.Write(w, problem.Internal.With("see the node's log"))
}

// refuse makes a problem an error. field is what of the body or the query is wrong, ""
// for nothing of it.
func refuse(kind problem.Kind, field, format string, args ...any) error {
	p := kind.Withf(format, args...)
	p.Field = field
	return &p
}

// said is an error of the core's without the prefix that all of them have.
func said(err error) string { return strings.TrimPrefix(err.Error(), "connmgr: ") }
