package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/parallel"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// This file makes real libp2p nodes: the one that is guarded, and the crowd.

// chatProtocol is what the nodes with open streams speak: a greeting that is sent
// back, then silence.
const chatProtocol = "/connmgr/demo/1"

// nodeOptions are common to all nodes. The resource manager is off on purpose:
// its own limits (8 connections per address) would refuse a crowd that all comes
// from loopback before the connection manager sees it.
func nodeOptions(key crypto.PrivKey, transport string) []libp2p.Option {
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.Ping(false),
	}
	if transport != "quic" {
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport))
	}
	if transport != "tcp" {
		opts = append(opts, libp2p.Transport(libp2pquic.NewTransport))
	}
	return opts
}

// newGuarded starts the node whose connections are managed.
func newGuarded(key crypto.PrivKey, transport string, cm *connmgrlibp2p.ConnManager) (host.Host, error) {
	var listen []string
	if transport != "quic" {
		listen = append(listen, "/ip4/127.0.0.1/tcp/0")
	}
	if transport != "tcp" {
		listen = append(listen, "/ip4/127.0.0.1/udp/0/quic-v1")
	}
	h, err := libp2p.New(append(nodeOptions(key, transport),
		libp2p.ListenAddrStrings(listen...),
		libp2p.ConnectionManager(cm),
	)...)
	if err != nil {
		return nil, err
	}
	h.SetStreamHandler(chatProtocol, func(s network.Stream) {
		_, _ = io.Copy(s, s) // open until the other side or the connection closes
		_ = s.Close()
	})
	return h, nil
}

// node is one of the crowd.
type node struct {
	name      string
	role      role
	transport string // "tcp" or "quic"
	host      host.Host

	// Only the story writes these, and it waits before anybody reads them.
	returned bool      // it left and came back
	settled  time.Time // when its grace period is over at the latest

	mu      sync.Mutex // guards all following fields
	dialled time.Time  // when it last began to connect
	lost    time.Time  // when its last connection went
	leaving bool       // it closes the connection itself
}

// newNode starts a node of the crowd. It only dials.
func newNode(name string, key crypto.PrivKey, transport string, guarded peer.ID) (*node, error) {
	listen := libp2p.NoListenAddrs
	if transport == "quic" { // it dials from where it listens, else from any address
		listen = libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1")
	}
	h, err := libp2p.New(append(nodeOptions(key, transport),
		listen,
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", name, err)
	}
	n := &node{name: name, transport: transport, host: h}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		n.mu.Lock()
		defer n.mu.Unlock()
		// The news of an old connection's end can come after a new one was dialled.
		if c.RemotePeer() == guarded && !c.Stat().Opened.Before(n.dialled) {
			n.lost = time.Now()
		}
	}})
	return n, nil
}

func (n *node) id() peer.ID { return n.host.ID() }

// connect dials the guarded node, over the node's transport alone.
func (n *node) connect(ctx context.Context, to peer.AddrInfo) error {
	n.mu.Lock()
	n.dialled = time.Now()
	n.leaving = false
	n.mu.Unlock()
	if err := n.host.Connect(ctx, to); err != nil {
		return fmt.Errorf("node %s cannot connect: %w", n.name, err)
	}
	for range n.role.streams {
		// Without grace it can be trimmed before it gets to say hello.
		if err := n.openStream(ctx, to.ID); err != nil && n.connected(to.ID) {
			return fmt.Errorf("node %s cannot open a stream: %w", n.name, err)
		}
	}
	return nil
}

// openStream opens a stream and greets: QUIC tells the other side of a stream
// only when there is something in it.
func (n *node) openStream(ctx context.Context, to peer.ID) error {
	// A node that a trim has closed meanwhile must not dial again.
	s, err := n.host.NewStream(network.WithNoDial(ctx, "demo"), to, chatProtocol)
	if err != nil {
		return err
	}
	greeting := []byte("hello")
	if _, err := s.Write(greeting); err != nil {
		return err
	}
	_, err = io.ReadFull(s, greeting)
	return err
}

// leave closes the connection from the node's own side.
func (n *node) leave(from peer.ID) error {
	n.mu.Lock()
	n.leaving = true
	n.mu.Unlock()
	return n.host.Network().ClosePeer(from)
}

// connected is the node's own word on whether it is connected.
func (n *node) connected(to peer.ID) bool {
	return n.host.Network().Connectedness(to) == network.Connected
}

// closedEarly reports whether the other side closed the connection before it was
// as old as the grace period. The age is taken from before the dial, so it is
// never less than what the guarded node saw.
func (n *node) closedEarly(grace time.Duration) (age time.Duration, early bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving || !n.lost.After(n.dialled) {
		return 0, false
	}
	age = n.lost.Sub(n.dialled)
	return age, age < grace
}

// crowd is all nodes but the guarded one.
type crowd []*node

// newCrowd starts the nodes, a few at a time. If one fails, those that run are
// closed.
func newCrowd(ctx context.Context, opts Options, rng *rand.ChaCha8, guarded peer.ID) (crowd, error) {
	nodes := make(crowd, opts.Peers)
	keys := make([]crypto.PrivKey, opts.Peers)
	for i := range keys {
		key, _, err := crypto.GenerateEd25519Key(rng)
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	err := parallel.Each(opts.Peers, func(i int) (err error) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		transport := opts.Transport
		if transport == "both" {
			transport = [...]string{"tcp", "quic"}[i%2]
		}
		nodes[i], err = newNode(fmt.Sprintf("n%03d", i+1), keys[i], transport, guarded)
		return err
	})
	if err != nil {
		nodes.close()
		return nil, err
	}
	return nodes, nil
}

func (c crowd) close() {
	_ = parallel.Each(len(c), func(i int) error {
		if c[i] != nil {
			return c[i].host.Close()
		}
		return nil
	})
}
