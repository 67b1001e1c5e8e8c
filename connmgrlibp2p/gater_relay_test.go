package connmgrlibp2p_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// This file runs go-libp2p's relay (circuit v2) on loopback. A relayed connection
// begins with the relay's address, which says nothing about the peer behind it.

// newRelay makes a relay that listens on 127.0.0.1 and, first, on 127.0.0.2.
func newRelay(t *testing.T) host.Host {
	t.Helper()
	h := newHost(t, golibp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0", "/ip4/127.0.0.1/tcp/0"),
		golibp2p.ConnectionManager(libp2p.NullConnMgr{}),
		golibp2p.EnableRelayService(relay.WithInfiniteLimits()), golibp2p.ForceReachabilityPublic())
	if len(h.Addrs()) != 2 {
		t.Skipf("the relay listens on %v, which is not what this test needs: 127.0.0.2 and 127.0.0.1", h.Addrs())
	}
	return h
}

// relayAt returns the relay with its address that begins with an IP address.
func relayAt(t *testing.T, r host.Host, ip string) peer.AddrInfo {
	t.Helper()
	for _, a := range r.Addrs() {
		if got, err := a.ValueForProtocol(ma.P_IP4); err == nil && got == ip {
			return peer.AddrInfo{ID: r.ID(), Addrs: []ma.Multiaddr{a}}
		}
	}
	t.Fatalf("the relay does not listen on %s but on %v", ip, r.Addrs())
	return peer.AddrInfo{}
}

// newBehindRelay makes a host that can be reached over a relay only.
func newBehindRelay(t *testing.T, r host.Host, opts ...golibp2p.Option) host.Host {
	t.Helper()
	h := newHost(t, append([]golibp2p.Option{golibp2p.NoListenAddrs, golibp2p.EnableRelay()}, opts...)...)
	must(t, h.Connect(t.Context(), relayAt(t, r, "127.0.0.1")))
	reserve(t, h, r)
	return h
}

// reserve has a relay accept connections for a host.
func reserve(t *testing.T, h, r host.Host) {
	t.Helper()
	eventually(t, "the relay grants a reservation", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := client.Reserve(ctx, h, relayAt(t, r, "127.0.0.1"))
		return err == nil // the service may not have started yet
	})
}

// newOverRelay makes a host that can dial over relays.
func newOverRelay(t *testing.T) host.Host {
	t.Helper()
	return newHost(t, golibp2p.NoListenAddrs, golibp2p.EnableRelay(), golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
}

// dialOver dials a peer over a relay that is said to be at an IP address.
func dialOver(t *testing.T, from host.Host, r host.Host, ip string, to peer.ID) (network.Conn, error) {
	t.Helper()
	via := relayAt(t, r, ip)
	circuit := ma.Join(via.Addrs[0], ma.StringCast("/p2p/"+via.ID.String()+"/p2p-circuit"))
	from.Peerstore().SetAddrs(to, []ma.Multiaddr{circuit}, peerstore.PermanentAddrTTL)
	return dialPeer(t, from, to)
}

// exceptRelay asks a gater about everything but connections with the relay itself: a
// rule about the relay's address would end those.
type exceptRelay struct {
	libp2p.ConnectionGater
	relay peer.ID
	addrs []ma.Multiaddr
}

func newExceptRelay(g libp2p.ConnectionGater, r host.Host) *exceptRelay {
	return &exceptRelay{g, r.ID(), r.Addrs()}
}

func (e *exceptRelay) InterceptPeerDial(p peer.ID) bool {
	return p == e.relay || e.ConnectionGater.InterceptPeerDial(p)
}

func (e *exceptRelay) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return p == e.relay || e.ConnectionGater.InterceptAddrDial(p, a)
}

func (e *exceptRelay) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return p == e.relay || e.ConnectionGater.InterceptSecured(dir, p, c)
}

func (e *exceptRelay) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if c.RemotePeer() == e.relay {
		return true, 0
	}
	return e.ConnectionGater.InterceptUpgraded(c)
}

func TestAPeerThatComesOverARelayIsNotJudgedByTheRelaysAddress(t *testing.T) {
	r, other := newRelay(t), newOverRelay(t)
	run := func(t *testing.T, g basicMethods, passes bool) {
		guarded := newBehindRelay(t, r, golibp2p.ConnectionGater(newExceptRelay(g, r)), golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
		must(t, g.BlockSubnet(parseCIDR(t, "127.0.0.0/8")))
		if !connected(guarded, r) {
			t.Fatal("the connection with the relay is closed, want this test to except it")
		}
		_, err := dialOver(t, other, r, "127.0.0.1", guarded.ID())
		if (err == nil) != passes {
			t.Fatalf("dialled over a relay with a denied address: %v, want it to pass: %v", err, passes)
		}
		if !passes {
			return
		}
		eventually(t, "both are connected", func() bool { return connected(guarded, other) && connected(other, guarded) })
		if got := guarded.Network().ConnsToPeer(other.ID())[0].Stat().Direction; got != network.DirInbound {
			t.Errorf("the connection over the relay is %v, want it inbound", got)
		}

		// A rule about the peer itself ends the connection, and refuses the next one.
		must(t, g.BlockPeer(other.ID()))
		wantApart(t, guarded, other)
		_, _ = dialOver(t, other, r, "127.0.0.1", guarded.ID())
		wantApart(t, guarded, other)
		if !connected(guarded, r) {
			t.Error("the block of a peer behind the relay closed the connection with the relay")
		}
		must(t, g.UnblockPeer(other.ID()))
		_, err = dialOver(t, other, r, "127.0.0.1", guarded.ID())
		must(t, err)
	}
	run(t, newAlone(t, connmgr.GateConfig{}), true)
	t.Run(gaterTwin, func(t *testing.T) { run(t, newBasicGater(t), false) })
}

func TestAPeerDialledOverARelayIsNotJudgedByTheRelaysAddress(t *testing.T) {
	r := newRelay(t)
	other := newBehindRelay(t, r, golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
	run := func(t *testing.T, g basicMethods, opts ...golibp2p.Option) (host.Host, error) {
		guarded := newHost(t, append([]golibp2p.Option{golibp2p.NoListenAddrs, golibp2p.EnableRelay(), golibp2p.ConnectionGater(g)}, opts...)...)
		must(t, guarded.Connect(t.Context(), relayAt(t, r, "127.0.0.1")))
		must(t, g.BlockAddr(net.IPv4(127, 0, 0, 2))) // where the other peer says that the relay is
		_, err := dialOver(t, guarded, r, "127.0.0.2", other.ID())
		return guarded, err
	}
	cm := newManager(t, 100, 100)
	g := cm.Gater()
	guarded, err := run(t, g, golibp2p.ConnectionManager(cm))
	if err != nil {
		t.Fatalf("dialling over a relay with a denied address: %v, want it to pass", err)
	}
	eventually(t, "both are connected", func() bool { return connected(guarded, other) && connected(other, guarded) })

	// A rule about the peer itself ends the connection, and refuses the next one.
	must(t, g.BlockPeer(other.ID()))
	wantApart(t, guarded, other)
	if !connected(guarded, r) {
		t.Error("the block of a peer behind the relay closed the connection with the relay")
	}
	if _, err := dialOver(t, guarded, r, "127.0.0.2", other.ID()); !errors.Is(err, swarm.ErrGaterDisallowedConnection) {
		t.Errorf("dialling a blocked peer over a relay: %v, want go-libp2p's ErrGaterDisallowedConnection", err)
	}
	must(t, g.UnblockPeer(other.ID()))

	// Nor is the relay's port the peer's.
	port, err := relayAt(t, r, "127.0.0.2").Addrs[0].ValueForProtocol(ma.P_TCP)
	must(t, err)
	must(t, g.Core().Block(t.Context(), connmgr.PortTarget(netip.MustParseAddrPort("127.0.0.2:"+port).Port()), 0, ""))
	_, err = dialOver(t, guarded, r, "127.0.0.2", other.ID())
	must(t, err)

	t.Run(gaterTwin, func(t *testing.T) {
		_, err := run(t, newBasicGater(t), golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
		if !errors.Is(err, swarm.ErrGaterDisallowedConnection) {
			t.Errorf("dialling over a relay with a denied address: %v, was refused by the gater", err)
		}
	})
}

func TestLimitsPerAddressLeaveRelayedConnectionsOut(t *testing.T) {
	limits := perAddress(1)
	limits.PerPrefix[0].Rate, limits.PerPrefix[0].Burst = 0.001, 1
	cm := newManager(t, 100, 100, connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: limits}))
	r := newRelay(t)
	guarded := newGuarded(t, cm, transports["TCP"], golibp2p.ConnectionGater(cm.Gater()), golibp2p.EnableRelay())
	must(t, guarded.Connect(t.Context(), relayAt(t, r, "127.0.0.1")))
	reserve(t, guarded, r)

	const others = 3
	for range others {
		h := newOverRelay(t)
		_, err := dialOver(t, h, r, "127.0.0.1", guarded.ID())
		must(t, err)
		eventually(t, "the relayed peer is connected", func() bool { return connected(guarded, h) })
	}
	if got := refusals(cm.Gater()).total(); got != 0 {
		t.Errorf("%d checks refused connections over a relay, want none: %v", got, refusals(cm.Gater()))
	}
	// The one place and the one token of 127.0.0.1 have not been used.
	if !getsIn(t, cm.Gater(), newDialer(t), guarded) {
		t.Error("the first direct connection is refused, want relayed ones not to count")
	}
	if getsIn(t, cm.Gater(), newDialer(t), guarded) {
		t.Error("the second direct connection gets in, want the limit to hold for those")
	}
	wantCount(t, guarded, cm, 1+others+1)
}
