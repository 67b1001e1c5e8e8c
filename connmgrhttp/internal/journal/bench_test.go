package journal_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
)

// These benchmarks measure what a flood of events costs with and without streams, and a
// look at one peer's history.

func BenchmarkAFloodOfRefusals(b *testing.B) {
	for _, streams := range []int{0, 1, 100} {
		b.Run(fmt.Sprint("streams=", streams), func(b *testing.B) {
			n := start(b, journal.Options{})
			addr := netip.MustParseAddrPort("10.0.0.1:4001")
			ctx, cancel := context.WithCancel(b.Context())
			var readers sync.WaitGroup
			for range streams {
				readers.Go(func() {
					for ctx.Err() == nil { // who is lost comes again
						s, err := n.j.Follow(journal.Filter{}, 0, false)
						if err != nil {
							b.Error(err)
							return
						}
						for err == nil {
							_, err = s.Discard(ctx)
						}
						s.Close()
					}
				})
			}
			b.ResetTimer()
			for b.Loop() {
				_ = n.Gater().InterceptAccept(addr)
			}
			n.limit(5) // the last event
			for only := (journal.Filter{Types: []api.EventType{api.LimitsChanged}}); len(n.j.Recent(only, 1)) == 0; {
				runtime.Gosched()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(n.j.Dropped()), "missed")
			b.ReportMetric(float64(n.j.LostStreams()), "lost-streams")
			b.StopTimer()
			cancel()
			readers.Wait()
		})
	}
}

func BenchmarkTheHistoryOfAPeer(b *testing.B) {
	n := start(b, journal.Options{})
	n.crowd()
	last := crowded(16_999)
	n.settled(3, journal.Filter{Peer: last, HasPeer: true})
	b.ReportAllocs()
	for b.Loop() {
		n.j.Recent(journal.Filter{Peer: last, HasPeer: true}, 100)
	}
}
