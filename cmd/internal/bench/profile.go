package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/google/pprof/profile"
)

// This file takes profiles of our manager and gate at one kind of work, over and over:
// what the pages say of where time goes comes from here.

// workload is work to profile.
type workload struct {
	name, what string
	size       int // how many peers or prefixes
	// start gets everything ready and returns a step of the work, and what ends it.
	start func(size int) (step, func(), error)
}

// step is a part of the work. It calls aside for what does not belong to the work.
type step func(aside func(do func()))

var workloads = []workload{
	{"trim-spread", "trims of 1,000,000 peers with spread scores", 1_000_000, trimsOf(spreadScores)},
	{"trim-equal", "trims of 1,000,000 peers with equal scores", 1_000_000, trimsOf(equalScores)},
	{"trim-spread-100k", "trims of 100,000 peers with spread scores", 100_000, trimsOf(spreadScores)},
	{"trim-equal-100k", "trims of 100,000 peers with equal scores", 100_000, trimsOf(equalScores)},
	{"tag", "tags for 100,000 peers", 100_000, callsOf("tag")},
	{"upsert", "tags of 100,000 peers, changed by a function", 100_000, callsOf("upsert")},
	{"untag", "tags of 100,000 peers that are taken away and come back", 100_000, callsOf("untag")},
	{"info", "tag info of 100,000 peers", 100_000, callsOf("info")},
	{"protect", "protections of 100,000 peers that come and go", 100_000, callsOf("protect")},
	{"bump", "decaying tags of 100,000 peers that are bumped", 100_000, callsOf("bump")},
	{"connect", "connections that come and go, beside 100,000 that stay", 100_000, callsOf("connect")},
	{"gate", "checks of addresses against 100,000 prefixes", 100_000, checksOfAddresses},
	{"gate-1m", "checks of addresses against 1,000,000 prefixes", 1_000_000, checksOfAddresses},
	{"gate-empty", "checks of addresses with no rules", 0, checksOfAddresses},
}

// ListProfiles prints the names of what can be profiled.
func ListProfiles(out io.Writer) error {
	for _, w := range workloads {
		if _, err := fmt.Fprintf(out, "%-18s %s\n", w.name, w.what); err != nil {
			return err
		}
	}
	return nil
}

// HasProfile reports whether there is something of that name to profile.
func HasProfile(name string) bool {
	return slices.ContainsFunc(workloads, func(w workload) bool { return w.name == name })
}

// Profile does a kind of work for as long as d, and writes a profile of the processor
// time into the file.
func Profile(ctx context.Context, name string, d time.Duration, file string, out, progress io.Writer) error {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
	if i < 0 {
		return fmt.Errorf("bench: there is no workload %q", name)
	}
	fmt.Fprintf(progress, "getting ready: %s\n", workloads[i].what)
	step, end, err := workloads[i].start(workloads[i].size)
	if err != nil {
		return err
	}
	defer end()
	runtime.GC()
	fmt.Fprintf(progress, "running for %v\n", d)
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	steps := 0
	var work, besides time.Duration
	aside := func(do func()) {
		start := time.Now()
		pprof.Do(ctx, pprof.Labels(asideLabel, "yes"), func(context.Context) { do() })
		besides += time.Since(start)
	}
	for start := time.Now(); time.Since(start) < d && ctx.Err() == nil; steps++ {
		step(aside)
		work = time.Since(start)
	}
	pprof.StopCPUProfile()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := writeWork(&raw, file); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d steps in %v, besides %v for what is not in the profile\ngo tool pprof -top %s\n",
		steps, (work - besides).Round(time.Millisecond), besides.Round(time.Millisecond), file)
	return err
}

const asideLabel = "bench-aside"

// writeWork writes a profile without what was done aside.
func writeWork(raw io.Reader, file string) error {
	prof, err := profile.Parse(raw)
	if err != nil {
		return err
	}
	prof.Sample = slices.DeleteFunc(prof.Sample, func(s *profile.Sample) bool { return len(s.Label[asideLabel]) > 0 })
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := prof.Write(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// trimsOf trims again and again. In between, those who were closed come back.
func trimsOf(kind trimKind) func(peers int) (step, func(), error) {
	return func(peers int) (step, func(), error) {
		stage := newTrimStage(trimCase{peers: peers, kind: kind})
		score := func(i int) int { return stage.scores[i] }
		m, err := ours.filled(peers-stage.tenth(), stage.crowd, score)
		if err != nil {
			return nil, nil, err
		}
		trim := func(aside func(func())) {
			m.TrimOpenConns(context.Background())
			aside(func() { stage.crowd.comeBack(m, score) })
		}
		return trim, func() { _ = m.Close() }, nil
	}
}

// callsOf makes calls about each peer in turn.
func callsOf(key string) func(peers int) (step, func(), error) {
	return func(peers int) (step, func(), error) {
		kind := calls[slices.IndexFunc(calls, func(c call) bool { return c.key == key })]
		crowd := newCrowd(peers)
		m, err := ours.filled(peers, crowd, func(int) int { return 1 })
		if err != nil {
			return nil, nil, err
		}
		do, err := kind.prepare(m, newBatch(crowd, peers))
		if err != nil {
			return nil, nil, err
		}
		return func(func(func())) { do(0, peers) }, func() { _ = m.Close() }, nil
	}
}

// checksOfAddresses asks the gate about callers that it lets in.
func checksOfAddresses(prefixes int) (step, func(), error) {
	denied := newDenied(prefixes)
	g, end, err := ourGate.make(denied.list)
	if err != nil {
		return nil, nil, err
	}
	callers := denied.callers(differentCallers, false)
	check := func(func(func())) {
		for range 10 {
			for _, c := range callers {
				accept(g, c)
			}
		}
	}
	return check, func() { _ = end() }, nil
}
