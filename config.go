package connmgr

import (
	"fmt"
	"log/slog"
	"math"
	"time"
)

// This file holds what a user can set: [Config] with its defaults and checks,
// and [Limits], the part that can be changed while the manager runs.

// Zero stands for a real zero in a [Config] field whose zero value means the
// default, as in Config{GracePeriod: connmgr.Zero}.
const Zero = math.MinInt32

// The defaults of [Config].
const (
	DefaultLowWater       = 100
	DefaultHighWater      = 400
	DefaultGracePeriod    = 20 * time.Second
	DefaultSilencePeriod  = 10 * time.Second
	DefaultDecayInterval  = time.Minute
	DefaultOutboundBonus  = 10
	DefaultActiveBonus    = 20
	DefaultEarlyTagTTL    = time.Hour
	DefaultMaxIdlePeers   = 1 << 16
	DefaultMaxTagsPerPeer = 256
)

// Budget says which connections count against the watermarks.
type Budget uint8

const (
	// BudgetAll counts every established connection, protected ones too, so a
	// watermark is a bound on what the node really holds.
	BudgetAll Budget = iota
	// BudgetTrimmable leaves protected connections out, as go-libp2p does.
	BudgetTrimmable
)

// String returns "all" or "trimmable".
func (b Budget) String() string {
	switch b {
	case BudgetAll:
		return "all"
	case BudgetTrimmable:
		return "trimmable"
	default:
		return fmt.Sprintf("Budget(%d)", b)
	}
}

// Config says how a [Manager] behaves. The zero value is a working
// configuration: zero in a field means its default, and [Zero] means zero.
type Config struct {
	// LowWater is the number of connections at which a trim stops. Default 100,
	// or HighWater if that is set to less.
	LowWater int
	// HighWater is the number of connections above which a trim starts. Default
	// 400, or LowWater if that is set to more.
	HighWater int
	// HardLimit is the number of connections that inbound ones never exceed if the
	// host asks the manager's [Gater]; see [Gater.InterceptUpgraded]. For all others it
	// is the number above which newcomers lose the shelter of their grace period. Those
	// are closed when they have connected, so for a moment there can be more; a trim of
	// the hard limit that frees less than a tenth is not repeated for 100 ms, unless
	// there is a tenth more by then.
	// Default 1.5 × HighWater; math.MaxInt means no limit.
	HardLimit int
	// OutboundFloor is the number of outbound connections below which trims do not go,
	// but for forced ones: who dials nobody knows only who dials him. Default 0: none.
	OutboundFloor int
	// GracePeriod is how long a new peer is neither counted nor closed, so that
	// it can prove its worth. Default 20 s; Zero means none.
	GracePeriod time.Duration
	// SilencePeriod is the least time between two automatic trims, and the time
	// between two background ticks. Trims asked for, and those of the hard limit,
	// do not wait for it. Default 10 s; must be positive.
	SilencePeriod time.Duration
	// Budget says whether protected connections count. Default [BudgetAll].
	Budget Budget

	// OutboundBonus is added to the score of a peer with an outbound connection:
	// somebody here wanted it. Default 10; Zero means none.
	OutboundBonus int
	// ActiveBonus is added to the score of a peer with an open stream. Default
	// 20; Zero means none.
	ActiveBonus int

	// DecayInterval is the shortest interval of a decaying tag; shorter ones are
	// raised to it. Default 1 min; must be positive.
	DecayInterval time.Duration
	// TagRetention is how long tags outlive a peer's last connection. The default
	// keeps them until room is needed (see MaxIdlePeers); Zero drops them with
	// the last connection.
	TagRetention time.Duration
	// EarlyTagTTL is how long tags of a peer that has never connected are kept,
	// counted from the first. Default 1 h; Zero means until the next sweep.
	EarlyTagTTL time.Duration
	// MaxIdlePeers bounds the peers that are remembered for their tags alone,
	// connected and protected ones not counted, so that strangers cannot fill
	// memory. Beyond it one of those idle the longest is forgotten. Default 65,536;
	// Zero means none is remembered.
	MaxIdlePeers int
	// MaxTagsPerPeer bounds the tags of one peer, decaying ones included. A tag
	// too many is dropped and counted. Default 256; must be positive.
	MaxTagsPerPeer int

	// MemoryHighWater is the share of the memory limit, in (0, 1], above which
	// the live heap makes the manager trim to low water by force, without regard
	// to grace, and to protection if it must. The limit is GOMEMLIMIT, or else the
	// container's; New fails if there is neither. Default 0: off.
	MemoryHighWater float64

	// Gate is the rules and limits of the manager's [Gater]. The zero value lets
	// everything pass up to HardLimit.
	Gate GateConfig

	// Host is the owner of the connections; nil means that the manager lives on
	// notifications alone.
	Host Host
	// Logger gets one line per trim that closes something, and once each: a warning
	// when protections begin to keep trims from their target, and background faults.
	// Nil means slog.Default().
	Logger *slog.Logger
	// Clock is where the manager takes the time from. Nil means the system's.
	Clock Clock
	// ManualStart leaves background work to [Manager.Start] instead of starting
	// it in [New], for frameworks that build first and start later.
	ManualStart bool
}

// Clock tells the time and wakes the manager. It exists for programs that run
// on a clock of their own; go-libp2p's users pass one in their tests. Methods
// may be called from several goroutines at once.
type Clock interface {
	Now() time.Time
	After(time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Limits are the numbers that can be changed while a manager runs. Here zero
// means zero: take [Manager.Limits], change what should change, give it to
// [Manager.SetLimits].
type Limits struct {
	// LowWater is where a trim stops, in connections.
	LowWater int
	// HighWater is above which a trim starts, in connections.
	HighWater int
	// HardLimit is what inbound connections that pass the gate do not exceed, and
	// above which grace no longer shelters, in connections; math.MaxInt means no limit.
	HardLimit int
	// OutboundFloor is the number of outbound connections below which trims do not go.
	OutboundFloor int
}

// Validate returns an error that names the field and the values if the limits contradict
// one another, or nil.
func (l Limits) Validate() error {
	switch {
	case l.LowWater < 0:
		return fmt.Errorf("connmgr: LowWater is %d, must not be negative", l.LowWater)
	case l.HighWater < 0:
		return fmt.Errorf("connmgr: HighWater is %d, must not be negative", l.HighWater)
	case l.LowWater > l.HighWater:
		return fmt.Errorf("connmgr: LowWater %d is above HighWater %d", l.LowWater, l.HighWater)
	case l.HardLimit < l.HighWater:
		return fmt.Errorf("connmgr: HardLimit %d is below HighWater %d", l.HardLimit, l.HighWater)
	case l.OutboundFloor < 0:
		return fmt.Errorf("connmgr: OutboundFloor is %d, must not be negative", l.OutboundFloor)
	}
	return nil
}

// withDefaults returns the configuration with every default and every [Zero]
// replaced by the value it stands for, or an error that names the field.
func (c Config) withDefaults() (Config, error) {
	low := max(0, orDefault(c.HighWater, DefaultLowWater))
	c.LowWater = orDefault(c.LowWater, min(DefaultLowWater, low))
	c.HighWater = orDefault(c.HighWater, max(DefaultHighWater, c.LowWater))
	hard := c.HighWater + c.HighWater/2
	if hard < c.HighWater { // overflow: a high water of "practically none"
		hard = math.MaxInt
	}
	c.HardLimit = orDefault(c.HardLimit, hard)
	c.OutboundFloor = orDefault(c.OutboundFloor, 0)
	c.GracePeriod = orDefault(c.GracePeriod, DefaultGracePeriod)
	c.SilencePeriod = orDefault(c.SilencePeriod, DefaultSilencePeriod)
	c.OutboundBonus = orDefault(c.OutboundBonus, DefaultOutboundBonus)
	c.ActiveBonus = orDefault(c.ActiveBonus, DefaultActiveBonus)
	c.DecayInterval = orDefault(c.DecayInterval, DefaultDecayInterval)
	c.Gate.Ladder = c.Gate.Ladder.withDefaults()
	c.TagRetention = orDefault(c.TagRetention, math.MaxInt64)
	c.EarlyTagTTL = orDefault(c.EarlyTagTTL, DefaultEarlyTagTTL)
	c.MaxIdlePeers = orDefault(c.MaxIdlePeers, DefaultMaxIdlePeers)
	c.MaxTagsPerPeer = orDefault(c.MaxTagsPerPeer, DefaultMaxTagsPerPeer)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	return c, c.validate()
}

func (c Config) validate() error {
	if err := c.limits().Validate(); err != nil {
		return err
	}
	for _, d := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"GracePeriod", c.GracePeriod, 0},
		{"SilencePeriod", c.SilencePeriod, 1},
		{"DecayInterval", c.DecayInterval, 1},
		{"TagRetention", c.TagRetention, 0},
		{"EarlyTagTTL", c.EarlyTagTTL, 0},
	} {
		if d.value < d.least {
			return fmt.Errorf("connmgr: %s is %v, must be at least %v", d.field, d.value, d.least)
		}
	}
	for _, n := range []struct {
		field        string
		value, least int
	}{
		{"OutboundBonus", c.OutboundBonus, 0},
		{"ActiveBonus", c.ActiveBonus, 0},
		{"MaxIdlePeers", c.MaxIdlePeers, 0},
		{"MaxTagsPerPeer", c.MaxTagsPerPeer, 1},
	} {
		if n.value < n.least {
			return fmt.Errorf("connmgr: %s is %d, must be at least %d", n.field, n.value, n.least)
		}
	}
	if err := c.Gate.Limits.Validate(); err != nil {
		return err
	}
	if err := c.Gate.Ladder.validate(); err != nil {
		return err
	}
	if c.Budget > BudgetTrimmable {
		return fmt.Errorf("connmgr: Budget is %d, must be BudgetAll (%d) or BudgetTrimmable (%d)", c.Budget, BudgetAll, BudgetTrimmable)
	}
	if m := c.MemoryHighWater; !(m >= 0 && m <= 1) {
		return fmt.Errorf("connmgr: MemoryHighWater is %v, must be between 0 and 1", m)
	}
	return nil
}

func (c Config) limits() Limits {
	return Limits{LowWater: c.LowWater, HighWater: c.HighWater, HardLimit: c.HardLimit, OutboundFloor: c.OutboundFloor}
}

func orDefault[T ~int | ~int64](value, def T) T {
	switch value {
	case 0:
		return def
	case Zero:
		return 0
	default:
		return value
	}
}
