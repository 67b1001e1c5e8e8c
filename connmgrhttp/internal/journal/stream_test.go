package journal_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
)

// These tests follow what happens.

func (n node) follow(f journal.Filter, after uint64, hasAfter bool) *journal.Stream {
	n.t.Helper()
	s, err := n.j.Follow(f, after, hasAfter)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(s.Close)
	return s
}

// waiting returns what there is in a stream within a bubble, without waiting for more.
func waiting(t *testing.T, s *journal.Stream) string {
	t.Helper()
	var all []api.Event
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		events, err := s.Next(ctx)
		cancel()
		all = append(all, events...)
		if errors.Is(err, context.DeadlineExceeded) {
			return tell(all)
		}
		if err != nil {
			return tell(all) + " " + err.Error()
		}
	}
}

func TestAStreamBeginsNowOrAfterAnID(t *testing.T) {
	for _, c := range []struct {
		name     string
		f        journal.Filter
		after    func(list []api.Event) uint64
		hasAfter bool
		want     string
	}{
		{"without an ID", journal.Filter{}, func([]api.Event) uint64 { return 0 }, false, "disconnected b"},
		{"after 0", journal.Filter{}, func([]api.Event) uint64 { return 0 }, true, "connected a, limits, connected b, disconnected b"},
		{"after the first", journal.Filter{}, func(list []api.Event) uint64 { return list[2].ID }, true, "limits, connected b, disconnected b"},
		{"after the last", journal.Filter{}, func(list []api.Event) uint64 { return list[0].ID }, true, "disconnected b"},
		{"after one to come", journal.Filter{}, func(list []api.Event) uint64 { return list[0].ID + 1 }, true, "disconnected b"},
		{"after the largest number", journal.Filter{}, func([]api.Event) uint64 { return 1<<64 - 1 }, true, "disconnected b"},
		{"limits after 0", journal.Filter{Types: []api.EventType{api.LimitsChanged}}, func([]api.Event) uint64 { return 0 }, true, "limits"},
		{"of b after 0", journal.Filter{Peer: "b", HasPeer: true}, func([]api.Event) uint64 { return 0 }, true, "connected b, disconnected b"},
		{"of a, now", journal.Filter{Peer: "a", HasPeer: true}, func([]api.Event) uint64 { return 0 }, false, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, journal.Options{})
			n.host.Connect("a")
			n.limit(5)
			n.host.Connect("b")
			synctest.Wait()
			s := n.follow(c.f, c.after(n.j.Recent(journal.Filter{}, 10)), c.hasAfter)
			n.host.Disconnect("b")
			synctest.Wait() // it is collected before the first read
			if got := waiting(t, s); got != c.want {
				t.Errorf("%s there is %q, want %q", c.name, got, c.want)
			}
			if got := waiting(t, s); got != "" {
				t.Errorf("%s there is %q after everything, want nothing twice", c.name, got)
			}
		})
	}
}

// tail reads events from 10.0.0.1 until it has those up to a port, and comes back after
// so many reads, as with Last-Event-ID. It counts in next.
func (n node) tail(ctx context.Context, id uint64, next *atomic.Int64, to int64, reads int) error {
	for next.Load() < to {
		s, err := n.j.Follow(journal.Filter{Types: []api.EventType{api.Denied}}, id, true)
		if err != nil {
			return err
		}
		for i := 0; i < reads && next.Load() < to && err == nil; i++ {
			var list []api.Event
			list, err = s.Next(ctx)
			for _, e := range list {
				if want := fmt.Sprint("10.0.0.1:", next.Load()); e.Denied.Address != want || e.ID != id+1 {
					err = fmt.Errorf("event %d from %s comes after event %d, want the next, from %s", e.ID, e.Denied.Address, id, want)
					break
				}
				id = e.ID
				next.Add(1)
			}
		}
		s.Close()
		if err != nil {
			return fmt.Errorf("after %d events: %w", next.Load(), err)
		}
	}
	return nil
}

// pour lets events from ports come about as fast as the slowest reader can follow.
func (n node) pour(from, to int, readers []atomic.Int64) {
	n.t.Helper()
	for end := time.Now().Add(time.Minute); from < to; {
		slowest := int64(to)
		for i := range readers {
			slowest = min(slowest, readers[i].Load())
		}
		if int64(from)-slowest > 3000 {
			if time.Now().After(end) {
				n.t.Fatalf("the slowest reader has %d of %d events", slowest, from)
			}
			runtime.Gosched()
			continue
		}
		next := min(to, from+100)
		n.deny(from, next)
		from = next
	}
}

func TestAStreamThatBeginsAmidEventsHasNoGapAndNothingTwice(t *testing.T) {
	n := start(t, journal.Options{})
	only := journal.Filter{Types: []api.EventType{api.Denied}}
	n.deny(0, 1)
	n.settled(1, only)
	first := n.j.Recent(only, 1)[0].ID

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const events = 30_000
	var wg sync.WaitGroup
	readers := make([]atomic.Int64, 8)
	for i := range readers {
		readers[i].Store(1)
		wg.Go(func() {
			if err := n.tail(ctx, first, &readers[i], events, 1+5*i); err != nil {
				t.Errorf("reader %d: %v", i, err)
				readers[i].Store(events)
			}
		})
	}
	n.pour(1, events, readers)
	wg.Wait()
	if n.j.Dropped() != 0 || n.j.LostStreams() != 0 || n.j.Streams() != 0 {
		t.Errorf("%d events were missed, %d streams lost, %d are open; want none", n.j.Dropped(), n.j.LostStreams(), n.j.Streams())
	}
}

func TestAReaderWhoIsTooSlowIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		n.deny(0, 5000) // what is forgotten before a stream begins does not make it late
		synctest.Wait()
		all := n.follow(journal.Filter{}, 0, true)
		late := n.follow(journal.Filter{}, 0, false)
		other := n.follow(journal.Filter{Types: []api.EventType{api.LimitsChanged}}, 0, false)
		if events, err := all.Next(t.Context()); err != nil || len(events) != 128 || events[0].Denied.Address != "10.0.0.1:1928" {
			t.Errorf("a stream of everything begins with %d events, %v; want those that are remembered, without a quarter", len(events), err)
		}
		n.limit(5)
		n.deny(0, 4096)
		synctest.Wait()
		if events, err := late.Next(t.Context()); err != nil || len(events) != 128 || events[0].Type != api.LimitsChanged {
			t.Errorf("a reader who is 4097 events late gets %d, %v; want the first 128", len(events), err)
		}
		n.deny(0, 128)
		synctest.Wait()
		if late.Lost() || n.j.LostStreams() != 0 {
			t.Error("a reader is lost before he has missed anything")
		}
		n.deny(0, 4096)
		synctest.Wait()
		for name, s := range map[string]*journal.Stream{"late": late, "all": all} {
			for range 2 {
				if events, err := s.Next(t.Context()); !errors.Is(err, journal.ErrLost) || len(events) != 0 || !s.Lost() {
					t.Errorf("%s: a reader who has missed events gets %d, %v; want that he is lost", name, len(events), err)
				}
			}
			s.Close()
		}
		if got := waiting(t, other); got != "limits" {
			t.Errorf("a reader of limits gets %q, want his events, whatever there was a flood of", got)
		}
		if n.j.Streams() != 1 || n.j.LostStreams() != 2 {
			t.Errorf("%d streams are open and %d lost, want 1 and 2", n.j.Streams(), n.j.LostStreams())
		}
	})
}

// Without a head start he would be lost with the next event, each time that he comes back.
func TestAReaderOfWhatIsHalfForgottenCanCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		n.deny(0, 5000)
		synctest.Wait()
		s := n.follow(journal.Filter{}, 1, true)
		for read := 0; read < 3072; {
			n.deny(5000, 5050) // slower than he reads
			synctest.Wait()
			events, err := s.Next(t.Context())
			if err != nil || len(events) == 0 {
				t.Fatalf("after %d events the reader gets %d, %v; want him to catch up", read, len(events), err)
			}
			read += len(events)
		}
	})
}

func TestThereAreSoManyStreamsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for most, want := range map[int]int{0: 256, 3: 3} {
			n := start(t, journal.Options{MaxStreams: most})
			var streams []*journal.Stream
			for range want {
				streams = append(streams, n.follow(journal.Filter{}, 0, false))
			}
			if s, err := n.j.Follow(journal.Filter{}, 0, false); !errors.Is(err, journal.ErrTooMany) || s != nil {
				t.Errorf("stream %d of %d: %v, want ErrTooMany", want+1, want, err)
			}
			streams[0].Close()
			streams[0].Close()
			if n.j.Streams() != want-1 {
				t.Errorf("%d streams are open, want %d", n.j.Streams(), want-1)
			}
			n.follow(journal.Filter{}, 0, false)
			if _, err := streams[0].Next(t.Context()); !errors.Is(err, journal.ErrEnded) {
				t.Errorf("a closed stream gives %v, want ErrEnded", err)
			}
			n.Close()
		}
	})
}

func TestStreamsEndWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		waits, behind := n.follow(journal.Filter{}, 0, false), n.follow(journal.Filter{}, 0, false)
		var wg sync.WaitGroup
		wg.Go(func() {
			if events, err := waits.Next(t.Context()); err != nil || tell(events) != "limits" {
				t.Errorf("a reader who waits gets %q, %v; want limits", tell(events), err)
			}
			if events, err := waits.Next(t.Context()); !errors.Is(err, journal.ErrEnded) || len(events) != 0 {
				t.Errorf("a reader who waits for more gets %q, %v; want ErrEnded", tell(events), err)
			}
		})
		synctest.Wait()
		n.limit(5)
		synctest.Wait()
		n.Close()
		wg.Wait()
		if events, err := behind.Next(t.Context()); err != nil || tell(events) != "limits" {
			t.Errorf("after the end, a reader who is behind gets %q, %v; want limits", tell(events), err)
		}
		if got := waiting(t, behind); got != " "+journal.ErrEnded.Error() {
			t.Errorf("and then %q, want ErrEnded", got)
		}
		if got := waiting(t, n.follow(journal.Filter{}, 0, true)); got != "limits "+journal.ErrEnded.Error() {
			t.Errorf("a stream that begins after the end gives %q, want what is remembered, then ErrEnded", got)
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		s := n.follow(journal.Filter{}, 0, false)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a wait whose context ends gives %v", err)
		}
		n.limit(5)
		if got := waiting(t, s); got != "limits" {
			t.Errorf("after that the stream gives %q, want limits", got)
		}
	})
}

func TestEventsComeAtOnceOrTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		s := n.follow(journal.Filter{}, 0, false)
		var got []string
		var wg sync.WaitGroup
		wg.Go(func() {
			begin := time.Now()
			for {
				events, err := s.Next(t.Context())
				if err != nil {
					return
				}
				got = append(got, fmt.Sprintf("%d after %v", len(events), time.Since(begin)))
			}
		})
		synctest.Wait()
		for range 5 { // at 0, 3, 6, 9 and 12 ms
			n.limit(5)
			<-time.After(3 * time.Millisecond)
		}
		<-time.After(time.Second)
		n.limit(5)
		synctest.Wait()
		n.Close()
		wg.Wait()
		if want := "[1 after 0s 3 after 10ms 1 after 20ms 1 after 1.015s]"; fmt.Sprint(got) != want {
			t.Errorf("a reader who waits gets %v, want %v: the first at once, and then all of 10 ms together", got, want)
		}
	})
}
