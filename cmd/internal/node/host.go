package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"
)

// This file makes the libp2p host, with resources managed so that connmgr's limits are
// the ones that decide, and makes it listen.

func newHost(key crypto.PrivKey, cm *connmgrlibp2p.ConnManager, door *door, relay bool, reg prometheus.Registerer) (host.Host, error) {
	resources, err := newResourceManager()
	if err != nil {
		return nil, err
	}
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.UserAgent("connmgr"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.ListenAddrs(), // none yet; see listen
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(cm),
		libp2p.ConnectionGater(door),
		libp2p.PrometheusRegisterer(reg),
	}
	if relay {
		// The service starts only on a node that takes itself for reachable, which could be
		// an hour after it has started or never, if nobody tells it.
		opts = append(opts, libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		_ = resources.Close()
	}
	return h, err
}

// newResourceManager returns go-libp2p's resource manager without its limits of
// connections. By default they depend on the machine's memory in total, and allow 8
// connections for each IPv4 address (or /56 of IPv6) and a fifth of one a second from
// there. They refuse before connmgr's gate is asked, know neither its watermarks nor who
// is protected or allowed, and cannot be changed while the node runs. Limits of streams
// and of memory stay: connmgr has none.
func newResourceManager() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	free := rcmgr.ResourceLimits{
		Conns: rcmgr.Unlimited, ConnsInbound: rcmgr.Unlimited, ConnsOutbound: rcmgr.Unlimited, FD: rcmgr.Unlimited,
	}
	conns := rcmgr.PartialLimitConfig{
		System: free, Transient: free, PeerDefault: free, AllowlistedSystem: free, AllowlistedTransient: free,
	}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(conns.Build(limits.AutoScale())),
		rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{}, []rcmgr.ConnLimitPerSubnet{}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{}),
	)
	if err != nil {
		return nil, err
	}
	return &resourceManager{ResourceManager: m, handshakes: newHandshakes()}, nil
}

// resourceManager keeps what go-libp2p derives from its limits per address: from where
// many QUIC handshakes begin, the sender has to show that the address is its own. That
// refuses nobody, but who forges addresses could otherwise use up the gate's rate of
// somebody else.
type resourceManager struct {
	network.ResourceManager
	handshakes *rate.Limiter
}

func newHandshakes() *rate.Limiter {
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 1, Burst: 8}}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 1, Burst: 8}}},
		},
	}
}

// VerifySourceAddress tells QUIC whether the sender has to show that it gets answers.
func (m *resourceManager) VerifySourceAddress(addr net.Addr) bool {
	from, err := netip.ParseAddrPort(addr.String())
	return err != nil || !m.handshakes.Allow(from.Addr().Unmap())
}

// door is the manager's gate, until it is shut for good.
type door struct {
	*connmgrlibp2p.Gater
	shut atomic.Bool
}

func (d *door) InterceptPeerDial(p peer.ID) bool {
	return !d.shut.Load() && d.Gater.InterceptPeerDial(p)
}

func (d *door) InterceptAccept(c network.ConnMultiaddrs) bool {
	return !d.shut.Load() && d.Gater.InterceptAccept(c)
}

func (d *door) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return !d.shut.Load() && d.Gater.InterceptSecured(dir, p, c)
}

// listen listens on all addresses, one by one: go-libp2p is content with one of several.
// Only of addresses that nobody asked for may some be impossible.
func (n *Node) listen() error {
	swarm, ok := n.host.Network().(interface{ AddListenAddr(ma.Multiaddr) error })
	if !ok {
		return fmt.Errorf("connmgr: a network of type %T cannot listen", n.host.Network())
	}
	for _, addr := range n.cfg.ListenAddrs() {
		err := probe(addr)
		if err == nil {
			err = swarm.AddListenAddr(addr)
		}
		switch {
		case err == nil:
		case !n.cfg.Given("listen") && !errors.Is(err, syscall.EADDRINUSE):
			n.log.Warn("not listening on this default address", "address", addr.String(), "err", err)
		default:
			return fmt.Errorf("connmgr: cannot listen on %s: %w", addr, err)
		}
	}
	if len(n.cfg.Listen) > 0 && len(n.host.Network().ListenAddresses()) == 0 {
		return fmt.Errorf("connmgr: cannot listen on any of the default addresses; set listen")
	}
	return nil
}

// probe returns an error if somebody else listens on a TCP port. go-libp2p shares ports
// (SO_REUSEPORT), so of two nodes started by mistake each would get some of the
// connections, and neither would notice.
func probe(addr ma.Multiaddr) error {
	a, err := manet.ToNetAddr(addr)
	if err != nil {
		return nil // not TCP
	}
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.Port == 0 {
		return nil
	}
	network := "tcp4"
	if tcp.IP.To4() == nil {
		network = "tcp6" // and IPv6 alone, as go-libp2p does
	}
	l, err := net.ListenTCP(network, tcp)
	if err != nil {
		return err
	}
	return l.Close()
}

// ListenAddrs returns the addresses at which the node can be dialled, with its peer ID.
func (n *Node) ListenAddrs() []ma.Multiaddr {
	addrs, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		addrs = n.host.Network().ListenAddresses()
	}
	addrs = slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool {
		_, err := a.ValueForProtocol(ma.P_CIRCUIT) // the way through a relay that there may be some day
		return err == nil
	})
	with, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.host.ID(), Addrs: addrs})
	if err != nil {
		return nil
	}
	slices.SortFunc(with, func(a, b ma.Multiaddr) int { return strings.Compare(a.String(), b.String()) })
	return with
}
