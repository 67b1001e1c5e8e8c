package connmgr

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// This file says what the gate answers: the checkpoints, the outcomes of a check,
// and the error that a refused connection gets.

// The two reasons for which a connection is refused. Source: seed, error handling.
var (
	// ErrConnectionDenied is wrapped by every refusal.
	ErrConnectionDenied = errors.New("connmgr: connection denied")
	// ErrPeerBlocked is wrapped as well if a rule about the peer is the cause.
	ErrPeerBlocked = errors.New("connmgr: peer blocked")
)

// Checkpoint is a moment in the life of a connection at which the gate is asked.
type Checkpoint uint8

const (
	// AtPeerDial is before we look for a peer's addresses.
	AtPeerDial Checkpoint = iota
	// AtAddrDial is before we dial an address.
	AtAddrDial
	// AtAccept is when somebody has dialled us: we know an address, no more.
	AtAccept
	// AtSecured is after the handshake: we know who it is.
	AtSecured
	// AtUpgraded is when the connection is ready for use.
	AtUpgraded

	checkpoints = int(AtUpgraded) + 1
)

var checkpointTexts = [...]string{
	AtPeerDial: "peer dial",
	AtAddrDial: "address dial",
	AtAccept:   "accept",
	AtSecured:  "secured",
	AtUpgraded: "upgraded",
}

// String returns the checkpoint in one or two words.
func (c Checkpoint) String() string {
	if int(c) < len(checkpointTexts) {
		return checkpointTexts[c]
	}
	return fmt.Sprintf("Checkpoint(%d)", c)
}

// Outcome is what came of a check.
type Outcome uint8

const (
	// Passed is a connection that may go on.
	Passed Outcome = iota
	// DeniedPeer is a rule about the peer.
	DeniedPeer
	// DeniedAddr is a rule about the address.
	DeniedAddr
	// DeniedPort is a rule about the port.
	DeniedPort
	// OverHardLimit is the limit of all connections, with nobody to make room who
	// ranks lower.
	OverHardLimit
	// OverInboundLimit is the limit of inbound connections, likewise.
	OverInboundLimit
	// OverPeerLimit is the limit of connections of one peer.
	OverPeerLimit
	// OverPrefixLimit is the limit of connections from one address prefix.
	OverPrefixLimit
	// OverRate is the limit of new connections per second from one address prefix.
	OverRate

	outcomes = int(OverRate) + 1
)

var outcomeTexts = [...]string{
	Passed:           "passed",
	DeniedPeer:       "denied peer",
	DeniedAddr:       "denied address",
	DeniedPort:       "denied port",
	OverHardLimit:    "hard limit",
	OverInboundLimit: "inbound limit",
	OverPeerLimit:    "peer limit",
	OverPrefixLimit:  "prefix limit",
	OverRate:         "rate limit",
}

// String returns the outcome in one or two words.
func (o Outcome) String() string {
	if int(o) < len(outcomeTexts) {
		return outcomeTexts[o]
	}
	return fmt.Sprintf("Outcome(%d)", o)
}

// isFull reports whether the outcome is one for which somebody may go to make room.
func (o Outcome) isFull() bool { return o == OverHardLimit || o == OverInboundLimit }

// DeniedError is why the gate refused a connection. It wraps
// [ErrConnectionDenied], and [ErrPeerBlocked] as well if the cause is a rule about
// the peer.
type DeniedError struct {
	// Checkpoint is where.
	Checkpoint Checkpoint
	// Outcome is why; never Passed.
	Outcome Outcome
	// Peer is who, and Addr from or to where, as far as the checkpoint knows; HasPeer
	// tells the empty ID from none.
	Peer    NodeID
	HasPeer bool
	Addr    netip.AddrPort
	// Rule is the rule that decided; zero if a limit did.
	Rule Rule
	// Limit is the limit that decided, in connections (per second for OverRate), and
	// Prefix what it is for, if it is for a prefix.
	Limit  float64
	Prefix netip.Prefix
	// Until is when the refusal ends by itself: when the rule expires, or when the
	// rate allows the next connection. Zero means that nobody knows.
	Until time.Time
}

// Error says it in one line, such as "connmgr: peer blocked: alice at secured: deny
// peer alice until 2026-12-24T18:00:00Z (spam)".
func (e *DeniedError) Error() string {
	var b strings.Builder
	b.WriteString(e.kind().Error())
	b.WriteString(":")
	if e.HasPeer {
		fmt.Fprintf(&b, " %v", e.Peer)
	}
	switch addr := e.Addr; {
	case !addr.Addr().IsValid():
	case addr.Port() == 0:
		fmt.Fprintf(&b, " %v", addr.Addr())
	default:
		fmt.Fprintf(&b, " %v", addr)
	}
	fmt.Fprintf(&b, " at %v: ", e.Checkpoint)
	switch {
	case e.Outcome <= DeniedPort:
		b.WriteString(e.Rule.String())
	case e.Outcome == OverRate:
		fmt.Fprintf(&b, "%v of %v new connections per second from %v", e.Outcome, e.Limit, e.Prefix)
	case e.Outcome == OverPrefixLimit:
		fmt.Fprintf(&b, "%v of %v connections from %v", e.Outcome, e.Limit, e.Prefix)
	default:
		fmt.Fprintf(&b, "%v of %v connections", e.Outcome, e.Limit)
	}
	return b.String()
}

func (e *DeniedError) kind() error {
	if e.Outcome == DeniedPeer {
		return ErrPeerBlocked
	}
	return ErrConnectionDenied
}

// Unwrap returns what the error is one of.
func (e *DeniedError) Unwrap() []error {
	if e.Outcome == DeniedPeer {
		return []error{ErrPeerBlocked, ErrConnectionDenied}
	}
	return []error{ErrConnectionDenied}
}

// GateStats is what the gate has done since New, and what it holds.
type GateStats struct {
	// Checks is how many checks had which outcome.
	Checks map[Checkpoint]map[Outcome]uint64
	// Rules is the rules in memory. Some may have expired: those do not decide, and
	// are forgotten within minutes.
	Rules int
	// UnsavedRules is the changes of rules that the store could not save. They are in
	// force, and saving them is tried again.
	UnsavedRules int
	// Displaced is the peers closed to make room for a newcomer that ranks higher.
	Displaced uint64
	// Arriving is the connections that have passed [Gater.InterceptUpgraded] and have
	// not been reported as connected yet.
	Arriving int
	// TrackedPrefixes is the address prefixes that the limits per prefix remember,
	// and ReportedPeers the peers that the ban ladder does. Both are bounded.
	TrackedPrefixes, ReportedPeers int
}

// gateCounts counts outcomes by checkpoint.
type gateCounts [checkpoints]struct {
	passed striped // by far the most
	denied [outcomes]atomic.Uint64
}

func (c *gateCounts) fill(s *GateStats) {
	s.Checks = make(map[Checkpoint]map[Outcome]uint64)
	for cp := range c {
		counts := make(map[Outcome]uint64)
		counts[Passed] = uint64(c[cp].passed.sum())
		for o := range c[cp].denied {
			counts[Outcome(o)] += c[cp].denied[o].Load()
		}
		maps.DeleteFunc(counts, func(_ Outcome, n uint64) bool { return n == 0 })
		if len(counts) > 0 {
			s.Checks[Checkpoint(cp)] = counts
		}
	}
}
