package connmgrhttp_test

import (
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

func TestProtectionsComeAndGoByTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		do[api.Protections](n, "PUT", "/v1/peers/a/protections/mesh", "")
		doc := do[api.Protections](n, "PUT", "/v1/peers/a/protections/my%2Ffriend", "")
		if !doc.Protected || !slices.Equal(doc.Protections, []string{"mesh", "my/friend"}) || doc.Peer != "a" {
			t.Errorf("the answer is %+v, want a protected by both", doc)
		}
		if !n.m.IsProtected("a", "my/friend") {
			t.Error("the manager does not protect a")
		}
		doc = do[api.Protections](n, "DELETE", "/v1/peers/a/protections/my%2Ffriend", "")
		if !doc.Protected || n.m.IsProtected("a", "my/friend") {
			t.Errorf("the answer is %+v, want a protected by one alone", doc)
		}
		doc = do[api.Protections](n, "DELETE", "/v1/peers/a/protections/mesh", "")
		if doc.Protected || n.m.IsProtected("a", "") || doc.Protections == nil {
			t.Errorf("the answer is %+v, want a not protected, and an empty list", doc)
		}
	})
}

func TestTagsAreSetAndTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.host.Connect("a")
		do[api.Tags](n, "PUT", "/v1/peers/a/tags/user", `{"value": 100}`)
		doc := do[api.Tags](n, "PUT", "/v1/peers/a/tags/bad", `{"value": -7}`)
		if doc.TagSum != 93 || !maps.Equal(doc.Tags, map[string]int{"user": 100, "bad": -7}) || n.m.Tags().Sum("a") != 93 {
			t.Errorf("the answer is %+v, want both tags and their sum", doc)
		}
		doc = do[api.Tags](n, "DELETE", "/v1/peers/a/tags/user", "")
		if doc.TagSum != -7 || len(doc.Tags) != 1 {
			t.Errorf("the answer is %+v, want one tag left", doc)
		}
		for body, status := range map[string]int{
			`{}`:                              400,
			`{"value": null}`:                 422,
			`{"value": "7"}`:                  422,
			`{"value": 7.5}`:                  422,
			`{"value": 99999999999999999999}`: 422,
			`{"value": 7, "valeu": 8}`:        422,
			`{"value": 7} {"value": 8}`:       400,
			`{"value":`:                       400,
			``:                                415,
		} {
			n.refused("PUT", "/v1/peers/a/tags/user", body, status)
		}
		n.refused("PUT", "/v1/peers/a/tags/"+strings.Repeat("x", 257), `{"value": 7}`, 400)
		n.refused("PUT", "/v1/peers/a/tags/"+url.PathEscape("two\nlines"), `{"value": 7}`, 400)
		if sum := n.m.Tags().Sum("a"); sum != -7 {
			t.Errorf("after bad requests the sum is %d, want -7 as before", sum)
		}
	})
}

// A tag that the manager drops must not look as if it had been set.
func TestATagThatIsNotTakenIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneToTwo()
		cfg.MaxTagsPerPeer = 1
		n := newNode(t, cfg, connmgrhttp.Config{})
		do[api.Tags](n, "PUT", "/v1/peers/a/tags/one", `{"value": 1}`)
		n.refused("PUT", "/v1/peers/a/tags/two", `{"value": 2}`, 422)
		do[api.Tags](n, "PUT", "/v1/peers/a/tags/one", `{"value": 3}`)
	})
}

func TestAPeerIsClosedOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.host.Connect("a")
		n.host.Connect("a", connmgrtest.Outbound())
		if doc := do[api.Closed](n, "POST", "/v1/peers/a/close", ""); doc.Connections != 2 || n.host.Connected("a") {
			t.Errorf("the answer is %+v, want 2 connections closed", doc)
		}
		if doc := do[api.Closed](n, "POST", "/v1/peers/a/close", ""); doc.Connections != 0 {
			t.Errorf("the second time %d connections were closed, want none", doc.Connections)
		}
		n.refused("POST", "/v1/peers/a/close", `{"really": true}`, 400)
	})
}

// A body that comes in chunks has no length, and can be empty all the same.
func TestABodyOfNoChunksIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		for body, status := range map[string]int{"": 200, "{}": 400} {
			r := httptest.NewRequest("PUT", "/v1/peers/a/protections/x", strings.NewReader(body))
			r.Host, r.ContentLength = "localhost", -1
			if w := n.serve(r); w.Code != status {
				t.Errorf("a chunked body %q gets status %d, want %d: %s", body, w.Code, status, w.Body)
			}
		}
		r := httptest.NewRequest("POST", "/v1/trim", strings.NewReader(`{"force": true}`))
		r.Host, r.ContentLength = "localhost", -1
		r.Header.Set("Content-Type", "application/json")
		if w := n.serve(r); !strings.Contains(w.Body.String(), `"trigger":"force"`) {
			t.Errorf("a chunked body gets %s, want a forced trim", w.Body)
		}
	})
}

// Names that are not their IDs, as those of libp2p, are understood everywhere.
func TestPeersHaveTheNamesOfTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := connmgr.ListFormat{
			ParsePeer: func(name string) (connmgr.NodeID, error) {
				id, ok := strings.CutPrefix(name, "node-")
				if !ok {
					return "", errNoNode
				}
				return connmgr.NodeID("\x00" + id), nil
			},
			FormatPeer: func(id connmgr.NodeID) string { return "node-" + string(id[1:]) },
		}
		n := newNode(t, oneToTwo(), connmgrhttp.Config{Names: names})
		n.host.Connect("\x00a")
		do[api.Protections](n, "PUT", "/v1/peers/node-a/protections/x", "")
		if !n.m.IsProtected("\x00a", "x") {
			t.Error("the peer that the name is of is not protected")
		}
		if p := get[api.PeerList](n, "/v1/peers").Peers[0]; p.Peer != "node-a" {
			t.Errorf("the peer is called %q, want node-a", p.Peer)
		}
		if doc := do[api.Blocked](n, "POST", "/v1/block", `{"target": "node-a"}`); doc.Rule.Target != "peer node-a" || doc.ClosedPeers != 1 {
			t.Errorf("the answer is %+v, want the peer blocked by its name, and closed", doc)
		}
		if p := n.refused("GET", "/v1/peers/a", "", 400); !strings.Contains(p.Detail, "no node") {
			t.Errorf("a name that is none gets %q, want to hear why", p.Detail)
		}
	})
}

type stringError string

func (e stringError) Error() string { return string(e) }

const errNoNode = stringError("no node has such a name")

func TestAfterCloseOfTheManagerRequestsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.host.Connect("a")
		if err := n.m.Close(); err != nil {
			t.Fatal(err)
		}
		if s := get[api.Status](n, "/v1/status"); s.Connections.Open != 1 {
			t.Errorf("the status says %d connections, want the 1 that there was", s.Connections.Open)
		}
		if list := get[api.PeerList](n, "/v1/peers"); list.Total != 1 {
			t.Errorf("%d peers are listed, want the 1 that there was", list.Total)
		}
		n.refused("POST", "/v1/trim", "", 503)
		get[api.EventList](n, "/v1/events/recent")
		get[api.Samples](n, "/v1/samples")
		if w := n.ask("GET", "/v1/events", ""); w.Code != 200 { // and ends
			t.Errorf("a stream gets status %d, want an empty one", w.Code)
		}
	})
}
