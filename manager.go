package connmgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds the manager and its life: New, Start, Close.

// ErrClosed is returned by calls that need background work of a manager that is
// closed.
var ErrClosed = errors.New("connmgr: manager is closed")

// Manager keeps a node's connections within its watermarks. Make one with [New].
// All methods may be called from several goroutines, from callbacks of the
// manager, and after Close.
type Manager struct {
	cfg    Config // with defaults filled in; never changes
	tieKey [2]uint64
	limits atomic.Pointer[Limits]
	table  *registry
	decay  decayer
	gater  *Gater
	events events

	// stop is closed by Close; wakeUp (capacity 1) makes the background loop look
	// at the count at once.
	stop   chan struct{}
	wakeUp chan struct{}
	memory *memoryGauge // nil if the memory trigger is off

	life       sync.Mutex // guards started, the change of closed, and adding to background
	started    bool
	closed     atomic.Bool
	background sync.WaitGroup // every goroutine of the manager

	trims   trims
	ignored struct{ duplicate, unknown, late, null atomic.Uint64 }
	panics  atomic.Uint64
	// faults says which kinds of background faults have been logged.
	faults struct{ host, conn, closing, trim atomic.Bool }
}

// New makes a manager and starts its background work, unless
// [Config.ManualStart] says otherwise. It fails if a field of the configuration
// is out of range, with an error that names the field and its value, and if the rules
// cannot be loaded.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg:    cfg,
		tieKey: [2]uint64{rand.Uint64(), rand.Uint64()},
		table:  newRegistry(&cfg),
		decay:  decayer{changed: make(chan struct{}, 1)},
		stop:   make(chan struct{}),
		wakeUp: make(chan struct{}, 1),
	}
	m.limits.Store(new(cfg.limits()))
	if cfg.MemoryHighWater > 0 {
		if m.memory, err = newMemoryGauge(cfg.MemoryHighWater); err != nil {
			return nil, err
		}
	}
	if m.gater, err = newGater(m, cfg.Gate); err != nil {
		return nil, err
	}
	if !cfg.ManualStart {
		return m, m.Start()
	}
	return m, nil
}

// Start begins background work: automatic trims, decay, sweeps and the watch on
// memory. New has called it already unless [Config.ManualStart] is set. Starting
// twice is the same as once; after Close it returns [ErrClosed].
func (m *Manager) Start() error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed.Load() {
		return ErrClosed
	}
	if m.started {
		return nil
	}
	m.started = true
	m.background.Go(m.trimInBackground)
	m.background.Go(m.decayInBackground)
	if m.memory != nil {
		m.background.Go(m.watchMemory)
	}
	return nil
}

// Close stops background work and waits for it. It closes no connections. Calls
// after the first wait as well, and return nil.
//
// If a connection's Close hangs, or a callback does, Close gives up after two
// seconds and returns an error that says so.
//
// Afterwards notifications are ignored and counted, trims return [ErrClosed],
// and all other methods work on what the manager knew when it was closed.
func (m *Manager) Close() error {
	m.life.Lock()
	first := m.closed.CompareAndSwap(false, true)
	if first {
		close(m.stop)
	}
	m.life.Unlock()

	joined := make(chan struct{})
	go func() {
		m.background.Wait()
		close(joined)
	}()
	select {
	case <-joined:
		m.events.close()
	case <-time.After(2 * closePatience): // a trim under way gives up its own first
		m.events.close()
		if n := m.trims.hanging.Load(); first && n > 0 {
			return fmt.Errorf("connmgr: Close: %d peers have a connection whose own Close has not returned after %v", n, closePatience)
		}
		if first {
			return errors.New("connmgr: Close: a callback of the manager has not returned")
		}
	}
	return nil
}

// runs reports whether background work has been started, and not ended.
func (m *Manager) runs() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.started && !m.closed.Load()
}

// goIfOpen runs f on a goroutine that Close waits for, and reports whether it
// did: a closed manager starts nothing.
func (m *Manager) goIfOpen(f func()) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed.Load() {
		return false
	}
	m.background.Go(f)
	return true
}

// Limits returns the limits in force.
func (m *Manager) Limits() Limits { return *m.limits.Load() }

// SetLimits changes the limits while the manager runs. If the count is above
// the new high water, a trim follows in the background as soon as the silence
// period allows. HardLimit does not follow HighWater by itself. If the limits
// contradict one another it returns an error that names the field and both values,
// and nothing is changed.
func (m *Manager) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	m.limits.Store(&l)
	m.events.publish(func() Event { return EventLimits{Limits: l, At: m.cfg.Clock.Now()} })
	m.wake()
	return nil
}

// Policy returns what trims are planned with now. With [PlanTrim], it answers what would
// be if something were different. Its TieKey is secret: who knows it can choose an ID that
// goes last.
func (m *Manager) Policy() Policy { return *m.policy() }

func (m *Manager) policy() *Policy {
	l := m.limits.Load()
	return &Policy{
		LowWater:      l.LowWater,
		HighWater:     l.HighWater,
		HardLimit:     l.HardLimit,
		OutboundFloor: l.OutboundFloor,
		GracePeriod:   m.cfg.GracePeriod,
		OutboundBonus: m.cfg.OutboundBonus,
		ActiveBonus:   m.cfg.ActiveBonus,
		Budget:        m.cfg.Budget,
		TieKey:        m.tieKey,
	}
}

// wake makes the background loop look at the count soon.
func (m *Manager) wake() { notify(m.wakeUp) }

// notify puts a token into a channel of capacity 1, if there is none in it.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// logFaultOnce logs a background fault the first time it happens; counters say
// how often it did.
func (m *Manager) logFaultOnce(logged *atomic.Bool, err error) {
	if logged.CompareAndSwap(false, true) {
		m.log(slog.LevelError, "connmgr: background fault; later ones of its kind are only counted", "error", err)
	}
}

// log writes a line. A logger is foreign code too: one that panics in the
// background must not take the process with it.
func (m *Manager) log(level slog.Level, msg string, args ...any) {
	_ = m.safely(func() error { m.cfg.Logger.Log(context.Background(), level, msg, args...); return nil })
}

// safely calls foreign code in the background and turns a panic into an error.
func (m *Manager) safely(f func() error) (err error) {
	defer m.recovered(&err)
	return f()
}

// recovered is deferred by whoever calls foreign code: it turns a panic into an error.
func (m *Manager) recovered(err *error) {
	if p := recover(); p != nil {
		m.panics.Add(1)
		*err = fmt.Errorf("panic: %v", p)
	}
}
