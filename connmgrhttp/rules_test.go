package connmgrhttp_test

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// targets returns the rules' targets in one line.
func targets(n *node, query string) string {
	var list []string
	for _, r := range get[api.RuleList](n, "/v1/rules"+query).Rules {
		list = append(list, r.Target)
	}
	return strings.Join(list, " ")
}

func TestABlockClosesWhoIsThereAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		inside, outside := n.host.Connect("in", from("10.1.2.3:1")), n.host.Connect("out", from("11.1.2.3:1"))
		doc := do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.7.0.0/8", "for_seconds": 60, "reason": "port scans"}`)
		end := time.Now().Add(time.Minute).UTC()
		if doc.ClosedPeers != 1 || doc.Rule.Target != "10.0.0.0/8" || doc.Rule.Reason != "port scans" || doc.Rule.Expires == nil || !doc.Rule.Expires.Equal(end) {
			t.Errorf("the answer is %+v, want one peer closed and the rule as it is now", doc)
		}
		if inside.Open() || !outside.Open() {
			t.Error("want the peer inside of the prefix closed, and the other one not")
		}
		// A shorter block does not take from the longer one.
		if doc := do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.0.0.0/8", "for_seconds": 5}`); !doc.Rule.Expires.Equal(end) {
			t.Errorf("after a shorter block it ends at %v, want %v as before", doc.Rule.Expires, end)
		}
		advance(61 * time.Second)
		if list := get[api.RuleList](n, "/v1/rules"); list.Total != 0 {
			t.Errorf("a minute later there are %d rules, want none", list.Total)
		}
		for body, field := range map[string]string{
			`{"target": "10.0.0.0/40"}`:                        "target",
			`{"target": ""}`:                                   "target",
			`{"target": "10.0.0.0/8 # by the way"}`:            "target",
			`{"target": "10.0.0.0/8\n11.0.0.0/8"}`:             "target",
			`{"target": "10.0.0.0/8", "for_seconds": -1}`:      "for_seconds",
			`{"target": "10.0.0.0/8", "for_seconds": 1e300}`:   "for_seconds",
			`{"target": "10.0.0.0/8", "reason": "two\nlines"}`: "reason",
			`{"target": "10.0.0.0/8", "until": "tomorrow"}`:    "until",
		} {
			if p := n.refused("POST", "/v1/block", body, 422); p.Field != field {
				t.Errorf("%s: the problem names %q, want %q: %s", body, p.Field, field, p.Detail)
			}
		}
		if list := get[api.RuleList](n, "/v1/rules"); list.Total != 0 {
			t.Errorf("bad requests left %+v", list.Rules)
		}
	})
}

func TestUnblockSaysWhatDeniesStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		for _, target := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/32", "peer mallory"} {
			do[api.Blocked](n, "POST", "/v1/block", `{"target": "`+target+`"}`)
		}
		doc := do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "10.1.0.0"}`)
		if doc.Removed != 1 || doc.DeniedBy == nil || doc.DeniedBy.Target != "10.1.0.0/16" {
			t.Errorf("the answer is %+v, want it to name the wider rule", doc)
		}
		do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.1.0.0/32"}`)
		doc = do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "10.1.0.0/16"}`)
		if doc.DeniedBy == nil || doc.DeniedBy.Target != "10.0.0.0/8" {
			t.Errorf("the answer is %+v, want it to name the wider rule, whatever is denied within", doc)
		}
		do[api.Rule](n, "POST", "/v1/rules", `{"effect": "allow", "target": "10.1.0.0/12"}`)
		if doc = do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "10.1.0.0/16"}`); doc.DeniedBy != nil {
			t.Errorf("the answer is %+v, want none: a rule between the two allows it", doc)
		}
		do[api.Unblocked](n, "DELETE", "/v1/rules?effect=allow&target=10.0.0.0/12", "")
		do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.1.0.0"}`)
		doc = do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "10.0.0.0/8"}`)
		if doc.Removed != 1 || doc.DeniedBy != nil {
			t.Errorf("the answer is %+v, want nothing wider, though something within is denied", doc)
		}
		doc = do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "peer mallory"}`)
		if doc.Removed != 1 || doc.DeniedBy != nil {
			t.Errorf("the answer is %+v, want the peer free", doc)
		}
		if doc = do[api.Unblocked](n, "POST", "/v1/unblock", `{"target": "peer mallory"}`); doc.Removed != 0 {
			t.Errorf("the second time %d rules were removed, want none", doc.Removed)
		}
	})
}

func TestRulesAreAddedFilteredAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		w := n.ask("POST", "/v1/rules", `{"effect": "allow", "target": "192.0.2.0/24", "reason": "office", "origin": "admin", "for_seconds": 60}`)
		if w.Code != 201 || !strings.Contains(w.Body.String(), `"expires":"2000-01-01T00:01:00Z"`) {
			t.Errorf("%d %s, want 201 and the rule with its end", w.Code, w.Body)
		}
		do[api.Rule](n, "POST", "/v1/rules", `{"target": "port 25", "expires": "2000-01-02T00:00:00Z"}`)
		do[api.Rule](n, "POST", "/v1/rules", `{"target": "peer mallory"}`)
		do[api.Rule](n, "POST", "/v1/rules", `{"target": "198.51.100.7"}`)
		for query, want := range map[string]string{
			"":                    "peer mallory 192.0.2.0/24 198.51.100.7 port 25",
			"?effect=allow":       "192.0.2.0/24",
			"?origin=admin":       "192.0.2.0/24",
			"?origin=":            "peer mallory 198.51.100.7 port 25",
			"?q=OFFICE":           "192.0.2.0/24",
			"?q=mall":             "peer mallory",
			"?target=port+25":     "port 25",
			"?limit=1&offset=1":   "192.0.2.0/24",
			"?target=192.0.2.0/8": "",
		} {
			if got := targets(n, query); got != want {
				t.Errorf("rules%s: %q, want %q", query, got, want)
			}
		}
		n.refused("DELETE", "/v1/rules", "", 400)
		n.refused("DELETE", "/v1/rules?target=192.0.2.0/24", "", 404) // it allows, and is the admin's
		n.refused("DELETE", "/v1/rules?target=nonsense/24", "", 400)
		do[api.Unblocked](n, "DELETE", "/v1/rules?effect=allow&origin=admin&target="+url.QueryEscape("192.0.2.0/24"), "")
		if got := targets(n, ""); got != "peer mallory 198.51.100.7 port 25" {
			t.Errorf("the rules left are %q", got)
		}
		for body, status := range map[string]int{
			`{"target": "10.0.0.0/8", "effect": "maybe"}`:                                   422,
			`{"target": "10.0.0.0/8", "expires": "1999-01-01T00:00:00Z"}`:                   422,
			`{"target": "10.0.0.0/8", "expires": "2000-01-02T00:00:00Z", "for_seconds": 5}`: 422,
			`{"target": "10.0.0.0/8", "expires": "tomorrow"}`:                               422,
			`{"reason": "nobody in particular"}`:                                            422,
			`{"target": "10.0.0.0/8", "origin": "` + strings.Repeat("x", 2000) + `"}`:       422,
		} {
			n.refused("POST", "/v1/rules", body, status)
		}
	})
}

// A rule that cannot be saved is in force all the same, and whoever made it gets to know.
func TestARuleThatIsNotSavedSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := connmgrtest.NewStore()
		n := newNode(t, connmgr.Config{Gate: connmgr.GateConfig{Store: store}}, connmgrhttp.Config{})
		store.FailSaves(errors.New("the disk is full"))
		p := n.refused("POST", "/v1/block", `{"target": "10.0.0.0/8"}`, 500)
		if !p.InForce || p.Type != api.ProblemNotSaved || !strings.Contains(p.Detail, "the disk is full") {
			t.Errorf("the problem is %+v, want one that says that the rule is in force, and why it is not saved", p)
		}
		if got := targets(n, ""); got != "10.0.0.0/8" {
			t.Errorf("the rules in force are %q, want the one", got)
		}
		if s := get[api.Status](n, "/v1/status"); s.Gate.UnsavedRules != 1 {
			t.Errorf("the status says %d unsaved rules, want 1", s.Gate.UnsavedRules)
		}
	})
}

func TestListsAreImportedAndExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		do[api.Rule](n, "POST", "/v1/rules", `{"target": "port 25"}`)
		doc := do[api.Imported](n, "POST", "/v1/rules/import?origin=drop&reason=bad+people&for_seconds=3600",
			"# a list\n10.0.0.0/8\n11.0.0.0/8 # scans\n12.0.0.0/8 until 1999-01-01T00:00:00Z\nallow peer alice until never\n")
		if doc != (api.Imported{Added: 3, Expired: 1, Total: 4}) {
			t.Errorf("the answer is %+v, want 3 added, 1 that has expired, 4 in all", doc)
		}
		doc = do[api.Imported](n, "POST", "/v1/rules/import?origin=drop", "10.0.0.0/8\n13.0.0.0/8\n")
		if doc != (api.Imported{Added: 1, Changed: 1, Removed: 2, Total: 3}) {
			t.Errorf("the second import says %+v, want 1 added, 1 changed, 2 removed", doc)
		}
		doc = do[api.Imported](n, "POST", "/v1/rules/import?effect=allow", "10.0.0.1\n10.0.0.1\n")
		if doc != (api.Imported{Added: 1, Kept: 1, Total: 4}) {
			t.Errorf("adding says %+v, want 1 added and its like kept", doc)
		}
		w := n.ask("GET", "/v1/rules/export?origin=drop", "")
		if want := "#! origin drop\n10.0.0.0/8\n13.0.0.0/8\n"; !strings.HasSuffix(w.Body.String(), want) || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("the export is %q, want %q", w.Body, want)
		}
		all := n.ask("GET", "/v1/rules/export", "").Body.String()
		again := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		if doc := do[api.Imported](again, "POST", "/v1/rules/import", all); doc.Added != 4 {
			t.Errorf("importing what was exported says %+v, want 4 added", doc)
		}
		if got := again.ask("GET", "/v1/rules/export", "").Body.String(); got != all {
			t.Errorf("exported again it is %q, want %q", got, all)
		}
	})
}

func TestABadListChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrhttp.Config{})
		do[api.Imported](n, "POST", "/v1/rules/import?origin=drop", "10.0.0.0/8\n")
		p := n.refused("POST", "/v1/rules/import?origin=drop", "11.0.0.0/8\n10.0.0.300/8\n", 422)
		if p.Line != 2 || !strings.Contains(p.Detail, "10.0.0.300/8") {
			t.Errorf("the problem is %+v, want it to name line 2 and its text", p)
		}
		n.refused("POST", "/v1/rules/import?origin=drop", "# nothing\n", 422)
		for _, field := range []string{"origin", "reason"} {
			if p := n.refused("POST", "/v1/rules/import?"+field+"=two%0Alines", "11.0.0.0/8\n", 400); p.Field != field {
				t.Errorf("the problem names %q, want %q", p.Field, field)
			}
		}
		n.refused("POST", "/v1/rules/import?for_seconds=-3", "11.0.0.0/8\n", 400)
		n.refused("POST", "/v1/rules/import?orgin=drop", "11.0.0.0/8\n", 400)
		if got := targets(n, ""); got != "10.0.0.0/8" {
			t.Errorf("after bad lists the rules are %q, want 10.0.0.0/8 as before", got)
		}
		if doc := do[api.Imported](n, "POST", "/v1/rules/import?origin=drop&allow_empty=true", "# nothing\n"); doc.Removed != 1 {
			t.Errorf("an empty list that is meant says %+v, want 1 removed", doc)
		}
	})
}
