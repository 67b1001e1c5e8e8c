package connmgrlibp2p_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// This file puts the gater into real hosts: each checkpoint alone, and all of
// them in a row. There is one guarded host, and another that it dials or that dials it.

// onlyAt asks a gater at one checkpoint and lets everything pass at the others.
type onlyAt struct {
	g  libp2p.ConnectionGater
	at atomic.Uint32
}

func (o *onlyAt) is(cp connmgr.Checkpoint) bool { return o.at.Load() == uint32(cp) }

func (o *onlyAt) InterceptPeerDial(p peer.ID) bool {
	return !o.is(connmgr.AtPeerDial) || o.g.InterceptPeerDial(p)
}

func (o *onlyAt) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return !o.is(connmgr.AtAddrDial) || o.g.InterceptAddrDial(p, a)
}

func (o *onlyAt) InterceptAccept(c network.ConnMultiaddrs) bool {
	return !o.is(connmgr.AtAccept) || o.g.InterceptAccept(c)
}

func (o *onlyAt) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return !o.is(connmgr.AtSecured) || o.g.InterceptSecured(dir, p, c)
}

func (o *onlyAt) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if !o.is(connmgr.AtUpgraded) {
		return true, 0
	}
	return o.g.InterceptUpgraded(c)
}

// newNeighbour makes a host that listens and has neither manager nor gater.
func newNeighbour(t *testing.T, listen string) host.Host {
	t.Helper()
	return newHost(t, golibp2p.ListenAddrStrings(listen), golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
}

// introduce makes two hosts know each other's addresses.
func introduce(a, b host.Host) {
	a.Peerstore().AddAddrs(b.ID(), b.Addrs(), peerstore.PermanentAddrTTL)
	b.Peerstore().AddAddrs(a.ID(), a.Addrs(), peerstore.PermanentAddrTTL)
}

// dialPeer dials a host, however many dials have failed before.
func dialPeer(t *testing.T, from host.Host, to peer.ID) (network.Conn, error) {
	t.Helper()
	from.Network().(*swarm.Swarm).Backoff().Clear(to)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return from.Network().DialPeer(ctx, to)
}

// mustDial dials a host, and waits until both know of the connection.
func mustDial(t *testing.T, from, to host.Host) network.Conn {
	t.Helper()
	c, err := dialPeer(t, from, to.ID())
	if err != nil {
		t.Fatalf("dialling: %v", err)
	}
	eventually(t, "both hosts have the connection", func() bool { return connected(from, to) && connected(to, from) })
	return c
}

func connected(h, with host.Host) bool { return len(h.Network().ConnsToPeer(with.ID())) > 0 }

// wantApart waits until no connection between two hosts is left.
func wantApart(t *testing.T, a, b host.Host) {
	t.Helper()
	eventually(t, "neither host has a connection with the other", func() bool { return !connected(a, b) && !connected(b, a) })
}

// wantToldGated fails the test unless the other side has closed a connection with
// ConnGated. TCP loses a farewell if something is under way in the other direction:
// then the socket is reset.
func wantToldGated(t *testing.T, c network.Conn) {
	t.Helper()
	eventually(t, "the connection is closed", c.IsClosed)
	_, err := c.NewStream(t.Context())
	switch {
	case errors.Is(err, &network.ConnError{ErrorCode: network.ConnGated, Remote: true}):
	case !isQUIC(c) && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
	default:
		t.Errorf("a new stream on the connection: %v, want the remote's ConnGated", err)
	}
}

func isQUIC(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_QUIC_V1)
	return err == nil
}

// loopback is the address of all our hosts.
var loopback = netip.MustParseAddr("127.0.0.1")

// listenPort returns the port of a host's only address.
func listenPort(t *testing.T, h host.Host) uint16 {
	t.Helper()
	for _, code := range []int{ma.P_TCP, ma.P_UDP} {
		if port, err := h.Addrs()[0].ValueForProtocol(code); err == nil {
			return netip.MustParseAddrPort("0.0.0.0:" + port).Port()
		}
	}
	t.Fatalf("%v has no port", h.Addrs())
	return 0
}

func TestEachCheckpointAloneRefusesOnRealHosts(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		cm := newManager(t, 100, 100)
		gate := &onlyAt{g: cm.Gater()}
		guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(gate))
		other := newNeighbour(t, listen)
		introduce(guarded, other)

		byPeer, byAddr := peerTarget(other.ID()), connmgr.AddrTarget(loopback)
		byPrefix, byPort := netTarget("127.0.0.0/8"), connmgr.PortTarget(listenPort(t, other))
		for _, test := range []struct {
			at      connmgr.Checkpoint
			dir     network.Direction
			target  connmgr.Target
			outcome connmgr.Outcome
		}{
			{connmgr.AtPeerDial, network.DirOutbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtAddrDial, network.DirOutbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtAddrDial, network.DirOutbound, byAddr, connmgr.DeniedAddr},
			{connmgr.AtAddrDial, network.DirOutbound, byPrefix, connmgr.DeniedAddr},
			{connmgr.AtAddrDial, network.DirOutbound, byPort, connmgr.DeniedPort},
			{connmgr.AtAccept, network.DirInbound, byAddr, connmgr.DeniedAddr},
			{connmgr.AtAccept, network.DirInbound, byPrefix, connmgr.DeniedAddr},
			{connmgr.AtSecured, network.DirInbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtSecured, network.DirInbound, byAddr, connmgr.DeniedAddr},
			{connmgr.AtSecured, network.DirOutbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtSecured, network.DirOutbound, byAddr, connmgr.DeniedAddr},
			{connmgr.AtSecured, network.DirOutbound, byPort, connmgr.DeniedPort},
			{connmgr.AtUpgraded, network.DirInbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtUpgraded, network.DirInbound, byPrefix, connmgr.DeniedAddr},
			{connmgr.AtUpgraded, network.DirOutbound, byPeer, connmgr.DeniedPeer},
			{connmgr.AtUpgraded, network.DirOutbound, byPort, connmgr.DeniedPort},
		} {
			t.Run(fmt.Sprintf("%v/%v/%v", test.dir, test.at, test.outcome), func(t *testing.T) {
				gate.at.Store(uint32(test.at))
				must(t, cm.Core().Gater().Block(t.Context(), test.target, 0, "test"))
				before := refusals(cm.Gater())
				if test.dir == network.DirOutbound {
					wantDialRefused(t, guarded, other, test.at)
				} else {
					wantNotLetIn(t, other, guarded, test.at)
				}
				wantApart(t, guarded, other)
				after := refusals(cm.Gater())
				if got := after[test.at][test.outcome] - before[test.at][test.outcome]; got != 1 {
					t.Errorf("%v was counted %d times at %v, want once", test.outcome, got, test.at)
				}
				if got := after.total() - before.total(); got != 1 {
					t.Errorf("%d refusals were counted in all, want 1", got)
				}

				// The rule was the cause, and nothing else stands in the way.
				unblock(t, cm.Gater(), test.target)
				from, to := other, guarded
				if test.dir == network.DirOutbound {
					from, to = guarded, other
				}
				must(t, mustDial(t, from, to).Close())
				wantApart(t, guarded, other)
			})
		}
		if got := cm.Gater().Core().Stats().Arriving; got != 0 {
			t.Errorf("%d connections are still arriving, want none", got)
		}
	})
}

// wantDialRefused has the guarded host dial, and fails unless its own gater refuses.
func wantDialRefused(t *testing.T, guarded, other host.Host, at connmgr.Checkpoint) {
	t.Helper()
	c, err := dialPeer(t, guarded, other.ID())
	if err == nil {
		t.Fatalf("dialling succeeded: %v, want it refused", c)
	}
	// Transports refuse with an error of their own.
	if at != connmgr.AtSecured && !errors.Is(err, swarm.ErrGaterDisallowedConnection) {
		t.Errorf("dialling: %v, want go-libp2p's ErrGaterDisallowedConnection in it", err)
	}
}

// wantNotLetIn has the other host dial, and looks at what it sees. Over QUIC the
// handshake is over before the first checkpoint, so it always sees a connection that
// ends; over TCP it depends.
func wantNotLetIn(t *testing.T, other, guarded host.Host, at connmgr.Checkpoint) {
	t.Helper()
	c, err := dialPeer(t, other, guarded.ID())
	switch {
	case err == nil && (isQUIC(c) || at == connmgr.AtUpgraded):
		wantToldGated(t, c)
	case at == connmgr.AtUpgraded:
		t.Errorf("dialling: %v, want a connection that is closed with ConnGated", err)
	case at == connmgr.AtAccept && err == nil:
		t.Error("dialling over TCP succeeded, want no handshake")
	}
}

// checkCounts is what [connmgr.GateStats] counts.
type checkCounts map[connmgr.Checkpoint]map[connmgr.Outcome]uint64

// refusals returns the checks that did not pass.
func refusals(g *connmgrlibp2p.Gater) checkCounts {
	counts := checkCounts(g.Core().Stats().Checks)
	for _, outcomes := range counts {
		delete(outcomes, connmgr.Passed)
	}
	return counts
}

func (c checkCounts) total() (n uint64) {
	for _, outcomes := range c {
		for _, count := range outcomes {
			n += count
		}
	}
	return n
}

// TestAConnectionPassesTheCheckpointsInOrder counts those that one connection meets.
func TestAConnectionPassesTheCheckpointsInOrder(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		for dir, want := range map[network.Direction][]connmgr.Checkpoint{
			network.DirInbound:  {connmgr.AtAccept, connmgr.AtSecured, connmgr.AtUpgraded},
			network.DirOutbound: {connmgr.AtPeerDial, connmgr.AtAddrDial, connmgr.AtSecured, connmgr.AtUpgraded},
		} {
			cm := newManager(t, 100, 100)
			guarded := newGuarded(t, cm, listen, golibp2p.ConnectionGater(cm.Gater()))
			other := newNeighbour(t, listen)
			introduce(guarded, other)
			if dir == network.DirInbound {
				mustDial(t, other, guarded)
			} else {
				mustDial(t, guarded, other)
			}
			s := cm.Gater().Core().Stats()
			for _, cp := range want {
				if got := s.Checks[cp][connmgr.Passed]; got != 1 {
					t.Errorf("%v: %d checks passed at %v, want 1", dir, got, cp)
				}
			}
			if len(s.Checks) != len(want) {
				t.Errorf("%v: checks were made at %v, want %v only", dir, s.Checks, want)
			}
			wantCount(t, guarded, cm, 1)
			if got := cm.Gater().Core().Stats().Arriving; got != 0 {
				t.Errorf("%v: %d connections are arriving, want none once it is in use", dir, got)
			}
		}
	})
}
