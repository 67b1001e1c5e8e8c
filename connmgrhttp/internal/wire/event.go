package wire

import (
	"net/netip"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is events. text.go has their lines for people.

// maxRules is how many rules an event shows.
const maxRules = 10

// Event returns the document of an event, without an ID. That of a trim does not list
// who was closed: each of them has an event of its own. The document of an event of a
// kind that is not known here is empty.
func (n Names) Event(e connmgr.Event) api.Event {
	doc := api.Event{Text: n.text(e)}
	switch e := e.(type) {
	case connmgr.EventConnected:
		doc.Type = api.Connected
		doc.At, doc.Peer, doc.Direction = UTC(e.At), n.Peer(e.Peer), new(e.Direction)
		doc.Address = address(e.Addr)
	case connmgr.EventDisconnected:
		doc.Type = api.Disconnected
		doc.At, doc.Peer = UTC(e.At), n.Peer(e.Peer)
	case connmgr.EventClosed:
		doc.Type = api.PeerClosed
		doc.At, doc.Peer = UTC(e.At), n.Peer(e.Peer)
		doc.Closed = &api.ClosedEvent{
			Reason: e.Reason, Trigger: e.Trigger, Score: e.Score, Rank: e.Rank, Connections: e.Conns,
			Address: address(e.Addr),
		}
		if e.Rule.Target != (connmgr.Target{}) {
			doc.Closed.Rule = new(n.Rule(e.Rule))
		}
	case connmgr.EventTrim:
		doc.Type = api.TrimEnded
		doc.At = UTC(e.Started.Add(e.Took))
		doc.Trim = new(n.Trim(e.TrimResult, 0))
	case connmgr.EventLimits:
		doc.Type = api.LimitsChanged
		doc.At, doc.Limits = UTC(e.At), new(Watermarks(e.Limits))
	case connmgr.EventDenied:
		doc.Type = api.Denied
		doc.At, doc.Denied = UTC(e.At), n.denied(e.Err)
		if e.Err.HasPeer {
			doc.Peer = n.Peer(e.Err.Peer)
		}
	case connmgr.EventRules:
		doc.Type = api.RulesChanged
		doc.At, doc.Rules = UTC(e.At), n.rules(e)
	}
	return doc
}

func (n Names) denied(e *connmgr.DeniedError) *api.DeniedEvent {
	doc := &api.DeniedEvent{
		Checkpoint: e.Checkpoint, Outcome: e.Outcome, Address: address(e.Addr),
		Limit: e.Limit, Until: moment(e.Until),
	}
	if e.Prefix.IsValid() {
		doc.Prefix = e.Prefix.String()
	}
	if isRule(e.Outcome) {
		doc.Rule = new(n.Rule(e.Rule))
	}
	return doc
}

// isRule reports whether an outcome is that of a rule, and not of a limit.
func isRule(o connmgr.Outcome) bool {
	return o == connmgr.DeniedPeer || o == connmgr.DeniedAddr || o == connmgr.DeniedPort
}

// address returns where a connection was from or to, with the port if there is one in
// question; "" if it is not known.
func address(at netip.AddrPort) string {
	addr := connmgr.CanonicalAddr(at.Addr())
	switch {
	case !addr.IsValid():
		return ""
	case at.Port() == 0:
		return addr.String()
	default:
		return netip.AddrPortFrom(addr, at.Port()).String()
	}
}

func (n Names) rules(e connmgr.EventRules) *api.RulesEvent {
	doc := &api.RulesEvent{Expired: e.Expired}
	for i, c := range e.Changes {
		if c.Remove {
			doc.Removed++
		} else {
			doc.Set++
		}
		if i < maxRules {
			doc.First = append(doc.First, n.Rule(changed(c)))
		}
	}
	if doc.First == nil {
		doc.First = []api.Rule{} // [] in JSON, not null
	}
	return doc
}

// changed returns the rule of a change. One that is removed has neither end nor reason:
// what stands there is whatever the caller gave.
func changed(c connmgr.RuleChange) connmgr.Rule {
	if c.Remove {
		c.Rule.Expires, c.Rule.Reason = time.Time{}, ""
	}
	return c.Rule
}
