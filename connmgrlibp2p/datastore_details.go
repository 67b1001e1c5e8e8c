package connmgrlibp2p

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dep2p/connmgr"
)

// This file says what is in the details of a target: what go-libp2p's gater has no
// room for. They are JSON:
//
//	{
//	  "version": 1,
//	  "always": [{"effect": "deny", "expires": "2026-12-24T18:00:00Z", "reason": "port scans"}],
//	  "blocked": [{"effect": "deny", "origin": "blocklist"}],
//	  "unblocked": []
//	}
//
// Rules under "always" hold. Those under "blocked" hold while go-libp2p's gater has an
// entry for the target, those under "unblocked" while it has none. Deny rules without
// an end, but for those of ports, are under "blocked", so that who deletes the entry
// deletes them. If none is there and the entry is, it is one rule without reason and
// origin, which therefore is not written unless there are others of its kind.
//
// Nothing else is under "blocked", and nothing at all under "unblocked", but while
// rules change: a record that holds the old rules for one case and the new ones for
// the other lets the entry's coming or going change all of them at once.
//
// An expiry has up to nine digits of a second. A reason or an origin that is not UTF-8
// is in base64, as "reasonBytes" or "originBytes". A field that is not listed here is
// an error: a version that has more of them has a higher number.

// detailsVersion is the only version there is.
const detailsVersion = 1

// details are what we know about one target, beside whether go-libp2p's gater has an
// entry for it.
type details struct{ always, blocked, unblocked []connmgr.Rule }

// permanent reports whether a rule is one that go-libp2p's gater knows.
func permanent(r connmgr.Rule) bool {
	return r.Effect == connmgr.Deny && r.Expires.IsZero() && sharable(r.Target)
}

// appendRules adds the rules that hold.
func (d *details) appendRules(rules []connmgr.Rule, target connmgr.Target, blocked bool) []connmgr.Rule {
	rules = append(rules, d.always...)
	if !blocked {
		return append(rules, d.unblocked...)
	}
	rules = append(rules, d.blocked...)
	if !slices.ContainsFunc(d.blocked, permanent) {
		rules = append(rules, connmgr.Rule{Target: target})
	}
	return rules
}

// tidy reports whether the details are as settled would have them.
func (d *details) tidy(blocked bool) bool {
	for _, r := range d.blocked {
		if !permanent(r) {
			return false
		}
	}
	return len(d.unblocked) == 0 && (blocked || len(d.blocked) == 0)
}

// settled returns the details of rules that are not about to change.
func settled(rules []connmgr.Rule) details {
	var d details
	for _, r := range rules {
		if permanent(r) {
			d.blocked = append(d.blocked, r)
		} else {
			d.always = append(d.always, r)
		}
	}
	d.leaveOutPlain()
	return d
}

// between returns details under which some rules hold while go-libp2p's gater has an
// entry, and others while it has none.
func between(blocked, unblocked []connmgr.Rule) details {
	var d details
	for _, r := range blocked {
		if slices.ContainsFunc(unblocked, func(other connmgr.Rule) bool { return equal(r, other) }) {
			d.always = append(d.always, r)
		} else {
			d.blocked = append(d.blocked, r)
		}
	}
	for _, r := range unblocked {
		if !slices.ContainsFunc(blocked, func(other connmgr.Rule) bool { return equal(r, other) }) {
			d.unblocked = append(d.unblocked, r)
		}
	}
	d.leaveOutPlain()
	return d
}

// leaveOutPlain drops the rule that go-libp2p's entry alone says.
func (d *details) leaveOutPlain() {
	i := slices.IndexFunc(d.blocked, permanent)
	if i < 0 || d.blocked[i].Origin != "" || d.blocked[i].Reason != "" {
		return
	}
	if !slices.ContainsFunc(d.blocked[i+1:], permanent) {
		d.blocked = slices.Delete(d.blocked, i, i+1)
	}
}

// equal reports whether two rules are the same one, with the same reason and end.
func equal(a, b connmgr.Rule) bool {
	return a.Same(b) && a.Reason == b.Reason && a.Expires.Equal(b.Expires)
}

// record is details as they are written.
type record struct {
	Version   int          `json:"version"`
	Always    []recordRule `json:"always,omitempty"`
	Blocked   []recordRule `json:"blocked,omitempty"`
	Unblocked []recordRule `json:"unblocked,omitempty"`
}

type recordRule struct {
	Effect      string    `json:"effect"`
	Expires     time.Time `json:"expires,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	ReasonBytes []byte    `json:"reasonBytes,omitempty"`
	Origin      string    `json:"origin,omitempty"`
	OriginBytes []byte    `json:"originBytes,omitempty"`
}

// encode returns the details as they are written, nil if there is nothing to write.
// The same rules in another order give the same bytes.
func (d *details) encode() ([]byte, error) {
	if len(d.always)+len(d.blocked)+len(d.unblocked) == 0 {
		return nil, nil
	}
	return json.Marshal(record{
		Version:   detailsVersion,
		Always:    encodeRules(d.always),
		Blocked:   encodeRules(d.blocked),
		Unblocked: encodeRules(d.unblocked),
	})
}

func encodeRules(rules []connmgr.Rule) []recordRule {
	slices.SortFunc(rules, func(a, b connmgr.Rule) int {
		return cmp.Or(cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Origin, b.Origin))
	})
	var out []recordRule
	for _, r := range rules {
		e := recordRule{Effect: r.Effect.String()}
		if !r.Expires.IsZero() {
			e.Expires = r.Expires.UTC()
		}
		e.Reason, e.ReasonBytes = encodeText(r.Reason)
		e.Origin, e.OriginBytes = encodeText(r.Origin)
		out = append(out, e)
	}
	return out
}

func encodeText(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// parseDetails reads the details of a target.
func parseDetails(target connmgr.Target, value []byte) (details, error) {
	var rec record
	if err := parseRecord(&rec, value); err != nil {
		return details{}, err
	}
	if !sharable(target) && len(rec.Blocked)+len(rec.Unblocked) > 0 {
		return details{}, fmt.Errorf("it has rules for when go-libp2p's gater has an entry, but never has one for %v", target)
	}
	var d details
	for _, list := range []struct {
		name string
		from []recordRule
		to   *[]connmgr.Rule
	}{
		{"always", rec.Always, &d.always},
		{"blocked", rec.Blocked, &d.blocked},
		{"unblocked", rec.Unblocked, &d.unblocked},
	} {
		for _, e := range list.from {
			r, err := e.rule(target)
			if err != nil {
				return details{}, err
			}
			if list.name != "blocked" && permanent(r) {
				return details{}, fmt.Errorf("it has a deny rule without an end under %q, must be under %q", list.name, "blocked")
			}
			*list.to = append(*list.to, r)
		}
	}
	return d, d.checkUnique()
}

// parseRecord reads a record of our version in full.
func parseRecord(rec *record, value []byte) error {
	if !utf8.Valid(value) {
		return errors.New("its value is not UTF-8") // the decoder would mend that
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(rec)
	if err == nil && rec.Version == detailsVersion {
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return errors.New("there is more behind the JSON of its value")
		}
		return nil
	}
	// Of a newer version nothing is sure but the number.
	var newer struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(value, &newer) == nil && newer.Version > detailsVersion {
		return fmt.Errorf("its version is %d, this program knows version %d", newer.Version, detailsVersion)
	}
	if err != nil {
		return fmt.Errorf("its value is not JSON as it should be: %w", err)
	}
	return fmt.Errorf("its version is %d, must be %d", rec.Version, detailsVersion)
}

// rule returns the rule that is meant.
func (e *recordRule) rule(target connmgr.Target) (connmgr.Rule, error) {
	r := connmgr.Rule{Target: target, Expires: e.Expires.UTC()}
	switch e.Effect {
	case connmgr.Deny.String():
		r.Effect = connmgr.Deny
	case connmgr.Allow.String():
		r.Effect = connmgr.Allow
	default:
		return connmgr.Rule{}, fmt.Errorf("a rule has effect %q, must be %q or %q", e.Effect, connmgr.Deny, connmgr.Allow)
	}
	var err error
	if r.Reason, err = parseText("reason", e.Reason, e.ReasonBytes); err != nil {
		return connmgr.Rule{}, err
	}
	if r.Origin, err = parseText("origin", e.Origin, e.OriginBytes); err != nil {
		return connmgr.Rule{}, err
	}
	if err := r.Validate(); err != nil {
		return connmgr.Rule{}, errors.New(strings.TrimPrefix(err.Error(), "connmgr: "))
	}
	return r, nil
}

func parseText(field, s string, raw []byte) (string, error) {
	if s != "" && len(raw) > 0 {
		return "", fmt.Errorf("a rule has both %q and %q", field, field+"Bytes")
	}
	return s + string(raw), nil
}

// checkUnique returns an error if a rule could hold twice.
func (d *details) checkUnique() error {
	type id struct {
		effect connmgr.Effect
		origin string
	}
	for _, list := range [][]connmgr.Rule{d.blocked, d.unblocked} {
		if len(d.always)+len(list) < 2 {
			continue
		}
		seen := make(map[id]bool)
		for _, r := range slices.Concat(d.always, list) {
			if seen[id{r.Effect, r.Origin}] {
				return fmt.Errorf("it has two rules to %v from origin %q", r.Effect, r.Origin)
			}
			seen[id{r.Effect, r.Origin}] = true
		}
	}
	return nil
}
