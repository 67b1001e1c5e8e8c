package connmgr

import (
	"fmt"
	"math"
	"time"
)

// This file says how misbehaviour leads to bans, and where a peer stands. ladder.go
// does it.

// LadderOrigin is the origin of the rules that the ban ladder makes.
const LadderOrigin = "ban ladder"

// LadderConfig says how misbehaviour leads to bans. The zero value turns the ladder
// off; [DefaultLadder] is a set that belongs together. In a LadderConfig that is not
// off, zero in a field means its default, and [Zero] means zero.
type LadderConfig struct {
	// DisconnectAt is the score from which on a report closes the peer's connections.
	// 0 means never.
	DisconnectAt float64
	// BanAt is the score from which on a report bans the peer. 0 means never.
	BanAt float64
	// HalfLife is the time in which a score halves. Default 10 min.
	HalfLife time.Duration
	// FirstBan is how long the first ban takes; each further one takes twice as long
	// as the one before, up to MaxBan. Default 30 min.
	FirstBan time.Duration
	// MaxBan is the longest ban. Who has behaved for so long after a ban begins anew.
	// Default 24 h, or FirstBan if that is longer.
	MaxBan time.Duration
	// MaxPeersPerAddr is how many peers of one address may be banned at a time; one
	// more bans the address (of IPv6 its /64, since a host has all of that) until the
	// last of those bans ends. Addresses that [GateLimits.ExemptPrivate] exempts are
	// never banned. Such a ban is about peers there that are allowed by ID as well; of
	// who is allowed by address, none is reported. Default 4; Zero means that the first
	// ban is one of the address too.
	MaxPeersPerAddr int
	// MaxPeers bounds the peers that are remembered. When there are more, those with
	// the lowest scores and no bans are forgotten first; if there are none but banned
	// ones, those whose bans are fewest and end first, and their bans are lifted.
	// Default 16,384; must be positive.
	MaxPeers int
}

// DefaultLadder returns a ladder for public nodes. A report should weigh 1 for what
// a slow or outdated peer may do by mistake, 10 for what is against the protocol, and
// 50 for what can only be malice. Then it takes two violations within minutes to be
// disconnected, and five to be banned. (Thresholds and half-life are those that
// Lighthouse has found to work.)
func DefaultLadder() LadderConfig {
	return LadderConfig{DisconnectAt: 20, BanAt: 50}.withDefaults()
}

func (c LadderConfig) off() bool { return c.DisconnectAt == 0 && c.BanAt == 0 }

func (c LadderConfig) withDefaults() LadderConfig {
	if c.off() {
		return c
	}
	c.HalfLife = orDefault(c.HalfLife, 10*time.Minute)
	c.FirstBan = orDefault(c.FirstBan, 30*time.Minute)
	c.MaxBan = orDefault(c.MaxBan, max(24*time.Hour, c.FirstBan))
	c.MaxPeersPerAddr = orDefault(c.MaxPeersPerAddr, 4)
	c.MaxPeers = orDefault(c.MaxPeers, 1<<14)
	return c
}

func (c LadderConfig) validate() error {
	if c.off() {
		if c != (LadderConfig{}) {
			return fmt.Errorf("connmgr: Ladder has neither DisconnectAt nor BanAt, which turns it off, but other fields are set")
		}
		return nil
	}
	switch {
	case !(c.DisconnectAt >= 0) || math.IsInf(c.DisconnectAt, 0):
		return fmt.Errorf("connmgr: Ladder.DisconnectAt is %v, must be finite and not negative", c.DisconnectAt)
	case !(c.BanAt >= 0) || math.IsInf(c.BanAt, 0):
		return fmt.Errorf("connmgr: Ladder.BanAt is %v, must be finite and not negative", c.BanAt)
	case c.BanAt > 0 && c.DisconnectAt > c.BanAt:
		return fmt.Errorf("connmgr: Ladder.DisconnectAt %v is above BanAt %v", c.DisconnectAt, c.BanAt)
	case c.HalfLife <= 0:
		return fmt.Errorf("connmgr: Ladder.HalfLife is %v, must be positive", c.HalfLife)
	case c.FirstBan <= 0:
		return fmt.Errorf("connmgr: Ladder.FirstBan is %v, must be positive", c.FirstBan)
	case c.FirstBan > maxBan:
		return fmt.Errorf("connmgr: Ladder.FirstBan is %v, must be at most %v (a hundred years)", c.FirstBan, maxBan)
	case c.MaxBan > maxBan:
		return fmt.Errorf("connmgr: Ladder.MaxBan is %v, must be at most %v (a hundred years)", c.MaxBan, maxBan)
	case c.MaxBan < c.FirstBan:
		return fmt.Errorf("connmgr: Ladder.MaxBan %v is below FirstBan %v", c.MaxBan, c.FirstBan)
	case c.MaxPeersPerAddr < 0:
		return fmt.Errorf("connmgr: Ladder.MaxPeersPerAddr is %d, must not be negative", c.MaxPeersPerAddr)
	case c.MaxPeers < 1:
		return fmt.Errorf("connmgr: Ladder.MaxPeers is %d, must be positive", c.MaxPeers)
	}
	return nil
}

// maxBan keeps the ends of bans within what rules can have.
const maxBan = 100 * 365 * 24 * time.Hour

// maxScore keeps sums of scores from being infinite.
const maxScore = 1e300

// Standing is where a peer stands on the ban ladder.
type Standing struct {
	// Score is what reports have added up to, decayed to now. It is 0 after a ban.
	Score float64
	// Bans is the number of bans so far, those forgiven not counted.
	Bans int
	// BannedUntil is when its ban ends; zero if it is not banned.
	BannedUntil time.Time
}
