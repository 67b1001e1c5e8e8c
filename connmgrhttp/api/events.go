package api

import (
	"time"

	"github.com/dep2p/connmgr"
)

// This file is what happens: GET events, a stream, and GET events/recent.

// EventType is the kind of an event.
type EventType string

// The kinds of events.
const (
	Connected    EventType = "connected"
	Disconnected EventType = "disconnected"
	// PeerClosed is a peer that the manager has closed.
	PeerClosed EventType = "closed"
	// TrimEnded is a trim that has ended, whether or not it closed anything.
	TrimEnded EventType = "trim"
	// LimitsChanged is new watermarks or a new hard limit or floor.
	LimitsChanged EventType = "limits"
	// Denied is a connection that the gate refused.
	Denied EventType = "denied"
	// RulesChanged is rules that came or went.
	RulesChanged EventType = "rules"
	// Lost is the last event of a stream: its reader was too slow, and what came after
	// was not kept for it. It has no ID.
	Lost EventType = "lost"
)

// EventTypes is all kinds that can be asked for.
func EventTypes() []EventType {
	return []EventType{Connected, Disconnected, PeerClosed, TrimEnded, LimitsChanged, Denied, RulesChanged}
}

// Event is something that happened. What it has beside the first fields depends on its
// type.
type Event struct {
	// ID grows with every event, also across restarts of the node.
	ID   uint64    `json:"id,omitempty"`
	Type EventType `json:"type"`
	At   time.Time `json:"at"`
	// Text says it in one line, for people.
	Text string `json:"text"`
	// Peer is who it is about, if it is about somebody who is known.
	Peer string `json:"peer,omitempty"`
	// Direction is of a connection, and Address where it comes from or goes to, missing if
	// that is not known.
	Direction *connmgr.Direction `json:"direction,omitempty"`
	Address   string             `json:"address,omitempty"`
	Closed    *ClosedEvent       `json:"closed,omitempty"`
	Trim      *Trim              `json:"trim,omitempty"`
	Limits    *WatermarksEvent   `json:"limits,omitempty"`
	Denied    *DeniedEvent       `json:"denied,omitempty"`
	Rules     *RulesEvent        `json:"rules,omitempty"`
}

// ClosedEvent is why a peer was closed.
type ClosedEvent struct {
	Reason  connmgr.Reason  `json:"reason"`
	Trigger connmgr.Trigger `json:"trigger"`
	Score   int             `json:"score"`
	// Rank is its place among those that the trim closed, 1 the first; 0 if no trim did it.
	Rank        int `json:"rank"`
	Connections int `json:"connections"`
	// Rule is the rule that denies it, and Address where its connection came from or went
	// to; missing if no rule did it.
	Rule    *Rule  `json:"rule,omitempty"`
	Address string `json:"address,omitempty"`
}

// WatermarksEvent is the watermarks, the hard limit and the floor that hold now.
type WatermarksEvent struct {
	LowWater  int `json:"low_water"`
	HighWater int `json:"high_water"`
	// HardLimit is null if there is none.
	HardLimit     *int `json:"hard_limit"`
	OutboundFloor int  `json:"outbound_floor"`
}

// DeniedEvent is why the gate refused a connection.
type DeniedEvent struct {
	Checkpoint connmgr.Checkpoint `json:"checkpoint"`
	Outcome    connmgr.Outcome    `json:"outcome"`
	// Address is the other side's, missing if it is not known.
	Address string `json:"address,omitempty"`
	// Rule is the rule that decided, missing if a limit did.
	Rule *Rule `json:"rule,omitempty"`
	// Limit is the limit that decided, in connections, or per second for rate_limit.
	Limit float64 `json:"limit,omitempty"`
	// Prefix is what the limit is for, if it is for an address prefix.
	Prefix string `json:"prefix,omitempty"`
	// Until is when the refusal ends by itself; missing if nobody knows.
	Until *time.Time `json:"until,omitempty"`
}

// RulesEvent is rules that came or went in one step.
type RulesEvent struct {
	// Set and Removed are how many came (or got a new end or reason) and went.
	Set     int `json:"set"`
	Removed int `json:"removed"`
	// Expired says that they went since they had ended.
	Expired bool `json:"expired"`
	// First is the first of them, at most 10.
	First []Rule `json:"first"`
}

// EventList is what happened, the newest first.
type EventList struct {
	Events []Event `json:"events"`
}
