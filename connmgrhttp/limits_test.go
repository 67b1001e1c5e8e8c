package connmgrhttp_test

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

func TestLimitsAreChangedByPatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{LowWater: 10, HighWater: 20, HardLimit: 30}, connmgrhttp.Config{})
		doc := do[api.Limits](n, "PATCH", "/v1/limits", `{"high_water": 25}`)
		if got := n.m.Limits(); got != (connmgr.Limits{LowWater: 10, HighWater: 25, HardLimit: 30}) || doc.HighWater != 25 || *doc.HardLimit != 30 {
			t.Errorf("the limits are %+v and the answer %+v, want another high water and nothing else", got, doc)
		}
		doc = do[api.Limits](n, "PATCH", "/v1/limits", `{"hard_limit": null, "outbound_floor": 3}`)
		if got := n.m.Limits(); got.HardLimit != math.MaxInt || got.OutboundFloor != 3 || doc.HardLimit != nil {
			t.Errorf("the limits are %+v and the answer %+v, want no hard limit and a floor", got, doc)
		}
		do[api.Limits](n, "PATCH", "/v1/limits", `{"gate": {"max_inbound": 15, "per_prefix": [{"ipv4_bits": 24, "max_connections": 3, "new_per_second": 0.5}]}}`)
		doc = do[api.Limits](n, "PATCH", "/v1/limits", `{"gate": {"max_per_peer": 2, "exempt_private": true}}`)
		want := connmgr.GateLimits{MaxInbound: 15, MaxPerPeer: 2, ExemptPrivate: true, PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, MaxConns: 3, Rate: 0.5}}}
		if got := n.m.Gater().Limits(); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("the limits at the door are %+v, want %+v", got, want)
		}
		if got := get[api.Limits](n, "/v1/limits"); fmt.Sprintf("%+v", doc.Gate) != fmt.Sprintf("%+v", got.Gate) {
			t.Errorf("the answer is %+v, want what GET says: %+v", doc, got)
		}
		r := httptest.NewRequest("PATCH", "/v1/limits", strings.NewReader(`{"gate": {"per_prefix": []}}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/merge-patch+json")
		if w := n.serve(r); w.Code != 200 {
			t.Errorf("a patch by the name of its own type gets %d %s, want it to be taken", w.Code, w.Body)
		}
		if got := n.m.Gater().Limits().PerPrefix; len(got) != 0 {
			t.Errorf("after an empty list the limits per prefix are %+v, want none", got)
		}
	})
}

// A patch changes all that it says, or nothing.
func TestAPatchThatIsWrongChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{LowWater: 10, HighWater: 20, HardLimit: 30}, connmgrhttp.Config{})
		before, gate := n.m.Limits(), n.m.Gater().Limits()
		for body, want := range map[string]struct {
			status int
			field  string
		}{
			`{"low_water": 21}`:      {422, "low_water"},
			`{"high_water": 31}`:     {422, "hard_limit"},
			`{"low_water": -1}`:      {422, "low_water"},
			`{"outbound_floor": -1}`: {422, "outbound_floor"},
			`{"hard_limit": "many"}`: {422, "hard_limit"},
			`{"low_water": null}`:    {422, "low_water"},
			`{"gate": null}`:         {422, "gate"},
			`{"gate": {"per_prefix": [{"ipv4_bits": 24, "max_connections": 1, "burst": null}]}}`: {422, "gate.per_prefix.burst"},
			`{"gate": {"max_inbound": null}}`:                 {422, "gate.max_inbound"},
			`{"low_water": 15, "gate": {"max_inbound": -1}}`:  {422, "gate.max_inbound"},
			`{"low_water": 15, "gate": {"per_prefix": [{}]}}`: {422, "gate.per_prefix[0].ipv4_bits"},
			`{"low_water": 15, "gate": {"max_outbound": 7}}`:  {422, "max_outbound"},
			`{"low_water": 15, "low_watr": 7}`:                {422, "low_watr"},
			`{"low_water": 15, "low_water": 16}`:              {400, "low_water"},
			`[]`:                                              {422, ""},
			`null`:                                            {422, ""},
		} {
			if p := n.refused("PATCH", "/v1/limits", body, want.status); p.Field != want.field {
				t.Errorf("%s: the problem names %q, want %q: %s", body, p.Field, want.field, p.Detail)
			}
		}
		if got := n.m.Limits(); got != before {
			t.Errorf("after bad patches the limits are %+v, want %+v as before", got, before)
		}
		if got := n.m.Gater().Limits(); fmt.Sprint(got) != fmt.Sprint(gate) {
			t.Errorf("after bad patches the limits at the door are %+v, want %+v as before", got, gate)
		}
	})
}

func TestTheStatusAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		do[api.Trim](n, "POST", "/v1/trim", "")
		do[api.Blocked](n, "POST", "/v1/block", `{"target": "10.0.0.0/8"}`)
		_ = n.m.Gater().InterceptAccept(mustAddrPort("10.9.9.9:1"))
		_ = n.m.Gater().InterceptAccept(mustAddrPort("11.9.9.9:1"))
		s := get[api.Status](n, "/v1/status")
		if s.Connections.Open != 2 || s.Connections.Inbound != 2 || s.Peers.Connected != 2 || s.Peers.Protected != 1 {
			t.Errorf("connections %+v, peers %+v; want the helper and the new one", s.Connections, s.Peers)
		}
		if s.Trims[connmgr.TriggerManual] != 1 || s.ClosedPeers[connmgr.ClosedLowScore] != 2 || s.ClosedPeers[connmgr.ClosedBlocked] != 1 {
			t.Errorf("trims %v, closed %v; want one trim, two closed in it and one blocked", s.Trims, s.ClosedPeers)
		}
		if s.LastTrim == nil || s.LastTrim.Freed != 2 || s.LastTrim.Trigger != connmgr.TriggerManual {
			t.Errorf("the last trim is %+v, want one that freed 2", s.LastTrim)
		}
		if s.Gate.Refused != 1 || s.Gate.Rules != 1 || s.Gate.Checks[connmgr.AtAccept][connmgr.DeniedAddr] != 1 {
			t.Errorf("the gate has %+v, want 1 rule and 1 refusal", s.Gate)
		}
		if s.GracePeriodSeconds != 5 || s.Limits.LowWater != 2 || *s.Limits.HardLimit != 150 {
			t.Errorf("grace %v, limits %+v; want what was configured", s.GracePeriodSeconds, s.Limits)
		}
	})
}
