package wire_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// These tests hold what the documents of events, plans and limits look like, and that
// their lines for people can go to a terminal.

var (
	noon  = time.Date(2026, 12, 24, 12, 0, 0, 500, time.FixedZone("CET", 3600))
	later = noon.Add(time.Hour)
	wide  = connmgr.Rule{
		Target: connmgr.PrefixTarget(netip.MustParsePrefix("10.0.0.0/8")), Expires: later,
		Reason: "port scans", Origin: "watchdog",
	}
	someone = netip.MustParseAddrPort("10.1.2.3:4001")
)

func figures() connmgr.Figures {
	return connmgr.Figures{
		Total: 100, Protected: 10, InGrace: 5, Counted: 95, Target: 40, Freed: 37, Shortfall: 3,
		Cause: connmgr.CauseProtected | connmgr.CauseOutbound,
	}
}

func trim() connmgr.TrimResult {
	return connmgr.TrimResult{
		Figures: figures(), Trigger: connmgr.TriggerHighWater, Started: noon, Took: 1500 * time.Millisecond,
		Planning: 250 * time.Millisecond, GraceEnds: later, Spared: 1, Failed: 2, Hanging: 1,
		Closed: []connmgr.Verdict{
			{Peer: "alice", Reason: connmgr.ClosedLowScore, Score: -5, Rank: 1, Conns: 30},
			{Peer: "b b", Reason: connmgr.ClosedLowScore, Rank: 2, Conns: 7},
		},
	}
}

func denied(at connmgr.Checkpoint, o connmgr.Outcome, r connmgr.Rule, limit float64, prefix string) connmgr.EventDenied {
	e := &connmgr.DeniedError{Checkpoint: at, Outcome: o, Addr: someone, Rule: r, Limit: limit, Until: r.Expires}
	if prefix != "" {
		e.Prefix = netip.MustParsePrefix(prefix)
	}
	return connmgr.EventDenied{Err: e, At: noon}
}

func TestAnEventIsWrittenWithItsDetails(t *testing.T) {
	byPeer := denied(connmgr.AtSecured, connmgr.DeniedPeer, connmgr.Rule{Target: connmgr.PeerTarget("a b")}, 0, "")
	byPeer.Err.Peer, byPeer.Err.HasPeer, byPeer.Err.Addr = "a b", true, netip.AddrPort{}
	for _, c := range []struct {
		event connmgr.Event
		want  string
	}{
		{
			connmgr.EventConnected{Peer: "alice", Direction: connmgr.DirInbound, At: noon},
			`{"type":"connected","at":"2026-12-24T11:00:00.0000005Z","text":"connected, inbound","peer":"alice","direction":"inbound"}`,
		},
		{
			connmgr.EventDisconnected{Peer: "a b", At: noon},
			`{"type":"disconnected","at":"2026-12-24T11:00:00.0000005Z","text":"disconnected","peer":"0x612062"}`,
		},
		{
			connmgr.EventClosed{Verdict: trim().Closed[0], Trigger: connmgr.TriggerHighWater, At: noon},
			`{"type":"closed","at":"2026-12-24T11:00:00.0000005Z","text":"closed as number 1 of a trim (high water): low score, -5; 30 connections","peer":"alice",` +
				`"closed":{"reason":"low_score","trigger":"high_water","score":-5,"rank":1,"connections":30}}`,
		},
		{
			connmgr.EventTrim{TrimResult: trim()},
			`{"type":"trim","at":"2026-12-24T11:00:01.5000005Z","text":"trim (high water) closed 2 peers, 63 connections left; ` +
				`3 more should have gone (protected and outbound floor); 1 peer spared in the end; 2 connections would not close; 1 peer still closing",` +
				`"trim":{"at":"2026-12-24T11:00:00.0000005Z","trigger":"high_water","total":100,"protected":10,"in_grace":5,"counted":95,"target":40,` +
				`"freed":37,"shortfall":3,"causes":["protected","outbound_floor"],"grace_ends":"2026-12-24T12:00:00.0000005Z",` +
				`"started":"2026-12-24T11:00:00.0000005Z","took_seconds":1.5,"planning_seconds":0.25,"closed":2,"spared":1,"failed":2,"hanging":1}}`,
		},
		{
			connmgr.EventLimits{Limits: connmgr.Limits{LowWater: 1, HighWater: 2, HardLimit: math.MaxInt, OutboundFloor: 1}, At: noon},
			`{"type":"limits","at":"2026-12-24T11:00:00.0000005Z","text":"limits are now low water 1, high water 2, no hard limit, outbound floor 1",` +
				`"limits":{"low_water":1,"high_water":2,"hard_limit":null,"outbound_floor":1}}`,
		},
		{
			byPeer,
			`{"type":"denied","at":"2026-12-24T11:00:00.0000005Z","text":"refused at secured: the peer is denied","peer":"0x612062",` +
				`"denied":{"checkpoint":"secured","outcome":"denied_peer","rule":{"effect":"deny","target":"peer 0x612062"}}}`,
		},
		{
			denied(connmgr.AtAccept, connmgr.OverRate, connmgr.Rule{}, 2.5, "10.1.2.0/24"),
			`{"type":"denied","at":"2026-12-24T11:00:00.0000005Z","text":"refused at accept: more than 2.5 new connections a second from 10.1.2.0/24 (10.1.2.3:4001)",` +
				`"denied":{"checkpoint":"accept","outcome":"rate_limit","address":"10.1.2.3:4001","limit":2.5,"prefix":"10.1.2.0/24"}}`,
		},
		{
			connmgr.EventRules{Changes: []connmgr.RuleChange{{Rule: wide}, {Rule: wide, Remove: true}}, At: noon},
			`{"type":"rules","at":"2026-12-24T11:00:00.0000005Z","text":"1 rule set, 1 removed","rules":{"set":1,"removed":1,"expired":false,"first":[` +
				`{"effect":"deny","target":"10.0.0.0/8","expires":"2026-12-24T12:00:00.0000005Z","reason":"port scans","origin":"watchdog"},` +
				`{"effect":"deny","target":"10.0.0.0/8","origin":"watchdog"}]}}`,
		},
		{
			connmgr.EventRules{At: noon},
			`{"type":"rules","at":"2026-12-24T11:00:00.0000005Z","text":"0 rules set","rules":{"set":0,"removed":0,"expired":false,"first":[]}}`,
		},
	} {
		got, err := json.Marshal(wire.Names{}.Event(c.event))
		if err != nil || string(got) != c.want {
			t.Errorf("%T is written\n%s, %v\nwant\n%s", c.event, got, err, c.want)
		}
	}
}

func TestAnEventSaysInALineWhatHappened(t *testing.T) {
	closed := func(trigger connmgr.Trigger, rank int, reason connmgr.Reason) connmgr.Event {
		return connmgr.EventClosed{Verdict: connmgr.Verdict{Peer: "a", Rank: rank, Reason: reason, Conns: 1}, Trigger: trigger, At: noon}
	}
	rules := func(expired bool, changes ...connmgr.RuleChange) connmgr.Event {
		return connmgr.EventRules{Changes: changes, Expired: expired, At: noon}
	}
	set, gone := connmgr.RuleChange{Rule: wide}, connmgr.RuleChange{Rule: wide, Remove: true}
	port := connmgr.Rule{Target: connmgr.PortTarget(4001)}
	mapped := denied(connmgr.AtAccept, connmgr.DeniedAddr, wide, 0, "")
	mapped.Err.Addr = netip.MustParseAddrPort("[::ffff:10.1.2.3%eth0]:0")
	for _, c := range []struct {
		event connmgr.Event
		want  string
	}{
		{connmgr.EventConnected{Direction: connmgr.DirUnknown}, "connected"},
		{connmgr.EventConnected{Direction: connmgr.DirInbound, Addr: mapped.Err.Addr}, "connected, inbound, from 10.1.2.3"},
		{connmgr.EventConnected{Direction: connmgr.DirOutbound, Addr: netip.MustParseAddrPort("10.1.2.3:4001")}, "connected, outbound, to 10.1.2.3:4001"},
		{connmgr.EventClosed{
			Verdict: connmgr.Verdict{Peer: "a", Reason: connmgr.ClosedBlocked, Conns: 2}, Trigger: connmgr.TriggerRule,
			Rule: wide, Addr: netip.MustParseAddrPort("10.1.2.3:4001"),
		}, "closed for a rule: 10.1.2.3:4001 is denied by 10.0.0.0/8 until 2026-12-24T12:00:00Z (port scans, from watchdog); 2 connections"},
		{connmgr.EventClosed{
			Verdict: connmgr.Verdict{Peer: "a", Reason: connmgr.ClosedBlocked, Conns: 1}, Trigger: connmgr.TriggerRule,
			Rule: connmgr.Rule{Target: connmgr.PeerTarget("a"), Reason: "spam"}, Addr: netip.MustParseAddrPort("10.1.2.3:4001"),
		}, "closed for a rule: the peer is denied (spam); 1 connection"},
		{closed(connmgr.TriggerHighWater, 3, connmgr.ClosedLowScore), "closed as number 3 of a trim (high water): low score, 0; 1 connection"},
		{closed(connmgr.TriggerTick, 3, connmgr.ClosedLowScore), "closed as number 3 of a trim (tick): low score, 0; 1 connection"},
		{closed(connmgr.TriggerGrace, 3, connmgr.ClosedLowScore), "closed as number 3 of a trim (grace ended): low score, 0; 1 connection"},
		{closed(connmgr.TriggerForce, 3, connmgr.ClosedForcedProtected), "closed as number 3 of a trim (force): forced, though protected, 0; 1 connection"},
		{closed(connmgr.TriggerManual, 0, connmgr.ClosedLowScore), "closed by a trim (manual): low score, 0; 1 connection"},
		{closed(connmgr.TriggerNewcomer, 1, connmgr.ClosedDisplaced), "closed to make room for a newcomer: displaced, 0; 1 connection"},
		{closed(connmgr.TriggerRule, 0, connmgr.ClosedBlocked), "closed for a rule: blocked, 0; 1 connection"},
		{closed(connmgr.TriggerReport, 0, connmgr.ClosedMisbehaved), "closed for a report: misbehaved, 0; 1 connection"},
		{closed(connmgr.TriggerRequest, 0, connmgr.ClosedOnRequest), "closed by hand: on request, 0; 1 connection"},
		{connmgr.EventTrim{TrimResult: connmgr.TrimResult{Figures: connmgr.Figures{Total: 1}}}, "trim (manual) closed nobody, 1 connection left"},
		{connmgr.EventLimits{Limits: connmgr.Limits{LowWater: 1, HighWater: 2, HardLimit: 3}}, "limits are now low water 1, high water 2, hard limit 3"},
		{denied(connmgr.AtAccept, connmgr.DeniedAddr, wide, 0, ""), "refused at accept: 10.1.2.3:4001 is denied by 10.0.0.0/8 until 2026-12-24T12:00:00Z (port scans, from watchdog)"},
		{mapped, "refused at accept: 10.1.2.3 is denied by 10.0.0.0/8 until 2026-12-24T12:00:00Z (port scans, from watchdog)"},
		{denied(connmgr.AtAddrDial, connmgr.DeniedPort, port, 0, ""), "refused at address dial: 10.1.2.3:4001 is denied by port 4001"},
		{denied(connmgr.AtAccept, connmgr.OverPrefixLimit, connmgr.Rule{}, 8, "10.1.2.3/32"), "refused at accept: 8 connections from 10.1.2.3/32 are the limit (10.1.2.3:4001)"},
		{denied(connmgr.AtUpgraded, connmgr.OverPeerLimit, connmgr.Rule{}, 8, ""), "refused at upgraded: 8 connections with a peer are the limit (10.1.2.3:4001)"},
		{denied(connmgr.AtUpgraded, connmgr.OverHardLimit, connmgr.Rule{}, 600, ""), "refused at upgraded: hard limit of 600 connections, and nobody ranks lower (10.1.2.3:4001)"},
		{rules(false, set), "rule set: deny 10.0.0.0/8 until 2026-12-24T12:00:00Z (port scans, from watchdog)"},
		{rules(false, gone), "rule removed: deny 10.0.0.0/8 (from watchdog)"},
		{rules(true, gone), "rule expired: deny 10.0.0.0/8 (from watchdog)"},
		{rules(false, set, set), "2 rules set"},
		{rules(true, gone, gone), "2 rules expired"},
	} {
		if got := (wire.Names{}).Event(c.event).Text; got != c.want {
			t.Errorf("%T says\n%s\nwant\n%s", c.event, got, c.want)
		}
	}
}

func TestTheLineOfAnEventCannotCommandATerminal(t *testing.T) {
	evil := "\x1b]0;owned\a\u202e\xff" + strings.Repeat("x", 5000)
	names := wire.Names{Format: connmgr.ListFormat{
		FormatPeer: func(connmgr.NodeID) string { return evil },
		ParsePeer:  func(string) (connmgr.NodeID, error) { return "", errors.New("none") },
	}}
	for _, target := range []connmgr.Target{connmgr.PeerTarget("a"), connmgr.PortTarget(1)} {
		rule := connmgr.Rule{Target: target, Reason: evil, Origin: evil}
		for _, n := range []wire.Names{{}, names} {
			for _, e := range []connmgr.Event{
				denied(connmgr.AtSecured, connmgr.DeniedPeer, rule, 0, ""), denied(connmgr.AtSecured, connmgr.DeniedPort, rule, 0, ""),
				connmgr.EventRules{Changes: []connmgr.RuleChange{{Rule: rule}}},
				connmgr.EventRules{Changes: []connmgr.RuleChange{{Rule: rule, Remove: true}}},
			} {
				text := n.Event(e).Text
				if strings.ContainsAny(text, "\x1b\a\u202e") || strings.Contains(text, "\xff") || len(text) > 1000 {
					t.Errorf("the line is %.300q, want it short and printable", text)
				}
				if !strings.Contains(text, `\x1b]0;owned`) {
					t.Errorf("the line is %q, want it to show what the rule says", text)
				}
			}
		}
	}
}

func TestAnEventOfManyRulesShowsTheFirst(t *testing.T) {
	e := connmgr.EventRules{At: noon}
	for port := range uint16(25) {
		e.Changes = append(e.Changes, connmgr.RuleChange{Rule: connmgr.Rule{Target: connmgr.PortTarget(port)}, Remove: port%5 == 0})
	}
	doc := wire.Names{}.Event(e)
	if doc.Rules.Set != 20 || doc.Rules.Removed != 5 || len(doc.Rules.First) != 10 || doc.Rules.First[9].Target != "port 9" {
		t.Errorf("25 changes are written as %+v, want 20 set, 5 removed, and the first 10", doc.Rules)
	}
	if doc.Text != "20 rules set, 5 removed" {
		t.Errorf("the line is %q", doc.Text)
	}
}

func TestATrimShowsAsManyPeersAsAskedFor(t *testing.T) {
	for most, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2, 1000: 2} {
		doc := wire.Names{}.Trim(trim(), most)
		if doc.Closed != 2 || len(doc.Peers) != want {
			t.Errorf("with %d peers asked for there are %d of %d, want %d of 2", most, len(doc.Peers), doc.Closed, want)
		}
	}
	want := api.ClosedPeer{Peer: "0x622062", Reason: connmgr.ClosedLowScore, Rank: 2, Connections: 7}
	if got := (wire.Names{}).Trim(trim(), 2).Peers[1]; got != want {
		t.Errorf("the second peer is %+v, want %+v", got, want)
	}
}

func TestAPlanWithoutShortfallHasAnEmptyListOfCauses(t *testing.T) {
	doc := wire.Figures(connmgr.Figures{}, time.Now(), connmgr.TriggerForce, time.Time{})
	if doc.Causes == nil || len(doc.Causes) != 0 || doc.GraceEnds != nil {
		t.Errorf("causes are %#v and grace ends %v, want an empty list and no end", doc.Causes, doc.GraceEnds)
	}
	if doc.At.Location() != time.UTC || strings.Contains(doc.At.String(), "m=") {
		t.Errorf("the time is %v, want it in UTC and without the monotonic clock", doc.At)
	}
}

func TestARuleThatCannotBeIsRefused(t *testing.T) {
	past, far := noon.Add(-time.Hour), time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	if r, err := (wire.Names{}).CoreRule(api.Rule{Target: "10.0.0.0/8", Expires: &past}); err != nil || !r.Expires.Equal(past) || r.Expires.Location() != time.UTC {
		t.Errorf("a rule that has ended is %v, %v; whether that matters is for others to say", r, err)
	}
	for _, doc := range []api.Rule{
		{},
		{Target: "10.0.0.0/8", Effect: connmgr.Allow + 1},
		{Target: "10.0.0.0/8", Expires: &far},
		{Target: "10.0.0.0/8", Reason: "two\nlines"},
		{Target: "10.0.0.0/8", Origin: strings.Repeat("x", 1025)},
		{Target: "10.0.0.0/8 # reason"},
	} {
		if r, err := (wire.Names{}).CoreRule(doc); err == nil || r != (connmgr.Rule{}) {
			t.Errorf("%+v is the rule %v, want an error", doc, r)
		}
	}
}
