package api

import (
	"time"

	"github.com/dep2p/connmgr"
)

// This file is the rules of the gate: GET, POST and DELETE rules, import and export, block
// and unblock.

// Rule is a rule. Two rules are the same one if effect, target and origin are.
type Rule struct {
	// Effect is "deny" (the default) or "allow".
	Effect connmgr.Effect `json:"effect"`
	// Target is a CIDR, an address, "peer NAME" or "port 25".
	Target string `json:"target"`
	// Expires is when the rule ends; missing if never.
	Expires *time.Time `json:"expires,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	// Origin is where the rule comes from, such as the name of a block list.
	Origin string `json:"origin,omitempty"`
}

// NewRule is the body of POST rules: a rule that comes into force, in place of the same
// one if that is there.
type NewRule struct {
	Rule
	// ForSeconds is how long it lasts, in place of Expires. 0 is for good.
	ForSeconds float64 `json:"for_seconds,omitempty"`
}

// RuleList is some of the rules.
type RuleList struct {
	// Total is all rules in force, Matched those that pass the filters.
	Total   int    `json:"total"`
	Matched int    `json:"matched"`
	Offset  int    `json:"offset"`
	Limit   int    `json:"limit"`
	Rules   []Rule `json:"rules"`
}

// Block is the body of POST block.
type Block struct {
	// Target is as in Rule.
	Target string `json:"target"`
	// ForSeconds is how long; 0 is for good. A block that is there and ends later stays.
	ForSeconds float64 `json:"for_seconds,omitempty"`
	Reason     string  `json:"reason,omitempty"`
}

// Blocked is the answer to POST block.
type Blocked struct {
	// Rule is the rule in force now.
	Rule Rule `json:"rule"`
	// ClosedPeers is how many peers lost connections meanwhile for being blocked, by this
	// rule or another one.
	ClosedPeers int `json:"closed_peers"`
}

// Unblock is the body of POST unblock.
type Unblock struct {
	Target string `json:"target"`
}

// Unblocked is the answer to POST unblock and DELETE rules.
type Unblocked struct {
	// Removed is how many rules there were.
	Removed int `json:"removed"`
	// DeniedBy is a wider rule that denies the target still; missing if there is none.
	DeniedBy *Rule `json:"denied_by,omitempty"`
}

// Imported is the answer to POST rules/import: numbers of rules.
type Imported struct {
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	Kept    int `json:"kept"`
	// Expired is those of the list that were left out since they had ended.
	Expired int `json:"expired"`
	// Total is the rules in force now.
	Total int `json:"total"`
}
