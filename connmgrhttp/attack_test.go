package connmgrhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// These tests ask for what would cost the node dearly.

// Limits that are refused must not hold for a moment either.
func TestARefusedPatchIsNeverInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{LowWater: 90, HighWater: 100, GracePeriod: connmgr.Zero, SilencePeriod: time.Second}, connmgrhttp.Config{})
		for i := range 80 {
			n.host.Connect(connmgr.NodeID(fmt.Sprint(i)))
		}
		sub := n.m.Subscribe(100)
		for range 50 {
			n.refused("PATCH", "/v1/limits", `{"low_water":1,"high_water":2,"hard_limit":3,"gate":{"max_inbound":-1}}`, 422)
		}
		advance(time.Minute)
		for {
			select {
			case e := <-sub.Events():
				t.Errorf("subscribers are told of %T, want nothing: no limit has changed", e)
				continue
			default:
			}
			break
		}
		if open := n.m.ConnCount(); open != 80 {
			t.Errorf("%d of 80 connections are left, want all", open)
		}
	})
}

// However many ask and give up, and whatever is changed meanwhile, there is one plan at
// work.
func TestPlansDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		hang := make(chan struct{})
		n.m.Connected("a", &hangingConn{peer: "a", hang: hang})
		before := runtime.NumGoroutine()
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			r := httptest.NewRequest("GET", "/v1/plan", nil).WithContext(ctx)
			r.Host = "localhost"
			if w := n.serve(r); w.Code != 503 {
				t.Fatalf("a plan that hangs gets %d, want 503", w.Code)
			}
			cancel()
			do[api.Tags](n, "DELETE", "/v1/peers/b/tags/x", "")
			advance(time.Second)
		}
		if more := runtime.NumGoroutine() - before; more > 5 {
			t.Errorf("there are %d goroutines more, want one plan at work", more)
		}
		close(hang)
	})
}

// A plan begun before a change must not answer who asks after it.
func TestWhoAsksAfterAChangeSeesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		hang := make(chan struct{})
		n.m.Connected("a", &hangingConn{peer: "a", hang: hang})
		var early, late api.PeerList
		var all sync.WaitGroup
		all.Go(func() { early = get[api.PeerList](n, "/v1/peers") })
		synctest.Wait()
		do[api.Protections](n, "PUT", "/v1/peers/a/protections/x", "")
		all.Go(func() { late = get[api.PeerList](n, "/v1/peers") })
		synctest.Wait()
		close(hang)
		all.Wait()
		if early.Total != 1 || late.Peers[0].Verdict.Reason != connmgr.KeptProtected {
			t.Errorf("who asked after the change sees %v, want the peer protected", late.Peers[0].Verdict.Reason)
		}
	})
}

// slowBody never ends.
type slowBody struct{ end <-chan struct{} }

func (b slowBody) Read([]byte) (int, error) { <-b.end; return 0, io.ErrUnexpectedEOF }

// Whoever sends or reads a list slowly keeps nobody out but others with lists.
func TestSlowListsDoNotKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		end := make(chan struct{})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				r := httptest.NewRequest("POST", "/v1/rules/import", slowBody{end})
				r.Host, r.ContentLength = "localhost", 100
				r.Header.Set("Content-Type", "text/plain")
				n.serve(r)
			})
		}
		synctest.Wait()
		start := time.Now()
		get[api.PeerList](n, "/v1/peers")
		get[api.RuleList](n, "/v1/rules")
		if waited := time.Since(start); waited > 0 {
			t.Errorf("searches waited %v for slow imports, want no wait", waited)
		}
		close(end)
		all.Wait()
	})
}

func TestAConnectionThatHangsHoldsUpItsOwnDetailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.host.Connect("b")
		hang := make(chan struct{})
		bad := &hangingConn{peer: "a", hang: hang}
		n.m.Connected("a", bad)
		bad.asked.Store(false) // it answers the plan, and then no more
		get[api.PeerList](n, "/v1/peers")
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				r := httptest.NewRequest("GET", "/v1/peers/a", nil)
				r.Host = "localhost"
				if w := n.serve(r); w.Code != 503 {
					t.Errorf("a peer that hangs gets %d, want 503", w.Code)
				}
			})
		}
		synctest.Wait()
		get[api.RuleList](n, "/v1/rules")
		all.Wait()
		close(hang)
		synctest.Wait()
		if doc := get[api.PeerDetail](n, "/v1/peers/b"); !doc.Connected {
			t.Error("afterwards the other peer is not found")
		}
	})
}

func TestNumbersThatAreTooLargeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.refused("PATCH", "/v1/limits", `{"low_water":1e999}`, 422)
		n.refused("PUT", "/v1/peers/a/tags/x", `{"value":1e999}`, 422)
		n.refused("POST", "/v1/block", `{"target":"10.0.0.0/8","for_seconds":1e999}`, 422)
		doc := do[api.Blocked](n, "POST", "/v1/block", `{"target":"10.0.0.0/8","for_seconds":1e-12}`)
		if doc.Rule.Expires == nil {
			t.Errorf("a block for a moment is %+v, want one that ends", doc.Rule)
		}
	})
}

func TestNamesMayHaveSlashesWhenTheyAreEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		for _, tag := range []string{"http:%2F%2Fx", "a%2F..%2Fb"} {
			if doc := do[api.Protections](n, "PUT", "/v1/peers/a%2F%2Fb/protections/"+tag, ""); doc.Peer != "a//b" {
				t.Errorf("%s: protected is %q, want a//b", tag, doc.Peer)
			}
			do[api.Protections](n, "DELETE", "/v1/peers/a%2F%2Fb/protections/"+tag, "")
		}
		if n.m.IsProtected("a//b", "") {
			t.Error("the peer is still protected")
		}
	})
}

func TestProtectionsThroughTheAPIAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		for i := range 256 {
			do[api.Protections](n, "PUT", fmt.Sprintf("/v1/peers/a/protections/%d", i), "")
		}
		n.refused("PUT", "/v1/peers/a/protections/more", "", 422)
		do[api.Protections](n, "PUT", "/v1/peers/a/protections/7", "") // it is there
		for i := range 1<<16 - 1 {
			n.m.Protect(connmgr.NodeID(fmt.Sprint(i)), "x")
		}
		n.refused("PUT", "/v1/peers/another/protections/x", "", 422)
		do[api.Protections](n, "PUT", "/v1/peers/7/protections/y", "")
	})
}

func TestAListThatComesToTooManyRulesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		wide := strings.Repeat("::1 - ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe\n", 2200)
		p := n.refused("POST", "/v1/rules/import?origin=x", wide, 422)
		if !strings.Contains(p.Detail, "at most 524288 rules") || p.Line == 0 {
			t.Errorf("the problem is %+v, want it to say how many there may be", p)
		}
	})
}

func TestTheLaddersOriginIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.refused("POST", "/v1/rules", `{"target": "10.0.0.0/8", "origin": "ban ladder"}`, 422)
		n.refused("POST", "/v1/rules/import?origin=ban+ladder", "10.0.0.0/8\n", 422)
	})
}
