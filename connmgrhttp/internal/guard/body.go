package guard

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file bounds what is read of a request's body: how much, for how long, and of which
// type.

// bodyTime is how long a body may take to arrive.
const bodyTime = 30 * time.Second

// straySize is what is read of the body of a request that has no use for one.
const straySize = 4 << 10

// body is a body that knows whether it was read to its end.
type body struct {
	io.ReadCloser
	read bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read = b.read || err == io.EOF
	return n, err
}

// bound returns r with a body that has to arrive in time, and, where the method has no
// use for one, is short. If that is known to be false, it answers and returns nil.
func (w *responseWriter) bound(r *http.Request) *http.Request {
	if r.Body == nil || r.ContentLength == 0 {
		return r
	}
	// Servers that do not know deadlines, such as recorders in tests, have no slow clients.
	// net/http lifts the deadline at the end of the body, so that work may take longer.
	_ = w.control.SetReadDeadline(time.Now().Add(bodyTime))
	w.body = &body{ReadCloser: r.Body}
	// A copy: net/http looks at the body of the original when it answers before all was
	// read.
	bounded := new(http.Request)
	*bounded = *r
	bounded.Body = w.body
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return bounded
	}
	if r.ContentLength > straySize {
		problem.Write(w, problem.TooLarge.Withf("the body has %d bytes; a %.20s here has no use for one", r.ContentLength, r.Method))
		return nil
	}
	bounded.Body = http.MaxBytesReader(w.ResponseWriter, bounded.Body, straySize)
	return bounded
}

// Body returns the body of a request, which must be of one of the media types, and not
// larger than limit, in bytes. Of a larger one no more than that is read, and nothing if
// it was announced; [problem.Write] then closes the connection. Errors are
// *api.Problem. The request must have come through a Guard for the body to be bounded in
// time as well.
func Body(r *http.Request, limit int64, types ...string) ([]byte, error) {
	if err := checkType(r.Header, types); err != nil {
		return nil, err
	}
	if r.ContentLength > limit {
		return nil, refusef(problem.TooLarge, "the body has %d bytes; at most %d are read here", r.ContentLength, limit)
	}
	if r.Body == nil {
		return nil, nil
	}
	// One more than the limit tells a body that is too large from one that just fits.
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isTooLarge:
		return nil, refusef(problem.TooLarge, "the body has more than %d bytes; no more are read here", tooLarge.Limit)
	case int64(len(body)) > limit:
		return nil, refusef(problem.TooLarge, "the body has more than %d bytes; no more are read here", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refusef(problem.BadRequest, "the body did not arrive within %v, or before the server stopped", bodyTime)
	case err != nil:
		return nil, refusef(problem.BadRequest, "the body did not arrive whole: %v", err)
	}
	return body, nil
}

// checkType holds what a request says of its body against the media types that are read.
func checkType(h http.Header, types []string) error {
	want := strings.Join(types, " or ")
	if given := h.Values("Content-Encoding"); len(given) > 1 || len(given) == 1 && !strings.EqualFold(given[0], "identity") {
		return refusef(problem.UnsupportedMediaType, "the body is encoded (Content-Encoding: %.50q); send it as it is", strings.Join(given, ", "))
	}
	given := h.Values("Content-Type")
	if len(given) != 1 {
		return refusef(problem.UnsupportedMediaType, "there are %d headers Content-Type; send one, with %s", len(given), want)
	}
	mediaType, params, err := mime.ParseMediaType(given[0])
	if err != nil || !slices.Contains(types, mediaType) {
		return refusef(problem.UnsupportedMediaType, "the Content-Type is %.100q; send %s", given[0], want)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return refusef(problem.UnsupportedMediaType, "the body is in %.50q; send it in UTF-8", charset)
	}
	return nil
}

func refusef(kind problem.Kind, format string, args ...any) error {
	p := kind.Withf(format, args...)
	return &p
}
