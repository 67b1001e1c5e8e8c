package connmgr

import (
	"fmt"
	"math"
	"net/netip"
	"time"
)

// This file says what limits there are at the door, and has sets of them for common
// situations. door.go enforces them.

// GateLimits are limits for connections that somebody else opens. Connections that
// we open are not limited here, but count where all connections are counted. The
// zero value is no limits, but for [Config.HardLimit], which always holds.
//
// Connections that an allow rule is about pass all limits, the hard limit too, and
// do not count against those per prefix.
type GateLimits struct {
	// MaxInbound is the number of inbound connections, those of unknown direction
	// included. Beyond it a newcomer is refused
	// unless it ranks above somebody who is inbound; see [Gater.InterceptUpgraded].
	// 0 means no limit.
	MaxInbound int
	// MaxPerPeer is the number of connections with one peer, outbound ones included,
	// beyond which a further inbound one is refused. 0 means no limit.
	MaxPerPeer int
	// PerPrefix limits what comes from one part of the network, so that who has many
	// addresses there does not get many places. All of them apply.
	PerPrefix []PrefixLimit
	// ExemptPrivate leaves private, loopback and link-local addresses out of
	// PerPrefix, and out of the address bans of the ladder: many nodes behind one of
	// these are normal.
	ExemptPrivate bool
}

// PrefixLimit is a limit for every address prefix of a length.
type PrefixLimit struct {
	// IPv4 and IPv6 are the lengths of the prefix in bits, such as 24 and 48. 0 leaves
	// addresses of that kind out.
	IPv4, IPv6 int
	// MaxConns is the number of inbound connections at one time from a prefix. 0 means
	// no limit.
	MaxConns int
	// Rate is the number of new inbound connections per second from a prefix, refused
	// ones not counted. 0 means no limit. It is applied by [Gater.InterceptAccept], or
	// by [Gater.InterceptSecured] while there are allow rules about peers.
	Rate float64
	// Burst is how many may come at once before the rate holds. 0 means one second's
	// worth, and at least 1.
	Burst int
}

// PublicNodeLimits returns limits for a node that anybody may dial.
//
// One address gets 8 connections and 5 new ones a second, as go-libp2p's resource
// manager and js-libp2p have it: enough for a household or an office behind one
// address, not for a flood. For IPv6 that is a /56, since that is what one
// customer gets to choose addresses from. A /24 or /48, which costs somebody a
// contract rather than a reboot, gets four times as much. Eight connections with
// one peer are more than two nodes that dial each other at once ever need.
// Private addresses are exempt: who has those is already inside.
func PublicNodeLimits() GateLimits {
	return GateLimits{
		MaxPerPeer: 8,
		PerPrefix: []PrefixLimit{
			{IPv4: 32, IPv6: 56, MaxConns: 8, Rate: 5, Burst: 10},
			{IPv4: 24, IPv6: 48, MaxConns: 32, Rate: 20, Burst: 40},
		},
		ExemptPrivate: true,
	}
}

// PrivateClusterLimits returns limits for nodes of one owner, next to each other.
//
// Whole clusters live in one /24 or one /56, and start all at once, so nothing is
// limited by address: that would only keep the cluster from forming. What remains is
// a bound on connections with one peer, against a node that reconnects in a loop
// without closing.
func PrivateClusterLimits() GateLimits {
	return GateLimits{MaxPerPeer: 16, ExemptPrivate: true}
}

// TestLimits returns limits for tests on one machine, where hundreds of nodes share
// 127.0.0.1: none, and the ladder bans no address there.
func TestLimits() GateLimits { return GateLimits{ExemptPrivate: true} }

// Validate returns an error that names the field if a limit is out of range, or nil.
func (l GateLimits) Validate() error {
	if l.MaxInbound < 0 {
		return fmt.Errorf("connmgr: GateLimits.MaxInbound is %d, must not be negative", l.MaxInbound)
	}
	if l.MaxPerPeer < 0 {
		return fmt.Errorf("connmgr: GateLimits.MaxPerPeer is %d, must not be negative", l.MaxPerPeer)
	}
	for i, p := range l.PerPrefix {
		if fault := p.fault(); fault != "" {
			return fmt.Errorf("connmgr: GateLimits.PerPrefix[%d]: %s", i, fault)
		}
	}
	return nil
}

// These keep the arithmetic of rates far from overflowing.
const (
	maxBurst  = 1 << 20
	maxRefill = 365 * 24 * time.Hour
)

// fault says what is wrong with the limit, "" if nothing is.
func (p PrefixLimit) fault() string {
	switch {
	case p.IPv4 < 0 || p.IPv4 > 32:
		return fmt.Sprintf("IPv4 is %d bits, must be between 0 and 32", p.IPv4)
	case p.IPv6 < 0 || p.IPv6 > 128:
		return fmt.Sprintf("IPv6 is %d bits, must be between 0 and 128", p.IPv6)
	case p.IPv4 == 0 && p.IPv6 == 0:
		return "IPv4 and IPv6 are both 0: the limit is about nobody"
	case p.MaxConns < 0:
		return fmt.Sprintf("MaxConns is %d, must not be negative", p.MaxConns)
	case !(p.Rate >= 0 && p.Rate <= maxBurst) || p.Rate > 0 && p.Rate < 1e-6:
		return fmt.Sprintf("Rate is %v per second, must be 0 or between 0.000001 and %d", p.Rate, maxBurst)
	case p.Burst < 0 || p.Burst > maxBurst:
		return fmt.Sprintf("Burst is %d, must be between 0 and %d", p.Burst, maxBurst)
	case p.Rate > 0 && float64(p.Burst)/p.Rate > maxRefill.Seconds():
		return fmt.Sprintf("a Burst of %d at a Rate of %v per second takes more than %v to come back", p.Burst, p.Rate, maxRefill)
	case p.Burst > 0 && p.Rate == 0:
		return fmt.Sprintf("Burst is %d, but Rate is 0, which means no limit", p.Burst)
	case p.MaxConns == 0 && p.Rate == 0:
		return "MaxConns and Rate are both 0: the limit limits nothing"
	}
	return ""
}

// prefix returns the prefix of a canonical address that the limit is for, and false
// if it is not for such addresses.
func (p *PrefixLimit) prefix(addr netip.Addr) (netip.Prefix, bool) {
	bits := p.IPv6
	if addr.Is4() {
		bits = p.IPv4
	}
	if bits == 0 {
		return netip.Prefix{}, false
	}
	prefix, err := addr.Prefix(bits)
	return prefix, err == nil
}

// orNoLimit returns what a comparison takes for a limit that 0 turns off.
func orNoLimit(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return n
}

// isPrivate reports whether an address is of no use outside a network of one owner.
func isPrivate(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast()
}
