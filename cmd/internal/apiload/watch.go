package apiload

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// This file looks at the node while it is loaded: how many connections it has, by the
// host's own word, and how large its heap is.

// hostWatch counts inbound connections.
type hostWatch struct {
	host          host.Host
	most, samples atomic.Int64
	bundle        *network.NotifyBundle
	end           context.CancelFunc
	wg            sync.WaitGroup
	once          sync.Once
}

// lookEvery is the time between two looks, besides those at every new connection.
const lookEvery = time.Millisecond

func watchHost(ctx context.Context, h host.Host) *hostWatch {
	w := &hostWatch{host: h}
	w.bundle = &network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { w.look() }}
	h.Network().Notify(w.bundle)
	ctx, w.end = context.WithCancel(ctx)
	w.wg.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look()
			}
		}
	})
	return w
}

func (w *hostWatch) look() {
	n := int64(0)
	for _, c := range w.host.Network().Conns() {
		if c.Stat().Direction == network.DirInbound {
			n++
		}
	}
	w.samples.Add(1)
	for {
		most := w.most.Load()
		if n <= most || w.most.CompareAndSwap(most, n) {
			return
		}
	}
}

// stop ends the watch, and returns the highest count and how often was counted.
func (w *hostWatch) stop() (most, samples int) {
	w.once.Do(func() {
		w.end()
		w.wg.Wait()
		w.host.Network().StopNotify(w.bundle)
	})
	return int(w.most.Load()), int(w.samples.Load())
}

// HeapSample is the size of the heap at a time since the load began, right after a
// collection of garbage.
type HeapSample struct {
	At    time.Duration
	Bytes uint64
}

type heapWatch struct {
	end     context.CancelFunc
	wg      sync.WaitGroup
	samples []HeapSample
}

func watchHeap(ctx context.Context, every time.Duration) *heapWatch {
	w := &heapWatch{}
	ctx, w.end = context.WithCancel(ctx)
	if every <= 0 {
		return w
	}
	started := time.Now()
	w.wg.Go(func() {
		for pause(ctx, every) == nil {
			w.samples = append(w.samples, HeapSample{time.Since(started), heapInUse()})
		}
	})
	return w
}

func (w *heapWatch) stop() []HeapSample {
	w.end()
	w.wg.Wait()
	return w.samples
}

// heapInUse is the bytes that are reachable. Two collections are needed: what a sync.Pool
// holds goes in the second one.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
