package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/pprof/profile"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file measures managers in a whole node: a go-libp2p host with real connections,
// whose peers are tagged all the time, and what a profile of the process says of how
// much of the processor the manager takes.

// nodeReport is what was found.
type nodeReport struct {
	conns, rate int // tags per second
	cores       int
	shares      []nodeShare
	// How long Stat takes, in nanoseconds, of a connection of the node and of one of
	// those that all else is measured on.
	realStat, fakeStat float64
}

// nodeShare is what one manager takes.
type nodeShare struct {
	manager string
	took    time.Duration // how long tags came
	tags    int
	// Processor time, from the profile: of the process, to which the hosts at the other
	// ends and the other manager's node belong as well; and what of it the manager was
	// on the stack for.
	process, own time.Duration
	// ownSamples is how many samples own is made of. The profile takes one every 10 ms
	// of processor time, so a manager that takes little has few, and its share is
	// rough.
	ownSamples int
	// perTag is the median time that a tag took by the clock, with choosing the peer:
	// what the profile says can be held against it.
	perTag time.Duration
	// closed is how many peers the trim closed: exactly the right ones, or there would
	// be an error.
	closed   int
	trimTook time.Duration
}

// ofProcess is the manager's part of the processor time of the process, 0 to 1.
func (s nodeShare) ofProcess() float64 {
	if s.process == 0 {
		return 0
	}
	return float64(s.own) / float64(s.process)
}

// ofMachine is the manager's part of what all cores could do in that time, 0 to 1.
func (s nodeShare) ofMachine(cores int) float64 {
	return s.own.Seconds() / s.took.Seconds() / float64(cores)
}

// rate is the number of tags per second that really came.
func (s nodeShare) rate() float64 { return float64(s.tags) / s.took.Seconds() }

func nodeHeader() []string {
	return []string{
		"manager", "tags per second", "processor time of the process", "of which the manager", "share of the process",
		"share of the machine", "samples", "one tag, by the clock", "trim", "peers closed, the right ones",
	}
}

func (r nodeReport) rows() [][]string {
	var rows [][]string
	for _, s := range r.shares {
		rows = append(rows, []string{
			s.manager, thousands(int(s.rate())), writeDuration(s.process), writeDuration(s.own),
			fmt.Sprintf("%.1f %%", 100*s.ofProcess()), fmt.Sprintf("%.2f %%", 100*s.ofMachine(r.cores)),
			thousands(s.ownSamples), writeDuration(s.perTag), writeDuration(s.trimTook), thousands(s.closed),
		})
	}
	return rows
}

// packagesOf says which packages a manager consists of.
var packagesOf = map[string][]string{
	theirs.name: {"github.com/libp2p/go-libp2p/p2p/net/connmgr"},
	ours.name:   {"github.com/dep2p/connmgr", "github.com/dep2p/connmgr/connmgrlibp2p"},
}

// nodeTurns is how often the managers take turns, so that whatever else the machine
// does meets them alike.
const nodeTurns = 10

// measureNode measures both managers, each in a node with so many connections, whose
// peers get so many tags per second for d in all. In the middle of it a tenth of them
// is trimmed. When ctx ends, so does the measurement.
func measureNode(ctx context.Context, conns, rate int, d time.Duration, progress func(string)) (r nodeReport, err error) {
	r = nodeReport{conns: conns, rate: rate, cores: runtime.GOMAXPROCS(0)}
	var runs []*nodeRun
	defer func() {
		for _, run := range runs {
			err = errors.Join(err, run.node.close())
		}
	}()
	for _, c := range contenders {
		progress(fmt.Sprintf("node: %s gets %s connections", c.name, thousands(conns)))
		run, err := newNodeRun(ctx, c, conns)
		if err != nil {
			return r, fmt.Errorf("node with %s: %w", c.name, err)
		}
		runs = append(runs, run)
	}
	r.realStat, r.fakeStat = runs[0].node.statCosts()
	for turn := range nodeTurns {
		progress(fmt.Sprintf("node: %s tags per second, turn %d of %d", thousands(rate), turn+1, nodeTurns))
		for _, run := range runs {
			if err := run.turn(ctx, rate, d/nodeTurns, turn == nodeTurns/2); err != nil {
				return r, fmt.Errorf("node with %s: %w", run.share.manager, err)
			}
		}
	}
	for _, run := range runs {
		share, err := run.finish()
		if err != nil {
			return r, fmt.Errorf("node with %s: %w", share.manager, err)
		}
		r.shares = append(r.shares, share)
	}
	return r, nil
}

// nodeRun is the measurement of one manager.
type nodeRun struct {
	node        *realNode
	lowestFirst []peer.ID // in the order in which they have to go
	toGo        int       // how many of them a trim has to close
	// tagged is those whom tags keep coming for, and first the first of them for whom
	// they still do after a trim. The last of those to go is let alone all the time: its
	// score is where ours cuts, and if it rises while the trim runs, ours spares it.
	tagged []peer.ID
	first  atomic.Int64
	random *rand.Rand
	perTag []time.Duration
	share  nodeShare
}

func newNodeRun(ctx context.Context, c contender, conns int) (*nodeRun, error) {
	low := conns - conns/10
	n, err := newRealNode(ctx, c, conns, low)
	if err != nil {
		return nil, err
	}
	r := &nodeRun{node: n, toGo: conns - low, random: rand.New(rand.NewPCG(3, 4)), share: nodeShare{manager: c.name}}
	for _, h := range n.others {
		r.lowestFirst = append(r.lowestFirst, h.ID())
	}
	r.rank()
	r.tagged = slices.Clone(r.lowestFirst)
	if r.toGo > 0 {
		r.tagged = slices.Delete(r.tagged, r.toGo-1, r.toGo)
	}
	return r, nil
}

// rank gives each peer a score of its own. Two of them are so far apart that the tags
// that keep coming change no rank.
func (r *nodeRun) rank() {
	r.random.Shuffle(len(r.lowestFirst), func(i, j int) {
		r.lowestFirst[i], r.lowestFirst[j] = r.lowestFirst[j], r.lowestFirst[i]
	})
	for i, id := range r.lowestFirst {
		r.node.manager.TagPeer(id, "rank", 2*mostArriving*i)
	}
}

// mostArriving is above the values of the tags that keep coming.
const mostArriving = 100

// turn has tags come for some time, and in the middle of it trims if told to.
func (r *nodeRun) turn(ctx context.Context, rate int, d time.Duration, trim bool) error {
	var profiled bytes.Buffer
	if err := pprof.StartCPUProfile(&profiled); err != nil {
		return err
	}
	var all sync.WaitGroup
	if trim {
		all.Go(func() {
			if pause(ctx, d/2) == nil {
				r.trim(ctx)
			}
		})
	}
	err := r.tag(ctx, rate, d)
	all.Wait()
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	prof, err := profile.Parse(&profiled)
	if err != nil {
		return err
	}
	process, own, samples := processorTime(prof, packagesOf[r.share.manager])
	r.share.process += process
	r.share.own += own
	r.share.ownSamples += samples
	return nil
}

func (r *nodeRun) trim(ctx context.Context) {
	start := time.Now()
	r.node.manager.TrimOpenConns(ctx)
	r.share.trimTook = time.Since(start)
	r.first.Store(int64(max(r.toGo-1, 0)))
}

// tag tags random peers.
func (r *nodeRun) tag(ctx context.Context, rate int, d time.Duration) error {
	inAll := int(d.Seconds() * float64(rate))
	start, tags := time.Now(), 0
	for tags < inAll {
		// Not at equal distances: a profile that looks at equal distances, too, would
		// see the tags always or never.
		if err := pause(ctx, time.Duration(200+r.random.IntN(1600))*time.Microsecond); err != nil {
			return err
		}
		began := time.Now()
		due := int(min(began.Sub(start), d).Seconds()*float64(rate)) - tags
		if due <= 0 {
			continue
		}
		from := int(r.first.Load())
		for range due {
			id := r.tagged[from+r.random.IntN(len(r.tagged)-from)]
			r.node.manager.TagPeer(id, "arriving", r.random.IntN(mostArriving))
		}
		r.perTag = append(r.perTag, time.Since(began)/time.Duration(due))
		tags += due
	}
	r.share.tags += tags
	r.share.took += time.Since(start)
	return nil
}

// finish looks at who was closed, and returns what was found.
func (r *nodeRun) finish() (nodeShare, error) {
	if len(r.perTag) > 0 {
		slices.Sort(r.perTag)
		r.share.perTag = percentile(r.perTag, 500)
	}
	r.share.closed = r.toGo
	return r.share, checkClosed(r.lowestFirst, r.toGo, r.node.connected)
}

// pause waits, or returns the error of a context that ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkClosed returns an error unless so many of the lowest are not connected any
// more, and all others are.
func checkClosed(lowestFirst []peer.ID, closed int, connected func(peer.ID) bool) error {
	left, gone := 0, 0
	for i, id := range lowestFirst {
		switch {
		case i < closed && connected(id):
			left++
		case i >= closed && !connected(id):
			gone++
		}
	}
	if left+gone > 0 {
		return fmt.Errorf("the trim had to close the %d lowest of %d peers: it left %d of them, and closed %d others",
			closed, len(lowestFirst), left, gone)
	}
	return nil
}

// processorTime adds up a profile: all of it, what has a function of the given packages
// on its stack, and in how many samples that was so.
func processorTime(prof *profile.Profile, packages []string) (all, own time.Duration, ownSamples int) {
	// Of each sample a profile of the processor has the count and the nanoseconds.
	const count, nanoseconds = 0, 1
	for _, s := range prof.Sample {
		all += time.Duration(s.Value[nanoseconds])
		if isOn(s.Location, packages) {
			own += time.Duration(s.Value[nanoseconds])
			ownSamples += int(s.Value[count])
		}
	}
	return all, own, ownSamples
}

func isOn(stack []*profile.Location, packages []string) bool {
	for _, at := range stack {
		for _, line := range at.Line { // several, where functions are inlined
			if line.Function != nil && slices.Contains(packages, packageOf(line.Function.Name)) {
				return true
			}
		}
	}
	return false
}

// packageOf returns the package of a function by the name that a profile has for it.
func packageOf(function string) string {
	function, _, _ = strings.Cut(function, "[") // type parameters have dots of their own
	last := strings.LastIndexByte(function, '/') + 1
	name, _, _ := strings.Cut(function[last:], ".")
	return function[:last] + name
}
