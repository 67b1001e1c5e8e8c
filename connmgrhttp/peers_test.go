package connmgrhttp_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// crowd makes a node with five peers of different kinds, connected a second after one
// another.
func crowd(t *testing.T) *node {
	n := newNode(t, connmgr.Config{
		LowWater: 2, HighWater: 100, GracePeriod: 5 * time.Second, SilencePeriod: time.Hour,
	}, connmgrhttp.Config{})
	n.host.Connect("friend", from("10.0.0.1:4001"))
	n.m.Protect("friend", "mesh")
	advance(time.Second)
	n.host.Connect("helper", from("[2001:db8::1]:4001"), connmgrtest.Streams(3))
	n.m.TagPeer("helper", "useful", 7)
	advance(time.Second)
	n.host.Connect("dialled", connmgrtest.Outbound(), from("10.0.0.2:4001"))
	advance(time.Second)
	n.host.Connect("nobody", from("10.1.0.1:4001"))
	n.m.TagPeer("nobody", "bad", -3)
	advance(time.Minute)
	n.host.Connect("new")
	return n
}

func names(list []api.Peer) (names []string) {
	for _, p := range list {
		names = append(names, p.Peer)
	}
	return names
}

func TestPeersAreListedWithWhatTheirVerdictsAreFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		doc := get[api.PeerList](n, "/v1/peers")
		if doc.Total != 5 || doc.Matched != 5 || doc.Trigger != connmgr.TriggerManual || !doc.At.Equal(time.Now()) {
			t.Errorf("the list says %+v, want 5 peers now", doc)
		}
		want := []string{"nobody", "dialled", "new", "friend", "helper"}
		if got := names(doc.Peers); !slices.Equal(got, want) {
			t.Errorf("the order is %v, want %v: those that would go, then the others by score and youth", got, want)
		}
		helper := doc.Peers[4]
		connected := time.Now().Add(-62 * time.Second).UTC()
		wantHelper := api.Peer{
			Peer: "helper", Verdict: api.Verdict{Reason: connmgr.KeptAboveCut}, Score: 27, TagSum: 7, ActiveBonus: 20,
			Tags: map[string]int{"useful": 7}, Protections: []string{}, Connections: 1, Streams: 3,
			AgeSeconds: 62, Addresses: []string{"[2001:db8::1]:4001"},
		}
		if helper.Since == nil || !helper.Since.Equal(connected) {
			t.Errorf("the helper is connected since %v, want %v", helper.Since, connected)
		}
		helper.Since = nil
		if fmt.Sprintf("%+v", helper) != fmt.Sprintf("%+v", wantHelper) {
			t.Errorf("the helper is\n%+v, want\n%+v", helper, wantHelper)
		}
		if p := doc.Peers[0]; p.Verdict != (api.Verdict{Closed: true, Reason: connmgr.ClosedLowScore, Rank: 1}) || p.Score != -3 {
			t.Errorf("nobody has %+v and score %d, want to go first with -3", p.Verdict, p.Score)
		}
		if p := doc.Peers[1]; p.OutboundBonus != 10 || p.Outbound != 1 {
			t.Errorf("the dialled one has %+v, want an outbound connection and its bonus", p)
		}
		if p := doc.Peers[2]; p.GraceEnds == nil || !p.GraceEnds.Equal(time.Now().Add(5*time.Second)) || len(p.Addresses) != 0 {
			t.Errorf("the new one has %+v, want 5 s of grace left and no address", p)
		}
		if p := doc.Peers[3]; !slices.Equal(p.Protections, []string{"mesh"}) {
			t.Errorf("the friend has %+v, want a protection", p)
		}
	})
}

func TestPeersAreFilteredAndSorted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		for query, want := range map[string]string{
			"direction=outbound":            "dialled",
			"direction=inbound":             "nobody new friend helper",
			"reason=in_grace":               "new",
			"closed=true":                   "nobody dialled",
			"closed=false":                  "new friend helper",
			"protected=true":                "friend",
			"tag=useful":                    "helper",
			"tag=none":                      "",
			"protection=mesh":               "friend",
			"address=10.0.0.0/8":            "nobody dialled friend",
			"address=10.0.0.2":              "dialled",
			"address=2001:db8::/32":         "helper",
			"min_score=0&max_score=10":      "dialled new friend",
			"q=ELP":                         "helper",
			"q=10.0.0":                      "dialled friend",
			"q=e&direction=inbound":         "new friend helper",
			"sort=peer":                     "dialled friend helper new nobody",
			"sort=score&order=desc":         "helper dialled new friend nobody",
			"sort=age":                      "new nobody dialled helper friend",
			"sort=streams&order=desc":       "helper nobody new friend dialled",
			"sort=connections&q=dial":       "dialled",
			"trigger=force&closed=true":     "nobody new dialled",
			"limit=2":                       "nobody dialled",
			"limit=2&offset=2":              "new friend",
			"offset=5":                      "",
			"protected=false&closed=false":  "new helper",
			"trigger=hard_limit&order=desc": "helper friend new dialled nobody",
		} {
			if got := strings.Join(names(get[api.PeerList](n, "/v1/peers?"+query).Peers), " "); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		if doc := get[api.PeerList](n, "/v1/peers?q=e&limit=1"); doc.Matched != 4 || doc.Total != 5 || len(doc.Peers) != 1 {
			t.Errorf("a page of one has %+v, want 4 matched of 5", doc)
		}
	})
}

func TestAQueryThatIsNotUnderstoodIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		for query, field := range map[string]string{
			"dirction=inbound":      "dirction",
			"direction=sideways":    "direction",
			"direction=":            "direction",
			"limit=0":               "limit",
			"limit=1001":            "limit",
			"limit=ten":             "limit",
			"limit=1&limit=2":       "limit",
			"offset=-1":             "offset",
			"trigger=rule":          "trigger",
			"trigger=nonsense":      "trigger",
			"reason=dull":           "reason",
			"closed=maybe":          "closed",
			"address=10.0.0.0/33":   "address",
			"min_score=low":         "min_score",
			"sort=beauty":           "sort",
			"order=random":          "order",
			"limit=99999999999999a": "limit",
		} {
			if p := n.refused("GET", "/v1/peers?"+query, "", 400); p.Field != field {
				t.Errorf("%s: the problem names %q, want %q: %s", query, p.Field, field, p.Detail)
			}
		}
		n.refused("GET", "/v1/peers?a=%zz", "", 400)
		n.refused("GET", "/v1/status?verbose=true", "", 400)
	})
}

func TestThePlanShowsWhoGoesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		doc := get[api.Plan](n, "/v1/plan")
		if got := strings.Join(names(doc.Peers), " "); got != "nobody dialled" || doc.Closes != 2 {
			t.Errorf("%d peers go, %s; want nobody and dialled", doc.Closes, got)
		}
		if doc.Total != 5 || doc.Counted != 4 || doc.InGrace != 1 || doc.Protected != 1 || doc.Target != 2 || doc.Freed != 2 {
			t.Errorf("the figures are %+v", doc.PlanFigures)
		}
		if doc.Kept[connmgr.KeptInGrace] != 1 || doc.Kept[connmgr.KeptProtected] != 1 || doc.Kept[connmgr.KeptAboveCut] != 1 || len(doc.Kept) != 3 {
			t.Errorf("kept are %v, want one each in grace, protected and above the cut", doc.Kept)
		}
		if doc := get[api.Plan](n, "/v1/plan?limit=0"); doc.Closes != 2 || len(doc.Peers) != 0 {
			t.Errorf("without a list: %d go, %d listed; want 2 and none", doc.Closes, len(doc.Peers))
		}
		if doc := get[api.Plan](n, "/v1/plan?trigger=force"); doc.Closes != 3 || doc.Trigger != connmgr.TriggerForce {
			t.Errorf("by force %d go for trigger %v, want 3", doc.Closes, doc.Trigger)
		}
		// The trim does what the plan says.
		trim := do[api.Trim](n, "POST", "/v1/trim", "")
		if trim.Closed != 2 || trim.Peers[0].Peer != "nobody" || trim.Peers[1].Peer != "dialled" || n.host.Connected("nobody") {
			t.Errorf("the trim closed %+v, want who the plan named", trim.Peers)
		}
	})
}

func TestAForcedTrimTakesThoseInGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := crowd(t)
		if trim := do[api.Trim](n, "POST", "/v1/trim", `{"force": true}`); trim.Closed != 3 || trim.Trigger != connmgr.TriggerForce {
			t.Errorf("the trim closed %d for trigger %v, want 3 by force", trim.Closed, trim.Trigger)
		}
		if n.host.Connected("new") {
			t.Error("the one in grace is connected, want it closed by force")
		}
	})
}

// A plan asks every connection, so a crowd of readers must not mean a crowd of plans; nor
// may a reader be shown what was before his own change.
func TestPlansAreSharedForASecondAndForgottenAtChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		c := n.host.Connect("a")
		n.host.Connect("b")
		before := c.StatCalls()
		for range 100 {
			get[api.PeerList](n, "/v1/peers")
			get[api.Plan](n, "/v1/plan")
		}
		if calls := c.StatCalls() - before; calls != 1 {
			t.Errorf("200 requests asked a connection %d times, want once", calls)
		}
		do[api.Protections](n, "PUT", "/v1/peers/a/protections/friend", "")
		if p := get[api.PeerList](n, "/v1/peers?q=a").Peers[0]; p.Verdict.Reason != connmgr.KeptProtected {
			t.Errorf("right after it was protected, a is kept for %v, want %v", p.Verdict.Reason, connmgr.KeptProtected)
		}
		c.SetStreams(5)
		advance(time.Second)
		if p := get[api.PeerList](n, "/v1/peers?q=a").Peers[0]; p.Streams != 5 {
			t.Errorf("a second later a has %d streams, want 5", p.Streams)
		}
	})
}

// A connection that does not answer must not hold the API.
func TestAPlanThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		hang := make(chan struct{})
		n.m.Connected("a", &hangingConn{peer: "a", hang: hang})
		p := n.refused("GET", "/v1/peers", "", 503)
		if !strings.Contains(p.Detail, "plan") {
			t.Errorf("the problem is %q, want it to speak of the plan", p.Detail)
		}
		if s := get[api.Status](n, "/v1/status"); s.Connections.Open != 1 {
			t.Errorf("meanwhile the status says %d connections, want 1", s.Connections.Open)
		}
		close(hang)
	})
}

// hangingConn does not say how many streams it has, but for the first time.
type hangingConn struct {
	peer  connmgr.NodeID
	asked atomic.Bool
	hang  chan struct{}
}

func (c *hangingConn) RemotePeer() connmgr.NodeID           { return c.peer }
func (c *hangingConn) CloseWithReason(connmgr.Reason) error { return nil }
func (c *hangingConn) Stat() connmgr.ConnStat {
	if c.asked.Swap(true) {
		<-c.hang
	}
	return connmgr.ConnStat{}
}
