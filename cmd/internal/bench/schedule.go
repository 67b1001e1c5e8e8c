package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// This file says what is measured, in which mode and how often, and does it.

// measurement yields a part of the report.
type measurement struct {
	name    string // for those who watch it run
	section section
	keys    []string // of the rows that have bounds
	run     func(ctx context.Context, progress func(string)) (findings, error)
}

// findings is what was measured.
type findings struct {
	rows    []row
	latency []latencyRow
	node    *nodeReport
	made    []breakdown
}

// compared is a measurement that yields rows and nothing else.
func compared(name string, s section, keys []string, measure func(context.Context) ([]row, error)) measurement {
	return measurement{name: name, section: s, keys: keys, run: func(ctx context.Context, _ func(string)) (findings, error) {
		rows, err := measure(ctx)
		return findings{rows: rows}, err
	}}
}

type mode int

const (
	modeFull mode = iota
	modeQuick
	modeCheck
)

// planOf returns what a mode measures, in order.
func planOf(m mode) (plan []measurement) {
	return slices.Concat(trimPlan(m), callPlan(m), memoryPlan(m), gatePlan(m), latencyPlan(m), nodePlan(m), breakdownPlan(m))
}

func trimPlan(m mode) (plan []measurement) {
	var cases []trimCase
	add := func(peers, rounds int, busy bool, kinds ...trimKind) {
		for _, kind := range kinds {
			c := trimCase{peers: peers, kind: kind, busy: busy, rounds: rounds}
			if rounds == 1 {
				c.turns = 5
			}
			cases = append(cases, c)
		}
	}
	switch m {
	case modeFull:
		for _, busy := range []bool{false, true} {
			add(1000, 31, busy, spreadScores, equalScores)
			add(10_000, 15, busy, spreadScores, equalScores)
			add(100_000, 7, busy, spreadScores, equalScores)
			add(1_000_000, 3, busy, spreadScores, equalScores)
		}
		add(100_000, 7, false, allAlike)
	case modeQuick:
		for _, busy := range []bool{false, true} {
			add(1000, 11, busy, spreadScores, equalScores)
			add(10_000, 5, busy, spreadScores, equalScores)
			add(100_000, 3, busy, spreadScores, equalScores)
		}
		add(1_000_000, 1, false, spreadScores, equalScores)
		add(100_000, 3, false, allAlike)
	case modeCheck:
		add(100_000, 9, false, spreadScores, equalScores)
		add(1_000_000, 1, false, spreadScores, equalScores)
	}
	for _, c := range cases {
		plan = append(plan, compared("trim of "+c.work(), section{trimLayout, trimTitle}, []string{c.key()}, c.measure))
	}
	return plan
}

func callPlan(m mode) (plan []measurement) {
	rounds, many, kinds, goroutines := 15, 100_000, calls, []int{1, 2}
	switch m {
	case modeFull:
	case modeQuick:
		rounds, many = 3, 50_000
	case modeCheck:
		rounds, kinds, goroutines = 7, []call{tagCall, connectCall}, []int{1}
	}
	for _, peers := range []int{1000, 100_000} {
		c := callsCase{peers: peers, calls: many, goroutines: goroutines, rounds: rounds, kinds: kinds}
		where := section{callLayout, fmt.Sprintf("Calls, with %s peers connected", thousands(peers))}
		plan = append(plan, compared(
			fmt.Sprintf("calls with %s peers connected", thousands(peers)), where,
			[]string{fmt.Sprintf("tag/%d/1", peers), fmt.Sprintf("connect/%d/1", peers)}, c.measure,
		))
		if m != modeCheck && peers == 100_000 {
			plan = append(plan, compared("decay tick", where, nil, func(ctx context.Context) ([]row, error) {
				return measureTick(ctx, peers, rounds)
			}))
		}
	}
	return plan
}

func memoryPlan(m mode) []measurement {
	sizes := []int{100_000}
	if m == modeFull {
		sizes = append(sizes, 1_000_000)
	}
	var plan []measurement
	for _, peers := range sizes {
		plan = append(plan, compared(
			fmt.Sprintf("memory of %s peers", thousands(peers)), section{memoryLayout, "Memory"},
			[]string{fmt.Sprintf("memory/%d", peers)},
			func(ctx context.Context) ([]row, error) { return measureMemory(ctx, peers) },
		))
	}
	return plan
}

func gatePlan(m mode) (plan []measurement) {
	var cases []gateCase
	switch m {
	case modeFull:
		for _, prefixes := range []int{0, 100, 10_000, 100_000, 1_000_000} {
			cases = append(cases, gateCase{prefixes: prefixes, kinds: gateChecks, goroutines: []int{1, 2}, rounds: 5, budget: 200 * time.Millisecond})
		}
	case modeQuick:
		for _, prefixes := range []int{0, 100, 10_000, 100_000, 1_000_000} {
			cases = append(cases, gateCase{
				prefixes: prefixes, kinds: gateChecks, goroutines: []int{1, 2}, rounds: 3, budget: 30 * time.Millisecond,
				oursOnly: prefixes > 100_000,
			})
		}
	case modeCheck:
		for _, prefixes := range []int{0, 100_000} {
			cases = append(cases, gateCase{prefixes: prefixes, kinds: gateChecks[:1], goroutines: []int{1}, rounds: 5, budget: 50 * time.Millisecond})
		}
	}
	for _, c := range cases {
		plan = append(plan, compared(
			fmt.Sprintf("gate with %s prefixes", thousands(c.prefixes)), section{checkLayout, "Checks at the gate"},
			[]string{c.key(gateChecks[0], 1)}, c.measure,
		))
	}
	return plan
}

// latencyPeers is how large a crowd is trimmed while calls are made.
const latencyPeers = 1_000_000

// latencyPlan measures calls while a trim runs. Short runs measure ours alone, since a
// trim of theirs takes so long.
func latencyPlan(m mode) []measurement {
	return []measurement{{
		name: "calls while a trim runs", section: section{layout: noTable},
		keys: slices.Collect(maps.Values(latencyKeys)),
		run: func(ctx context.Context, progress func(string)) (found findings, err error) {
			if m == modeFull {
				found.latency, err = measureLatency(ctx, latencyPeers, progress)
			} else {
				found.latency, err = ours.latency(ctx, latencyPeers, progress)
			}
			found.rows = slowestOfThousand(found.latency)
			return found, err
		},
	}}
}

// latencyKeys are the keys of the calls that have a bound.
var latencyKeys = map[string]string{callNames[callTag]: "latency/tag", callNames[callConnected]: "latency/connect"}

// slowestOfThousand returns what the bounds are about: the time within which 99.9 % of
// our calls return while a trim runs.
func slowestOfThousand(latency []latencyRow) (rows []row) {
	for _, l := range latency {
		if key := latencyKeys[l.call]; key != "" && l.manager == ours.name && l.trimming {
			r := newRow(key, l.call)
			r.ours = figure(l.p999)
			rows = append(rows, r)
		}
	}
	return rows
}

// nodePlan measures a whole node. No bound is about it.
func nodePlan(m mode) []measurement {
	const conns, tagsPerSecond = 300, 100_000
	long := 10 * time.Second
	switch m {
	case modeFull:
	case modeQuick:
		long = 3 * time.Second
	case modeCheck:
		return nil
	}
	return []measurement{{
		name: "whole node", section: section{layout: noTable},
		run: func(ctx context.Context, progress func(string)) (findings, error) {
			report, err := measureNode(ctx, conns, tagsPerSecond, long, progress)
			return findings{node: &report}, err
		},
	}}
}

// breakdownPlan says what the time of the work is made of whose bounds are not met.
func breakdownPlan(m mode) (plan []measurement) {
	long := 5 * time.Second
	switch m {
	case modeFull:
	case modeQuick:
		long = time.Second
	case modeCheck:
		return nil
	}
	for _, name := range unmet() {
		plan = append(plan, measurement{
			name: "profile " + name, section: section{layout: noTable},
			run: func(ctx context.Context, progress func(string)) (findings, error) {
				made, err := breakDown(ctx, name, long, progress)
				return findings{made: []breakdown{made}}, err
			},
		})
	}
	return plan
}

// measureAll takes the measurements of a plan, one after the other.
func measureAll(ctx context.Context, plan []measurement, progress io.Writer) (all findings, err error) {
	start := time.Now()
	for i, m := range plan {
		say := func(what string) {
			fmt.Fprintf(progress, "%5s  %2d/%d  %s\n", time.Since(start).Round(time.Second), i+1, len(plan), what)
		}
		say(m.name)
		found, err := m.run(ctx, func(what string) { say("  " + what) })
		if err != nil {
			return findings{}, fmt.Errorf("bench: %s: %w", m.name, err)
		}
		for j := range found.rows {
			found.rows[j].section = m.section
		}
		all.rows = append(all.rows, found.rows...)
		all.latency = append(all.latency, found.latency...)
		all.made = append(all.made, found.made...)
		if found.node != nil {
			all.node = found.node
		}
		debug.FreeOSMemory() // the next one shall not run beside the ruins of this one
	}
	return all, nil
}
