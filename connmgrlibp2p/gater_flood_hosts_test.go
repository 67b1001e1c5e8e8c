package connmgrlibp2p_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// This file floods real hosts with connections, and counts them all the time. The
// hosts' resource managers have no limits: ours do all the work.

// watch counts connections of a host, all the time and whenever there is a new one,
// until stop, which returns the highest count.
func watch(h host.Host, counts func(network.Conn) bool) (stop func() (most, samples int)) {
	var highest, looks atomic.Int64
	look := func() {
		n := int64(0)
		for _, c := range h.Network().Conns() {
			if counts(c) {
				n++
			}
		}
		looks.Add(1)
		for {
			old := highest.Load()
			if n <= old || highest.CompareAndSwap(old, n) {
				return
			}
		}
	}
	bundle := &network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { look() }}
	h.Network().Notify(bundle)
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ending:
				return
			default:
				look()
				runtime.Gosched()
			}
		}
	}()
	return func() (int, int) {
		close(ending)
		<-ended
		h.Network().StopNotify(bundle)
		return int(highest.Load()), int(looks.Load())
	}
}

func isInbound(c network.Conn) bool { return c.Stat().Direction == network.DirInbound }

// flood has hosts dial one host again and again, all at once, half of them over TCP and
// half over QUIC. Every third time a host hangs up itself; otherwise it dials again
// when it has been thrown out.
func flood(t *testing.T, to host.Host, from []host.Host, rounds int, before func(peer.ID)) {
	t.Helper()
	var all sync.WaitGroup
	for i, h := range from {
		addrs := peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()[i%2 : i%2+1]}
		all.Go(func() {
			for round := range rounds {
				h.Network().(*swarm.Swarm).Backoff().Clear(to.ID())
				before(h.ID())
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err := h.Connect(ctx, addrs) // returns when both have talked, or it is closed
				cancel()
				if err == nil && (i+round)%3 == 0 {
					_ = h.Network().ClosePeer(to.ID())
				}
			}
		})
	}
	within(t, "the flood", all.Wait)
}

// newOnBoth makes a host that listens on TCP and QUIC, in this order.
func newOnBoth(t *testing.T, opts ...golibp2p.Option) host.Host {
	t.Helper()
	h := newHost(t, append([]golibp2p.Option{golibp2p.ListenAddrStrings(transports["TCP"], transports["QUIC"])}, opts...)...)
	if len(h.Addrs()) != 2 {
		t.Fatalf("the host listens on %v, want one address of TCP and one of QUIC", h.Addrs())
	}
	return h
}

// TestTheHardLimitHoldsAtEveryInstant floods a host with tagged, protected, trusted and
// other peers.
func TestTheHardLimitHoldsAtEveryInstant(t *testing.T) {
	const hard, dialers, trusted = 20, 60, 5
	rounds := 4
	if underRaceDetector() {
		rounds = 2 // each takes many times as long
	}
	cm := newManager(t, hard, hard, connmgrlibp2p.WithHardLimit(hard))
	guarded := newOnBoth(t, golibp2p.ConnectionManager(cm), golibp2p.ConnectionGater(cm.Gater()))
	crowd := make([]host.Host, dialers)
	friends := make(map[peer.ID]bool)
	for i := range crowd {
		crowd[i] = newDialer(t)
		id := crowd[i].ID()
		switch {
		case i < trusted:
			friends[id] = true
			must(t, cm.Gater().Core().Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: peerTarget(id)}))
		case i < 2*trusted:
			cm.Protect(id, "protected")
		}
	}

	stop := watch(guarded, func(c network.Conn) bool { return isInbound(c) && !friends[c.RemotePeer()] })
	flood(t, guarded, crowd, rounds, func(p peer.ID) {
		if value := rand.IntN(4); value > 0 { // tags end with the connection
			cm.TagPeer(p, "useful", value)
		}
	})
	most, samples := stop()
	if most > hard {
		t.Errorf("there were %d inbound connections of peers that are not trusted, want never more than %d", most, hard)
	}
	if most < hard-trusted {
		t.Errorf("there were %d inbound connections at most, want the flood to reach the hard limit of %d", most, hard)
	}
	s := cm.Gater().Core().Stats()
	if s.Checks[connmgr.AtUpgraded][connmgr.OverHardLimit] == 0 || s.Displaced == 0 {
		t.Errorf("the hard limit refused %d connections and displaced %d peers, want some of both",
			s.Checks[connmgr.AtUpgraded][connmgr.OverHardLimit], s.Displaced)
	}
	t.Logf("%d samples; %d refused, %d displaced", samples, s.Checks[connmgr.AtUpgraded][connmgr.OverHardLimit], s.Displaced)

	// Whoever is trusted comes in, now that the house is full.
	for _, h := range crowd {
		if friends[h.ID()] {
			mustDial(t, h, guarded)
		}
	}
	eventually(t, "nothing is left half-way", func() bool {
		s, m := cm.Gater().Core().Stats(), cm.Core().Stats()
		return s.Arriving == 0 && m.Closing == 0 && cm.GetInfo().ConnCount == len(guarded.Network().Conns())
	})
	for _, h := range crowd {
		_ = h.Close()
	}
	wantCount(t, guarded, cm, 0)
}

// TestTheInboundLimitOfAGaterAloneHoldsAtEveryInstant counts open connections: the
// gater may know that one is closed before the host has cleared up.
func TestTheInboundLimitOfAGaterAloneHoldsAtEveryInstant(t *testing.T) {
	const limit, rounds, dialers = 6, 3, 18
	g := newAlone(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: limit}})
	guarded := newOnBoth(t, golibp2p.ConnectionManager(newBasic(t, 1000, 1000)), golibp2p.ConnectionGater(g))
	crowd := make([]host.Host, dialers)
	for i := range crowd {
		crowd[i] = newDialer(t)
	}
	stop := watch(guarded, func(c network.Conn) bool { return isInbound(c) && !c.IsClosed() })
	flood(t, guarded, crowd, rounds, func(peer.ID) {})
	if most, _ := stop(); most != limit {
		t.Errorf("there were %d open inbound connections at most, want the limit of %d to be reached and to hold", most, limit)
	}
}
