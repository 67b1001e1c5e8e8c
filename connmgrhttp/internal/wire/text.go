package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
)

// This file is the lines for people about events. They go to terminals as they are, so
// what others wrote (names, reasons, origins) is quoted where a terminal would obey it,
// and cut where it is long.

// safe returns a text of others as a terminal can have it: as it is, or quoted as a
// string in Go, with escapes in place of what is not printable; and cut if it is long.
func safe(text string) string {
	text = short(text)
	if isPrintable(text) {
		return text
	}
	return strconv.Quote(text)
}

// text returns the line of an event. It does not name the peer that the event is about.
func (n Names) text(e connmgr.Event) string {
	switch e := e.(type) {
	case connmgr.EventConnected:
		return connectedText(e)
	case connmgr.EventDisconnected:
		return "disconnected"
	case connmgr.EventClosed:
		return n.closedText(e)
	case connmgr.EventTrim:
		return trimText(e.TrimResult)
	case connmgr.EventLimits:
		return limitsText(e.Limits)
	case connmgr.EventDenied:
		return n.deniedText(e.Err)
	case connmgr.EventRules:
		return n.rulesText(e)
	}
	return ""
}

func connectedText(e connmgr.EventConnected) string {
	text := "connected"
	if e.Direction != connmgr.DirUnknown {
		text += ", " + e.Direction.String()
	}
	addr := address(e.Addr)
	switch {
	case addr == "":
		return text
	case e.Direction == connmgr.DirOutbound:
		return text + ", to " + addr
	default:
		return text + ", from " + addr
	}
}

// closedText is such as "closed as number 3 of a trim (high water): low score, 0; 1
// connection", or "closed for a rule: 10.1.2.3:4001 is denied by 10.0.0.0/8 (port scans);
// 1 connection".
func (n Names) closedText(e connmgr.EventClosed) string {
	why := fmt.Sprintf("%v, %d", e.Reason, e.Score)
	if e.Rule.Target != (connmgr.Target{}) {
		why = "the peer is denied" + about(e.Rule)
		if _, ok := e.Rule.Target.Peer(); !ok {
			why = address(e.Addr) + " is denied by " + safe(n.Target(e.Rule.Target)) + about(e.Rule)
		}
	}
	return fmt.Sprintf("closed %s: %s; %s", by(e), why, count(e.Conns, "connection"))
}

// by says what closed a peer.
func by(e connmgr.EventClosed) string {
	switch e.Trigger {
	case connmgr.TriggerNewcomer:
		return "to make room for a newcomer"
	case connmgr.TriggerRule:
		return "for a rule"
	case connmgr.TriggerReport:
		return "for a report"
	case connmgr.TriggerRequest:
		return "by hand"
	case connmgr.TriggerManual, connmgr.TriggerHighWater, connmgr.TriggerTick,
		connmgr.TriggerGrace, connmgr.TriggerHardLimit, connmgr.TriggerForce:
	}
	if e.Rank > 0 {
		return fmt.Sprintf("as number %d of a trim (%v)", e.Rank, e.Trigger)
	}
	return fmt.Sprintf("by a trim (%v)", e.Trigger)
}

func trimText(res connmgr.TrimResult) string {
	left := res.Total
	for _, v := range res.Closed {
		left -= v.Conns
	}
	var b strings.Builder
	fmt.Fprintf(&b, "trim (%v) closed ", res.Trigger)
	if len(res.Closed) == 0 {
		b.WriteString("nobody")
	} else {
		b.WriteString(count(len(res.Closed), "peer"))
	}
	fmt.Fprintf(&b, ", %s left", count(left, "connection"))
	if res.Shortfall > 0 {
		fmt.Fprintf(&b, "; %d more should have gone (%v)", res.Shortfall, res.Cause)
	}
	if res.Spared > 0 {
		fmt.Fprintf(&b, "; %s spared in the end", count(res.Spared, "peer"))
	}
	if res.Failed > 0 {
		fmt.Fprintf(&b, "; %s would not close", count(res.Failed, "connection"))
	}
	if res.Hanging > 0 {
		fmt.Fprintf(&b, "; %s still closing", count(res.Hanging, "peer"))
	}
	return b.String()
}

func limitsText(l connmgr.Limits) string {
	hard := "no hard limit"
	if limit := HardLimit(l.HardLimit); limit != nil {
		hard = fmt.Sprintf("hard limit %d", *limit)
	}
	text := fmt.Sprintf("limits are now low water %d, high water %d, %s", l.LowWater, l.HighWater, hard)
	if l.OutboundFloor > 0 {
		text += fmt.Sprintf(", outbound floor %d", l.OutboundFloor)
	}
	return text
}

// deniedText is such as "refused at accept: 10.1.2.3:4001 is denied by 10.0.0.0/8 until
// 2026-12-24T18:00:00Z (port scans)".
func (n Names) deniedText(e *connmgr.DeniedError) string {
	text := fmt.Sprintf("refused at %v: ", e.Checkpoint)
	from := address(e.Addr)
	switch e.Outcome {
	case connmgr.DeniedPeer:
		return text + "the peer is denied" + about(e.Rule)
	case connmgr.DeniedAddr, connmgr.DeniedPort:
		return text + from + " is denied by " + safe(n.Target(e.Rule.Target)) + about(e.Rule)
	case connmgr.OverRate:
		text += fmt.Sprintf("more than %v new connections a second from %v", e.Limit, e.Prefix)
	case connmgr.OverPrefixLimit:
		text += fmt.Sprintf("%v connections from %v are the limit", e.Limit, e.Prefix)
	case connmgr.OverPeerLimit:
		text += fmt.Sprintf("%v connections with a peer are the limit", e.Limit)
	case connmgr.OverHardLimit, connmgr.OverInboundLimit:
		text += fmt.Sprintf("%v of %v connections, and nobody ranks lower", e.Outcome, e.Limit)
	case connmgr.Passed:
		text += e.Outcome.String()
	default:
		text += e.Outcome.String()
	}
	if from != "" {
		text += " (" + from + ")"
	}
	return text
}

func (n Names) rulesText(e connmgr.EventRules) string {
	set, removed := 0, 0
	for _, c := range e.Changes {
		if c.Remove {
			removed++
		} else {
			set++
		}
	}
	gone := "removed"
	if e.Expired {
		gone = "expired"
	}
	switch {
	case set == 1 && removed == 0:
		return "rule set: " + n.ruleText(e.Changes[0].Rule)
	case set == 0 && removed == 1:
		return "rule " + gone + ": " + n.ruleText(changed(e.Changes[0]))
	case removed == 0:
		return count(set, "rule") + " set"
	case set == 0:
		return count(removed, "rule") + " " + gone
	default:
		return fmt.Sprintf("%s set, %d %s", count(set, "rule"), removed, gone)
	}
}

// ruleText is such as "deny 10.0.0.0/8 until 2026-12-24T18:00:00Z (port scans, from
// watchdog)".
func (n Names) ruleText(r connmgr.Rule) string {
	return r.Effect.String() + " " + safe(n.Target(r.Target)) + about(r)
}

// about is what a rule says about itself beside effect and target.
func about(r connmgr.Rule) string {
	text := ""
	if !r.Expires.IsZero() {
		text = " until " + r.Expires.UTC().Format(time.RFC3339)
	}
	var notes []string
	if r.Reason != "" {
		notes = append(notes, safe(r.Reason))
	}
	if r.Origin != "" {
		notes = append(notes, "from "+safe(r.Origin))
	}
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, ", ") + ")"
	}
	return text
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
