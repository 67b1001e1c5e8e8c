// Package problem writes the answers to requests that are not fulfilled.
package problem

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file has the one table of the problems there are, and how one is written.

// Kind is a type of problem: what all problems of that type have in common.
type Kind struct {
	// Type is the URN, one of the constants of package api.
	Type string
	// Status is the status of the answer.
	Status int
	// Title is what it is in a few words.
	Title string
	// About says for the documentation when it comes about.
	About string
}

// The kinds. Their methods With and Withf make the problem itself.
var (
	BadRequest           = Kind{api.ProblemBadRequest, 400, "the request is not understood", "The query or the body is malformed."}
	Unauthorized         = Kind{api.ProblemUnauthorized, 401, "a bearer token is needed", "The bearer token is missing or wrong."}
	CrossOrigin          = Kind{api.ProblemCrossOrigin, 403, "another site asked", "A page of another site made a browser ask."}
	NoToken              = Kind{api.ProblemNoToken, 403, "no token is set", "The request came in over an address that others reach, neither loopback nor a unix socket, and no token is set."}
	NotFound             = Kind{api.ProblemNotFound, 404, "there is no such thing", "There is nothing by this path, or no such peer or rule."}
	MethodNotAllowed     = Kind{api.ProblemMethodNotAllowed, 405, "not with this method", "The path is known, but not with this method; the header Allow says with which."}
	TooLarge             = Kind{api.ProblemTooLarge, 413, "the body is too large", "The body is larger than is read here."}
	UnsupportedMediaType = Kind{api.ProblemUnsupportedMediaType, 415, "the body is of another type", "The body has a Content-Type or a Content-Encoding that is not read here."}
	Misdirected          = Kind{api.ProblemMisdirected, 421, "the Host is somebody else", "The header Host names neither this machine nor one of the names set."}
	Unprocessable        = Kind{api.ProblemUnprocessable, 422, "a value cannot be", "The request is understood, but a value in it cannot be."}
	NotSaved             = Kind{api.ProblemNotSaved, 500, "in force, but not saved", "The change is in force, but could not be saved: a restart forgets it."}
	Internal             = Kind{api.ProblemInternal, 500, "the server failed", "The server failed; its log says more."}
	TooManyStreams       = Kind{api.ProblemTooManyStreams, 503, "too many streams", "As many event streams are open as are allowed; the header Retry-After says when to ask again."}
	Unavailable          = Kind{api.ProblemUnavailable, 503, "not at the moment", "The manager is closed, or busy beyond its bounds; the header Retry-After says when to ask again."}
)

var kinds = []Kind{
	BadRequest, Unauthorized, CrossOrigin, NoToken, NotFound, MethodNotAllowed,
	TooLarge, UnsupportedMediaType, Misdirected, Unprocessable, NotSaved, Internal,
	TooManyStreams, Unavailable,
}

// All returns every kind, ordered by status. The slice is the caller's.
func All() []Kind { return slices.Clone(kinds) }

// Slug is the last part of the type, such as "not-found".
func (k Kind) Slug() string { return k.Type[strings.LastIndexByte(k.Type, ':')+1:] }

// With returns a problem of the kind. The detail, for people, says what is wrong and
// what to do; it may be empty.
func (k Kind) With(detail string) api.Problem {
	return api.Problem{
		Type: k.Type, Title: k.Title, Status: k.Status, Detail: detail,
		InForce: k.Type == api.ProblemNotSaved,
	}
}

// Withf is With of a formatted detail.
func (k Kind) Withf(format string, args ...any) api.Problem {
	return k.With(fmt.Sprintf(format, args...))
}

// retryAfter is the header Retry-After of answers that ask to come again, in seconds.
const retryAfter = 5

// Write answers with a problem. What the handler has set about another body
// (Content-Length, ETag and their like) is taken back. A 401 gets a
// WWW-Authenticate, a 503 a Retry-After, unless they are set; a 405 must come with an
// Allow, which WriteMethodNotAllowed sets. After a 413 the connection is closed, so that
// the rest of the body need not be read. Nothing may have been written before.
func Write(w http.ResponseWriter, p api.Problem) {
	h := w.Header()
	for _, name := range []string{
		"Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Length",
		"Content-Range", "Etag", "Last-Modified",
	} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case p.Status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "":
		h.Set("WWW-Authenticate", `Bearer realm="connmgr"`)
	case p.Status == http.StatusServiceUnavailable && h.Get("Retry-After") == "":
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	case p.Status == http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close")
	}
	w.WriteHeader(p.Status)
	// A Problem is strings, numbers and a bool: it cannot fail to become JSON. If
	// whoever asked has gone, nobody is left to tell.
	_ = json.NewEncoder(w).Encode(p)
}

// WriteMethodNotAllowed answers that the path is known with other methods, those
// given. HEAD comes with GET.
func WriteMethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed ...string) {
	if slices.Contains(allowed, http.MethodGet) && !slices.Contains(allowed, http.MethodHead) {
		allowed = append(slices.Clone(allowed), http.MethodHead)
	}
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	Write(w, MethodNotAllowed.Withf("%s does not take %.20q; it takes %s", r.URL.Path, r.Method, list))
}
