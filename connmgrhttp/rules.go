package connmgrhttp

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file shows and changes the gate's rules one by one. lists.go does it with lists.

// savePatience is how long a store may take to save a change. The rule is in force
// before; whoever asked should not wait for ever for a disk that hangs.
const savePatience = 20 * time.Second

// getRules returns a page of the rules in force.
func (h *handler) getRules(r *http.Request) (any, error) {
	q := readQuery(r)
	keep := h.readRuleFilter(q)
	offset := q.number("offset", 0, 0, math.MaxInt32)
	limit := q.number("limit", defaultPage, 1, maxPage)
	if err := q.finish(); err != nil {
		return nil, err
	}
	doc := api.RuleList{Offset: offset, Limit: limit, Rules: []api.Rule{}}
	for rule := range h.g.Rules() {
		if doc.Total++; doc.Total%1024 == 0 && r.Context().Err() != nil {
			return nil, refuse(problem.Unavailable, "", "the request ended before all rules had been looked at")
		}
		if !keep(&rule) {
			continue
		}
		if doc.Matched++; doc.Matched > offset && len(doc.Rules) < limit {
			doc.Rules = append(doc.Rules, h.names.Rule(rule))
		}
	}
	return doc, nil
}

// readRuleFilter reads which rules are wanted.
func (h *handler) readRuleFilter(q *query) func(*connmgr.Rule) bool {
	var effect connmgr.Effect
	byEffect := q.word("effect", &effect)
	origin, byOrigin := q.text("origin")
	text, _ := q.text("q")
	text = strings.ToLower(text)
	target, byTarget := h.readTarget(q)
	return func(rule *connmgr.Rule) bool {
		switch {
		case byEffect && rule.Effect != effect,
			byOrigin && rule.Origin != origin,
			byTarget && rule.Target != target:
			return false
		case text == "":
			return true
		}
		return strings.Contains(strings.ToLower(h.names.Target(rule.Target)+"\n"+rule.Reason+"\n"+rule.Origin), text)
	}
}

// readTarget reads the parameter that says what a rule is about.
func (h *handler) readTarget(q *query) (target connmgr.Target, given bool) {
	text, given := q.text("target")
	if !given {
		return target, false
	}
	target, err := h.names.ParseTarget(text)
	if err != nil {
		q.refuse("target", "%s", said(err))
	}
	return target, true
}

// postRule puts a rule in force.
func (h *handler) postRule(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	var body api.NewRule
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	lasts, ok := seconds(body.ForSeconds)
	switch {
	case !ok:
		return nil, refuse(problem.Unprocessable, "for_seconds", "for_seconds is %v, want seconds from 0 to %.0f", body.ForSeconds, maxSeconds)
	case lasts > 0 && body.Expires != nil:
		return nil, refuse(problem.Unprocessable, "for_seconds", "the rule has both expires and for_seconds, want one of them")
	case lasts > 0:
		body.Expires = new(time.Now().Add(lasts))
	}
	rule, err := h.names.CoreRule(body.Rule)
	if err != nil {
		field := ""
		if _, ok := errors.AsType[*wire.TargetError](err); ok {
			field = "target"
		}
		return nil, refuse(problem.Unprocessable, field, "%s", said(err))
	}
	if rule.Origin == connmgr.LadderOrigin {
		return nil, refuse(problem.Unprocessable, "origin", "rules of origin %q are made by the ban ladder alone", rule.Origin)
	}
	if rule.Expired(time.Now()) {
		return nil, refuse(problem.Unprocessable, "expires", "the rule has ended already, at %v", rule.Expires.UTC().Format(time.RFC3339))
	}
	if err := h.saving(r, func(ctx context.Context) error { return h.g.Add(ctx, rule) }); err != nil {
		return nil, err
	}
	return created{h.names.Rule(rule)}, nil
}

// deleteRule takes out the one rule that the query names.
func (h *handler) deleteRule(r *http.Request) (any, error) {
	q := readQuery(r)
	var rule connmgr.Rule
	target, given := h.readTarget(q)
	if !given {
		q.refuse("target", "the query names no target; say which rule is to go")
	}
	rule.Target = target
	q.word("effect", &rule.Effect)
	rule.Origin, _ = q.text("origin")
	if err := q.finish(); err != nil {
		return nil, err
	}
	var removed int
	err := h.saving(r, func(ctx context.Context) (err error) {
		removed, err = h.g.Remove(ctx, rule)
		return err
	})
	if err != nil {
		return nil, err
	}
	if removed == 0 {
		return nil, refuse(problem.NotFound, "", "there is no rule %v %.200s of origin %.200q", rule.Effect, h.names.Target(target), rule.Origin)
	}
	return api.Unblocked{Removed: removed, DeniedBy: h.deniedBy(target)}, nil
}

// postBlock denies a target, and closes the connections that this is about.
func (h *handler) postBlock(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	var body api.Block
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	target, err := h.names.ParseTarget(body.Target)
	if err != nil {
		return nil, refuse(problem.Unprocessable, "target", "%s", said(err))
	}
	lasts, ok := seconds(body.ForSeconds)
	if !ok {
		return nil, refuse(problem.Unprocessable, "for_seconds", "for_seconds is %v, want seconds from 0 to %.0f", body.ForSeconds, maxSeconds)
	}
	sample := connmgr.Rule{Target: target, Reason: body.Reason}
	if err := sample.Validate(); err != nil {
		return nil, refuse(problem.Unprocessable, "reason", "%s", said(err))
	}
	before := h.m.Stats().ClosedPeers[connmgr.ClosedBlocked]
	err = h.saving(r, func(ctx context.Context) error { return h.g.Block(ctx, target, lasts, body.Reason) })
	if err != nil {
		return nil, err
	}
	doc := api.Blocked{
		Rule:        h.names.Rule(sample),
		ClosedPeers: int(h.m.Stats().ClosedPeers[connmgr.ClosedBlocked] - before),
	}
	for rule := range h.g.Rules() {
		if rule.Same(sample) { // with the end that it has now
			doc.Rule = h.names.Rule(rule)
			break
		}
	}
	return doc, nil
}

// postUnblock takes out every rule that denies exactly a target.
func (h *handler) postUnblock(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	var body api.Unblock
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	target, err := h.names.ParseTarget(body.Target)
	if err != nil {
		return nil, refuse(problem.Unprocessable, "target", "%s", said(err))
	}
	var removed int
	err = h.saving(r, func(ctx context.Context) (err error) {
		removed, err = h.g.Unblock(ctx, target)
		return err
	})
	if err != nil {
		return nil, err
	}
	return api.Unblocked{Removed: removed, DeniedBy: h.deniedBy(target)}, nil
}

// deniedBy returns the rule that still denies a target as a whole: one of the same or a
// wider prefix, if nothing between the two allows it.
func (h *handler) deniedBy(target connmgr.Target) *api.Rule {
	var by *connmgr.Rule
	if id, ok := target.Peer(); ok {
		by = h.g.Lookup(id, netip.AddrPort{}).Peer
	} else if prefix, ok := target.Prefix(); ok {
		longest := -1
		for rule := range h.g.Rules() { // a lookup would find what is about a part of it
			p, ok := rule.Target.Prefix()
			if !ok || p.Bits() > prefix.Bits() || !p.Contains(prefix.Addr()) {
				continue
			}
			if p.Bits() > longest || p.Bits() == longest && rule.Effect == connmgr.Deny {
				by, longest = &rule, p.Bits()
			}
		}
	}
	if by == nil || by.Effect != connmgr.Deny {
		return nil
	}
	return new(h.names.Rule(*by))
}

// saving changes rules. They are in force whatever comes of saving them, which is why it
// goes on when whoever asked has gone; the problem says that they are.
func (h *handler) saving(r *http.Request, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), savePatience)
	defer cancel()
	err := change(ctx)
	switch {
	case err == nil || errors.Is(err, connmgr.ErrClosed):
		return err
	case !errors.Is(err, connmgr.ErrNotSaved): // a rule has ended since it was looked at
		return refuse(problem.Unprocessable, "", "%s", said(err))
	}
	h.log.WarnContext(ctx, "connmgr: rules changed through the API are in force, but not saved", "error", err)
	return refuse(problem.NotSaved, "", "%s", said(err))
}
