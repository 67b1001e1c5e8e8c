package connmgrhttp

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file takes lists of rules in and gives them out, in the format of
// connmgr.ListFormat.

// postImport puts the rules of a list in force: in the place of all rules of an origin, or
// besides what there is. If a line is wrong, nothing changes.
func (h *handler) postImport(r *http.Request) (any, error) {
	q := readQuery(r)
	format := h.names.Format
	origin, replace := q.text("origin")
	format.Origin = origin
	format.Reason, _ = q.text("reason")
	format.Effect = connmgr.Deny
	q.word("effect", &format.Effect)
	format.Expires = time.Time{}
	if lasts := q.seconds("for_seconds"); lasts > 0 {
		format.Expires = time.Now().Add(lasts)
	}
	empty := q.flag("allow_empty")
	for name, sample := range map[string]connmgr.Rule{"origin": {Origin: origin}, "reason": {Reason: format.Reason}} {
		sample.Target = connmgr.PortTarget(1)
		if sample.Validate() != nil {
			q.refuse(name, "the %s must be one line of at most 1024 bytes", name)
		}
	}
	if err := q.finish(); err != nil {
		return nil, err
	}
	if origin == connmgr.LadderOrigin {
		return nil, refuse(problem.Unprocessable, "origin", "rules of origin %q are made by the ban ladder alone", origin)
	}
	if err := h.lists.enter(r.Context()); err != nil {
		return nil, err
	}
	defer h.lists.leave()
	body, err := guard.Body(r, maxList, "text/plain")
	if err != nil {
		return nil, err
	}
	if err := h.heavy.enter(r.Context()); err != nil {
		return nil, err
	}
	defer h.heavy.leave()
	format.MaxRules = maxRules
	rules, err := format.Read(bytes.NewReader(body), "")
	if bad, ok := errors.AsType[*connmgr.ListError](err); ok {
		p := problem.Unprocessable.Withf("line %d: %.100q: want %s", bad.Line, bad.Text, bad.Want)
		if bad.Err != nil {
			p.Detail += ": " + bad.Err.Error()
		}
		p.Line = bad.Line
		return nil, &p
	}
	if err != nil {
		return nil, err
	}
	if replace && len(rules) == 0 && (empty == nil || !*empty) {
		return nil, refuse(problem.Unprocessable, "", "there are no rules in the list; to remove all of origin %.200q, add allow_empty=true", origin)
	}
	return h.importRules(r, rules, replace, origin)
}

// importRules puts rules in force, but for those that have ended.
func (h *handler) importRules(r *http.Request, rules []connmgr.Rule, replace bool, origin string) (any, error) {
	now := time.Now()
	live := make([]connmgr.Rule, 0, len(rules))
	for _, rule := range rules {
		if !rule.Expired(now) {
			live = append(live, rule)
		}
	}
	doc := api.Imported{Expired: len(rules) - len(live)}
	err := h.saving(r, func(ctx context.Context) (err error) {
		var diff connmgr.RuleDiff
		if replace {
			diff, err = h.g.Replace(ctx, origin, live)
		} else {
			diff = addDiff(h.g.Rules(), live)
			err = h.g.Add(ctx, live...)
		}
		doc.Added, doc.Changed, doc.Removed, doc.Kept = diff.Added, diff.Changed, diff.Removed, diff.Kept
		return err
	})
	if err != nil {
		return nil, err
	}
	for range h.g.Rules() {
		doc.Total++
	}
	return doc, nil
}

// addDiff says what adding rules to those there are will change.
func addDiff(there iter.Seq[connmgr.Rule], rules []connmgr.Rule) (diff connmgr.RuleDiff) {
	type id struct {
		effect connmgr.Effect
		target connmgr.Target
		origin string
	}
	known := make(map[id]connmgr.Rule)
	for r := range there {
		known[id{r.Effect, r.Target, r.Origin}] = r
	}
	for _, r := range rules {
		key := id{r.Effect, r.Target, r.Origin}
		switch old, is := known[key]; {
		case !is:
			diff.Added++
		case old.Reason != r.Reason || !old.Expires.Equal(r.Expires):
			diff.Changed++
		default:
			diff.Kept++
		}
		known[key] = r
	}
	return diff
}

// getExport writes the rules in force as a list.
func (h *handler) getExport(w http.ResponseWriter, r *http.Request) {
	q := readQuery(r)
	origin, chosen := q.text("origin")
	if err := q.finish(); err != nil {
		h.fail(w, r, err)
		return
	}
	if err := h.lists.enter(r.Context()); err != nil {
		h.fail(w, r, err)
		return
	}
	defer h.lists.leave()
	rules := func(yield func(connmgr.Rule) bool) {
		for rule := range h.g.Rules() {
			if (!chosen || rule.Origin == origin) && !yield(rule) {
				return
			}
		}
	}
	var list bytes.Buffer // so that a rule that cannot be written is an error, not half a list
	err := h.heavy.enter(r.Context())
	if err == nil {
		err = h.names.Format.Write(&list, rules)
		h.heavy.leave() // before it goes out, as slowly as the other side pleases
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="rules.txt"`)
	_, _ = list.WriteTo(w)
}
