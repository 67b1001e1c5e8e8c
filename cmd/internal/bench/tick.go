package bench

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file measures the decay of a tag that a whole crowd has.
//
// Neither manager can be told to let tags decay, so both run on a clock that is set by
// hand. A tick is taken to last from setting the clock ahead until the decay function
// has been asked about the last peer. What a manager does after that with the answer
// is not in the figure; it is a small part for both, since ours stores the answers shard
// by shard, and go-libp2p's peer by peer.

// ticking returns both managers on a clock, with tags that decay each minute.
func ticking(low int, hand *clock.Mock) [2]func() (manager, error) {
	return [2]func() (manager, error){
		func() (manager, error) {
			return basic.NewConnManager(low, math.MaxInt32, basic.WithGracePeriod(0), basic.WithSilencePeriod(time.Hour),
				basic.WithClock(hand), basic.DecayerConfig(&basic.DecayerCfg{Resolution: time.Minute, Clock: hand}))
		},
		func() (manager, error) {
			return connmgrlibp2p.NewConnManager(low, math.MaxInt32, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithSilencePeriod(time.Hour),
				connmgrlibp2p.WithLogger(quiet), connmgrlibp2p.WithClock(hand),
				connmgrlibp2p.DecayerConfig(&connmgrlibp2p.DecayerCfg{Resolution: time.Minute, Clock: hand}))
		},
	}
}

// measureTick lets a tag of all peers decay.
func measureTick(ctx context.Context, peers, rounds int) ([]row, error) {
	crowd := newCrowd(peers)
	sides := make([]func() (figure, error), 2)
	for i := range sides {
		hand := clock.NewMock() // one for each, so that they tick in turns
		m, err := contender{make: func(low int) (manager, error) { return ticking(low, hand)[i]() }}.filled(peers, crowd, func(int) int { return 0 })
		if err != nil {
			return nil, err
		}
		defer m.Close()
		t, err := newTicker(ctx, m, crowd, hand)
		if err != nil {
			return nil, err
		}
		sides[i] = t.tick
		if _, err := t.tick(); err != nil { // warms up
			return nil, err
		}
	}
	all, err := inTurns(ctx, rounds, sides...)
	if err != nil {
		return nil, err
	}
	r := newRow(fmt.Sprintf("tick/%d", peers), fmt.Sprintf("decay of a tag that %s peers have", thousands(peers)))
	r.goroutines = 1
	r.compare(all[0], all[1])
	return []row{r}, nil
}

// ticker is a manager whose peers all have a tag that decays each minute.
type ticker struct {
	ctx   context.Context
	hand  *clock.Mock
	peers int64
	asked atomic.Int64
	done  chan time.Time
}

func newTicker(ctx context.Context, m manager, crowd *crowd, hand *clock.Mock) (*ticker, error) {
	t := &ticker{ctx: ctx, hand: hand, peers: int64(len(crowd.ids)), done: make(chan time.Time, 1)}
	tag, err := m.RegisterDecayingTag("bench", time.Minute, t.decay, addUp)
	if err != nil {
		return nil, err
	}
	for _, id := range crowd.ids {
		for tag.Bump(id, 1<<30) != nil { // a full queue
			time.Sleep(time.Millisecond)
		}
	}
	return t, nil
}

func addUp(v libp2p.DecayingValue, delta int) int { return v.Value + delta }

func (t *ticker) decay(v libp2p.DecayingValue) (after int, rm bool) {
	if t.asked.Add(1) == t.peers {
		t.done <- time.Now()
	}
	return v.Value - 1, false
}

// lost is when a tick that has not asked about all peers is given up.
const lost = 30 * time.Second

func (t *ticker) tick() (figure, error) {
	t.asked.Store(0)
	var start time.Time
	onClock(func() { // for the sake of the garbage
		start = time.Now()
		t.hand.Add(time.Minute)
	})
	giveUp := time.NewTimer(lost)
	defer giveUp.Stop()
	select {
	case end := <-t.done:
		return figure(end.Sub(start)), nil
	case <-t.ctx.Done():
		return 0, t.ctx.Err()
	case <-giveUp.C:
		return 0, fmt.Errorf("after a tick, %d of %d peers were asked about", t.asked.Load(), t.peers)
	}
}
