package apitest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file asks for everything on a node with which a lot has happened, and at the end
// whether every operation, status and member of the description has been seen.

func TestEveryOperationAnswersAsDescribed(t *testing.T) {
	seen := newCoverage(t)
	stories := []struct {
		title string
		tell  func(*testing.T, *coverage, naming)
		names []naming
	}{
		{"all that there is to say", tellEverything, namings},
		{"what cannot be", tellWhatCannotBe, namings},
		{"streams", tellStreams, namings},
		{"who may not ask", tellWhoMayNotAsk, namings[:1]},
		{"parameters and their bounds", tellParameters, namings[:1]},
		{"bodies", tellBodies, namings[:1]},
		{"what goes wrong", tellWhatGoesWrong, namings[:1]},
	}
	toTell, told := 0, 0
	for _, s := range stories {
		for _, names := range s.names {
			toTell++
			t.Run(s.title+"/peers "+names.title, func(t *testing.T) {
				told++
				synctest.Test(t, func(t *testing.T) { s.tell(t, seen, names) })
			})
		}
	}
	if told < toTell {
		return // -run chose some, which do not see everything
	}
	for _, id := range seen.ids() {
		o := seen.operations[id]
		for status := range o.Responses.Map() {
			n, _ := strconv.Atoi(status)
			if !seen.statuses[id][n] {
				t.Errorf("%s is described to answer %s, and never did", id, status)
			}
		}
	}
	for _, m := range missing(seen) {
		t.Errorf("%s is described, and was in no answer", m)
	}
}

// missing returns the members of documents that no answer has had.
func missing(seen *coverage) (list []string) {
	requests := []string{"NewRule", "Block", "Unblock", "TagValue", "TrimRequest", "LimitsPatch", "GateLimitsPatch", "PrefixLimitPatch"}
	for name, s := range seen.doc.Components.Schemas {
		if slices.Contains(requests, name) {
			continue
		}
		members := slices.Collect(maps.Keys(s.Value.Properties))
		for _, part := range s.Value.AllOf {
			if part.Ref == "" {
				members = append(members, slices.Collect(maps.Keys(part.Value.Properties))...)
			}
		}
		for _, m := range members {
			if !seen.members[name+"."+m] {
				list = append(list, name+"."+m)
			}
		}
	}
	slices.Sort(list)
	return list
}

// tellEverything makes happen what can, and asks.
func tellEverything(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, func(c *connmgr.Config, _ *connmgrhttp.Config) { c.OutboundFloor = 1 })
	peerPath := func(nick string) map[string]string { return map[string]string{"peer": w.name(nick)} }
	tagPath := func(nick, tag string) map[string]string {
		return map[string]string{"peer": w.name(nick), "tag": tag}
	}
	w.do(call{op: "getStatus", want: 200}) // of a node without anything
	w.do(call{op: "listPeers", want: 200})
	w.do(call{op: "getPlan", want: 200})

	// Some peers, old and new.
	w.connect("alice", connmgrtest.Outbound(), from("192.0.2.10:4001"), connmgrtest.Streams(2))
	w.connect("bob", from("198.51.100.7:50000"))
	w.connect("bob", from("[2001:db8::7]:50001"), connmgrtest.Streams(1))
	w.connect("carol") // over a relay
	w.connect("dave", connmgrtest.Direction(connmgr.DirUnknown))
	stays := w.connect("stubborn", connmgrtest.HangOnClose())
	defer stays.Release()
	fails := w.connect("failing", connmgrtest.FailOnClose(fmt.Errorf("no")))
	defer fails.SetOnClose(nil)
	w.do(call{op: "protectPeer", path: tagPath("alice", "bootstrap"), want: 200})
	w.do(call{op: "protectPeer", path: tagPath("nobody", "a/b c"), want: 200})
	w.do(call{op: "unprotectPeer", path: tagPath("nobody", "a/b c"), want: 200})
	w.do(call{op: "tagPeer", path: tagPath("bob", "useful"), body: `{"value": 7}`, want: 200})
	w.do(call{op: "tagPeer", path: tagPath("bob", "huge"), body: `{"value": 9223372036854775807}`, want: 200})
	w.do(call{op: "tagPeer", path: tagPath("bob", "tiny"), body: `{"value": -9223372036854775808}`, want: 200})
	w.do(call{op: "untagPeer", path: tagPath("bob", "tiny"), want: 200})
	w.do(call{op: "untagPeer", path: tagPath("nobody", "tiny"), want: 200})
	w.pass(30 * time.Second)
	for i := range 4 {
		w.connect("new "+strconv.Itoa(i), from(fmt.Sprintf("203.0.113.%d:4001", i+1)))
	}

	// The gate.
	w.do(call{op: "addRule", body: `{"effect": "allow", "target": "192.0.2.99", "reason": "ours", "origin": "test"}`, want: 201})
	w.do(call{op: "addRule", body: `{"target": "port 25"}`, want: 201})
	w.do(call{op: "addRule", body: `{"target": "10.0.0.0/8", "for_seconds": 1}`, want: 201})
	w.do(call{op: "addRule", body: `{"target": "2001:db8:1::/48", "expires": "2100-01-01T00:00:00+01:00"}`, want: 201})
	w.do(call{op: "block", body: `{"target": "203.0.113.0/24", "for_seconds": 3600, "reason": "port scans"}`, want: 200})
	w.do(call{op: "block", body: fmt.Sprintf(`{"target": %q}`, "peer "+w.name("mallory")), want: 200})
	_ = w.gate.InterceptAccept(addrPort("203.0.113.9:1000"))
	_ = w.gate.InterceptPeerDial(w.id("mallory"))
	_ = w.gate.InterceptAddrDial(w.id("erin"), addrPort("192.0.2.1:25"))
	for i := range 12 { // beyond 5 a second
		_ = w.gate.InterceptAccept(addrPort(fmt.Sprintf("198.51.100.200:%d", 1000+i)))
	}
	w.report("carol", 1)
	w.report("trudy", 1000)
	arriving := connmgrtest.NewConn(w.id("erin"), from("192.0.2.99:4001"))
	if err := w.gate.InterceptUpgraded(connmgr.DirInbound, w.id("erin"), addrPort("192.0.2.99:4001"), arriving); err != nil {
		t.Fatal(err)
	}
	w.do(call{op: "getPeer", path: peerPath("erin"), want: 200})
	w.do(call{op: "importRules", query: "origin=list&reason=listed&for_seconds=86400", body: "192.0.2.128/25 # bad\nallow 192.0.2.130 until 2001-01-01T00:00:00Z\n", want: 200})
	w.do(call{op: "importRules", query: "origin=list", body: "198.18.0.0/15\n192.0.2.128/25 until 1999-01-01T00:00:00Z\n", want: 200})
	w.do(call{op: "importRules", query: "effect=allow", body: "198.18.0.1\n", want: 200})
	w.do(call{op: "importRules", query: "origin=list&allow_empty=true", body: "# nothing\n", want: 200})
	w.do(call{op: "importRules", query: "origin=&allow_empty=true", body: "198.18.0.0/15\n", want: 200})
	w.do(call{op: "exportRules", want: 200})
	w.do(call{op: "exportRules", query: "origin=test", want: 200})
	w.do(call{op: "listRules", want: 200})
	w.do(call{op: "block", body: `{"target": "203.0.113.77"}`, want: 200})
	w.do(call{op: "block", body: `{"target": "203.0.113.0/24", "for_seconds": 7200}`, want: 200})
	w.do(call{op: "unblock", body: `{"target": "203.0.113.77"}`, want: 200})
	w.do(call{op: "removeRule", query: "target=198.18.0.0/15", want: 200})

	// Limits.
	w.do(call{op: "getLimits", want: 200})
	w.do(call{op: "changeLimits", body: `{}`, want: 200})
	w.do(call{op: "changeLimits", body: `{"low_water": 2, "hard_limit": 70, "gate": {"max_inbound": 40, "max_per_peer": 4,
		"per_prefix": [{"ipv4_bits": 24, "ipv6_bits": 48, "max_connections": 8, "new_per_second": 5, "burst": 10}], "exempt_private": true}}`, want: 200})
	for i := range 12 {
		conn := connmgrtest.NewConn(w.id("crowd"))
		_ = w.gate.InterceptUpgraded(connmgr.DirInbound, w.id("crowd"), addrPort(fmt.Sprintf("192.0.2.200:%d", 1000+i)), conn)
	}

	// Plans and trims.
	w.pass(2 * time.Second)
	for _, trigger := range []string{"manual", "hard_limit", "force"} {
		w.do(call{op: "listPeers", query: "trigger=" + trigger, want: 200})
		w.do(call{op: "getPlan", query: "limit=1&trigger=" + trigger, want: 200})
	}
	everyPeer := func() {
		for _, nick := range []string{"alice", "bob", "carol", "dave", "stubborn", "failing", "new 0", "new 3", "trudy", "mallory", "crowd"} {
			w.do(call{op: "getPeer", path: peerPath(nick), want: 200})
		}
	}
	everyPeer()
	w.do(call{op: "closePeer", path: peerPath("nobody"), want: 200})
	w.do(call{op: "closePeer", path: peerPath("dave"), want: 200})
	trim := into[api.Trim](t, w.do(call{op: "trim", want: 200}))
	if trim.Closed == 0 || len(trim.Peers) == 0 {
		t.Errorf("the trim closed %d peers, want some, so that they are in the answer", trim.Closed)
	}
	w.do(call{op: "getPeer", path: peerPath("stubborn"), want: 200})
	w.do(call{op: "trim", body: `{"force": true}`, want: 200})
	w.do(call{op: "trim", body: `{}`, want: 200})
	w.do(call{op: "changeLimits", body: `{"hard_limit": null}`, want: 200})
	w.connect("late", from("192.0.2.77:1"))
	w.pass(5 * time.Minute) // the rule about 10.0.0.0/8 is forgotten
	everyPeer()
	w.do(call{op: "getStatus", want: 200})
	w.do(call{op: "getSamples", want: 200})
	w.do(call{op: "listEvents", query: "limit=1000", want: 200})
	w.do(call{op: "listEvents", query: "types=closed,trim&peer=" + url.QueryEscape(w.name("carol")), want: 200})
	w.do(call{op: "getLimits", want: 200})
	w.do(call{op: "getMetrics", want: 200})
	if got := w.do(call{op: "getOpenAPI", want: 200}); !strings.Contains(string(got.body), `"openapi"`) {
		t.Errorf("the description is %.100s", got.body)
	}
	if err := w.store.Misuse(); err != nil {
		t.Error(err)
	}
}
