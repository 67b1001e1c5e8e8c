package apiload

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is what is asked for, and how often: mostly what a page and a monitoring
// system ask for, and of every way to change something a little.

// request is one to be made.
type request struct {
	method, path, body, contentType string
}

// kind is requests that are alike.
type kind struct {
	name   string
	weight int // its share of all requests is this by the sum of all
	make   func(w *asked) request
	// status is what it has to be answered with; 0 means 200.
	status int
	// check looks at the answer. It can be nil.
	check func(w *asked, body []byte) error
}

// asked is what requests are about.
type asked struct {
	rng   *rand.Rand
	cfg   Config
	peers []string // the names of the crowd
}

func (w *asked) peer() string { return w.peers[w.rng.IntN(len(w.peers))] }

// protected is one of a few, so that protections keep no trim from its target.
func (w *asked) protected() string { return w.peers[w.rng.IntN(min(8, len(w.peers)))] }

// stranger is an address that nobody has.
func (w *asked) stranger() string { return fmt.Sprintf("203.0.113.%d", w.rng.IntN(256)) }

func (w *asked) oneOf(words ...string) string { return words[w.rng.IntN(len(words))] }

func read(path string) request { return request{method: http.MethodGet, path: path} }

func write(method, path string, doc any) request {
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err) // ours
	}
	return request{method: method, path: path, body: string(body), contentType: "application/json"}
}

// kinds is the mix. The weights add up to 1,000, so they are requests a second too.
var kinds = []kind{
	{name: "GET status", weight: 130, make: func(*asked) request { return read("/v1/status") }, check: checkStatus},
	{name: "GET peers", weight: 90, make: func(*asked) request { return read("/v1/peers") }, check: checkPeers},
	{name: "GET peers, filtered", weight: 90, make: filteredPeers, check: checkPeers},
	{name: "GET peers, sorted page", weight: 90, make: sortedPeers, check: checkPeers},
	{name: "GET a peer", weight: 130, make: func(w *asked) request {
		return read("/v1/peers/" + w.peer())
	}},
	{name: "GET a peer nobody knows", weight: 5, status: http.StatusNotFound, make: func(*asked) request {
		return read("/v1/peers/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")
	}},
	{name: "GET plan", weight: 70, make: func(w *asked) request {
		return read(fmt.Sprintf("/v1/plan?limit=%d&trigger=%s", w.rng.IntN(50), w.oneOf("manual", "high_water", "force")))
	}},
	{name: "GET samples", weight: 50, make: func(*asked) request { return read("/v1/samples") }},
	{name: "GET limits", weight: 40, make: func(*asked) request { return read("/v1/limits") }},
	{name: "GET rules", weight: 50, make: func(w *asked) request {
		return read("/v1/rules" + w.oneOf("", "?q=load&limit=20", "?effect=deny&offset=10", "?target=203.0.113.7"))
	}},
	{name: "GET rules/export", weight: 10, make: func(*asked) request { return read("/v1/rules/export") }},
	{name: "GET events/recent", weight: 80, make: func(w *asked) request {
		return read("/v1/events/recent?limit=50" + w.oneOf("", "&types=closed,trim", "&peer="+w.peer()))
	}},
	{name: "GET openapi.json", weight: 5, make: func(*asked) request { return read("/v1/openapi.json") }},
	{name: "GET metrics", weight: 5, make: func(*asked) request { return read("/metrics") }},
	{name: "GET the page", weight: 5, make: func(*asked) request { return read("/") }},

	{name: "PUT protection", weight: 20, make: func(w *asked) request {
		return request{method: http.MethodPut, path: "/v1/peers/" + w.protected() + "/protections/load"}
	}},
	{name: "DELETE protection", weight: 25, make: func(w *asked) request {
		return request{method: http.MethodDelete, path: "/v1/peers/" + w.protected() + "/protections/load"}
	}},
	{name: "PUT tag", weight: 30, make: func(w *asked) request {
		return write(http.MethodPut, "/v1/peers/"+w.peer()+"/tags/load", api.TagValue{Value: new(w.rng.IntN(40) - 20)})
	}},
	{name: "DELETE tag", weight: 20, make: func(w *asked) request {
		return request{method: http.MethodDelete, path: "/v1/peers/" + w.peer() + "/tags/load"}
	}},
	{name: "POST block", weight: 15, make: func(w *asked) request {
		return write(http.MethodPost, "/v1/block", api.Block{Target: w.stranger(), Reason: "load"})
	}},
	{name: "POST unblock", weight: 15, make: func(w *asked) request {
		return write(http.MethodPost, "/v1/unblock", api.Unblock{Target: w.stranger()})
	}},
	{name: "PATCH limits", weight: 10, make: func(w *asked) request {
		return write(http.MethodPatch, "/v1/limits", map[string]any{"low_water": w.cfg.Low - w.rng.IntN(2)*w.cfg.Low/20})
	}},
	{name: "POST rules/import", weight: 5, make: importRules},
	{name: "POST close", weight: 5, make: func(w *asked) request {
		return request{method: http.MethodPost, path: "/v1/peers/" + w.peer() + "/close"}
	}},
	{name: "POST trim", weight: 5, make: func(*asked) request {
		return request{method: http.MethodPost, path: "/v1/trim"}
	}},
}

func filteredPeers(w *asked) request {
	q := url.Values{}
	switch w.rng.IntN(5) {
	case 0:
		q.Set("q", w.peer()[20:24])
	case 1:
		q.Set("address", "127.0.0.0/8")
		q.Set("direction", "inbound")
	case 2:
		q.Set("tag", "load")
		q.Set("min_score", "1")
	case 3:
		q.Set("closed", "true")
		q.Set("trigger", "force")
	case 4:
		q.Set("protection", "load")
		q.Set("protected", "true")
	}
	return read("/v1/peers?" + q.Encode())
}

func sortedPeers(w *asked) request {
	return read(fmt.Sprintf("/v1/peers?sort=%s&order=%s&offset=%d&limit=%d",
		w.oneOf("next", "score", "age", "streams", "connections", "peer"), w.oneOf("asc", "desc"), w.rng.IntN(200), 1+w.rng.IntN(50)))
}

// importRules replaces a short list by another one.
func importRules(w *asked) request {
	list := ""
	for range w.rng.IntN(20) {
		list += fmt.Sprintf("198.51.100.%d # load\n", w.rng.IntN(256))
	}
	return request{
		method: http.MethodPost, path: "/v1/rules/import?origin=load&allow_empty=true",
		body: list, contentType: "text/plain",
	}
}

// checkStatus holds the node's own word against what has to be so. Its count of inbound
// connections can be above the hard limit for a moment: it has those that are gone and not
// reported as gone yet, and is put together of parts. The host's count is looked at by
// hostWatch.
func checkStatus(w *asked, body []byte) error {
	var s api.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	switch hard := s.Limits.HardLimit; {
	case hard == nil || *hard != w.cfg.Hard:
		return fmt.Errorf("the status has a hard limit of %v, want %d", hard, w.cfg.Hard)
	case s.Connections.Outbound != 0:
		return fmt.Errorf("the status has %d outbound connections, want none of a node that dials nobody", s.Connections.Outbound)
	}
	return nil
}

// checkPeers holds a page of peers against what it says of itself.
func checkPeers(_ *asked, body []byte) error {
	var list api.PeerList
	if err := json.Unmarshal(body, &list); err != nil {
		return err
	}
	if want := min(max(0, list.Matched-list.Offset), list.Limit); len(list.Peers) != want || list.Matched > list.Total {
		return fmt.Errorf("a page has %d peers from %d on of %d that match and %d in total, with a limit of %d, want %d",
			len(list.Peers), list.Offset, list.Matched, list.Total, list.Limit, want)
	}
	return nil
}
