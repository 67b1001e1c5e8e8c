package connmgrlibp2p

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/dep2p/connmgr"
)

// This file holds the options: go-libp2p's own first, then those that it has not.

// Option changes how [NewConnManager] sets up a manager.
type Option func(*config) error

type config struct {
	gracePeriod   time.Duration
	silencePeriod time.Duration
	decayer       *DecayerCfg
	clock         clock.Clock
	budget        connmgr.Budget
	hardLimit     int // 0 if not set
	memory        float64
	logger        *slog.Logger
	outboundFloor int
	gate          connmgr.GateConfig
}

func defaultConfig() config {
	return config{
		gracePeriod:   time.Minute,
		silencePeriod: 10 * time.Second,
	}
}

// WithGracePeriod sets how long a new peer is neither counted nor closed. Default
// 1 min; 0 means none.
func WithGracePeriod(p time.Duration) Option {
	return func(cfg *config) error {
		if p < 0 {
			return fmt.Errorf("connmgr: grace period is %v, must not be negative", p)
		}
		cfg.gracePeriod = p
		return nil
	}
}

// WithSilencePeriod sets the least time between two automatic trims. Default 10 s.
func WithSilencePeriod(p time.Duration) Option {
	return func(cfg *config) error {
		if p <= 0 {
			return fmt.Errorf("connmgr: silence period is %v, must be positive", p)
		}
		cfg.silencePeriod = p
		return nil
	}
}

// DefaultResolution is the shortest interval of a decaying tag unless
// [DecayerConfig] says otherwise. A manager reads it when it is made.
var DefaultResolution = time.Minute

// DecayerCfg configures decaying tags.
type DecayerCfg struct {
	// Resolution is the shortest interval of a decaying tag; shorter ones are
	// raised to it. 0 means [DefaultResolution].
	Resolution time.Duration
	// Clock is where the time comes from; nil means the manager's clock.
	Clock clock.Clock
}

// WithDefaults sets the resolution to its default and returns cfg.
func (cfg *DecayerCfg) WithDefaults() *DecayerCfg {
	cfg.Resolution = DefaultResolution
	return cfg
}

// DecayerConfig sets how tags decay; nil means the defaults.
func DecayerConfig(opts *DecayerCfg) Option {
	return func(cfg *config) error {
		if opts != nil && opts.Resolution < 0 {
			return fmt.Errorf("connmgr: decay resolution is %v, must not be negative", opts.Resolution)
		}
		cfg.decayer = opts
		return nil
	}
}

// WithClock sets where the time comes from. Default is the system's clock. There
// is one clock for everything: if [DecayerCfg] has one too, it must be the same.
func WithClock(c clock.Clock) Option {
	return func(cfg *config) error {
		cfg.clock = c
		return nil
	}
}

// WithBudget says which connections count against the watermarks. Default is
// [connmgr.BudgetAll]; [connmgr.BudgetTrimmable] leaves protected connections
// out, as go-libp2p's manager does, and like that sets no hard limit by itself.
func WithBudget(b connmgr.Budget) Option {
	return func(cfg *config) error {
		cfg.budget = b
		return nil
	}
}

// WithHardLimit sets the number of connections that inbound ones never exceed if the
// node has the manager's gater, and above which newcomers lose the shelter of their
// grace period; see [connmgr.Config.HardLimit]. It must not be below the watermarks;
// math.MaxInt means no limit. Default is 1.5 times the high watermark, and no limit with
// [connmgr.BudgetTrimmable], since go-libp2p's manager has none.
func WithHardLimit(n int) Option {
	return func(cfg *config) error {
		if n <= 0 {
			return fmt.Errorf("connmgr: hard limit is %d, must be positive", n)
		}
		cfg.hardLimit = n
		return nil
	}
}

// WithMemoryHighWater sets the share of the memory limit above which the manager
// trims by force; see [connmgr.Config.MemoryHighWater]. Default 0: off.
func WithMemoryHighWater(share float64) Option {
	return func(cfg *config) error {
		cfg.memory = share
		return nil
	}
}

// WithLogger sets where the manager logs. Default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) error {
		cfg.logger = l
		return nil
	}
}

// WithOutboundFloor sets the number of outbound connections below which trims do not
// go; see [connmgr.Config.OutboundFloor]. Default 0: none.
func WithOutboundFloor(n int) Option {
	return func(cfg *config) error {
		cfg.outboundFloor = n
		return nil
	}
}

// WithGate sets the rules and limits of the manager's gater, which takes effect when
// the node is given [ConnManager.Gater]. Default is no rules, and no limit but the hard
// limit.
func WithGate(gate connmgr.GateConfig) Option {
	return func(cfg *config) error {
		cfg.gate = gate
		return nil
	}
}

// maxTagsPerPeer is generous: bitswap gives a peer one tag per session.
const maxTagsPerPeer = 4096

// newCore makes the core's manager. What is not an option is as in go-libp2p:
// no bonuses in the score, tags die with the last connection, and tags that come
// before the first are kept for a grace period.
func (cfg *config) newCore(limits connmgr.Limits) (*connmgr.Manager, error) {
	core := connmgr.Config{
		LowWater:        orZero(limits.LowWater),
		HighWater:       limits.HighWater,
		HardLimit:       limits.HardLimit,
		GracePeriod:     orZero(cfg.gracePeriod),
		SilencePeriod:   cfg.silencePeriod,
		Budget:          cfg.budget,
		OutboundBonus:   connmgr.Zero,
		ActiveBonus:     connmgr.Zero,
		DecayInterval:   DefaultResolution,
		TagRetention:    connmgr.Zero,
		EarlyTagTTL:     orZero(cfg.gracePeriod),
		MaxTagsPerPeer:  maxTagsPerPeer,
		MemoryHighWater: cfg.memory,
		Logger:          cfg.logger,
		OutboundFloor:   cfg.outboundFloor,
		Gate:            cfg.gate,
	}
	clk := cfg.clock
	if d := cfg.decayer; d != nil {
		if d.Resolution > 0 {
			core.DecayInterval = d.Resolution
		}
		if clk != nil && d.Clock != nil && clk != d.Clock {
			return nil, errors.New("connmgr: WithClock and DecayerCfg.Clock are two different clocks")
		}
		if clk == nil {
			clk = d.Clock
		}
	}
	core.Clock = clk // nil stays nil: both are interfaces
	return connmgr.New(core)
}

// orZero returns what the core's Config takes for a value that may be zero.
func orZero[T ~int | ~int64](v T) T {
	if v == 0 {
		return connmgr.Zero
	}
	return v
}
