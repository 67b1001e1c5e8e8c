package connmgr

import (
	"fmt"
	"strings"
)

// This file has a word for every constant that machines get to read: in JSON, as the
// value of a metric's label, in a query. The texts of String are for people and may
// change; words stay as they are. A test holds that every constant has one.

var reasonWords = words[Reason]{"Reason", []string{
	NotConnected:          "not_connected",
	KeptNothingToDo:       "nothing_to_do",
	KeptAboveCut:          "above_cut",
	KeptInGrace:           "in_grace",
	KeptProtected:         "protected",
	KeptOutboundFloor:     "outbound_floor",
	ClosedLowScore:        "low_score",
	ClosedHardLimit:       "hard_limit",
	ClosedForced:          "forced",
	ClosedForcedProtected: "forced_protected",
	ClosedBlocked:         "blocked",
	ClosedDisplaced:       "displaced",
	ClosedMisbehaved:      "misbehaved",
	ClosedOnRequest:       "on_request",
}}

var triggerWords = words[Trigger]{"Trigger", []string{
	TriggerManual:    "manual",
	TriggerHighWater: "high_water",
	TriggerTick:      "tick",
	TriggerGrace:     "grace_ended",
	TriggerHardLimit: "hard_limit",
	TriggerForce:     "force",
	TriggerNewcomer:  "newcomer",
	TriggerRule:      "rule",
	TriggerReport:    "report",
	TriggerRequest:   "request",
}}

var directionWords = words[Direction]{"Direction", []string{
	DirUnknown:  "unknown",
	DirInbound:  "inbound",
	DirOutbound: "outbound",
}}

var checkpointWords = words[Checkpoint]{"Checkpoint", []string{
	AtPeerDial: "peer_dial",
	AtAddrDial: "address_dial",
	AtAccept:   "accept",
	AtSecured:  "secured",
	AtUpgraded: "upgraded",
}}

var outcomeWords = words[Outcome]{"Outcome", []string{
	Passed:           "passed",
	DeniedPeer:       "denied_peer",
	DeniedAddr:       "denied_address",
	DeniedPort:       "denied_port",
	OverHardLimit:    "hard_limit",
	OverInboundLimit: "inbound_limit",
	OverPeerLimit:    "peer_limit",
	OverPrefixLimit:  "prefix_limit",
	OverRate:         "rate_limit",
}}

var effectWords = words[Effect]{"Effect", []string{Deny: "deny", Allow: "allow"}}

var budgetWords = words[Budget]{"Budget", []string{BudgetAll: "all", BudgetTrimmable: "trimmable"}}

// MarshalText returns the reason's word, such as "low_score". A Reason that does not
// exist is an error.
func (r Reason) MarshalText() ([]byte, error) { return reasonWords.of(r) }

// UnmarshalText takes the word of a reason; others are an error that lists them.
func (r *Reason) UnmarshalText(word []byte) error { return reasonWords.parse(r, word) }

// MarshalText returns the trigger's word, such as "high_water". A Trigger that does not
// exist is an error.
func (t Trigger) MarshalText() ([]byte, error) { return triggerWords.of(t) }

// UnmarshalText takes the word of a trigger; others are an error that lists them.
func (t *Trigger) UnmarshalText(word []byte) error { return triggerWords.parse(t, word) }

// MarshalText returns the direction's word, which is also its text. A Direction that
// does not exist is an error.
func (d Direction) MarshalText() ([]byte, error) { return directionWords.of(d) }

// UnmarshalText takes the word of a direction; others are an error that lists them.
func (d *Direction) UnmarshalText(word []byte) error { return directionWords.parse(d, word) }

// MarshalText returns the checkpoint's word, such as "peer_dial". A Checkpoint that does
// not exist is an error.
func (c Checkpoint) MarshalText() ([]byte, error) { return checkpointWords.of(c) }

// UnmarshalText takes the word of a checkpoint; others are an error that lists them.
func (c *Checkpoint) UnmarshalText(word []byte) error { return checkpointWords.parse(c, word) }

// MarshalText returns the outcome's word, such as "rate_limit". An Outcome that does not
// exist is an error.
func (o Outcome) MarshalText() ([]byte, error) { return outcomeWords.of(o) }

// UnmarshalText takes the word of an outcome; others are an error that lists them.
func (o *Outcome) UnmarshalText(word []byte) error { return outcomeWords.parse(o, word) }

// MarshalText returns the effect's word, which is also its text. An Effect that does not
// exist is an error.
func (e Effect) MarshalText() ([]byte, error) { return effectWords.of(e) }

// UnmarshalText takes the word of an effect; others are an error that lists them.
func (e *Effect) UnmarshalText(word []byte) error { return effectWords.parse(e, word) }

// MarshalText returns the budget's word, which is also its text. A Budget that does not
// exist is an error.
func (b Budget) MarshalText() ([]byte, error) { return budgetWords.of(b) }

// UnmarshalText takes the word of a budget; others are an error that lists them.
func (b *Budget) UnmarshalText(word []byte) error { return budgetWords.parse(b, word) }

// causeWords is in the order of the bits.
var causeWords = [...]string{"protected", "grace", "outbound_floor"}

// Words returns the word of each cause in c, such as "protected"; none for 0.
func (c Cause) Words() []string {
	var list []string
	for i, word := range causeWords {
		if c&(1<<i) != 0 {
			list = append(list, word)
		}
	}
	return list
}

// words is the words of a type's constants.
type words[T ~uint8] struct {
	kind string
	list []string
}

func (w *words[T]) of(v T) ([]byte, error) {
	if int(v) >= len(w.list) {
		return nil, fmt.Errorf("connmgr: there is no %s %d", w.kind, v)
	}
	return []byte(w.list[v]), nil
}

func (w *words[T]) parse(v *T, word []byte) error {
	for i, known := range w.list {
		if string(word) == known {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("connmgr: %s %q: want one of %s", strings.ToLower(w.kind), word, strings.Join(w.list, ", "))
}
