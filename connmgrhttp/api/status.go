package api

import (
	"time"

	"github.com/dep2p/connmgr"
)

// This file is how the node is: GET status, GET and PATCH limits, GET samples.

// Status is what the node has and has done. Counters begin when the manager is made.
type Status struct {
	// Now is the node's time.
	Now time.Time `json:"now"`
	// Node is the node's own name, missing if it is not known.
	Node string `json:"node,omitempty"`
	// Started is when the API was made, which is about when the node was started.
	Started time.Time `json:"started"`
	// Limits are the limits in force.
	Limits Limits `json:"limits"`
	// GracePeriodSeconds is how long a new peer is left alone.
	GracePeriodSeconds float64     `json:"grace_period_seconds"`
	Connections        Connections `json:"connections"`
	Peers              PeerCounts  `json:"peers"`
	// Trims is the trims that have ended, by trigger.
	Trims map[connmgr.Trigger]uint64 `json:"trims"`
	// LastTrim is missing if there was none. It does not list who was closed.
	LastTrim *Trim `json:"last_trim,omitempty"`
	// ClosedPeers is the peers closed, by reason.
	ClosedPeers map[connmgr.Reason]uint64 `json:"closed_peers"`
	// SparedPeers is the victims of a plan that were not closed after all.
	SparedPeers uint64      `json:"spared_peers"`
	Gate        GateCounts  `json:"gate"`
	Faults      FaultCounts `json:"faults"`
	// Streams is the event streams that are open, and LostStreams those that were ended
	// since their readers were too slow.
	Streams     int    `json:"streams"`
	LostStreams uint64 `json:"lost_streams"`
}

// Connections is the connections that there are.
type Connections struct {
	// Open is those that count, without those that are being closed.
	Open int `json:"open"`
	// Inbound, Outbound and Unknown are those by direction, the closing ones included.
	Inbound  int `json:"inbound"`
	Outbound int `json:"outbound"`
	Unknown  int `json:"unknown"`
	// Closing is those that the manager has closed and that are not reported as gone yet.
	Closing int `json:"closing"`
	// Arriving is those that have passed the gate and are not reported as connected yet.
	Arriving int `json:"arriving"`
}

// PeerCounts is the peers that the manager knows.
type PeerCounts struct {
	// Connected is those with a connection.
	Connected int `json:"connected"`
	// Protected is those that are protected, connected or not.
	Protected int `json:"protected"`
	// Idle is those remembered for their tags alone.
	Idle int `json:"idle"`
}

// GateCounts is what the gate has and has done.
type GateCounts struct {
	// Checks is how many checks had which outcome, by checkpoint.
	Checks map[connmgr.Checkpoint]map[connmgr.Outcome]uint64 `json:"checks"`
	// Refused is the checks that ended in a refusal.
	Refused uint64 `json:"refused"`
	// Rules is the rules in memory, some of which may have expired minutes ago.
	Rules int `json:"rules"`
	// UnsavedRules is the changes that could not be saved. They are in force.
	UnsavedRules int `json:"unsaved_rules"`
	// Displaced is the peers closed to make room for a newcomer.
	Displaced uint64 `json:"displaced"`
	// TrackedPrefixes is the address prefixes that limits remember, and ReportedPeers the
	// peers on the ban ladder.
	TrackedPrefixes int `json:"tracked_prefixes"`
	ReportedPeers   int `json:"reported_peers"`
}

// FaultCounts is what went wrong. All of it is survived; none of it should grow.
type FaultCounts struct {
	// CloseErrors is the connections that would not close, each time counted.
	CloseErrors uint64 `json:"close_errors"`
	// HangingPeers is the peers now with a connection whose Close does not return.
	HangingPeers int `json:"hanging_peers"`
	// Panics is the panics of the program's own functions that were caught.
	Panics uint64 `json:"panics"`
	// TagsRefused is the tags dropped since a peer had too many.
	TagsRefused uint64 `json:"tags_refused"`
	// The next four are notifications that were ignored.
	DuplicateConnects  uint64 `json:"duplicate_connects"`
	UnknownDisconnects uint64 `json:"unknown_disconnects"`
	NilNotifications   uint64 `json:"nil_notifications"`
	LateNotifications  uint64 `json:"late_notifications"`
	// EventsLost is the events that came faster than they could be noted for streams and
	// histories.
	EventsLost uint64 `json:"events_lost"`
}

// Limits is what can be changed while the node runs. As the body of a PATCH it is a JSON
// merge patch (RFC 7396): what is missing stays. Everything is checked before anything
// changes.
type Limits struct {
	// LowWater is where a trim stops, in connections.
	LowWater int `json:"low_water"`
	// HighWater is above which a trim starts, in connections.
	HighWater int `json:"high_water"`
	// HardLimit is what inbound connections do not exceed; null is no limit.
	HardLimit *int `json:"hard_limit"`
	// OutboundFloor is the outbound connections below which trims do not go.
	OutboundFloor int `json:"outbound_floor"`
	// Gate is the limits for connections that others open.
	Gate GateLimits `json:"gate"`
}

// GateLimits is connmgr.GateLimits. 0 is no limit everywhere.
type GateLimits struct {
	MaxInbound int `json:"max_inbound"`
	MaxPerPeer int `json:"max_per_peer"`
	// PerPrefix is the limits per address prefix; all of them apply. A patch replaces the
	// whole list.
	PerPrefix []PrefixLimit `json:"per_prefix"`
	// ExemptPrivate leaves private, loopback and link-local addresses out of PerPrefix.
	ExemptPrivate bool `json:"exempt_private"`
}

// PrefixLimit is connmgr.PrefixLimit.
type PrefixLimit struct {
	// IPv4 and IPv6 are lengths of prefixes in bits; 0 leaves out the kind.
	IPv4 int `json:"ipv4_bits"`
	IPv6 int `json:"ipv6_bits"`
	// MaxConns is connections at one time; 0 is no limit.
	MaxConns int `json:"max_connections"`
	// Rate is new connections per second; 0 is no limit.
	Rate float64 `json:"new_per_second"`
	// Burst is how many may come at once; 0 is one second's worth.
	Burst int `json:"burst"`
}

// Samples is the connections over time, the oldest first.
type Samples struct {
	// EverySeconds is the time between two samples.
	EverySeconds float64  `json:"every_seconds"`
	Samples      []Sample `json:"samples"`
}

// Sample is the connections at one time, with the limits of that time.
type Sample struct {
	At        time.Time `json:"at"`
	Open      int       `json:"open"`
	Inbound   int       `json:"inbound"`
	Outbound  int       `json:"outbound"`
	LowWater  int       `json:"low_water"`
	HighWater int       `json:"high_water"`
	// HardLimit is null if there is none.
	HardLimit *int `json:"hard_limit"`
}
