package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/parallel"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	libp2pconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// This file is the chapter at the gate: another guarded node, and visitors that are
// blocked, held back by a limit, banned for a time, and let in again. Visitors come
// over TCP, since only there a node dials from the address on which it listens.

const (
	gateLimit = 4  // connections from one prefix
	gateBurst = 12 // visitors that come at once from there
	gateBan   = time.Second
)

// gatehouse is the guarded node of this chapter.
type gatehouse struct {
	screen *screen
	cm     *connmgrlibp2p.ConnManager
	host   host.Host
	denied chan peer.ID // who has been refused
	// friend comes from 127.0.0.1, the strangers from prefix.
	friend    host.Host
	strangers []host.Host
	prefix    netip.Prefix

	promises []Promise
}

// playGate plays the chapter and returns what became of its promises.
func (d *performance) playGate(ctx context.Context) ([]Promise, error) {
	g, err := openGate(d.screen, d.rng, nil)
	defer g.close()
	if err != nil {
		return nil, fmt.Errorf("at the gate: %w", err)
	}
	return g.play(ctx)
}

func (g *gatehouse) play(ctx context.Context) ([]Promise, error) {
	for _, scene := range []func(context.Context) error{g.blockPeer, g.blockPrefix, g.holdBurst, g.ban} {
		if err := scene(ctx); err != nil {
			return nil, fmt.Errorf("at the gate: %w", err)
		}
	}
	return g.promises, nil
}

// openGate starts the nodes. A nil gater is that of the node's connection manager.
func openGate(s *screen, rng *rand.ChaCha8, gater libp2pconnmgr.ConnectionGater) (*gatehouse, error) {
	g := &gatehouse{screen: s, denied: make(chan peer.ID, 1024)}
	var err error
	g.cm, err = connmgrlibp2p.NewConnManager(100, 200, connmgrlibp2p.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return g, err
	}
	if gater == nil {
		gater = g.cm.Gater()
	}
	var from []string
	if g.prefix, from, err = strangeAddresses(gateBurst); err != nil {
		return g, err
	}
	listen := "/ip4/127.0.0.1/tcp/0"
	if g.prefix.Addr().Is6() {
		listen = "/ip6/::1/tcp/0"
	}
	g.host, err = g.newHost(rng, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", listen),
		libp2p.ConnectionManager(g.cm), libp2p.ConnectionGater(gater))
	if err != nil {
		return g, err
	}
	visitor := libp2p.ConnectionManager(libp2pconnmgr.NullConnMgr{})
	if g.friend, err = g.newHost(rng, visitor, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0")); err != nil {
		return g, err
	}
	for _, addr := range from {
		stranger, err := g.newHost(rng, visitor, libp2p.ListenAddrStrings(addr))
		if err != nil {
			return g, err
		}
		g.strangers = append(g.strangers, stranger)
	}
	events := g.cm.Core().Subscribe(1024)
	go func() {
		for e := range events.Events() {
			if no, ok := e.(connmgr.EventDenied); ok && no.Err.HasPeer {
				g.denied <- peer.ID(no.Err.Peer)
			}
		}
	}()
	return g, nil
}

func (g *gatehouse) newHost(rng *rand.ChaCha8, opts ...libp2p.Option) (host.Host, error) {
	key, _, err := crypto.GenerateEd25519Key(rng)
	if err != nil {
		return nil, err
	}
	return libp2p.New(append([]libp2p.Option{
		libp2p.Identity(key),
		libp2p.ResourceManager(&network.NullResourceManager{}), // see nodeOptions
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
	}, opts...)...)
}

// strangeAddresses returns a prefix that is not that of 127.0.0.1, and multiaddrs in
// it to listen on, one for each stranger. Where the system has no other address on
// loopback than 127.0.0.1 and ::1, all strangers share the latter.
func strangeAddresses(n int) (netip.Prefix, []string, error) {
	var listen []string
	if l, err := net.Listen("tcp", "127.1.1.1:0"); err == nil {
		_ = l.Close()
		for i := range n {
			listen = append(listen, fmt.Sprintf("/ip4/127.1.1.%d/tcp/0", i+1))
		}
		return netip.MustParsePrefix("127.1.1.0/24"), listen, nil
	}
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return netip.Prefix{}, nil, errors.New("this machine has no address on loopback but 127.0.0.1, to play a second network")
	}
	_ = l.Close()
	for range n {
		listen = append(listen, "/ip6/::1/tcp/0")
	}
	return netip.MustParsePrefix("::1/128"), listen, nil
}

func (g *gatehouse) close() {
	for _, h := range append(g.strangers, g.friend, g.host) {
		if h != nil {
			_ = h.Close()
		}
	}
	if g.cm != nil {
		_ = g.cm.Close()
	}
}

func (g *gatehouse) rules() *connmgr.Gater { return g.cm.Gater().Core() }

func (g *gatehouse) promise(kept bool, promise, detail string, args ...any) {
	g.promises = append(g.promises, Promise{Promise: promise, Kept: kept, Detail: fmt.Sprintf(detail, args...)})
}

// dial lets a visitor try to connect, and reports whether it is connected once the
// gate has spoken.
func (g *gatehouse) dial(ctx context.Context, h host.Host) (bool, error) {
	for len(g.denied) > 0 {
		<-g.denied
	}
	in, err := g.dialAll(ctx, []host.Host{h})
	return in == 1, err
}

// dialAll lets visitors try at the same time, and returns how many are connected once
// the gate has spoken about all of them.
func (g *gatehouse) dialAll(ctx context.Context, hosts []host.Host) (in int, err error) {
	_ = parallel.Each(len(hosts), func(i int) error {
		to := peer.AddrInfo{ID: g.host.ID(), Addrs: sameFamily(hosts[i], g.host)}
		return hosts[i].Connect(ctx, to) // a refusal can come right after it has returned
	})
	refused := make(map[peer.ID]bool)
	settled := func() bool {
		for len(g.denied) > 0 {
			refused[<-g.denied] = true
		}
		return !slices.ContainsFunc(hosts, func(h host.Host) bool { return !refused[h.ID()] && !g.has(h) })
	}
	if err := until(ctx, settled, 5*time.Second); err != nil {
		return 0, fmt.Errorf("a visitor was neither let in nor refused: %w", err)
	}
	return g.count(hosts), nil
}

// sameFamily returns the addresses of a host that are of the IP version that a
// visitor has.
func sameFamily(visitor, of host.Host) []ma.Multiaddr {
	version := visitor.Addrs()[0].Protocols()[0].Code
	return slices.DeleteFunc(slices.Clone(of.Addrs()), func(a ma.Multiaddr) bool {
		return a.Protocols()[0].Code != version
	})
}

// has reports whether a visitor is connected, by the guarded node's word.
func (g *gatehouse) has(h host.Host) bool {
	return g.host.Network().Connectedness(h.ID()) == network.Connected
}

func (g *gatehouse) count(hosts []host.Host) (in int) {
	for _, h := range hosts {
		if g.has(h) {
			in++
		}
	}
	return in
}

// gone waits until no visitor of these has a connection, by their own word.
func (g *gatehouse) gone(ctx context.Context, hosts ...host.Host) bool {
	return until(ctx, func() bool {
		return !slices.ContainsFunc(hosts, func(h host.Host) bool {
			return h.Network().Connectedness(g.host.ID()) == network.Connected
		})
	}, 5*time.Second) == nil
}

func (g *gatehouse) blockPeer(ctx context.Context) error {
	if _, err := g.dial(ctx, g.friend); err != nil {
		return err
	}
	g.screen.say("At the gate of another node: its neighbour is blocked while it is connected.")
	target := connmgr.PeerTarget(connmgr.NodeID(g.friend.ID()))
	if err := g.rules().Block(ctx, target, 0, "demo"); err != nil {
		return err
	}
	closed := g.gone(ctx, g.friend)
	again, err := g.dial(ctx, g.friend)
	if err != nil {
		return err
	}
	g.promise(closed && !again, "a blocked peer loses its connection, and its next dial is refused",
		"connection closed: %v, let in again: %v", closed, again)

	if _, err := g.rules().Unblock(ctx, target); err != nil {
		return err
	}
	back, err := g.dial(ctx, g.friend)
	if err != nil {
		return err
	}
	g.promise(back, "an unblocked peer is let in at once", "let in with its next dial: %v", back)
	return nil
}

func (g *gatehouse) blockPrefix(ctx context.Context) error {
	some := g.strangers[:gateLimit]
	in, err := g.dialAll(ctx, some)
	if err != nil {
		return err
	}
	g.screen.say("%s from %v; then that prefix is blocked.", pluralVerb(in, "stranger", "come"), g.prefix)
	target := connmgr.PrefixTarget(g.prefix)
	if err := g.rules().Block(ctx, target, 0, "demo"); err != nil {
		return err
	}
	closed := g.gone(ctx, some...)
	g.promise(closed && in == len(some) && g.has(g.friend), "a blocked prefix loses its connections, and nobody else does",
		"%d of %d closed, neighbour connected: %v", in-g.count(some), len(some), g.has(g.friend))
	_, err = g.rules().Unblock(ctx, target)
	return err
}

func (g *gatehouse) holdBurst(ctx context.Context) error {
	limits := connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 24, IPv6: 56, MaxConns: gateLimit}}}
	if err := g.rules().SetLimits(limits); err != nil {
		return err
	}
	trusted := g.strangers[0]
	if err := g.rules().Add(ctx, connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget(connmgr.NodeID(trusted.ID())), Reason: "demo"}); err != nil {
		return err
	}
	g.screen.say("A burst: %s from %v, where %d are allowed; one of them is trusted.", plural(gateBurst, "stranger"), g.prefix, gateLimit)
	in, err := g.dialAll(ctx, g.strangers)
	if err != nil {
		return err
	}
	g.promise(in == gateLimit+1 && g.has(trusted), "a burst from one prefix gets no more connections than the limit, and trusted peers pass it",
		"%d of %d let in with a limit of %d, the trusted one: %v", in, gateBurst, gateLimit, g.has(trusted))
	return g.rules().SetLimits(connmgr.GateLimits{})
}

func (g *gatehouse) ban(ctx context.Context) error {
	g.screen.say("The neighbour is banned for %v.", gateBan)
	target := connmgr.PeerTarget(connmgr.NodeID(g.friend.ID()))
	ends := time.Now().Add(gateBan)
	if err := g.rules().Block(ctx, target, gateBan, "demo"); err != nil {
		return err
	}
	closed := g.gone(ctx, g.friend)
	during, err := g.dial(ctx, g.friend)
	if err != nil {
		return err
	}
	early := during && time.Now().Before(ends)
	if err := sleep(ctx, time.Until(ends)); err != nil {
		return err
	}
	after, err := g.dial(ctx, g.friend)
	if err != nil {
		return err
	}
	g.promise(closed && !early && after, "a ban ends by itself", "refused before: %v, let in after %v: %v", !early, gateBan, after)
	return nil
}
