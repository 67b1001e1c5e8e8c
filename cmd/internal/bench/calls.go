package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file measures single calls, on managers that have a crowd connected.

// sink keeps results, so that no compiler leaves out what yields them.
var sink atomic.Int64

// batch is what calls are made about. Callers have just received the IDs that they
// pass, so these lie in memory in the order of use; what managers know of the peers
// does not.
type batch struct {
	peers     int
	ids       []peer.ID
	newcomers []*fakeConn // of peers that no manager knows
}

// newBatch returns calls for each peer of a crowd, in random order, over and over if
// there are fewer peers than calls.
func newBatch(c *crowd, calls int) *batch {
	b := &batch{peers: len(c.ids), ids: make([]peer.ID, calls), newcomers: make([]*fakeConn, calls)}
	order := rand.New(rand.NewPCG(3, 3)).Perm(len(c.ids))
	for i := range calls {
		b.ids[i] = sameID(c.ids[order[i%len(order)]])
		b.newcomers[i] = newFakeConn(peerID(len(c.ids)+i), 0)
	}
	return b
}

// call is a kind of call.
type call struct {
	key, name string
	floor     bool // finding the peer in a map is the least that it takes
	// prepare returns what makes calls number from … to-1 of the batch.
	prepare func(m manager, b *batch) (func(from, to int), error)
}

var (
	tagCall = call{key: "tag", name: "tag", floor: true, prepare: func(m manager, b *batch) (func(from, to int), error) {
		var value atomic.Int64
		return func(from, to int) {
			v := int(value.Add(1)) // another one each time, so that something changes
			for _, id := range b.ids[from:to] {
				m.TagPeer(id, "kad", v)
			}
		}, nil
	}}
	connectCall = call{key: "connect", name: "connect and disconnect", prepare: func(m manager, b *batch) (func(from, to int), error) {
		notifee := m.Notifee()
		return func(from, to int) {
			for _, c := range b.newcomers[from:to] {
				notifee.Connected(nil, c)
				notifee.Disconnected(nil, c)
			}
		}, nil
	}}
	bumpCall = call{key: "bump", name: "bump a decaying tag, until it has its new value", prepare: prepareBump}
)

var calls = []call{
	tagCall,
	{key: "upsert", name: "upsert a tag", floor: true, prepare: func(m manager, b *batch) (func(from, to int), error) {
		increment := func(v int) int { return v + 1 }
		return func(from, to int) {
			for _, id := range b.ids[from:to] {
				m.UpsertTag(id, "kad", increment)
			}
		}, nil
	}},
	{key: "untag", name: "untag, and tag again", prepare: func(m manager, b *batch) (func(from, to int), error) {
		return func(from, to int) {
			for _, id := range b.ids[from:to] {
				m.UntagPeer(id, "kad")
				m.TagPeer(id, "kad", 1)
			}
		}, nil
	}},
	{key: "info", name: "get tag info", prepare: func(m manager, b *batch) (func(from, to int), error) {
		return func(from, to int) {
			sum := 0
			for _, id := range b.ids[from:to] {
				sum += m.GetTagInfo(id).Value
			}
			sink.Store(int64(sum))
		}, nil
	}},
	{key: "protect", name: "protect and unprotect", prepare: func(m manager, b *batch) (func(from, to int), error) {
		return func(from, to int) {
			for _, id := range b.ids[from:to] {
				m.Protect(id, "relay")
				m.Unprotect(id, "relay")
			}
		}, nil
	}},
	{key: "isprotected", name: "ask whether protected", prepare: func(m manager, b *batch) (func(from, to int), error) {
		for _, id := range b.ids[:max(b.peers/100, 1)] {
			m.Protect(id, "bootstrap")
		}
		return func(from, to int) {
			n := 0
			for _, id := range b.ids[from:to] {
				if m.IsProtected(id, "") {
					n++
				}
			}
			sink.Store(int64(n))
		}, nil
	}},
	bumpCall,
	connectCall,
}

// prepareBump bumps a decaying tag. go-libp2p's manager puts bumps in a queue, and
// refuses when that is full; ours changes the value before it returns. What both are
// asked for is the change, so refused bumps are repeated, and a batch ends when its
// last bump has been made.
func prepareBump(m manager, b *batch) (func(from, to int), error) {
	var asked, made atomic.Int64
	tag, err := m.RegisterDecayingTag("bench", time.Hour,
		func(v libp2p.DecayingValue) (int, bool) { return v.Value, false },
		func(v libp2p.DecayingValue, delta int) int {
			made.Add(1)
			return v.Value + delta
		})
	if err != nil {
		return nil, err
	}
	return func(from, to int) {
		asked.Add(int64(to - from))
		for _, id := range b.ids[from:to] {
			for tag.Bump(id, 1) != nil {
				runtime.Gosched()
			}
		}
		for made.Load() < asked.Load() {
			runtime.Gosched()
		}
	}, nil
}

// callsCase is a crowd about which calls are made.
type callsCase struct {
	peers      int
	calls      int // in a round
	goroutines []int
	rounds     int
	kinds      []call
}

// measure makes all kinds of calls on one manager of each contender.
func (c callsCase) measure(ctx context.Context) ([]row, error) {
	crowd := newCrowd(c.peers)
	batch := newBatch(crowd, c.calls)
	managers := make([]manager, len(contenders))
	for i, who := range contenders {
		m, err := who.filled(c.peers, crowd, func(int) int { return 1 })
		if err != nil {
			return nil, err
		}
		defer m.Close()
		managers[i] = m
	}
	var rows []row
	for _, kind := range c.kinds {
		more, err := c.measureKind(ctx, kind, batch, managers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (c callsCase) measureKind(ctx context.Context, kind call, b *batch, managers []manager) ([]row, error) {
	do := make([]func(from, to int), len(managers))
	allocs := make([]figure, len(managers))
	for i, m := range managers {
		var err error
		if do[i], err = kind.prepare(m, b); err != nil {
			return nil, err
		}
		allocs[i] = allocations(c.calls, do[i]) // warms up as well
	}
	if kind.floor {
		table := make(map[peer.ID]int, c.peers)
		for i, id := range b.ids {
			table[sameID(id)] = i // managers have other copies of the IDs, too
		}
		do = append(do, func(from, to int) { sink.Store(int64(lookUp(table, b.ids[from:to]))) })
	}
	var rows []row
	for _, goroutines := range c.goroutines {
		var sides []func() (figure, error)
		for i := range do {
			sides = append(sides, func() (figure, error) { return perCall(goroutines, c.calls, do[i]), nil })
		}
		all, err := inTurns(ctx, c.rounds, sides...)
		if err != nil {
			return nil, err
		}
		r := newRow(fmt.Sprintf("%s/%d/%d", kind.key, c.peers, goroutines), kind.name)
		r.goroutines = goroutines
		r.compare(all[0], all[1])
		if kind.floor {
			r.compareFloor(all[1], all[2])
		}
		r.theirAllocs, r.ourAllocs = allocs[0], allocs[1]
		rows = append(rows, r)
	}
	return rows, nil
}
