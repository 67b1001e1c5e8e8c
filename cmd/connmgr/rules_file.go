package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrlibp2p"
)

// This file is rules in a rule file: reading and changing it as a node would, and the
// same documents of it as a node gives.

// savedRules returns the rules of a file, those that have expired too.
func savedRules(ctx context.Context, db string) (rules []connmgr.Rule, err error) {
	store, err := connmgrbolt.Open(db, connmgrbolt.ReadOnly())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return store.Load(ctx)
}

// withGater calls f with a gate whose rules are in a file.
func withGater(db string, f func(*connmgr.Gater) error) (err error) {
	store, err := connmgrbolt.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m, err := connmgr.New(connmgr.Config{
		ManualStart: true,
		Logger:      slog.New(slog.DiscardHandler), // errors are returned
		Gate:        connmgr.GateConfig{Store: store},
	})
	if err != nil {
		return err
	}
	defer m.Close()
	return f(m.Gater())
}

// fromFile returns what the flags ask for of the rules of a file.
func (f *ruleFilter) fromFile(ctx context.Context, db string) (*api.RuleList, error) {
	var wanted connmgr.Target
	if f.target != "" {
		var err error
		if wanted, err = parseTarget(f.target); err != nil {
			return nil, err
		}
	}
	saved, err := savedRules(ctx, db)
	if err != nil {
		return nil, err
	}
	list := &api.RuleList{Total: len(saved), Offset: f.offset, Limit: f.limit, Rules: []api.Rule{}}
	for _, r := range saved {
		doc := ruleDocument(r)
		switch {
		case f.byOrigin && r.Origin != f.origin,
			f.effect != "" && r.Effect.String() != f.effect,
			f.target != "" && r.Target != wanted,
			f.search != "" && !matches(&doc, f.search):
			continue
		}
		if list.Matched++; list.Matched > f.offset && (f.all || len(list.Rules) < f.limit) {
			list.Rules = append(list.Rules, doc)
		}
	}
	if f.all {
		list.Limit = max(len(list.Rules), 1)
	}
	return list, nil
}

// rule is the rule that the flags and the arguments of a command say.
func (s *someRule) rule(args []string) (connmgr.Rule, error) {
	target, err := parseTarget(strings.Join(args, " "))
	if err != nil {
		return connmgr.Rule{}, err
	}
	r := connmgr.Rule{Effect: s.effect(), Target: target, Origin: s.origin, Reason: s.reason}
	switch {
	case s.lasting < 0:
		return r, misused("--for is %v, must not be negative", s.lasting)
	case s.lasting > 0:
		r.Expires = time.Now().Add(s.lasting)
	}
	if err := r.Validate(); err != nil {
		return r, misused("%s", strings.TrimPrefix(err.Error(), "connmgr: "))
	}
	return r, nil
}

// parseTarget reads a target as a line of a list has it. What a line can have besides is
// refused.
func parseTarget(text string) (connmgr.Target, error) {
	format := connmgrlibp2p.ListFormat()
	format.Origin, format.Reason, format.Expires = "origin", "reason", time.Unix(1, 0)
	rules, err := format.Read(strings.NewReader(text), "")
	if bad, ok := errors.AsType[*connmgr.ListError](err); ok {
		return connmgr.Target{}, misused("TARGET is %q, want %s", text, bad.Want)
	}
	plain := len(rules) == 1 && rules[0].Reason == "reason" && rules[0].Expires.Equal(format.Expires)
	if word, _, _ := strings.Cut(text, " "); err != nil || !plain || word == "deny" || word == "allow" {
		return connmgr.Target{}, misused("TARGET is %q, want %s", text, wantTarget)
	}
	return rules[0].Target, nil
}

// ruleDocument is a rule as the API has it.
func ruleDocument(r connmgr.Rule) api.Rule {
	doc := api.Rule{Effect: r.Effect, Target: targetText(r.Target), Reason: r.Reason, Origin: r.Origin}
	if !r.Expires.IsZero() {
		doc.Expires = new(r.Expires.UTC())
	}
	return doc
}

// targetText is a target as lists name it.
func targetText(t connmgr.Target) string {
	if id, ok := t.Peer(); ok {
		return "peer " + connmgrlibp2p.ListFormat().FormatPeer(id)
	}
	return t.String()
}

// importInto puts rules into a file, and says what that changed. Those that have expired
// are left out.
func importInto(ctx context.Context, db string, rules []connmgr.Rule, replace bool, origin string) (*api.Imported, error) {
	now := time.Now()
	var live []connmgr.Rule
	for _, r := range rules {
		if !r.Expired(now) {
			live = append(live, r)
		}
	}
	doc := &api.Imported{Expired: len(rules) - len(live)}
	err := withGater(db, func(gater *connmgr.Gater) (err error) {
		var diff connmgr.RuleDiff
		if replace {
			diff, err = gater.Replace(ctx, origin, live)
		} else {
			diff = diffRules(gater, live)
			err = gater.Add(ctx, live...)
		}
		doc.Added, doc.Changed, doc.Removed, doc.Kept = diff.Added, diff.Changed, diff.Removed, diff.Kept
		for range gater.Rules() {
			doc.Total++
		}
		return err
	})
	return doc, err
}

// diffRules says what adding rules to those in force will change.
func diffRules(gater *connmgr.Gater, rules []connmgr.Rule) (diff connmgr.RuleDiff) {
	type id struct {
		effect connmgr.Effect
		target connmgr.Target
		origin string
	}
	there := make(map[id]connmgr.Rule)
	for r := range gater.Rules() {
		there[id{r.Effect, r.Target, r.Origin}] = r
	}
	for _, r := range rules {
		key := id{r.Effect, r.Target, r.Origin}
		switch old, known := there[key]; {
		case !known:
			diff.Added++
		case old.Reason != r.Reason || !old.Expires.Equal(r.Expires):
			diff.Changed++
		default:
			diff.Kept++
		}
		there[key] = r
	}
	return diff
}
