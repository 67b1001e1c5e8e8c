package apiload

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/parallel"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// This file is the crowd: nodes that connect, open streams, leave, are thrown out, and
// come back, half of them over TCP and half over QUIC.

// crowd is the nodes that connect to the loaded one.
type crowd struct {
	members []*member
	stop    context.CancelFunc // ends churning
	wg      sync.WaitGroup     // of churning
	counts  churn
}

// churn is what the members saw.
type churn struct {
	connected atomic.Int64 // how often one connected
	left      atomic.Int64 // how often one left by itself
	thrownOut atomic.Int64 // how often the connection ended otherwise, refusals included
	failed    atomic.Int64 // how often one could not connect
}

// ChurnCounts is what the members saw: how often one connected, left by itself, lost its
// connection otherwise, and could not connect.
type ChurnCounts struct{ Connected, Left, ThrownOut, Failed int64 }

func (c *churn) counts() ChurnCounts {
	return ChurnCounts{c.connected.Load(), c.left.Load(), c.thrownOut.Load(), c.failed.Load()}
}

// member is a node of the crowd.
type member struct {
	host host.Host
	to   peer.AddrInfo // the loaded node, at the address for this member's transport
	gone chan struct{} // gets a value when a connection has ended
}

func startCrowd(ctx context.Context, cfg Config, to host.Host) (*crowd, error) {
	c := &crowd{members: make([]*member, cfg.Nodes), stop: func() {}}
	err := parallel.Each(cfg.Nodes, func(i int) (err error) {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.members[i], err = newMember(i, to)
		return err
	})
	return c, err
}

func newMember(i int, to host.Host) (*member, error) {
	transport, listen := "tcp", libp2p.NoListenAddrs
	if i%2 == 1 { // QUIC dials from where it listens
		transport, listen = "quic", libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1")
	}
	opts, err := hostOptions(transport)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(append(opts, listen, libp2p.ConnectionManager(connmgr.NullConnMgr{}))...)
	if err != nil {
		return nil, err
	}
	m := &member{host: h, gone: make(chan struct{}, 1), to: peer.AddrInfo{ID: to.ID()}}
	for _, a := range to.Addrs() {
		if _, err := a.ValueForProtocol(ma.P_TCP); (err == nil) == (transport == "tcp") {
			m.to.Addrs = append(m.to.Addrs, a)
		}
	}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) {
		select {
		case m.gone <- struct{}{}:
		default:
		}
	}})
	return m, nil
}

// close closes all members.
func (c *crowd) close() {
	if c == nil {
		return
	}
	c.rest()
	_ = parallel.Each(len(c.members), func(i int) error {
		if c.members[i] == nil { // it did not start
			return nil
		}
		return c.members[i].host.Close()
	})
}

// connectAll has all connect. Those that the node does not keep are no error.
func (c *crowd) connectAll(ctx context.Context) {
	_ = parallel.Each(len(c.members), func(i int) error { return c.members[i].enter(ctx, 1) })
}

// rest ends churning, and has all leave.
func (c *crowd) rest() {
	c.stop()
	c.wg.Wait()
	_ = parallel.Each(len(c.members), func(i int) error {
		if m := c.members[i]; m != nil {
			return m.host.Network().ClosePeer(m.to.ID)
		}
		return nil
	})
}

// churn has all members come and go until rest.
func (c *crowd) churn(ctx context.Context, cfg Config) {
	ctx, c.stop = context.WithCancel(ctx)
	for i, m := range c.members {
		rng := rand.New(rand.NewPCG(cfg.Seed, uint64(i)))
		c.wg.Go(func() { m.churn(ctx, cfg, rng, &c.counts) })
	}
}

func (m *member) churn(ctx context.Context, cfg Config, rng *rand.Rand, counts *churn) {
	// Stays differ, the first one more than the others, so that from the beginning some
	// leave while others come.
	upTo := func(d time.Duration) time.Duration { return time.Duration(rng.Float64() * float64(d)) }
	stay := upTo(cfg.Stay)
	for ; pause(ctx, upTo(2*cfg.Away)) == nil; stay = cfg.Stay/2 + upTo(cfg.Stay) {
		select {
		case <-m.gone: // of the time before
		default:
		}
		if err := m.enter(ctx, rng.IntN(3)); err != nil {
			counts.failed.Add(1)
			continue
		}
		counts.connected.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(stay):
			counts.left.Add(1)
		case <-m.gone:
			counts.thrownOut.Add(1)
		}
		_ = m.host.Network().ClosePeer(m.to.ID)
	}
}

// enter connects, and opens streams. That it is thrown out meanwhile is no error.
func (m *member) enter(ctx context.Context, streams int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s, ok := m.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(m.to.ID) // whoever was refused comes again at once
	}
	if err := m.host.Connect(ctx, m.to); err != nil {
		return err
	}
	for range streams {
		if err := m.openStream(ctx); err != nil {
			return nil
		}
	}
	return nil
}

// openStream opens a stream and greets: QUIC tells the other side of a stream only when
// there is something in it.
func (m *member) openStream(ctx context.Context) error {
	s, err := m.host.NewStream(network.WithNoDial(ctx, "load"), m.to.ID, echoProtocol)
	if err != nil {
		return err
	}
	greeting := []byte("hello")
	if _, err := s.Write(greeting); err != nil {
		return err
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	_, err = io.ReadFull(s, greeting)
	return err
}
