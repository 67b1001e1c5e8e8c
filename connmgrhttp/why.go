package connmgrhttp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/internal/timespan"
)

// This file says in sentences why a peer stays, would go, or has gone. The page and the
// command line show the same ones.

// why explains a peer. Everything it says is in the document already, or in the plan.
func (h *handler) why(d *api.PeerDetail, p *planned) []string {
	var says []string
	say := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }

	if d.Connected {
		say("%s", verdictSentence(d, p))
		say("%s", scoreSentence(d))
		limits := h.m.Limits()
		if open := h.m.ConnCount(); open <= limits.HighWater && d.Verdict.Closed {
			say("No trim is due by itself: %s open, and one starts above high water, %d.", plural(open, "connection is", "connections are"), limits.HighWater)
		}
	} else {
		say("It is not connected.")
		h.sayWhyGone(d, p, say)
	}
	for _, rule := range d.Rules {
		say("A rule is about it: %s.", ruleText(rule))
	}
	if !d.Connected && len(d.Protections) > 0 {
		say("Should it come back, it is protected (%s).", strings.Join(d.Protections, ", "))
	}
	if d.Standing != nil && d.Standing.BannedUntil != nil {
		say("It is banned for misbehaviour until %s; that is ban number %d.", d.Standing.BannedUntil.Format(time.RFC3339), d.Standing.Bans)
	}
	return says
}

// sayWhyGone says why a peer went, as far as that is remembered.
func (h *handler) sayWhyGone(d *api.PeerDetail, p *planned, say func(format string, args ...any)) {
	for _, e := range d.History {
		when := fmt.Sprintf("%s ago (%s)", timespan.String(p.plan.At.Sub(e.At)), e.At.UTC().Format(time.RFC3339))
		switch {
		case e.Type == api.PeerClosed || e.Type == api.Denied:
			say("%s: %s.", when, e.Text)
			if trim := h.trimOf(e); trim != nil {
				say("That trim closed %s: of %s %d counted, against low water, %d.", plural(trim.Closed, "peer", "peers"),
					plural(trim.Total, "connection", "connections"), trim.Counted, trim.Counted-trim.Target)
			}
			return
		case e.Type == api.Disconnected && !closedSoonBefore(d.History, e):
			say("%s: it went by itself, or the network did: nobody here closed it.", when)
			return
		}
	}
}

// trimOf returns the trim in which a peer was closed; nil if no trim did it, or it is not
// remembered.
func (h *handler) trimOf(closed api.Event) *api.Trim {
	if closed.Closed == nil || closed.Closed.Rank == 0 {
		return nil
	}
	for _, e := range h.journal.Recent(journal.Filter{Types: []api.EventType{api.TrimEnded}}, maxPage) {
		if t := e.Trim; t.Trigger == closed.Closed.Trigger && !closed.At.Before(t.Started) && !closed.At.After(e.At) {
			return t
		}
	}
	return nil
}

// closedSoonBefore reports whether the manager closed the peer about when it went.
func closedSoonBefore(history []api.Event, gone api.Event) bool {
	return slices.ContainsFunc(history, func(e api.Event) bool {
		return e.Type == api.PeerClosed && gone.At.Sub(e.At).Abs() < time.Second
	})
}

// verdictSentence says what the plan does with a connected peer.
func verdictSentence(d *api.PeerDetail, p *planned) string {
	f := &p.plan.Figures
	switch d.Verdict.Reason {
	case connmgr.KeptNothingToDo:
		return fmt.Sprintf("It stays: there is nothing to do. %s against low water, %d.", plural(f.Counted, "connection counts", "connections count"), p.policy.LowWater)
	case connmgr.KeptAboveCut:
		return fmt.Sprintf("It stays: its score, %d, ranks above the cut. A trim would close %s of %s that rank lower.",
			d.Score, plural(f.Freed, "connection", "connections"), plural(p.plan.Closes(), "peer", "peers"))
	case connmgr.KeptInGrace:
		if d.GraceEnds == nil {
			return "It stays: it is in its grace period."
		}
		return fmt.Sprintf("It stays: it connected %s ago and is in its grace period for %s more.",
			span(d.AgeSeconds), timespan.String(d.GraceEnds.Sub(p.plan.At)))
	case connmgr.KeptProtected:
		return fmt.Sprintf("It stays: it is protected (%s).", strings.Join(d.Protections, ", "))
	case connmgr.KeptOutboundFloor:
		return fmt.Sprintf("It stays: there would be fewer than %s otherwise.", plural(p.policy.OutboundFloor, "outbound connection", "outbound connections"))
	case connmgr.ClosedLowScore:
		text := fmt.Sprintf("A trim now would close it as number %d of %d, for its low score, %d.", d.Verdict.Rank, p.plan.Closes(), d.Score)
		if p.hasCut {
			text += fmt.Sprintf(" The lowest score that stays is %d", p.cut)
			if p.cut == d.Score {
				text += "; among equals the young go first, and those without streams"
			}
			text += "."
		}
		return text
	case connmgr.ClosedHardLimit:
		return fmt.Sprintf("A trim of the hard limit would close it as number %d of %d, though it is in its grace period.", d.Verdict.Rank, p.plan.Closes())
	case connmgr.ClosedForced:
		return fmt.Sprintf("A forced trim would close it as number %d of %d; grace means nothing then.", d.Verdict.Rank, p.plan.Closes())
	case connmgr.ClosedForcedProtected:
		return fmt.Sprintf("A forced trim would close it as number %d of %d, though it is protected: without such peers low water is not reached.", d.Verdict.Rank, p.plan.Closes())
	case connmgr.NotConnected, connmgr.ClosedBlocked, connmgr.ClosedDisplaced, connmgr.ClosedMisbehaved, connmgr.ClosedOnRequest:
	}
	return fmt.Sprintf("Verdict: %v.", d.Verdict.Reason)
}

// scoreSentence adds up the score.
func scoreSentence(d *api.PeerDetail) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d.Tags)) {
		parts = append(parts, fmt.Sprintf("%d for %q", d.Tags[name], name))
	}
	if d.OutboundBonus != 0 {
		parts = append(parts, fmt.Sprintf("%d since we dialled it", d.OutboundBonus))
	}
	if d.ActiveBonus != 0 {
		parts = append(parts, fmt.Sprintf("%d for open streams", d.ActiveBonus))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("Its score is %d: it has no tags.", d.Score)
	}
	return fmt.Sprintf("Its score is %d: %s.", d.Score, strings.Join(parts, ", "))
}

// ruleText is a rule in a few words.
func ruleText(r api.Rule) string {
	text := fmt.Sprintf("%v %s", r.Effect, r.Target)
	if r.Expires != nil {
		text += " until " + r.Expires.Format(time.RFC3339)
	}
	var notes []string
	if r.Reason != "" {
		notes = append(notes, r.Reason)
	}
	if r.Origin != "" {
		notes = append(notes, "from "+r.Origin)
	}
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, ", ") + ")"
	}
	return text
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func span(seconds float64) string {
	return timespan.String(time.Duration(seconds * float64(time.Second)))
}
