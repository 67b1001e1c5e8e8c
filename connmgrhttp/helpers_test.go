package connmgrhttp_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file has what the tests have in common: a node with an API, asked without a
// network, so that everything can run on the clock of testing/synctest.

// node is a manager on a fake host, with an API.
type node struct {
	t       *testing.T
	m       *connmgr.Manager
	host    *connmgrtest.Host
	handler http.Handler
}

// newNode makes a node. Without bonuses, scores are tags alone.
func newNode(t *testing.T, core connmgr.Config, cfg connmgrhttp.Config) *node {
	t.Helper()
	host := connmgrtest.NewHost()
	core.Logger = slog.New(slog.DiscardHandler)
	m, err := connmgr.New(core)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	host.Notify(m)
	cfg.Logger = core.Logger
	h, err := connmgrhttp.Handler(m, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &node{t, m, host, h}
}

// oneToTwo has watermarks that two connections do not exceed, and no grace.
func oneToTwo() connmgr.Config {
	return connmgr.Config{LowWater: 1, HighWater: 2, HardLimit: 100, GracePeriod: connmgr.Zero, SilencePeriod: time.Hour}
}

// ask sends a request as if it came over loopback, and returns the answer.
func (n *node) ask(method, path, body string) *httptest.ResponseRecorder {
	n.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	}
	r.Host = "localhost"
	switch {
	case body == "":
	case strings.HasPrefix(path, "/v1/rules/import"):
		r.Header.Set("Content-Type", "text/plain")
	default:
		r.Header.Set("Content-Type", "application/json")
	}
	return n.serve(r)
}

func (n *node) serve(r *http.Request) *httptest.ResponseRecorder {
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})))
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, r)
	return w
}

// get returns the document at a path.
func get[T any](n *node, path string) T {
	n.t.Helper()
	return do[T](n, "GET", path, "")
}

// do sends a request that must be fulfilled, and returns the document that answers it.
func do[T any](n *node, method, path, body string) (doc T) {
	n.t.Helper()
	w := n.ask(method, path, body)
	if w.Code >= 300 {
		n.t.Fatalf("%s %s: status %d, want it to be fulfilled: %s", method, path, w.Code, w.Body)
	}
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		n.t.Fatalf("%s %s: something follows the document", method, path)
	}
	return doc
}

// refused sends a request that must not be fulfilled, and returns the problem.
func (n *node) refused(method, path, body string, status int) api.Problem {
	n.t.Helper()
	w := n.ask(method, path, body)
	var p api.Problem
	err := json.Unmarshal(w.Body.Bytes(), &p)
	if w.Code != status || err != nil || p.Status != status || p.Type == "" || p.Title == "" ||
		w.Header().Get("Content-Type") != "application/problem+json" {
		n.t.Errorf("%s %s %s: %d %s, want a problem with status %d", method, path, body, w.Code, w.Body, status)
	}
	return p
}

// from gives a connection an address.
func from(addr string) connmgrtest.Option { return connmgrtest.From(netip.MustParseAddrPort(addr)) }

// advance lets time pass, in a bubble of testing/synctest.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
