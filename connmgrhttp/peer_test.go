package connmgrhttp_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// why asks about a peer and returns the sentences, one a line.
func (n *node) why(path string) string {
	n.t.Helper()
	return strings.Join(get[api.PeerDetail](n, path).Why, "\n")
}

func (n *node) expectWhy(path string, want ...string) {
	n.t.Helper()
	synctest.Wait() // the journal has what happened
	got := n.why(path)
	for _, w := range want {
		if !strings.Contains(got, w) {
			n.t.Errorf("%s says\n%s\nwant it to say %q", path, got, w)
		}
	}
}

func TestWhyAConnectedPeerStaysOrWouldGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		n.expectWhy("/v1/peers/nobody",
			"A trim now would close it as number 1 of 2, for its low score, -3.",
			"The lowest score that stays is 27.",
			`Its score is -3: -3 for "bad".`,
			"No trim is due by itself: 5 connections are open, and one starts above high water, 100.")
		n.expectWhy("/v1/peers/dialled", "as number 2 of 2", "10 since we dialled it")
		n.expectWhy("/v1/peers/helper", "It stays: its score, 27, ranks above the cut.", `7 for "useful", 20 for open streams`)
		n.expectWhy("/v1/peers/friend", "It stays: it is protected (mesh).", "it has no tags")
		n.expectWhy("/v1/peers/new", "It stays: it connected 0s ago and is in its grace period for 5s more.")
		n.expectWhy("/v1/peers/new?trigger=force", "A forced trim would close it as number 2 of 3")
		if err := n.m.SetLimits(connmgr.Limits{LowWater: 50, HighWater: 60, HardLimit: 70}); err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		n.expectWhy("/v1/peers/nobody", "It stays: there is nothing to do. 4 connections count against low water, 50.")
	})
}

func TestWhyAPeerWasClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		do[api.Trim](n, "POST", "/v1/trim", "")
		advance(90 * time.Second)
		doc := get[api.PeerDetail](n, "/v1/peers/dialled")
		if doc.Connected || len(doc.History) != 3 {
			t.Fatalf("connected %v with %d events, want it gone, and remembered to have connected, been closed and gone", doc.Connected, len(doc.History))
		}
		if doc.Since != nil || doc.AgeSeconds != 0 {
			t.Errorf("it is there since %v, want nothing: it is remembered by its history alone", doc.Since)
		}
		n.expectWhy("/v1/peers/dialled", "It is not connected.", "1m30s ago (2000-01-01T00:01:03Z): ", "number 2", "low score",
			"That trim closed 2 peers: of 5 connections 4 counted, against low water, 2.")
		n.expectWhy("/v1/peers/nobody", "number 1")
	})
}

func TestWhyAPeerWentByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.host.Connect("a").Drop()
		synctest.Wait()
		advance(5 * time.Second)
		n.expectWhy("/v1/peers/a", "5s ago", "nobody here closed it")
		n.m.Protect("a", "friend")
		n.expectWhy("/v1/peers/a", "Should it come back, it is protected (friend).")
	})
}

func TestWhyAPeerCannotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneToTwo()
		cfg.Gate.Ladder = connmgr.LadderConfig{BanAt: 10, FirstBan: time.Hour}
		n := newNode(t, cfg, connmgrhttp.Config{})
		n.host.Connect("a", from("10.1.2.3:4001"))
		do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.0.0.0/8", "for_seconds": 3600, "reason": "port scans"}`)
		n.expectWhy("/v1/peers/a", "It is not connected.", "closed for a rule: 10.1.2.3:4001 is denied by 10.0.0.0/8 until 2000-01-01T01:00:00Z (port scans)")
		if err := n.m.Gater().InterceptSecured(connmgr.DirInbound, "a", netip.MustParseAddrPort("10.1.2.3:4001")); !errors.Is(err, connmgr.ErrConnectionDenied) {
			t.Fatalf("a comes back: %v", err)
		}
		synctest.Wait()
		n.expectWhy("/v1/peers/a", "10.0.0.0/8 until 2000-01-01T01:00:00Z", "port scans")

		if _, err := n.m.Gater().Report(context.Background(), "b", 10, "lies"); err != nil {
			t.Fatal(err)
		}
		doc := get[api.PeerDetail](n, "/v1/peers/b")
		if doc.Standing == nil || doc.Standing.Bans != 1 || doc.Standing.BannedUntil == nil || len(doc.Rules) != 1 {
			t.Errorf("the document of a banned peer has %+v and rules %+v, want its ban", doc.Standing, doc.Rules)
		}
		n.expectWhy("/v1/peers/b", "It is banned for misbehaviour until 2000-01-01T01:00:00Z; that is ban number 1.", "deny peer b")
	})
}

func TestAPeerThatNobodyKnowsIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		if p := n.refused("GET", "/v1/peers/nobody", "", 404); !strings.Contains(p.Detail, `"nobody"`) {
			t.Errorf("the problem is %q, want it to name the peer", p.Detail)
		}
		for _, do := range []struct{ method, path string }{
			{"GET", "/v1/nothing"},
			{"GET", "/v1/"},
			{"GET", "/v1"},
			{"GET", "/nothing"},
			{"GET", "//v1/status"},
			{"GET", "/v1/../v1/status"},
			{"GET", "/assets/"},
			{"GET", "/v1/peers/"},
			{"GET", "/metrics"},
		} {
			n.refused(do.method, do.path, "", 404)
		}
		if w := n.ask("DELETE", "/v1/limits", ""); w.Code != 405 || w.Header().Get("Allow") != "GET, PATCH, HEAD" {
			t.Errorf("DELETE of the limits: %d, Allow %q; want 405 with what is allowed", w.Code, w.Header().Get("Allow"))
		}
	})
}

func TestTheDetailsOfAPeerAreAllThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		doc := get[api.PeerDetail](n, "/v1/peers/helper")
		if len(doc.Conns) != 1 {
			t.Fatalf("%d connections, want 1", len(doc.Conns))
		}
		want := api.Conn{
			Direction: connmgr.DirInbound, Address: "[2001:db8::1]:4001", Opened: time.Now().Add(-62 * time.Second).UTC(),
			AgeSeconds: 62, Streams: 3, State: "open",
		}
		if doc.Conns[0] != want {
			t.Errorf("the connection is %+v, want %+v", doc.Conns[0], want)
		}
		if doc.Plan.Total != 5 || doc.Plan.Target != 2 || !doc.Connected || doc.Standing != nil {
			t.Errorf("the document has %+v, want the figures of the plan and no standing", doc)
		}
	})
}
