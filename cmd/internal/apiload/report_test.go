package apiload

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file holds the judge against reports with one thing wrong.

// sound is a report with nothing wrong.
func sound() *Report {
	took := Quantiles{Count: 1000, P50: 5 * time.Microsecond, P99: 50 * time.Microsecond}
	times := CallTimes{Connected: took, Disconnected: took, TagPeer: took}
	return &Report{
		Config: Config{Low: 20, High: 30, Hard: 40, Silent: 3, Rate: 100, For: time.Second},
		Calls:  Calls{Wanted: 100, Made: 60, Kinds: []CallKind{{Name: "GET status", Due: Quantiles{Count: 60}}}},
		Probe:  Probe{Calm: times, Loaded: times}, Events: EventResult{Trims: 2, ToLow: 1},
		Streams: StreamResult{Read: 10}, Dropped: 3, MostInbound: 40, Samples: 100,
		Before: Stock{Goroutines: 100, Files: 10, Heap: 50e6}, After: Stock{Goroutines: 105, Files: 11, Heap: 53e6},
		Status: &api.Status{}, Plans: 1, PlansMost: 3,
	}
}

func TestTheJudgeFindsEachThingThatIsWrong(t *testing.T) {
	if got := sound().Problems(); len(got) != 0 {
		t.Errorf("of a report with nothing wrong it says %q", got)
	}
	for _, c := range []struct {
		name  string
		spoil func(r *Report)
		want  string
	}{
		{"no request made", func(r *Report) { r.Calls.Made = 0 }, "no request was made"},
		{"a wrong answer", func(r *Report) { r.Calls.Kinds[0].Wrongs, r.Calls.Kinds[0].Wrong = 1, []string{"status 500"} }, "GET status: 1 of 60 answers are wrong: status 500"},
		{"many refusals", func(r *Report) { r.Calls.All.Refused = 2 }, "2 of 60 requests were refused"},
		{"a client that cannot cut off", func(r *Report) { r.CutWrong = "refused" }, "refused"},
		{"half a list in force", func(r *Report) { r.CutRules = 1 }, "1 rules are in force of lists that were cut off"},
		{"one connection too many", func(r *Report) { r.MostInbound = 41 }, "want never more than the hard limit of 40"},
		{"no crowd", func(r *Report) { r.MostInbound = 20 }, "want a crowd"},
		{"no trim to low water", func(r *Report) { r.Events.ToLow = 0 }, "none of them went to low water"},
		{"a trim that stops early", func(r *Report) { r.Events.Short = []string{"a trim stopped early"} }, "a trim stopped early"},
		{"a slow Connected", func(r *Report) { r.Probe.Loaded.Connected.P50 = time.Millisecond }, "half of the calls of Connected"},
		{"a slow Disconnected", func(r *Report) { r.Probe.Loaded.Disconnected.P99 = time.Second }, "1 % of the calls of Disconnected"},
		{"a slow TagPeer", func(r *Report) { r.Probe.Loaded.TagPeer.P99 = time.Second }, "1 % of the calls of TagPeer"},
		{"no Connected", func(r *Report) { r.Probe.Calm.Connected = Quantiles{} }, "0 times without load"},
		{"a subscription that dropped", func(r *Report) { r.Events.Dropped = 1 }, "dropped 1 events"},
		{"a stream gone wrong", func(r *Report) { r.Streams.Wrongs, r.Streams.Wrong = 1, []string{"a gap"} }, "1 of 10 event streams went wrong: a gap"},
		{"a stream not dropped", func(r *Report) { r.Dropped = 2 }, "2 event streams were dropped"},
		{"a reader dropped", func(r *Report) { r.Dropped = 4 }, "4 event streams were dropped"},
		{"goroutines left", func(r *Report) { r.After.Goroutines = 121 }, "121 goroutines after the load"},
		{"files left", func(r *Report) { r.After.Files = 16 }, "16 open files after the load"},
		{"memory left", func(r *Report) { r.After.Heap = 70e6 }, "a heap of 70.0 MB after the load"},
		{"a plan for everybody who asks", func(r *Report) { r.Plans = 50 }, "50 plans were made"},
		{"a heap that grows", func(r *Report) { r.Heap = heap(50, 5) }, "the heap grew from"},
		{"a stream that stays open", func(r *Report) { r.Status.Streams = 1 }, "1 event streams are open after the load"},
		{"a panic", func(r *Report) { r.Status.Faults.Panics = 1 }, "the node reports faults"},
		{"events lost", func(r *Report) { r.Status.Faults.EventsLost = 1 }, "the node reports faults"},
	} {
		r := sound()
		c.spoil(r)
		if got := r.Problems(); len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: it says %q, want one problem, %q", c.name, got, c.want)
		}
	}
}

// heap is samples of a heap that grows by so many megabytes between two of them.
func heap(samples, growth int) (list []HeapSample) {
	for i := range samples {
		list = append(list, HeapSample{time.Duration(i) * time.Second, uint64(100e6 + i*growth*1e6)})
	}
	return list
}

func TestAHeapThatSettlesIsNoGrowth(t *testing.T) {
	settles := heap(60, 0)
	for i := range settles {
		settles[i].Bytes += uint64(8e6 * min(i, 20) / 20) // as the journal fills up
		if i%7 == 0 {
			settles[i].Bytes += 30e6 // in flight
		}
	}
	if err := plateau(settles); err != nil {
		t.Errorf("of a heap that settles with single samples above the others it says: %v", err)
	}
	if err := plateau(heap(5, 100)); err != nil {
		t.Errorf("of 5 samples, too few to tell, it says: %v", err)
	}
}

func TestATrimThatStopsEarlyIsTold(t *testing.T) {
	closed := []connmgr.Verdict{{Peer: "alice", Conns: 2}, {Peer: "bob", Conns: 1}}
	for _, c := range []struct {
		name         string
		trim         connmgr.TrimResult
		toLow, short int
	}{
		{"to low water", connmgr.TrimResult{Figures: connmgr.Figures{Target: 3}, Closed: closed}, 1, 0},
		{"a connection short", connmgr.TrimResult{Figures: connmgr.Figures{Target: 4}, Closed: closed}, 0, 1},
		{"short for grace", connmgr.TrimResult{Figures: connmgr.Figures{Target: 4, Shortfall: 1}, Closed: closed}, 0, 0},
		{"short for one that left", connmgr.TrimResult{Figures: connmgr.Figures{Target: 4}, Spared: 1, Closed: closed}, 0, 0},
		{"nothing to do", connmgr.TrimResult{}, 0, 0},
	} {
		f := follower{}
		f.judge(&c.trim)
		if f.result.ToLow != c.toLow || len(f.result.Short) != c.short {
			t.Errorf("%s: %d trims to low water and %q, want %d, and %d sentences", c.name, f.result.ToLow, f.result.Short, c.toLow, c.short)
		}
	}
}

func TestTakingStockFindsGoroutinesAndMemoryThatAreLeft(t *testing.T) {
	before := takeStock()
	stop := make(chan struct{})
	for range 2 * moreGoroutines {
		go func() { <-stop }()
	}
	left := make([]byte, 2*moreHeap)
	err := before.leftBehind(takeStock(), 0)
	if err == nil || !strings.Contains(err.Error(), "goroutines after the load") || !strings.Contains(err.Error(), "a heap of") || !strings.Contains(err.Error(), "TestTakingStock") {
		t.Errorf("with %d goroutines and %d bytes left it says %v, want both, and where the goroutines are", 2*moreGoroutines, 2*moreHeap, err)
	}
	runtime.KeepAlive(left)
	close(stop)
}
