package apiload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file judges a run, and writes it down.

// Report is what came of a run.
type Report struct {
	Config Config
	Calls  Calls
	// CutWrong is why a client could not cut off as it meant to; "" if all could.
	CutWrong string
	Probe    Probe
	Events   EventResult
	Streams  StreamResult
	// Dropped is the streams that the node ended since they were not read.
	Dropped int
	// MostInbound is the most inbound connections that the host had, in so many Samples.
	MostInbound, Samples int
	// Heap is the heap during the load.
	Heap []HeapSample
	// Before and After is what the process held before the load and when all had left.
	Before, After Stock
	// Status is the node's own word after the load, and CutRules the rules then of lists
	// that were cut off while they were sent.
	Status   *api.Status
	CutRules int
	// Plans is how many plans were made for many who asked for one within a short time,
	// and PlansMost how many there should have been at most.
	Plans, PlansMost int
	// Churn is what the crowd saw.
	Churn ChurnCounts
}

// Problems says what was not as promised, a sentence each.
func (r *Report) Problems() (problems []string) {
	no := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	no(r.Calls.Made == 0, "no request was made, want %d", r.Calls.Wanted)
	for _, k := range r.Calls.Kinds {
		no(k.Wrongs > 0, "%s: %d of %d answers are wrong: %s", k.Name, k.Wrongs, k.Due.Count, strings.Join(k.Wrong, "; "))
	}
	no(r.Calls.All.Refused > r.Calls.Made/mayRefuse, "%d of %d requests were refused for want of time, want at most one in %d", r.Calls.All.Refused, r.Calls.Made, mayRefuse)
	no(r.CutWrong != "", "%s", r.CutWrong)
	no(r.CutRules > 0, "%d rules are in force of lists that were cut off while they were sent, want none", r.CutRules)

	hard := r.Config.Hard
	no(r.MostInbound > hard, "the host had %d inbound connections, want never more than the hard limit of %d", r.MostInbound, hard)
	no(r.MostInbound <= r.Config.Low, "the host had %d inbound connections at most, want a crowd that gets it above low water, %d", r.MostInbound, r.Config.Low)
	no(r.Events.ToLow == 0, "%d trims had something to close, and none of them went to low water", r.Events.Trims)
	problems = append(problems, r.Events.Short...)

	problems = append(problems, r.Probe.problems()...)
	no(r.Events.Dropped > 0, "the manager's subscription dropped %d events, so streams cannot be compared with it", r.Events.Dropped)
	no(r.Streams.Wrongs > 0, "%d of %d event streams went wrong: %s", r.Streams.Wrongs, r.Streams.Read, strings.Join(r.Streams.Wrong, "; "))
	no(notReadShows && r.Dropped != r.Config.Silent, "%d event streams were dropped, want the %d that were not read", r.Dropped, r.Config.Silent)

	no(r.Plans > r.PlansMost, "%d plans were made, want at most %d: one a second", r.Plans, r.PlansMost)
	if err := r.Before.leftBehind(r.After, r.Events.history.total()); err != nil {
		problems = append(problems, err.Error())
	}
	if err := plateau(r.Heap); err != nil {
		problems = append(problems, err.Error())
	}
	if s := r.Status; s != nil {
		no(s.Streams != 0, "%d event streams are open after the load, want none", s.Streams)
		f := s.Faults
		no(f.Panics+f.EventsLost+f.NilNotifications+f.TagsRefused > 0 || f.HangingPeers > 0 || s.Gate.UnsavedRules > 0,
			"the node reports faults: %+v, %d rules not saved", f, s.Gate.UnsavedRules)
	}
	return problems
}

// mayRefuse is of how many requests one may be refused since the node has no time for it
// within ten seconds. It happens on a machine where nothing of this process runs for
// seconds, and then to those few requests alone.
const mayRefuse = 100

// Bounds of how long calls of the manager take under load. Half of the calls, and all but
// 1 %, may take so many times as long as without load. Two processors that are fully used
// make it several times as long by themselves: a call waits for a lock that is held by a
// goroutine which waits for a processor. The floors are for times so short that a
// multiple means nothing. And 1 % of the calls may take as long as whoever else uses the
// machine keeps this process from running at all, which Probe.Late shows. A manager that
// waits for readers of events, or is locked while answers are made, makes many calls wait
// whatever the machine does.
const (
	slowdown  = 10
	floorHalf = 200 * time.Microsecond
	floorMost = 100 * time.Millisecond
)

// compared is calls of one kind.
type compared struct {
	name         string
	calm, loaded Quantiles
}

func (p *Probe) calls() []compared {
	return []compared{
		{"Connected", p.Calm.Connected, p.Loaded.Connected},
		{"Disconnected", p.Calm.Disconnected, p.Loaded.Disconnected},
		{"TagPeer", p.Calm.TagPeer, p.Loaded.TagPeer},
	}
}

func (p *Probe) problems() (problems []string) {
	for _, c := range p.calls() {
		if c.calm.Count == 0 || c.loaded.Count == 0 {
			problems = append(problems, fmt.Sprintf("%s was called %d times without load and %d times with it, want some of both", c.name, c.calm.Count, c.loaded.Count))
		}
		if bound := max(slowdown*c.calm.P50, floorHalf); c.loaded.P50 > bound {
			problems = append(problems, fmt.Sprintf("half of the calls of %s took more than %v under load, and %v without; want at most %v", c.name, c.loaded.P50, c.calm.P50, bound))
		}
		if bound := max(slowdown*c.calm.P99, floorMost, 2*p.Late.Longest); c.loaded.P99 > bound {
			problems = append(problems, fmt.Sprintf("1 %% of the calls of %s took more than %v under load, and %v without; want at most %v", c.name, c.loaded.P99, c.calm.P99, bound))
		}
	}
	return problems
}

// How much larger the heap may be in the last third of a long run than in the second one:
// what the journal fills up to in the first minutes, and a quarter, for what is in flight
// when garbage is collected. That differs: on a busy machine, samples of one run were
// from 140 to 283 MB, and the smallest of its thirds 140, 166 and 148 MB.
const (
	heapGrowth      = 16 << 20
	heapGrowthShare = 0.25
)

// plateau says whether the heap goes on growing. It compares the smallest samples, as they
// have the least in flight in them. What was left behind for good, leftBehind finds more
// exactly.
func plateau(samples []HeapSample) error {
	third := len(samples) / 3
	if third < 3 {
		return nil // too short a run to tell
	}
	smallest := func(part []HeapSample) uint64 {
		return slices.MinFunc(part, func(x, y HeapSample) int { return cmp.Compare(x.Bytes, y.Bytes) }).Bytes
	}
	middle, last := smallest(samples[third:2*third]), smallest(samples[2*third:])
	if most := heapGrowth + uint64((1+heapGrowthShare)*float64(middle)); last > most {
		return fmt.Errorf("the heap grew from %s in the second third of the load to %s in the last one, want at most %s",
			megabytes(middle), megabytes(last), megabytes(most))
	}
	return nil
}

// String is the figures.
func (r *Report) String() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	c := &r.Calls
	say("%d of %d requests in %v, %.0f a second (due %d a second), over %d connections; beside them %d that were cut off",
		c.Made, c.Wanted, short(c.Took), float64(c.Made)/c.Took.Seconds(), r.Config.Rate, r.Config.Clients, c.Cut)
	say("%d refused for want of time; processors worked for %v meanwhile, for both sides of everything", c.All.Refused, short(c.CPU))
	say("%d nodes, low %d, high %d, hard %d: connected %d times, left %d times, thrown out %d times, failed to connect %d times",
		r.Config.Nodes, r.Config.Low, r.Config.High, r.Config.Hard, r.Churn.Connected, r.Churn.Left, r.Churn.ThrownOut, r.Churn.Failed)
	say("at most %d inbound connections in %d samples; %d trims, %d of them with nothing in their way, to low water", r.MostInbound, r.Samples, r.Events.Trims, r.Events.ToLow)
	say("events: %v; %d delivered in %d streams, %d of them wrong; %d of %d streams that are not read dropped",
		r.Events.Counts(), r.Streams.Delivered, r.Streams.Read, r.Streams.Wrongs, r.Dropped, r.Config.Silent)
	say("before: %d goroutines, %d files, heap %s; after: %d goroutines, %d files, heap %s",
		r.Before.Goroutines, r.Before.Files, megabytes(r.Before.Heap), r.After.Goroutines, r.After.Files, megabytes(r.After.Heap))
	if len(r.Heap) > 0 {
		b.WriteString("heap under load, in MB:")
		for _, s := range r.Heap {
			fmt.Fprintf(&b, " %.1f", float64(s.Bytes)/1e6)
		}
		b.WriteByte('\n')
	}
	r.table(&b)
	return b.String()
}

// table is how long what took.
func (r *Report) table(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	times := func(q Quantiles) string {
		return fmt.Sprintf("%v\t%v\t%v\t%v\t", short(q.P50), short(q.P99), short(q.P999), short(q.Longest))
	}
	fmt.Fprintln(t, "requests\tcount\tsince due: 50 %\t99 %\t99.9 %\tlongest\tsince sent: 50 %\t99 %\t99.9 %\tlongest\t")
	for _, k := range slices.Concat([]CallKind{r.Calls.All}, r.Calls.Kinds) {
		fmt.Fprintf(t, "%s\t%d\t%s%s\n", k.Name, k.Due.Count, times(k.Due), times(k.Sent))
	}
	fmt.Fprintln(t, "\ncalls of the manager\tcount\twithout load: 50 %\t99 %\t99.9 %\tlongest\twith load: 50 %\t99 %\t99.9 %\tlongest\t")
	for _, c := range append(r.Probe.calls(), compared{name: "(waking late)", loaded: r.Probe.Late}) {
		fmt.Fprintf(t, "%s\t%d + %d\t%s%s\n", c.name, c.calm.Count, c.loaded.Count, times(c.calm), times(c.loaded))
	}
}

// short is a time with three digits.
func short(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}
