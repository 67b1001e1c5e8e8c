package api

import (
	"time"

	"github.com/dep2p/connmgr"
)

// This file is who there is and what would become of them: GET peers, GET a peer, GET
// plan; and what can be done to a peer.

// PeerList is some of the connected peers.
type PeerList struct {
	// At is when the plan was made that the verdicts are from.
	At time.Time `json:"at"`
	// Trigger is what the plan was made for.
	Trigger connmgr.Trigger `json:"trigger"`
	// Total is all connected peers, Matched those that pass the filters.
	Total   int `json:"total"`
	Matched int `json:"matched"`
	// Offset is how many of those matched come before the first one here, and Limit how
	// many there can be here at most.
	Offset int    `json:"offset"`
	Limit  int    `json:"limit"`
	Peers  []Peer `json:"peers"`
}

// Peer is a peer and its verdict in a plan.
type Peer struct {
	// Peer is its name.
	Peer    string  `json:"peer"`
	Verdict Verdict `json:"verdict"`
	// Score is what it is ranked by: the sum of the next three. It saturates.
	Score         int `json:"score"`
	TagSum        int `json:"tag_sum"`
	OutboundBonus int `json:"outbound_bonus"`
	ActiveBonus   int `json:"active_bonus"`
	// Tags is the value of each tag now.
	Tags map[string]int `json:"tags"`
	// Protections is the tags under which it is protected.
	Protections []string `json:"protections"`
	// Connections is the open connections, Outbound those of them that we opened.
	Connections int `json:"connections"`
	Outbound    int `json:"outbound"`
	// Streams is the open streams on all connections together.
	Streams int `json:"streams"`
	// Since is when it connected, AgeSeconds how long ago. For a peer that is not
	// connected it is since when it is remembered for its tags or protections; missing if
	// it is not.
	Since      *time.Time `json:"since,omitempty"`
	AgeSeconds float64    `json:"age_seconds"`
	// GraceEnds is when its grace period ends, missing if that is over.
	GraceEnds *time.Time `json:"grace_ends,omitempty"`
	// Trusted says that a rule let it pass the limits at the door.
	Trusted bool `json:"trusted"`
	// Addresses is where its connections come from or go to, with ports, as far as that is
	// known.
	Addresses []string `json:"addresses"`
}

// Verdict is what a plan says about a peer.
type Verdict struct {
	// Closed says whether the plan closes it.
	Closed bool           `json:"closed"`
	Reason connmgr.Reason `json:"reason"`
	// Rank is its place among those that the plan closes, 1 the first; missing if it
	// stays.
	Rank int `json:"rank,omitempty"`
}

// PeerDetail is all that is known about a peer, connected or not.
type PeerDetail struct {
	Peer
	Connected bool `json:"connected"`
	// Why says in sentences what would become of it and why, or what has.
	Why []string `json:"why"`
	// Conns is its connections, those that are being closed included, the oldest first.
	Conns []Conn `json:"conns"`
	// Plan is the plan that the verdict is from, without lists of peers.
	Plan PlanFigures `json:"plan"`
	// Rules is the rules that decide about it now, at any of its addresses.
	Rules []Rule `json:"rules"`
	// Standing is where it stands on the ban ladder; missing if nobody reported it.
	Standing *Standing `json:"standing,omitempty"`
	// History is what happened to it, as far as that is remembered, the newest first.
	History []Event `json:"history"`
}

// Conn is a connection.
type Conn struct {
	Direction connmgr.Direction `json:"direction"`
	// Address is the other side's address and port; missing if it is not known or not an
	// IP address, such as for a relayed connection.
	Address    string    `json:"address,omitempty"`
	Opened     time.Time `json:"opened"`
	AgeSeconds float64   `json:"age_seconds"`
	Streams    int       `json:"streams"`
	// State is "open", "arriving" (it has passed the gate and is not reported as connected
	// yet) or "closing".
	State string `json:"state"`
}

// Standing is where a peer stands on the ban ladder.
type Standing struct {
	Score float64 `json:"score"`
	Bans  int     `json:"bans"`
	// BannedUntil is missing if it is not banned.
	BannedUntil *time.Time `json:"banned_until,omitempty"`
}

// PlanFigures is a plan's sums; see connmgr.Figures. All count connections.
type PlanFigures struct {
	At      time.Time       `json:"at"`
	Trigger connmgr.Trigger `json:"trigger"`
	// Total is all open connections, Protected those of protected peers, and InGrace those
	// of others in their grace period.
	Total     int `json:"total"`
	Protected int `json:"protected"`
	InGrace   int `json:"in_grace"`
	// Counted is those that count against low water: all but those in grace, and but for
	// protected ones if the budget leaves them out.
	Counted int `json:"counted"`
	// Target is how many of the counted ones are above low water, and Freed how many the
	// plan closes.
	Target int `json:"target"`
	Freed  int `json:"freed"`
	// Shortfall is how many more should have been closed: what is missed of the target, or
	// what is left above high water for the sake of those that may not be closed, whichever
	// is more. So it can be above 0 with a target of 0: newcomers are not counted, but they
	// are there.
	Shortfall int `json:"shortfall"`
	// Causes is what the shortfall is due to: "protected", "grace", "outbound_floor".
	Causes []string `json:"causes"`
	// GraceEnds is when the first of those kept in grace leaves it.
	GraceEnds *time.Time `json:"grace_ends,omitempty"`
}

// Plan is what a trim would do now.
type Plan struct {
	PlanFigures
	// Closes is how many peers would go, and Peers the first of them, as many as were
	// asked for.
	Closes int    `json:"closes"`
	Peers  []Peer `json:"peers"`
	// Kept is how many peers would stay, by reason.
	Kept map[connmgr.Reason]int `json:"kept"`
}

// TrimRequest is the body of POST trim. It may be empty.
type TrimRequest struct {
	// Force closes down to low water without regard to grace, and to protection if it
	// must.
	Force bool `json:"force"`
}

// Trim is what a trim did.
type Trim struct {
	PlanFigures
	Started         time.Time `json:"started"`
	TookSeconds     float64   `json:"took_seconds"`
	PlanningSeconds float64   `json:"planning_seconds"`
	// Closed is how many peers were closed, and Peers the first of them, at most 1,000.
	// Both are missing where the trim is known by its figures alone, as in Status; in events
	// there is the number, and an event for each peer.
	Closed int          `json:"closed,omitempty"`
	Peers  []ClosedPeer `json:"peers,omitempty"`
	// Spared is those planned to go that did not: they had left, been protected, or risen.
	Spared int `json:"spared"`
	// Failed is the connections that would not close, Hanging the peers whose Close did
	// not return in time.
	Failed  int `json:"failed"`
	Hanging int `json:"hanging"`
}

// ClosedPeer is a peer that was closed.
type ClosedPeer struct {
	Peer   string         `json:"peer"`
	Reason connmgr.Reason `json:"reason"`
	Score  int            `json:"score"`
	// Rank is its place among those that the trim closed; 0 if no trim did it.
	Rank        int `json:"rank"`
	Connections int `json:"connections"`
}

// Protections is the answer to PUT and DELETE of a protection.
type Protections struct {
	Peer        string   `json:"peer"`
	Protected   bool     `json:"protected"`
	Protections []string `json:"protections"`
}

// TagValue is the body of PUT of a tag.
type TagValue struct {
	// Value is any integer of 64 bits. It must be given.
	Value *int `json:"value"`
}

// Tags is the answer to PUT and DELETE of a tag.
type Tags struct {
	Peer   string         `json:"peer"`
	TagSum int            `json:"tag_sum"`
	Tags   map[string]int `json:"tags"`
}

// Closed is the answer to POST close.
type Closed struct {
	Peer string `json:"peer"`
	// Connections is how many were closed; 0 if the peer was not connected.
	Connections int `json:"connections"`
}
