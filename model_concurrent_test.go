package connmgr_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This test does random things from several goroutines at once. Nobody can say
// what comes of it, but the sums have to be right, and nothing may be left when
// everything has been taken back.

func TestInvariantsHoldInManyHandsAtOnce(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		cfg := connmgr.Config{
			LowWater: 20, HighWater: 40, GracePeriod: time.Millisecond, SilencePeriod: time.Millisecond,
			DecayInterval: time.Millisecond, MaxIdlePeers: 1 << 20,
		}
		newOne := newNode
		if hosted {
			newOne = newHosted
			// Who asks a host while a connection goes may take it for alive until the
			// next time. So that the end can be checked, there is no next time in the
			// background.
			cfg.ManualStart = true
		}
		m, host := newOne(t, cfg)
		tag := register(t, m, "decays", 0, connmgr.DecayFixed(1))
		const peers = 100
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() { doAnything(t, rand.New(rand.NewPCG(uint64(g), 1)), m, host, tag, peers) })
		}
		all.Wait()
		_ = tag.Close() // nothing changes from here on, but for trims
		// When nobody is in grace and a trim finds nobody, nor will those in the
		// background.
		for res := trim(t, m); len(res.Closed) > 0 || res.InGrace > 0; res = trim(t, m) {
		}
		expectConsistent(t, m, host, peers)

		for i := range peers {
			host.Disconnect(peerID(i))
			for n := range 3 {
				m.UntagPeer(peerID(i), fmt.Sprint("tag", n))
				m.Unprotect(peerID(i), fmt.Sprint("tag", n))
			}
		}
		s := m.Stats()
		if s.Peers != 0 || s.Conns != 0 || s.IdlePeers != 0 || s.ProtectedPeers != 0 || s.Closing != 0 || m.ConnCount() != 0 {
			t.Errorf("after everything was taken back: %+v, ConnCount %d; want nobody", s, m.ConnCount())
		}
		if s.Panics != 0 || s.CloseErrors != 0 || s.HangingPeers != 0 {
			t.Errorf("panics %d, close errors %d, hanging %d; want none", s.Panics, s.CloseErrors, s.HangingPeers)
		}
		closeManager(t, m)
	}
}

func doAnything(t *testing.T, rng *rand.Rand, m *connmgr.Manager, host *connmgrtest.Host, tag *connmgr.DecayingTag, peers int) {
	for range 3000 {
		id, name, value := peerID(rng.IntN(peers)), fmt.Sprint("tag", rng.IntN(3)), rng.IntN(100)
		switch rng.IntN(14) {
		default:
			host.Connect(id, connmgrtest.Streams(rng.IntN(2)), connmgrtest.Direction(connmgr.Direction(rng.IntN(3))))
		case 4:
			host.Disconnect(id)
		case 5:
			m.TagPeer(id, name, value)
		case 6:
			m.UpsertTag(id, name, func(v int) int { return v + 1 })
		case 7:
			m.UntagPeer(id, name)
		case 8:
			m.Protect(id, name)
		case 9:
			for n := range 3 {
				m.Unprotect(id, fmt.Sprint("tag", n))
			}
		case 10:
			bump(t, tag, id, value)
		case 11:
			if rng.IntN(10) == 0 {
				_, _ = m.ForceTrim(context.Background())
			}
			_ = m.SetLimits(connmgr.Limits{LowWater: rng.IntN(30), HighWater: 30 + rng.IntN(20), HardLimit: 50 + rng.IntN(50)})
		case 12:
			m.Explain(id, connmgr.Trigger(rng.IntN(6)))
			m.Stats()
		case 13:
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(value)*time.Microsecond)
			m.TrimOpenConns(ctx)
			cancel()
		}
	}
}

// expectConsistent checks that the sums over all peers are the totals.
func expectConsistent(t *testing.T, m *connmgr.Manager, host *connmgrtest.Host, peers int) {
	t.Helper()
	s := m.Stats()
	var conns, connected, protected, idle int
	for i := range peers {
		info, known := m.PeerInfo(peerID(i))
		sum := 0
		for _, v := range info.Tags {
			sum += v
		}
		if sum != info.Value {
			t.Errorf("%v: the tags %v sum up to %d, but the value is %d", peerID(i), info.Tags, sum, info.Value)
		}
		conns += len(info.Conns)
		if open := len(host.Conns(peerID(i))); open != len(info.Conns) {
			t.Errorf("%v has %d connections, %d of them known", peerID(i), open, len(info.Conns))
		}
		switch {
		case len(info.Conns) > 0:
			connected++
		case known && len(info.Protections) == 0:
			idle++
		}
		if len(info.Protections) > 0 {
			protected++
		}
	}
	if s.Conns != conns || m.ConnCount() != conns || s.Inbound+s.Outbound+s.UnknownDirection != conns || s.Closing != 0 {
		t.Errorf("the peers have %d connections, the totals are %d, %d, %d + %d + %d, closing %d",
			conns, s.Conns, m.ConnCount(), s.Inbound, s.Outbound, s.UnknownDirection, s.Closing)
	}
	if s.Peers != connected || s.ProtectedPeers != protected || s.IdlePeers != idle {
		t.Errorf("connected %d, protected %d, idle %d; the totals are %d, %d, %d", connected, protected, idle, s.Peers, s.ProtectedPeers, s.IdlePeers)
	}
	if min(s.Inbound, s.Outbound, s.UnknownDirection) < 0 {
		t.Errorf("a count is negative: %+v", s)
	}
}
