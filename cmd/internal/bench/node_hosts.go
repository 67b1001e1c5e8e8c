package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2pconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// This file makes the node that is measured, and the hosts around it.

// realNode is a host with a manager, and others that have dialled it over loopback.
type realNode struct {
	manager manager
	host    host.Host
	others  []host.Host
}

// newRealNode makes a node with so many connections, all of them idle. A trim leaves low
// of them.
func newRealNode(ctx context.Context, c contender, conns, low int) (*realNode, error) {
	m, err := c.make(low)
	if err != nil {
		return nil, err
	}
	n := &realNode{manager: m}
	n.host, err = newHost(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ConnectionManager(m))
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := n.getConns(ctx, conns); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// newHost makes a host that refuses nobody.
func newHost(opts ...libp2p.Option) (host.Host, error) {
	// By default, and whatever its other limits, a resource manager admits 8 connections
	// from one address. Here all come from one.
	everywhere := func(prefix string) []rcmgr.NetworkPrefixLimit {
		return []rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix(prefix), ConnCount: math.MaxInt}}
	}
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits),
		rcmgr.WithNetworkPrefixLimit(everywhere("0.0.0.0/0"), everywhere("::/0")), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(append(opts,
		libp2p.ResourceManager(resources),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)...)
	if err != nil {
		return nil, errors.Join(err, resources.Close())
	}
	return h, nil
}

// getConns has others connect, and waits until they have no more to say to each other.
func (n *realNode) getConns(ctx context.Context, conns int) error {
	to := peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()}
	for range conns {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := newHost(libp2p.NoListenAddrs, libp2p.ConnectionManager(libp2pconnmgr.NullConnMgr{}))
		if err != nil {
			return err
		}
		n.others = append(n.others, h)
	}
	if err := n.eachOther(func(h host.Host) error { return h.Connect(ctx, to) }); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !n.quiet() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d idle connections: %w", conns, err)
		}
	}
	return nil
}

// quiet reports whether all others are connected, and no stream is open.
func (n *realNode) quiet() bool {
	for _, c := range n.host.Network().Conns() {
		if c.Stat().NumStreams > 0 {
			return false
		}
	}
	for _, h := range n.others {
		if !n.connected(h.ID()) {
			return false
		}
	}
	return true
}

func (n *realNode) connected(id peer.ID) bool {
	return n.host.Network().Connectedness(id) == network.Connected
}

// eachOther calls f with each of the others, several at a time, and returns all errors.
func (n *realNode) eachOther(f func(host.Host) error) error {
	const workers = 8
	errs := make([]error, len(n.others))
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < len(n.others); i += workers {
				errs[i] = f(n.others[i])
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// close closes all hosts, and with its host the manager.
func (n *realNode) close() error {
	return errors.Join(n.host.Close(), n.eachOther(host.Host.Close))
}

// statCosts returns how long Stat takes, in nanoseconds, of a real connection and of a
// fake one. The least of several rounds counts: what is longer was interrupted.
func (n *realNode) statCosts() (realNs, fakeNs float64) {
	realConns := n.host.Network().Conns()
	var fakeConns []network.Conn
	for i := range realConns {
		fakeConns = append(fakeConns, newFakeConn(peerID(i), 0))
	}
	realNs, fakeNs = math.Inf(1), math.Inf(1)
	for range 50 {
		realNs, fakeNs = min(realNs, statCost(realConns)), min(fakeNs, statCost(fakeConns))
	}
	return realNs, fakeNs
}

func statCost(conns []network.Conn) float64 {
	const times = 100
	streams := 0
	start := time.Now()
	for range times {
		for _, c := range conns {
			streams += c.Stat().NumStreams
		}
	}
	took := time.Since(start)
	sink.Add(int64(streams))
	return float64(took.Nanoseconds()) / float64(times*len(conns))
}
