// Package apiload puts load on the API of a node whose connections churn, and holds both
// to what they promise: every request is answered, the node keeps its limits, events come
// without a gap, and nothing is left behind.
//
// The node is a real go-libp2p host, the crowd that connects to it is real hosts over TCP
// and QUIC, and the API is served over TCP, as `connmgr run` does it.
package apiload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is the order of events: the crowd churns by itself, then under load, then all
// leave, and what is there is held against what was there before.

// Config says how much load. Every field must be set.
type Config struct {
	// For is how long requests are sent, and Calm how long the crowd churns without any
	// before that, for comparison.
	For, Calm time.Duration
	// Rate is requests a second.
	Rate int
	// Clients is how many connections requests are sent over.
	Clients int
	// Streams is the event streams that are read, and Silent those that never are.
	Streams, Silent int
	// Nodes is how many nodes connect and leave again and again. There should be more of
	// them than High.
	Nodes int
	// Low, High and Hard are the node's limits, in connections.
	Low, High, Hard int
	// Stay is how long a member of the crowd stays connected, and Away how long it keeps
	// away, both on average.
	Stay, Away time.Duration
	// HeapEvery is the time between two looks at the heap, each of which collects
	// garbage first. 0 means none: they disturb the rest.
	HeapEvery time.Duration
	// Seed makes runs ask the same things, though not at the same moments.
	Seed uint64
	// Log is told what is going on.
	Log func(format string, args ...any)
}

// requests is how many are due.
func (c *Config) requests() int { return int(c.For.Seconds() * float64(c.Rate)) }

const (
	// patience is how long is waited for what has to happen. It is as long as a machine
	// that does much else may make it.
	patience = time.Minute
	// token is what requests carry.
	token = "the-token-of-the-load-test"
	// silencePeriod and grace are short, so that there are many trims in a short run.
	silencePeriod, grace = 500 * time.Millisecond, 500 * time.Millisecond
)

// Run puts the load on, and reports. An error means that there is no report; what was not
// as promised is in [Report.Problems].
func Run(ctx context.Context, cfg Config) (*Report, error) {
	l := &load{cfg: cfg, report: &Report{Config: cfg}}
	defer l.tearDown()
	if err := l.setUp(ctx); err != nil {
		return nil, err
	}
	if err := l.play(ctx); err != nil {
		return nil, err
	}
	return l.report, nil
}

// load is a load under way.
type load struct {
	cfg    Config
	report *Report
	node   *node
	crowd  *crowd
	caller *caller
}

func (l *load) setUp(ctx context.Context) (err error) {
	started := time.Now()
	if l.node, err = startNode(l.cfg); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	if l.crowd, err = startCrowd(ctx, l.cfg, l.node.host); err != nil {
		return fmt.Errorf("start the crowd: %w", err)
	}
	l.caller = newCaller(l.cfg, l.node, l.crowd)
	l.cfg.Log("one node and %d others are up after %v", len(l.crowd.members), time.Since(started).Round(time.Millisecond))
	return nil
}

func (l *load) tearDown() {
	if l.caller != nil {
		l.caller.disconnect()
	}
	l.crowd.close()
	if l.node != nil {
		l.node.close()
	}
}

func (l *load) play(ctx context.Context) error {
	// What is used for the first time is not taken for what is left behind.
	if err := l.warmUp(ctx); err != nil {
		return err
	}
	before := takeStock()
	l.report.Before = before

	events, since, err := l.follow(ctx)
	if err != nil {
		return err
	}
	defer events.close()
	watch := watchHost(ctx, l.node.host)
	defer watch.stop()
	probe := l.node.startProbe(ctx, l.crowd)
	defer probe.stop()
	l.crowd.churn(ctx, l.cfg)
	if err := pause(ctx, l.cfg.Calm); err != nil {
		return err
	}
	if err := probe.enough(ctx); err != nil {
		return fmt.Errorf("wait for %d connections to come and to go: %w", enoughCalls, err)
	}

	probe.next() // from here on, calls are made under load
	streams, err := l.openStreams(ctx, since)
	if err != nil {
		return err
	}
	defer streams.close()
	heap := watchHeap(ctx, l.cfg.HeapEvery)
	defer heap.stop()
	l.cfg.Log("%d requests a second for %v", l.cfg.Rate, l.cfg.For)
	err = l.caller.run(ctx)
	r := l.report
	r.Calls, r.CutWrong = l.caller.calls(), l.caller.cutWrong
	r.Heap = heap.stop()
	r.Probe = probe.stop()
	if err != nil {
		return err
	}

	l.cfg.Log("waiting for the streams to be dropped that are not read, and for a trim to go to low water")
	r.Dropped = l.awaitDropped(ctx)
	_ = until(ctx, func() bool { return events.toLow.Load() > 0 })
	l.cfg.Log("all leave")
	l.crowd.rest()
	r.Churn = l.crowd.counts.counts()
	if err := l.quiet(ctx); err != nil {
		return err
	}
	r.MostInbound, r.Samples = watch.stop()
	if r.Events, err = events.end(ctx, l.node); err != nil {
		return err
	}
	l.cfg.Log("comparing the streams")
	r.Streams = streams.compare(ctx, r.Events)
	streams.close()
	l.cfg.Log("looking for what is left behind")
	return l.settle(ctx, before)
}

// warmUp has everybody do everything once: all connect, every kind of request is made,
// streams are opened. Then all leave.
func (l *load) warmUp(ctx context.Context) error {
	l.crowd.connectAll(ctx)
	streams, err := l.openStreams(ctx, 0)
	if err != nil {
		return err
	}
	if err := l.caller.warmUp(ctx); err != nil {
		return err
	}
	streams.close()
	l.crowd.rest()
	if err := l.quiet(ctx); err != nil {
		return err
	}
	l.caller.disconnect()
	return nil
}

// quiet waits until nobody is connected, by the word of all sides, and no stream is open.
func (l *load) quiet(ctx context.Context) error {
	var last string
	err := until(ctx, func() bool {
		s := l.node.manager.Core().Stats()
		status, err := l.caller.status(ctx)
		if err != nil {
			last = err.Error()
			return false
		}
		last = fmt.Sprintf("the host has %d connections, the manager %d and %d closing", len(l.node.host.Network().Conns()), s.Conns, s.Closing)
		return len(l.node.host.Network().Conns()) == 0 && s.Inbound+s.Outbound+s.UnknownDirection == 0 && status.Connections.Inbound == 0
	})
	if err != nil {
		return fmt.Errorf("wait until all have left: %w (%s)", err, last)
	}
	return nil
}

// awaitDropped waits until those streams are dropped that are never read, and returns how
// many were.
func (l *load) awaitDropped(ctx context.Context) int {
	dropped := 0
	_ = until(ctx, func() bool {
		status, err := l.caller.status(ctx)
		if err == nil {
			dropped = int(status.LostStreams)
		}
		return dropped >= l.cfg.Silent
	})
	return dropped
}

// settle waits until what was made for the load is gone, and notes what is not.
func (l *load) settle(ctx context.Context, before Stock) error {
	var status *api.Status
	_ = until(ctx, func() bool {
		s, err := l.caller.status(ctx)
		if err == nil {
			status = s
		}
		return err == nil && s.Streams == 0
	})
	if status == nil {
		return errors.New("the node did not say how it is after the load")
	}
	l.report.Status = status
	var rules api.RuleList
	if err := l.caller.getJSON(ctx, "/v1/rules?origin="+cutOrigin, &rules); err != nil {
		return err
	}
	l.report.CutRules = rules.Matched
	if err := l.askForPlans(ctx); err != nil {
		return err
	}
	l.caller.disconnect()
	var after Stock
	_ = until(ctx, func() bool {
		after = takeStock()
		return before.leftBehind(after, l.report.Events.history.total()) == nil
	})
	l.report.After = after
	return ctx.Err()
}

// askForPlans asks for a plan many times. Under load that says nothing, since whoever
// changes something makes a new plan necessary.
func (l *load) askForPlans(ctx context.Context) error {
	const times = 50
	started := time.Now()
	at := make(map[time.Time]bool)
	for range times {
		var plan api.Plan
		if err := l.caller.getJSON(ctx, "/v1/plan", &plan); err != nil {
			return err
		}
		at[plan.At] = true
	}
	l.report.Plans, l.report.PlansMost = len(at), int(time.Since(started)/time.Second)+2
	return nil
}

// until waits for a condition that other goroutines bring about, as long as patience lasts.
func until(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !ok() {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
