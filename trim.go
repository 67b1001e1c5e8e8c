package connmgr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// This file turns plans into closed connections. One trim runs at a time; who
// asks for one meanwhile joins it.

// TrimOpenConns closes the lowest-ranked peers until low water is reached, and
// returns when they are closed. It does not wait for the silence period. If a
// trim is running, it waits for that one instead. When ctx ends it returns, and
// the trim stops closing unless others wait for it too. A nil ctx never ends.
//
// Source: seed, trim algorithm.
func (m *Manager) TrimOpenConns(ctx context.Context) {
	_, _ = m.Trim(ctx)
}

// Trim is [Manager.TrimOpenConns] with a result. The error is ctx.Err() if ctx
// ended first, or [ErrClosed]; then the result is what was done so far, or empty
// if the trim goes on for others. A Host that panics is an error too; then the
// trim relied on what the manager knew without it.
func (m *Manager) Trim(ctx context.Context) (TrimResult, error) {
	return m.trim(ctx, TriggerManual)
}

// ForceTrim closes peers until low water is reached, in grace or not, and
// protected ones too if that does not suffice. It is for emergencies, such as
// memory running out; otherwise it is like [Manager.Trim].
func (m *Manager) ForceTrim(ctx context.Context) (TrimResult, error) {
	return m.trim(ctx, TriggerForce)
}

// TrimResult is what a trim did.
type TrimResult struct {
	// Figures are those of the plan. What was really closed is in Closed.
	Figures
	// Trigger is what set off the trim.
	Trigger Trigger
	// Started is when it began to plan, and Took how long it took in all.
	Started time.Time
	Took    time.Duration
	// Planning is the part of Took until the plan was made.
	Planning time.Duration
	// GraceEnds is when the first newcomer that was kept leaves its grace period;
	// zero if there is none.
	GraceEnds time.Time
	// Closed is the peers whose connections were closed, the first to go first.
	// All who wait for one trim, and subscribers, get the same slice: it must not
	// be changed.
	Closed []Verdict
	// Spared is the number of peers that were planned to go but had left, had
	// been protected, or had risen above the cut when their turn came.
	Spared int
	// Failed is the number of connections whose Close returned an error or
	// panicked. They count as open and can be chosen again.
	Failed int
	// Hanging is the number of peers whose Close had not returned when the trim
	// ended. Their connections are neither counted nor chosen again until it does.
	Hanging int
}

// LogValue returns the result as a group, for a line of [log/slog].
func (r TrimResult) LogValue() slog.Value {
	closed := 0
	for _, v := range r.Closed {
		closed += v.Conns
	}
	attrs := []slog.Attr{
		slog.String("trigger", r.Trigger.String()),
		slog.Int("closed_peers", len(r.Closed)),
		slog.Int("closed_conns", closed),
		slog.Int("total", r.Total),
		slog.Int("counted", r.Counted),
		slog.Int("target", r.Target),
		slog.Int("in_grace", r.InGrace),
		slog.Int("protected", r.Protected),
		slog.Float64("took_ms", float64(r.Took.Microseconds())/1000),
	}
	if r.Shortfall > 0 {
		attrs = append(attrs, slog.Int("shortfall", r.Shortfall), slog.String("cause", r.Cause.String()))
	}
	for _, n := range []struct {
		key string
		n   int
	}{{"spared", r.Spared}, {"failed", r.Failed}, {"hanging", r.Hanging}} {
		if n.n > 0 {
			attrs = append(attrs, slog.Int(n.key, n.n))
		}
	}
	return slog.GroupValue(attrs...)
}

// trims is the state of trimming.
type trims struct {
	mu      sync.Mutex // guards running and what trimRun says
	running *trimRun

	// spare holds planners between trims. A pool, since a trim of a million peers
	// needs a lot of memory, and who trims seldom should not keep it.
	spare sync.Pool

	hanging atomic.Int64 // peers whose Close has been given up and has not returned
	record  trimRecord
}

// planner returns a planner to use until putBack.
func (m *Manager) planner() *planner {
	if p, ok := m.trims.spare.Get().(*planner); ok {
		return p
	}
	return new(planner)
}

func (m *Manager) putBack(p *planner) {
	p.release()
	m.trims.spare.Put(p)
}

// trimRun is a trim under way.
type trimRun struct {
	trigger Trigger
	cancel  context.CancelFunc
	waiters int // guarded by trims.mu
	done    chan struct{}
	result  TrimResult // valid once done is closed
	err     error      // likewise
}

// trim runs a trim or joins one that is at least as strong.
func (m *Manager) trim(ctx context.Context, trigger Trigger) (TrimResult, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	for {
		if err := ctx.Err(); err != nil {
			return TrimResult{Trigger: trigger}, err
		}
		run, err := m.joinTrim(trigger)
		if err != nil {
			return TrimResult{Trigger: trigger}, err
		}
		select {
		case <-run.done:
			m.leaveTrim(run)
		case <-ctx.Done():
			if alone := m.leaveTrim(run); alone {
				select {
				case <-run.done: // it stops now, and says what it has done
					return run.result, ctx.Err()
				case <-time.After(closePatience / 5): // host or connection hangs
				}
			}
			return TrimResult{Trigger: trigger}, ctx.Err()
		}
		if errors.Is(run.err, context.Canceled) {
			continue // it was stopping already when we joined
		}
		if run.trigger.strength() >= trigger.strength() {
			return run.result, run.err
		}
		// That was a weaker trim than we want: now it is our turn.
	}
}

// joinTrim returns the running trim, with the caller among its waiters, or
// starts one.
func (m *Manager) joinTrim(trigger Trigger) (*trimRun, error) {
	t := &m.trims
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		t.running.waiters++
		return t.running, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &trimRun{trigger: trigger, cancel: cancel, waiters: 1, done: make(chan struct{})}
	if !m.goIfOpen(func() { m.runTrim(ctx, run) }) {
		cancel()
		return nil, ErrClosed
	}
	t.running = run
	return run, nil
}

// leaveTrim ends a caller's interest in a trim. The last one to leave stops it.
func (m *Manager) leaveTrim(run *trimRun) (alone bool) {
	m.trims.mu.Lock()
	defer m.trims.mu.Unlock()
	if run.waiters--; run.waiters == 0 {
		run.cancel()
		return true
	}
	return false
}

// runTrim is the goroutine of a trim.
func (m *Manager) runTrim(ctx context.Context, run *trimRun) {
	defer func() {
		if p := recover(); p != nil {
			// Foreign code (host, connection, logger) panicked in the background.
			m.panics.Add(1)
			run.err = fmt.Errorf("connmgr: trim given up: panic in host or connection: %v", p)
			m.logFaultOnce(&m.faults.trim, run.err)
		}
		t := &m.trims
		t.mu.Lock()
		t.running = nil
		t.mu.Unlock()
		run.cancel()
		close(run.done)
	}()
	run.result.Trigger = run.trigger
	run.err = m.doTrim(ctx, &run.result)
}

// doTrim plans and closes.
func (m *Manager) doTrim(ctx context.Context, res *TrimResult) error {
	p := m.planner()
	defer m.putBack(p)
	res.Started = m.cfg.Clock.Now()
	hostErr := m.refresh()
	plan := m.plan(p, res.Trigger)
	planned := m.cfg.Clock.Now()
	res.Figures, res.GraceEnds = plan.Figures, plan.GraceEnds
	res.Planning = planned.Sub(res.Started)

	c := newCloser(m, &plan)
	c.run(ctx, res)

	res.Took = m.cfg.Clock.Now().Sub(res.Started)
	m.trims.record.add(res)
	m.logTrim(res)
	m.events.publish(func() Event { return EventTrim{*res} })
	if res.Cause&CauseGrace != 0 {
		m.wake() // the background loop tries again when the grace ends
	}
	if m.closed.Load() && !c.finished() {
		return ErrClosed
	}
	return cmp.Or(ctx.Err(), hostErr)
}

// refresh brings the table up to date: the host's word, and old tags. The error is
// a panic of the host.
func (m *Manager) refresh() error {
	err := m.askHost()
	for _, lost := range m.table.sweep() {
		m.gater.Release(lost.peer, lost.conn)
	}
	return err
}

// askHost makes the table agree with what the host says, if there is one. The error is a
// panic of the host; then what is known without it stays.
func (m *Manager) askHost() error {
	if m.cfg.Host == nil {
		return nil
	}
	err := m.safely(func() error { m.reconcile(m.cfg.Host); return nil })
	if err != nil {
		err = fmt.Errorf("connmgr: host: %w", err)
		m.logFaultOnce(&m.faults.host, err)
	}
	return err
}

// plan reads the table and plans. Only the peers that may have to go are looked at more
// than once, and asked for their streams.
func (m *Manager) plan(p *planner, trigger Trigger) Plan {
	policy, now := m.policy(), m.cfg.Clock.Now()
	for slack := 1; ; slack *= 4 {
		p.begin(policy, now, trigger)
		at := m.table.instant(now)
		bound, expected := m.guessBound(p, at, slack)
		m.table.feed(p, at, bound, expected)
		if plan, ok := p.finish(m.look(&p.tally), m.table.idOf); ok {
			return plan
		}
	}
}

// logTrim writes one line for a trim that closed something. A shortfall due to
// protections is worth a warning, and connections that would not close a line, but
// not again and again for as long as it lasts. One due to grace alone ends by itself.
func (m *Manager) logTrim(res *TrimResult) {
	level := slog.LevelDebug
	switch shortfall, trouble := m.trims.record.note(res); {
	case shortfall:
		level = slog.LevelWarn
	case len(res.Closed) > 0 || trouble:
		level = slog.LevelInfo
	}
	m.log(level, "connmgr: trim", "trim", *res)
}
