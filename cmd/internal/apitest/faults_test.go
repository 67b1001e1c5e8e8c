package apitest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file asks for what cannot be, and asks when something is broken or busy.

// tellWhatCannotBe sends what no peer, rule or limit can be.
func tellWhatCannotBe(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, func(c *connmgr.Config, _ *connmgrhttp.Config) { c.MaxTagsPerPeer = 1 })
	alice := map[string]string{"peer": w.name("alice")}
	tag := func(name string) map[string]string {
		return map[string]string{"peer": w.name("alice"), "tag": name}
	}
	w.connect("alice")
	w.do(call{op: "getPeer", path: map[string]string{"peer": w.name("nobody")}, want: 404})
	w.do(call{op: "removeRule", query: "target=192.0.2.1", want: 404})
	w.do(call{op: "removeRule", query: "target=what", want: 400})
	w.do(call{op: "removeRule", want: 400, follows: refused})
	w.do(call{op: "listPeers", query: "address=300.0.0.1", want: 400})
	w.do(call{op: "listRules", query: "target=300.0.0.1", want: 400})
	w.do(call{op: "listPeers", query: "sort=peer&sort=score", want: 400, follows: unchecked})
	w.do(call{op: "protectPeer", path: tag(strings.Repeat("x", 256)), want: 200})
	w.do(call{op: "protectPeer", path: tag(strings.Repeat("x", 257)), want: 400, follows: refused})
	w.do(call{op: "protectPeer", path: tag("two\nlines"), want: 400})
	if w.format.ParsePeer != nil {
		for _, op := range []string{"getPeer", "closePeer"} {
			w.do(call{op: op, path: map[string]string{"peer": "what"}, want: 400})
		}
		w.do(call{op: "listEvents", query: "peer=what", want: 400})
	}

	// Values that the description cannot tell from good ones.
	w.do(call{op: "tagPeer", path: tag("one"), body: `{"value": 1}`, want: 200})
	w.do(call{op: "tagPeer", path: tag("one too many"), body: `{"value": 1}`, want: 422})
	for _, target := range []string{"", "what is this", "10.0.0.300", "10.0.0.0/33", "port 65536", "10.0.0.1 until never", "deny 10.0.0.1", "10.0.0.1\n10.0.0.2", "10.0.0.1-10.0.0.6"} {
		body, _ := json.Marshal(map[string]string{"target": target})
		for _, op := range []string{"addRule", "block", "unblock"} {
			w.do(call{op: op, body: string(body), want: 422})
		}
	}
	w.do(call{op: "addRule", body: `{"target": "10.0.0.1", "expires": "2000-01-01T00:00:00Z"}`, want: 422})
	w.do(call{op: "addRule", body: `{"target": "10.0.0.1", "expires": "2300-01-01T00:00:00Z"}`, want: 422})
	w.do(call{op: "addRule", body: `{"target": "10.0.0.1", "expires": "2100-01-01T00:00:00Z", "for_seconds": 1}`, want: 422})
	w.do(call{op: "addRule", body: `{"target": "10.0.0.1", "reason": "two\nlines"}`, want: 422})
	w.do(call{op: "block", body: `{"target": "10.0.0.1", "reason": "two\nlines"}`, want: 422})
	p := into[api.Problem](t, w.do(call{op: "importRules", body: "10.0.0.1\n\nwhat is this\n", want: 422}))
	if p.Line != 3 {
		t.Errorf("the problem is in line %d, want 3", p.Line)
	}
	w.do(call{op: "importRules", query: "origin=list", body: "# nothing\n", want: 422})
	w.do(call{op: "importRules", query: "origin=two%0Alines", body: "10.0.0.1\n", want: 400})
	for body, field := range map[string]string{
		`{"low_water": 51}`:  "low_water",
		`{"high_water": 2}`:  "",
		`{"hard_limit": 49}`: "hard_limit",
		`{"gate": {"per_prefix": [{"max_connections": 1}]}}`:     "",
		`{"gate": {"per_prefix": [{"ipv4_bits": 24}, {}]}}`:      "",
		`{"low_water": 1, "gate": {"per_prefix": [{}, {}, {}]}}`: "",
	} {
		p := into[api.Problem](t, w.do(call{op: "changeLimits", body: body, want: 422}))
		if p.Field == "" || field != "" && p.Field != field {
			t.Errorf("limits %s: the problem is in field %q, want %q: %s", body, p.Field, field, p.Detail)
		}
	}
	if got := w.m.Limits().LowWater; got != 3 {
		t.Errorf("low water is %d after changes that were all refused, want 3", got)
	}
	w.do(call{op: "getPeer", path: alice, want: 200})

	// Answers that belong to no operation.
	for _, target := range []string{"PUT /v1/status", "POST /v1/peers/x", "DELETE /v1/limits", "PATCH /v1/rules", "POST /metrics", "POST /v1/openapi.json"} {
		method, path, _ := strings.Cut(target, " ")
		w.problem(w.plain(method, path), 405)
	}
	for _, path := range []string{"/v1", "/v1/", "/v1/what", "/v2/status", "/v1/peers//close", "/v1/../v1/status", "/what"} {
		w.problem(w.plain("GET", path), 404)
	}
}

// plain returns a request for something that is not described.
func (w *world) plain(method, path string) *http.Request {
	c := call{op: "none"}
	return c.request(w.t, &operation{Operation: new(openapi3.Operation), method: method, path: path})
}

// tellWhatGoesWrong asks while the store, the host and connections fail.
func tellWhatGoesWrong(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, nil)
	w.connect("alice")
	ofAlice := map[string]string{"peer": w.name("alice")}

	w.store.FailSaves(errors.New("the disk is full"))
	w.do(call{op: "addRule", body: `{"target": "192.0.2.1"}`, want: 500})
	w.do(call{op: "block", body: `{"target": "192.0.2.2"}`, want: 500})
	w.do(call{op: "unblock", body: `{"target": "192.0.2.2"}`, want: 500})
	w.do(call{op: "removeRule", query: "target=192.0.2.1", want: 500})
	p := into[api.Problem](t, w.do(call{op: "importRules", query: "origin=list", body: "192.0.2.3\n", want: 500}))
	if rules := into[api.RuleList](t, w.do(call{op: "listRules", want: 200})); !p.InForce || len(rules.Rules) != 1 {
		t.Errorf("the problem says in_force %v and there are %d rules, want the one of the list in force", p.InForce, len(rules.Rules))
	}
	w.store.FailSaves(nil)

	w.host.panics.Store(true)
	w.do(call{op: "trim", want: 500})
	w.host.panics.Store(false)

	// A peer whose name does not lead back to it cannot be exported.
	unnamed := newWorld(t, seen, naming{
		title: "nameless", id: names.id, name: names.name,
		format: connmgr.ListFormat{
			ParsePeer:  func(string) (connmgr.NodeID, error) { return "", errors.New("nobody has a name") },
			FormatPeer: func(connmgr.NodeID) string { return "somebody" },
		},
	}, nil)
	if err := unnamed.gate.Add(t.Context(), connmgr.Rule{Target: connmgr.PeerTarget(names.id("alice"))}); err != nil {
		t.Fatal(err)
	}
	unnamed.do(call{op: "exportRules", want: 500})

	// Without metrics.
	without := newWorld(t, seen, names, func(_ *connmgr.Config, c *connmgrhttp.Config) { c.Metrics = nil })
	without.do(call{op: "getMetrics", want: 404})

	// A connection that does not answer holds up plans, and those who ask for them; who
	// asks for something else meanwhile waits for a place, and gives up when he goes.
	busy := newWorld(t, seen, names, func(c *connmgr.Config, _ *connmgrhttp.Config) { c.Host = nil })
	stuck := &stuckConn{Conn: connmgrtest.NewConn(w.id("stuck"))}
	busy.m.Connected(w.id("stuck"), stuck)
	letGo := stuck.hang()
	for _, c := range []call{{op: "listPeers"}, {op: "getPlan"}, {op: "getPeer", path: ofAlice}} {
		c.want = 503
		busy.do(c)
	}
	for range 4 {
		go func() {
			c := call{op: "getPlan"}
			busy.handler.ServeHTTP(httptest.NewRecorder(), c.request(t, seen.operations["getPlan"]))
		}()
	}
	synctest.Wait()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, id := range []string{"listRules", "exportRules", "importRules", "listPeers", "getPeer", "getPlan"} {
		c := busy.minimal(id)
		c.context, c.want = gone, 503
		busy.do(c)
	}
	letGo()
	w.pass(time.Minute)

	if err := w.m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, id := range seen.ids() {
		c := w.minimal(id)
		if id == "trim" {
			c.want = 503
		}
		if a := w.do(c); a.status >= 500 && id != "trim" {
			t.Errorf("%s: status %d after the manager was closed, want an answer: %s", &c, a.status, a.body)
		}
	}
}
