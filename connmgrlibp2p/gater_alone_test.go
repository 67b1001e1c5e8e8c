package connmgrlibp2p_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file tries the gater without its manager: it has to find out by itself which
// connections there are.

// newAlone makes a gater by itself that ends with the test.
func newAlone(t *testing.T, cfg connmgr.GateConfig) *connmgrlibp2p.Gater {
	t.Helper()
	g, err := connmgrlibp2p.NewGater(cfg)
	if err != nil {
		t.Fatalf("NewGater: %v", err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("Close of the gater: %v", err)
		}
	})
	return g
}

// liveConn is a connection that knows whether it is open, and tells nobody when it is
// not any more.
type liveConn struct {
	network.Conn
	peer      peer.ID
	addr      ma.Multiaddr
	direction network.Direction
	streams   int

	closed atomic.Bool
	code   atomic.Uint32
}

func newLiveConn(p peer.ID, dir network.Direction) *liveConn {
	return &liveConn{peer: p, addr: ma.StringCast(strangerHome), direction: dir}
}

func (c *liveConn) RemotePeer() peer.ID           { return c.peer }
func (c *liveConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *liveConn) IsClosed() bool                { return c.closed.Load() }
func (c *liveConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: c.direction}, NumStreams: c.streams}
}

func (c *liveConn) CloseWithError(code network.ConnErrorCode) error {
	if !c.closed.Swap(true) {
		c.code.Store(uint32(code))
	}
	return nil
}

// passes reports whether a connection passes the last checkpoint.
func passes(g *connmgrlibp2p.Gater, c network.Conn) bool {
	allow, _ := g.InterceptUpgraded(c)
	return allow
}

func TestABlockByAGaterAloneClosesWhatPassedIt(t *testing.T) {
	for name, block := range map[string]func(*connmgrlibp2p.Gater) error{
		"peer":    func(g *connmgrlibp2p.Gater) error { return g.BlockPeer(stranger) },
		"address": func(g *connmgrlibp2p.Gater) error { return g.BlockAddr(netip.MustParseAddr("192.0.2.7").AsSlice()) },
		"subnet":  func(g *connmgrlibp2p.Gater) error { return g.BlockSubnet(parseCIDR(t, "192.0.2.0/24")) },
	} {
		for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
			synctest.Test(t, func(t *testing.T) {
				g := newAlone(t, connmgr.GateConfig{})
				c, other := newLiveConn(stranger, dir), newLiveConn("friend", dir)
				other.addr = ma.StringCast("/ip4/198.51.100.1/tcp/4001")
				if !passes(g, c) || !passes(g, other) {
					t.Fatal("a connection is refused, want both to pass")
				}
				passTime(time.Second) // go-libp2p has them in use
				if err := block(g); err != nil {
					t.Fatal(err)
				}
				if !c.closed.Load() || network.ConnErrorCode(c.code.Load()) != network.ConnGated {
					t.Errorf("%s, %v: after the block the connection is closed: %v with code %d, want it closed with ConnGated (%d)",
						name, dir, c.closed.Load(), c.code.Load(), network.ConnGated)
				}
				if other.closed.Load() {
					t.Errorf("%s, %v: the block closed somebody else's connection", name, dir)
				}
				if passes(g, newLiveConn(stranger, dir)) {
					t.Errorf("%s, %v: a new connection passes after the block", name, dir)
				}
			})
		}
	}
}

// TestAConnectionIsLeftAloneUntilItIsInUse blocks right after a connection has passed:
// go-libp2p would not notice a close before it has made the connection known.
func TestAConnectionIsLeftAloneUntilItIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newAlone(t, connmgr.GateConfig{})
		c := newLiveConn(stranger, network.DirInbound)
		if !passes(g, c) {
			t.Fatal("refused, want it to pass")
		}
		var done atomic.Bool
		go func() {
			if err := g.BlockPeer(stranger); err != nil {
				t.Error(err)
			}
			done.Store(true)
		}()
		synctest.Wait()
		if c.closed.Load() {
			t.Error("a connection that has passed this very moment is closed, want it left alone until it is in use")
		}
		passTime(time.Second)
		if !c.closed.Load() || !done.Load() {
			t.Errorf("a second later the connection is closed: %v, the block has returned: %v; want both", c.closed.Load(), done.Load())
		}
	})
}

// comesIn reports whether an inbound connection passes all checkpoints.
func comesIn(g libp2p.ConnectionGater, c *liveConn) bool {
	if !g.InterceptAccept(remote{c.addr}) || !g.InterceptSecured(network.DirInbound, c.peer, remote{c.addr}) {
		return false
	}
	allow, _ := g.InterceptUpgraded(c)
	return allow
}

// TestLimitsOfAGaterAloneCountOnlyOpenConnections has connections end without a word.
func TestLimitsOfAGaterAloneCountOnlyOpenConnections(t *testing.T) {
	for name, limits := range map[string]connmgr.GateLimits{
		"inbound":     {MaxInbound: 3},
		"per peer":    {MaxPerPeer: 3},
		"per address": perAddress(3),
	} {
		for kind, makeGater := range map[string]func(*testing.T) *connmgrlibp2p.Gater{
			"NewGater": func(t *testing.T) *connmgrlibp2p.Gater { return newAlone(t, connmgr.GateConfig{Limits: limits}) },
			"NewBasicConnectionGater": func(t *testing.T) *connmgrlibp2p.Gater {
				g := newBasicAlone(t)
				must(t, g.Core().SetLimits(limits))
				return g
			},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := makeGater(t)
					open := make([]*liveConn, 3)
					for i := range open {
						open[i] = newLiveConn(stranger, network.DirInbound)
						if !comesIn(g, open[i]) {
							t.Fatalf("connection %d of 3 is refused", i+1)
						}
					}
					for round := range 5 {
						if comesIn(g, newLiveConn(stranger, network.DirInbound)) {
							t.Fatalf("round %d: one more than 3 open connections passes", round)
						}
						passTime(time.Second)
						open[0].closed.Store(true)
						next := newLiveConn(stranger, network.DirInbound)
						if !comesIn(g, next) {
							t.Fatalf("round %d: a connection is refused where 2 of 3 are open, want it to get the third place: %v",
								round, g.Core().Stats().Checks)
						}
						open = append(open[1:], next)
						passTime(time.Second)
					}
				})
			})
		}
	}
}

// TestExpiredBlocksOfABasicConnectionGaterAreForgotten looks at a gater without
// background work: what it holds must not grow with the bans that it has ever seen.
func TestExpiredBlocksOfABasicConnectionGaterAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBasicAlone(t)
		const bans = 1000
		for i := range bans {
			must(t, g.Core().Block(t.Context(), peerTarget(peerNumber("peer", i)), time.Minute, "noise"))
		}
		passTime(time.Hour)
		must(t, g.BlockPeer(stranger))
		synctest.Wait()
		if got := g.Core().Stats().Rules; got > bans/10 {
			t.Errorf("an hour after %d blocks of a minute there are %d rules in memory, want them forgotten", bans, got)
		}
	})
}

func TestOutboundConnectionsPassTheLimitsOfAGaterAlone(t *testing.T) {
	g := newAlone(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: 1, MaxPerPeer: 1, PerPrefix: perAddress(1).PerPrefix}})
	for i := range 3 {
		if !passes(g, newLiveConn(stranger, network.DirOutbound)) {
			t.Errorf("outbound connection %d is refused, want no limit for those that we open", i+1)
		}
	}
}

// TestAFreePlaceIsTakenBeforeAnybodyIsDisplaced has a newcomer that ranks above the
// connection in one of two places, and nobody in the other any more.
func TestAFreePlaceIsTakenBeforeAnybodyIsDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newAlone(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: 2}})
		if !passes(g, newLiveConn("friend", network.DirOutbound)) {
			t.Fatal("refused, want an outbound connection to pass")
		}
		passTime(time.Second)
		stays, goes := newLiveConn("stays", network.DirInbound), newLiveConn("goes", network.DirInbound)
		if !passes(g, stays) || !passes(g, goes) {
			t.Fatal("refused, want two inbound connections to pass")
		}
		passTime(time.Second)
		goes.closed.Store(true)
		if !passes(g, newLiveConn("friend", network.DirInbound)) {
			t.Errorf("refused with one of two places free: %v", g.Core().Stats().Checks[connmgr.AtUpgraded])
		}
		if stays.closed.Load() {
			t.Error("a live connection was displaced though a place was free")
		}
	})
}

// TestAGaterAloneForgetsConnectionsThatAreGone looks at what 10,000 connections leave
// behind that came one after another. Each carries a kilobyte to be found by.
func TestAGaterAloneForgetsConnectionsThatAreGone(t *testing.T) {
	const all, open = 10_000, 50
	type heavyConn struct {
		liveConn
		_ [1 << 10]byte
	}
	for name, makeGater := range map[string]func() (*connmgrlibp2p.Gater, error){
		"NewGater": func() (*connmgrlibp2p.Gater, error) {
			return connmgrlibp2p.NewGater(connmgr.GateConfig{Limits: perAddress(all)})
		},
		"NewBasicConnectionGater": func() (*connmgrlibp2p.Gater, error) { return connmgrlibp2p.NewBasicConnectionGater(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			g, err := makeGater()
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			var alive atomic.Int64
			var last []*heavyConn
			for i := range all {
				c := &heavyConn{}
				c.peer, c.direction = peerNumber("peer", i), network.DirInbound
				c.addr = ma.StringCast(fmt.Sprintf("/ip4/10.%d.%d.1/tcp/1", i>>8, i&0xff))
				alive.Add(1)
				runtime.AddCleanup(c, func(n *atomic.Int64) { n.Add(-1) }, &alive)
				if !passes(g, c) {
					t.Fatalf("connection %d is refused", i)
				}
				if last = append(last, c); len(last) > open {
					last[0].closed.Store(true)
					last = last[1:]
				}
			}
			const most = 4*open + 200 // closed ones are looked for only now and then
			eventually(t, fmt.Sprintf("at most %d of %d connections are remembered, of which %d are open", most, all, open), func() bool {
				runtime.GC()
				return alive.Load() <= most
			})
			if got := g.Core().Stats().TrackedPrefixes; got > most {
				t.Errorf("%d prefixes are tracked, want at most %d", got, most)
			}
			runtime.KeepAlive(last)
		})
	}
}

func TestABasicConnectionGaterLeaksNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 20 {
		g, err := connmgrlibp2p.NewBasicConnectionGater(nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && !passes(g, newLiveConn(stranger, network.DirInbound)) {
			t.Fatal("refused, want it to pass")
		}
		if err := g.BlockPeer(stranger); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no goroutine is left of 20 gaters that nobody closed", func() bool {
		return managerGoroutines() == "" && runtime.NumGoroutine() <= before
	})
}

func TestABasicConnectionGaterThatNobodyUsesIsCollected(t *testing.T) {
	gone := make(chan struct{})
	g, err := connmgrlibp2p.NewBasicConnectionGater(nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.AddCleanup(g.Core(), func(gone chan struct{}) { close(gone) }, gone)
	g = nil
	eventually(t, "a gater that nobody closed is collected", func() bool {
		runtime.GC()
		select {
		case <-gone:
			return true
		default:
			return g != nil
		}
	})
}

func TestAGaterAloneClosesCleanly(t *testing.T) {
	before := runtime.NumGoroutine()
	g, err := connmgrlibp2p.NewGater(connmgr.GateConfig{Ladder: connmgr.DefaultLadder(), Limits: connmgr.PublicNodeLimits()})
	if err != nil {
		t.Fatal(err)
	}
	c := newLiveConn(stranger, network.DirInbound)
	if !passes(g, c) {
		t.Fatal("refused, want it to pass")
	}
	within(t, "two calls of Close", func() {
		for range 2 {
			if err := g.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	eventually(t, "no goroutine is left", func() bool { return managerGoroutines() == "" && runtime.NumGoroutine() <= before })

	// It still works, but knows of no connections.
	if err := g.BlockPeer(stranger); err != nil {
		t.Errorf("BlockPeer after Close: %v", err)
	}
	if c.closed.Load() {
		t.Error("a block after Close closed a connection, want the gater to know of none")
	}
	if g.InterceptPeerDial(stranger) || passes(g, newLiveConn(stranger, network.DirInbound)) {
		t.Error("a peer blocked after Close passes, want it refused")
	}
	if !passes(g, newLiveConn("friend", network.DirInbound)) {
		t.Error("a peer is refused after Close for no reason")
	}
}

func TestABadConfigurationOfAGaterAloneIsRefused(t *testing.T) {
	g, err := connmgrlibp2p.NewGater(connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: -1}})
	if err == nil || g != nil {
		t.Errorf("NewGater with MaxInbound -1 is %v, %v; want nil and an error", g, err)
	}
}
