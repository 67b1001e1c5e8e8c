package wire

import (
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is rules, and what all documents have: times, and limits that may not be.

// Rule returns the document of a rule.
func (n Names) Rule(r connmgr.Rule) api.Rule {
	return api.Rule{
		Effect: r.Effect, Target: n.Target(r.Target), Expires: moment(r.Expires),
		Reason: r.Reason, Origin: r.Origin,
	}
}

// CoreRule returns the rule of a document. A target that is none is a [*TargetError];
// other errors are those of [connmgr.Rule.Validate]. That the rule has ended is no error
// here.
func (n Names) CoreRule(doc api.Rule) (connmgr.Rule, error) {
	target, err := n.ParseTarget(doc.Target)
	if err != nil {
		return connmgr.Rule{}, err
	}
	r := connmgr.Rule{Effect: doc.Effect, Target: target, Reason: doc.Reason, Origin: doc.Origin}
	if doc.Expires != nil {
		r.Expires = UTC(*doc.Expires)
	}
	if err := r.Validate(); err != nil {
		return connmgr.Rule{}, err
	}
	return r, nil
}

// UTC returns a time as documents have it: in UTC, which also drops the reading of the
// monotonic clock.
func UTC(t time.Time) time.Time { return t.UTC() }

// moment is UTC for a time that may not be: nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(UTC(t))
}
