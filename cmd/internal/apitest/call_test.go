package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// This file asks one thing, and holds the request and the answer against the description.

// follows says whether a request is as the description has it.
type follows int

const (
	described follows = iota // it is
	refused                  // it is not, and the description says so
	unchecked                // it is not, and the description has no words for that
)

// call is a request for an operation.
type call struct {
	op      string            // its operationId
	path    map[string]string // the values of the parameters in the path
	query   string            // as in a URL
	body    string
	kind    string // the body's Content-Type; that of the description if it is empty
	size    int64  // of the body, if it is said to have more than it has
	header  map[string]string
	host    string          // the header Host, if it is not localhost
	context context.Context // of the request; nil for one that does not end
	follows follows
	want    int // the status; 0 for any that is described
}

// answer is what a call was answered with.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request as if it came over loopback, and fails the test if the request or
// the answer is not as described.
func (w *world) do(c call) answer {
	w.t.Helper()
	o := w.seen.operations[c.op]
	if o == nil {
		w.t.Fatalf("there is no operation %q", c.op)
	}
	if c.op == "streamEvents" { // a stream where there should be none shall not hold up the test
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c.context = ctx
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, c.request(w.t, o))
	a := answer{rec.Code, rec.Header(), rec.Body.Bytes()}
	w.check(c, o, a)
	return a
}

// request makes the request of a call, with its own body each time.
func (c *call) request(t testing.TB, o *operation) *http.Request {
	t.Helper()
	path := o.path
	for name, value := range c.path {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	if strings.Contains(path, "{") {
		t.Fatalf("%s: the path %s has parameters that are not given", c.op, path)
	}
	ctx := c.context
	if ctx == nil {
		ctx = context.Background()
	}
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7654}))
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r := httptest.NewRequestWithContext(ctx, o.method, path, body)
	r.URL.RawQuery = c.query
	r.Host = "localhost:7654"
	if c.host != "" {
		r.Host = c.host
	}
	switch {
	case c.kind != "":
		r.Header.Set("Content-Type", c.kind)
	case c.body != "" && o.RequestBody != nil:
		for kind := range o.RequestBody.Value.Content {
			r.Header.Set("Content-Type", kind)
		}
	}
	if c.size != 0 {
		r.ContentLength = c.size
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	return r
}

func (c *call) String() string {
	text := c.op
	for _, name := range slices.Sorted(maps.Keys(c.path)) {
		text += " " + name + "=" + strconv.Quote(c.path[name])
	}
	if c.query != "" {
		text += " ?" + c.query
	}
	if c.body != "" {
		text += " " + c.body[:min(len(c.body), 200)]
	}
	return text
}

// check holds a request and its answer against the description.
func (w *world) check(c call, o *operation, a answer) {
	w.t.Helper()
	input := &openapi3filter.RequestValidationInput{
		Request: c.request(w.t, o), PathParams: c.path, Route: o.route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true,
			RejectWhenRequestBodyNotSpecified: true,
		},
	}
	if c.follows != unchecked {
		switch err := openapi3filter.ValidateRequest(context.Background(), input); {
		case c.follows == described && err != nil:
			w.t.Errorf("%s: the description refuses the request: %v", &c, err)
		case c.follows == refused && err == nil:
			w.t.Errorf("%s: the description has nothing against the request, want it refused as the handler does", &c)
		}
	}
	if c.want != 0 && a.status != c.want {
		w.t.Errorf("%s: status %d, want %d: %s", &c, a.status, c.want, a.body)
	}
	w.seen.answered(c.op, a.status)
	isStream := strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream")
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: isStream},
	})
	if err != nil {
		w.t.Errorf("%s: status %d, and the answer is not as described: %v\n%.2000s", &c, a.status, err, a.body)
	}
	if !isStream && strings.HasSuffix(a.header.Get("Content-Type"), "json") && o.Responses.Status(a.status) != nil {
		w.seen.document(o.Responses.Status(a.status).Value.Content.Get(a.header.Get("Content-Type")).Schema, a.body)
	}
}

// problem checks an answer that is described for no operation, such as a 405.
func (w *world) problem(r *http.Request, status int) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != status {
		w.t.Errorf("%s %s: status %d, want %d", r.Method, r.URL, rec.Code, status)
	}
	if kind := rec.Header().Get("Content-Type"); kind != "application/problem+json" {
		w.t.Errorf("%s %s: Content-Type %q, want a problem", r.Method, r.URL, kind)
	}
	w.seen.holds(w.t, "Problem", rec.Body.Bytes())
}

// into reads an answer.
func into[T any](t testing.TB, a answer) (doc T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return doc
}

// ---- What was seen.

// coverage is what the answers have shown of the description.
type coverage struct {
	doc        *openapi3.T
	operations map[string]*operation
	statuses   map[string]map[int]bool // by operation
	members    map[string]bool         // of schemas, as "Peer.score"
}

func newCoverage(t testing.TB) *coverage {
	t.Helper()
	doc := loadDescription(t, closeSchemas)
	return &coverage{doc, operations(t, doc), make(map[string]map[int]bool), make(map[string]bool)}
}

// ids returns the operationIds, in order.
func (s *coverage) ids() []string { return slices.Sorted(maps.Keys(s.operations)) }

func (s *coverage) answered(op string, status int) {
	if s.statuses[op] == nil {
		s.statuses[op] = make(map[int]bool)
	}
	s.statuses[op][status] = true
}

// holds checks a document against the schema with a name.
func (s *coverage) holds(t testing.TB, name string, doc []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(doc, &value); err != nil {
		t.Errorf("%s: %v", doc, err)
		return
	}
	schema := s.doc.Components.Schemas[name]
	if err := schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("this is no %s: %v\n%.2000s", name, err, doc)
	}
	s.note(name, schema.Value, value)
}

// document notes which members a document has.
func (s *coverage) document(schema *openapi3.SchemaRef, doc []byte) {
	var value any
	if json.Unmarshal(doc, &value) == nil {
		s.note(refName(schema, ""), schema.Value, value)
	}
}

// note walks through a value and the schema that it is of, which is a part of the one
// with a name.
func (s *coverage) note(name string, schema *openapi3.Schema, value any) {
	for _, part := range schema.AllOf {
		s.note(refName(part, name), part.Value, value)
	}
	switch value := value.(type) {
	case map[string]any:
		for member, v := range value {
			if p := schema.Properties[member]; p != nil {
				s.members[name+"."+member] = true
				s.note(refName(p, name), p.Value, v)
			} else if every := schema.AdditionalProperties.Schema; every != nil {
				s.note(refName(every, name), every.Value, v)
			}
		}
	case []any:
		for _, v := range value {
			if schema.Items != nil {
				s.note(refName(schema.Items, name), schema.Items.Value, v)
			}
		}
	}
}

// refName returns the name of a schema that has one, otherwise that of what it is in.
func refName(s *openapi3.SchemaRef, within string) string {
	if i := strings.LastIndexByte(s.Ref, '/'); i >= 0 {
		return s.Ref[i+1:]
	}
	return within
}
