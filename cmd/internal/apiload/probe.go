package apiload

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// This file measures how long the node has to wait for its manager: for the notifications
// that go-libp2p makes, since an accept loop waits for each of them, and for tags.

// Probe is how long calls of the manager took, without load on the API and with it.
type Probe struct {
	Calm, Loaded CallTimes
	// Late is how much later than it wanted to a goroutine woke that does nothing else,
	// while there was load: what the machine, not the manager, makes a call wait for.
	Late Quantiles
}

// CallTimes is how long calls of the manager took.
type CallTimes struct {
	Connected, Disconnected, TagPeer Quantiles
}

// callTimes is CallTimes in the making.
type callTimes struct{ connected, disconnected, tagPeer, late histogram }

func (c *callTimes) quantiles() CallTimes {
	return CallTimes{c.connected.quantiles(), c.disconnected.quantiles(), c.tagPeer.quantiles()}
}

// timedManager is a manager for go-libp2p whose notifications are timed.
type timedManager struct {
	*connmgrlibp2p.ConnManager
	notifee *timedNotifee
}

func newTimedManager(cm *connmgrlibp2p.ConnManager) *timedManager {
	return &timedManager{cm, &timedNotifee{to: cm.Notifee()}}
}

// Notifee returns what times the notifications.
func (m *timedManager) Notifee() network.Notifiee { return m.notifee }

type timedNotifee struct {
	to    network.Notifiee
	times atomic.Pointer[callTimes] // nil while nothing is measured
}

func (n *timedNotifee) Connected(net network.Network, c network.Conn) {
	start := time.Now()
	n.to.Connected(net, c)
	if times := n.times.Load(); times != nil {
		times.connected.add(time.Since(start))
	}
}

func (n *timedNotifee) Disconnected(net network.Network, c network.Conn) {
	start := time.Now()
	n.to.Disconnected(net, c)
	if times := n.times.Load(); times != nil {
		times.disconnected.add(time.Since(start))
	}
}

func (n *timedNotifee) Listen(network.Network, ma.Multiaddr)      {}
func (n *timedNotifee) ListenClose(network.Network, ma.Multiaddr) {}

// prober tags peers all the time, and collects what the notifee measures.
type prober struct {
	notifee      *timedNotifee
	calm, loaded callTimes
	end          context.CancelFunc
	wg           sync.WaitGroup
}

// tagEvery is the time between two tags, and between two times to wake.
const tagEvery = 2 * time.Millisecond

func (n *node) startProbe(ctx context.Context, c *crowd) *prober {
	p := &prober{notifee: n.timed.notifee}
	p.notifee.times.Store(&p.calm)
	ctx, p.end = context.WithCancel(ctx)
	p.wg.Go(func() {
		core := n.manager.Core()
		tick := time.NewTicker(tagEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			id := connmgr.NodeID(c.members[rand.IntN(len(c.members))].host.ID())
			value := rand.IntN(20)
			start := time.Now()
			core.TagPeer(id, "probe", value)
			p.notifee.times.Load().tagPeer.add(time.Since(start))
		}
	})
	p.wg.Go(func() {
		for due := time.Now().Add(tagEvery); pause(ctx, time.Until(due)) == nil; due = time.Now().Add(tagEvery) {
			p.notifee.times.Load().late.add(time.Since(due))
		}
	})
	return p
}

// enough waits until there have been enough calls of each kind without load to compare
// with.
func (p *prober) enough(ctx context.Context) error {
	return until(ctx, func() bool {
		q := p.calm.quantiles()
		return min(q.Connected.Count, q.Disconnected.Count, q.TagPeer.Count) >= enoughCalls
	})
}

// enoughCalls is how many calls it takes for 1 % of them to be more than one.
const enoughCalls = 200

// next says that from now on the API is under load.
func (p *prober) next() { p.notifee.times.Store(&p.loaded) }

// stop ends the probe. It can be called again, and returns the same.
func (p *prober) stop() Probe {
	p.end()
	p.wg.Wait()
	p.notifee.times.Store(nil)
	return Probe{p.calm.quantiles(), p.loaded.quantiles(), p.loaded.late.quantiles()}
}
