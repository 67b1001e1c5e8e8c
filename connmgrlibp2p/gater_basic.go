package connmgrlibp2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/dep2p/connmgr"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file has the methods of go-libp2p's BasicConnectionGater, under their names.

// BasicConnectionGater is the name that go-libp2p gives to its gater, for programs
// that mention it.
type BasicConnectionGater = Gater

// NewBasicConnectionGater makes a gater whose rules are kept in a datastore, which
// may be nil. It reads what go-libp2p's gater saved there, and go-libp2p's gater can
// read what it saves; see [RuleStore].
//
// It needs no Close, since nothing runs in the background. A program that has a
// [ConnManager] takes its gater instead; see [Gater].
func NewBasicConnectionGater(ds datastore.Datastore) (*BasicConnectionGater, error) {
	var cfg connmgr.GateConfig
	if ds != nil {
		cfg.Store = NewRuleStore(ds)
	}
	return newGaterAlone(cfg, true)
}

// BlockPeer denies connections with a peer, and closes those that there are. An error
// means that the rule could not be saved; it is in force all the same.
func (g *Gater) BlockPeer(p peer.ID) error {
	return g.block(connmgr.PeerTarget(connmgr.NodeID(p)))
}

// UnblockPeer takes back what denies connections with a peer.
func (g *Gater) UnblockPeer(p peer.ID) error {
	return g.unblock(connmgr.PeerTarget(connmgr.NodeID(p)))
}

// ListBlockedPeers returns the peers that are blocked now, in no particular order.
func (g *Gater) ListBlockedPeers() []peer.ID {
	peers := []peer.ID{}
	for t := range g.denied {
		if id, ok := t.Peer(); ok {
			peers = append(peers, peer.ID(id))
		}
	}
	return peers
}

// BlockAddr denies connections with an IP address, and closes those that there are.
func (g *Gater) BlockAddr(ip net.IP) error {
	t, err := addrTarget(ip)
	if err != nil {
		return err
	}
	return g.block(t)
}

// UnblockAddr takes back what denies connections with exactly this IP address.
func (g *Gater) UnblockAddr(ip net.IP) error {
	t, err := addrTarget(ip)
	if err != nil {
		return err
	}
	return g.unblock(t)
}

// ListBlockedAddrs returns the IP addresses that are blocked now, in order, each in 16
// bytes, as go-libp2p's gater does. A subnet of a single address is one of them.
func (g *Gater) ListBlockedAddrs() []net.IP {
	addrs := []net.IP{}
	for t := range g.denied {
		if p, ok := t.Prefix(); ok && p.IsSingleIP() {
			b := p.Addr().As16()
			addrs = append(addrs, net.IP(b[:]))
		}
	}
	return addrs
}

// BlockSubnet denies connections with a subnet, and closes those that there are.
func (g *Gater) BlockSubnet(ipnet *net.IPNet) error {
	t, err := subnetTarget(ipnet)
	if err != nil {
		return err
	}
	return g.block(t)
}

// UnblockSubnet takes back what denies connections with exactly this subnet.
func (g *Gater) UnblockSubnet(ipnet *net.IPNet) error {
	t, err := subnetTarget(ipnet)
	if err != nil {
		return err
	}
	return g.unblock(t)
}

// ListBlockedSubnets returns the subnets that are blocked now, in order, without
// those of a single address.
func (g *Gater) ListBlockedSubnets() []*net.IPNet {
	subnets := []*net.IPNet{}
	for t := range g.denied {
		if p, ok := t.Prefix(); ok && !p.IsSingleIP() {
			subnets = append(subnets, &net.IPNet{
				IP:   net.IP(p.Addr().AsSlice()),
				Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
			})
		}
	}
	return subnets
}

func (g *Gater) block(t connmgr.Target) error {
	return g.core.Block(context.Background(), t, 0, "")
}

func (g *Gater) unblock(t connmgr.Target) error {
	_, err := g.core.Unblock(context.Background(), t)
	return err
}

// denied yields each target of which a rule in force denies connections, once.
func (g *Gater) denied(yield func(connmgr.Target) bool) {
	var last connmgr.Target
	for r := range g.core.Rules() { // several rules about one target come together
		if r.Effect != connmgr.Deny || r.Target == last {
			continue
		}
		if last = r.Target; !yield(last) {
			return
		}
	}
}

func addrTarget(ip net.IP) (connmgr.Target, error) {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return connmgr.Target{}, fmt.Errorf("connmgr: %d bytes are no IP address, must be 4 or 16", len(ip))
	}
	return connmgr.AddrTarget(addr), nil
}

func subnetTarget(ipnet *net.IPNet) (connmgr.Target, error) {
	if ipnet == nil {
		return connmgr.Target{}, errors.New("connmgr: the subnet is nil")
	}
	addr, ok := netip.AddrFromSlice(ipnet.IP)
	ones, bits := ipnet.Mask.Size()
	if !ok || bits == 0 {
		return connmgr.Target{}, fmt.Errorf("connmgr: %v is no subnet", ipnet)
	}
	if addr = addr.Unmap(); addr.Is4() && bits == 128 { // the mask of IPv4 in IPv6
		if ones < 96 {
			return connmgr.Target{}, fmt.Errorf("connmgr: %v is no subnet of IPv4", ipnet)
		}
		ones, bits = ones-96, 32
	}
	if bits != addr.BitLen() {
		return connmgr.Target{}, fmt.Errorf("connmgr: %v has an address of %d bits and a mask of %d", ipnet, addr.BitLen(), bits)
	}
	return connmgr.PrefixTarget(netip.PrefixFrom(addr, ones)), nil
}
