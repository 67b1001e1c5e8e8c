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

// This file takes profiles of our manager and gate, which do one kind of work over and
// over: what the pages say of where time goes comes from here.

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
	{"tag-1k", "tags for 1,000 peers", 1000, callsOf("tag")},
	{"upsert", "tags of 100,000 peers, changed by a function", 100_000, callsOf("upsert")},
	{"untag", "tags of 100,000 peers that are taken away and come back", 100_000, callsOf("untag")},
	{"info", "tag info of 100,000 peers", 100_000, callsOf("info")},
	{"protect", "protections of 100,000 peers that come and go", 100_000, callsOf("protect")},
	{"isprotected", "asking which of 100,000 peers are protected", 100_000, callsOf("isprotected")},
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

// named returns the workload of that name.
func named(name string) (workload, error) {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
	if i < 0 {
		return workload{}, fmt.Errorf("bench: there is no workload %q", name)
	}
	return workloads[i], nil
}

// Profile does a kind of work for as long as d, and writes a profile of the processor
// time into the file. The garbage collector's work is in it, whoever made the garbage.
func Profile(ctx context.Context, name string, d time.Duration, file string, out, progress io.Writer) error {
	w, err := named(name)
	if err != nil {
		return err
	}
	s, err := w.sample(ctx, d, func(what string) { fmt.Fprintln(progress, what) })
	if err != nil {
		return err
	}
	if err := s.writeTo(file); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d steps in %v, besides %v for what is not in the profile\ngo tool pprof -top %s\n",
		s.steps, s.work.Round(time.Millisecond), s.besides.Round(time.Millisecond), file)
	return err
}

// sampled is what a profile saw of a workload.
type sampled struct {
	prof          *profile.Profile // without what was done aside
	steps         int
	work, besides time.Duration // the steps took, and what was done aside
}

// sample does the work for as long as d and watches it.
func (w workload) sample(ctx context.Context, d time.Duration, progress func(string)) (s sampled, err error) {
	progress("getting ready: " + w.what)
	step, end, err := w.start(w.size)
	if err != nil {
		return s, err
	}
	defer end()
	runtime.GC()
	progress(fmt.Sprintf("running for %v", d))
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return s, fmt.Errorf("bench: %w", err)
	}
	aside := func(do func()) {
		start := time.Now()
		pprof.Do(ctx, pprof.Labels(asideLabel, "yes"), func(context.Context) { do() })
		s.besides += time.Since(start)
	}
	for start := time.Now(); time.Since(start) < d && ctx.Err() == nil; s.steps++ {
		step(aside)
		s.work = time.Since(start) - s.besides
	}
	pprof.StopCPUProfile()
	if err := ctx.Err(); err != nil {
		return s, err
	}
	if s.prof, err = profile.Parse(&raw); err != nil {
		return s, fmt.Errorf("bench: %w", err)
	}
	dropAside(s.prof)
	return s, nil
}

const asideLabel = "bench-aside"

// dropAside takes out of a profile what was done aside.
func dropAside(prof *profile.Profile) {
	prof.Sample = slices.DeleteFunc(prof.Sample, func(s *profile.Sample) bool { return len(s.Label[asideLabel]) > 0 })
}

func (s sampled) writeTo(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := s.prof.Write(f); err != nil {
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
