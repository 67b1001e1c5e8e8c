package connmgrhttp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/connmgrhttp/internal/page"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file makes the handler: what there is at which path. The other files have what is
// done there, one file a subject.

// Config says how a handler behaves. The zero value works: it serves loopback and unix
// sockets without a token.
type Config struct {
	// Token is what requests have to carry, as "Authorization: Bearer TOKEN"; only the
	// files of the page and the API's description are served without. "" is no token: then
	// requests that came in over anything but loopback or a unix socket are refused.
	Token string
	// Hosts is further names that requests may have in their Host header, without ports.
	// localhost, loopback addresses and the address that a connection came in on are
	// always accepted.
	Hosts []string
	// Names says how peers are named, by its ParsePeer and FormatPeer; users of go-libp2p
	// give connmgrlibp2p.ListFormat(). The zero value names them by their IDs, in
	// hexadecimal behind "0x" if those are not printable ASCII.
	Names connmgr.ListFormat
	// Node is the node's own name, for people. It may be empty.
	Node string
	// Metrics is served at /metrics, to whom the API is. Nil is nothing.
	Metrics http.Handler
	// Logger gets what goes wrong inside. Nil means slog.Default().
	Logger *slog.Logger
	// MaxStreams is the event streams at a time. Default 256; less than 0 is an error.
	MaxStreams int
}

// handler answers requests. What it shows besides the manager's own state is in the
// journal, and in plans, which is made anew once a second if somebody asks.
type handler struct {
	m       *connmgr.Manager
	g       *connmgr.Gater
	names   wire.Names
	node    string
	log     *slog.Logger
	started time.Time
	journal *journal.Journal
	plans   *plans
	// limitsMu is held while limits are changed.
	limitsMu sync.Mutex
	// These have a place for each request that goes through all peers or rules, that moves
	// a list of rules, and that asks connections.
	heavy, lists, asking places
}

// How many of these requests are worked on at a time; others wait their turn. It keeps a
// flood of requests from taking the node's processors and memory.
const (
	heavyRequests = 4
	// listRequests move up to maxList bytes each, as slowly as the other side pleases, so
	// they must not keep others out.
	listRequests = 2
	// askingRequests ask connections, which are not ours and may hang.
	askingRequests = 16
)

// Handler returns the API and the page for a manager and its gate; a nil gate means the
// manager's own. It fails if a field of cfg is out of range.
//
// It follows the manager's events from now on, so that it can tell later why a peer was
// closed; make it right after the manager, and one for a manager. It ends with the
// manager: after [connmgr.Manager.Close] event streams end, and requests are answered
// from what the manager knew when it was closed.
//
// The handler can be used from several goroutines, as any [http.Handler].
func Handler(m *connmgr.Manager, g *connmgr.Gater, cfg Config) (http.Handler, error) {
	switch {
	case m == nil:
		return nil, errors.New("connmgr: connmgrhttp.Handler needs a manager, got nil")
	case cfg.MaxStreams < 0:
		return nil, fmt.Errorf("connmgr: connmgrhttp.Config.MaxStreams is %d, must not be negative", cfg.MaxStreams)
	}
	who := guard.Config{Token: cfg.Token, Hosts: cfg.Hosts}
	if err := who.Check(); err != nil {
		return nil, err
	}
	return guard.New(who).Wrap(newHandler(m, g, cfg).mux(cfg.Metrics), isPublic), nil
}

func newHandler(m *connmgr.Manager, g *connmgr.Gater, cfg Config) *handler {
	if g == nil {
		g = m.Gater()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	names := wire.Names{Format: cfg.Names}
	return &handler{
		m: m, g: g, names: names, node: cfg.Node, log: cfg.Logger,
		started: time.Now(),
		journal: journal.Start(m, journal.Options{Names: names, Logger: cfg.Logger, MaxStreams: cfg.MaxStreams}),
		plans:   newPlans(m, names),
		heavy:   make(places, heavyRequests),
		lists:   make(places, listRequests),
		asking:  make(places, askingRequests),
	}
}

// route is what is done at a path with a method.
type route struct {
	method, path string
	serve        http.HandlerFunc
}

// routes is the whole API. Where an answer is a document it is returned, and errors are
// problems; see answer.go.
func (h *handler) routes() []route {
	return []route{
		{"GET", "/v1/status", h.answer(h.getStatus)},
		{"GET", "/v1/samples", h.answer(h.getSamples)},
		{"GET", "/v1/limits", h.answer(h.getLimits)},
		{"PATCH", "/v1/limits", h.change(h.patchLimits)},

		{"GET", "/v1/peers", h.search(h.getPeers)},
		{"GET", "/v1/peers/{peer}", h.answer(h.getPeer)},
		{"PUT", "/v1/peers/{peer}/protections/{tag}", h.change(h.putProtection)},
		{"DELETE", "/v1/peers/{peer}/protections/{tag}", h.change(h.deleteProtection)},
		{"PUT", "/v1/peers/{peer}/tags/{tag}", h.change(h.putTag)},
		{"DELETE", "/v1/peers/{peer}/tags/{tag}", h.change(h.deleteTag)},
		{"POST", "/v1/peers/{peer}/close", h.change(h.postClose)},

		{"GET", "/v1/plan", h.search(h.getPlan)},
		{"POST", "/v1/trim", h.change(h.postTrim)},

		{"GET", "/v1/rules", h.search(h.getRules)},
		{"POST", "/v1/rules", h.change(h.postRule)},
		{"DELETE", "/v1/rules", h.change(h.deleteRule)},
		{"POST", "/v1/rules/import", h.change(h.postImport)},
		{"GET", "/v1/rules/export", h.getExport},
		{"POST", "/v1/block", h.change(h.postBlock)},
		{"POST", "/v1/unblock", h.change(h.postUnblock)},

		{"GET", "/v1/events", h.getEvents},
		{"GET", "/v1/events/recent", h.answer(h.getRecent)},
		{"GET", openAPIPath, getOpenAPI},
	}
}

const openAPIPath = "/v1/openapi.json"

// mux finds the route of a request.
func (h *handler) mux(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	byPath := make(map[string]map[string]http.HandlerFunc)
	for _, r := range h.routes() {
		if byPath[r.path] == nil {
			byPath[r.path] = make(map[string]http.HandlerFunc)
		}
		byPath[r.path][r.method] = r.serve
	}
	for path, methods := range byPath {
		mux.Handle(path, byMethod(methods))
	}
	mux.HandleFunc("/v1", notFound) // or the mux would redirect to what is not found either
	mux.HandleFunc("/v1/", notFound)
	if metrics != nil {
		mux.Handle("/metrics", byMethod(map[string]http.HandlerFunc{"GET": metrics.ServeHTTP}))
	}
	files := byMethod(map[string]http.HandlerFunc{"GET": h.getPage})
	mux.Handle("/", files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch { // the mux would redirect, and lose the prefix of an embedder
		case r.URL.Path == "":
			files.ServeHTTP(w, r)
		case isUnclean(r.URL.EscapedPath()): // a name may have slashes, when they are encoded
			notFound(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// byMethod chooses by the method; the mux would answer in plain text where there is none.
func byMethod(methods map[string]http.HandlerFunc) http.Handler {
	var allowed []string
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if methods[m] != nil {
			allowed = append(allowed, m)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if serve := methods[method]; serve != nil {
			serve(w, r)
			return
		}
		problem.WriteMethodNotAllowed(w, r, allowed...)
	})
}

func notFound(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, problem.NotFound.Withf("there is nothing at %.200q", r.URL.Path))
}

// isUnclean reports whether a path has elements that a file system would resolve.
func isUnclean(path string) bool {
	return strings.Contains(path, "//") || strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../")
}

// isPublic reports whether what a request is for has nothing of this node in it, so that
// it needs no token: the files of the page, which asks for the token itself, and the
// description of the API.
func isPublic(r *http.Request) bool {
	return r.URL.Path == openAPIPath || page.Has(r.URL.Path)
}

func (h *handler) getPage(w http.ResponseWriter, r *http.Request) {
	if !page.Has(r.URL.Path) {
		notFound(w, r)
		return
	}
	page.ServeHTTP(w, r)
}

func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}

// getSamples returns the connections over time.
func (h *handler) getSamples(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	return h.journal.Samples(), nil
}
