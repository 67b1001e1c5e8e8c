package connmgrlibp2p

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/mr-tron/base58"
)

// This file says at which keys rules are:
//
//	/libp2p/net/conngater/peer/<ID in base58>            the ID's bytes
//	/libp2p/net/conngater/addr/<address>                 4 or 16 bytes
//	/libp2p/net/conngater/subnet/<prefix>                the prefix as in the key
//	/libp2p/net/conngater/connmgr/peer/<ID in base58>    details, see datastore_details.go
//	/libp2p/net/conngater/connmgr/prefix/<prefix>        the same
//	/libp2p/net/conngater/connmgr/port/<number>          the same
//
// The first three are shared with go-libp2p's gater, the others are ours. That gater
// asks for what is under peer, addr and subnet only. Ours are in its namespace all the
// same: rules are then in one place, to look at, to copy and to delete, and in one
// part of a datastore that is put together from several.
//
// There is one details key for a target, whatever the origins of its rules, and the
// address 192.0.2.1 is the prefix 192.0.2.1/32 in it, so that no key is above another.
//
// Source: go-libp2p v0.51, p2p/net/conngater.

const namespace = "/libp2p/net/conngater"

const (
	kindPeer    = "peer"
	kindAddr    = "addr"
	kindSubnet  = "subnet"
	kindDetails = "connmgr"

	kindDetailsPrefix = "prefix"
	kindDetailsPort   = "port"
)

// newKey joins the parts of a key below the namespace. The empty peer ID leaves
// nothing of its part, here as in go-libp2p's gater.
func newKey(parts ...string) datastore.Key {
	return datastore.NewKey(namespace + "/" + strings.Join(parts, "/"))
}

// sharable reports whether go-libp2p's gater can deny a target: it knows no ports.
func sharable(target connmgr.Target) bool {
	_, port := target.Port()
	return !port
}

// sharedEntry returns the entry by which go-libp2p's gater denies a target for good.
func sharedEntry(target connmgr.Target) (key datastore.Key, value []byte) {
	if id, ok := target.Peer(); ok {
		return newKey(kindPeer, peer.ID(id).String()), []byte(id)
	}
	prefix, _ := target.Prefix()
	ip := prefix.Addr().AsSlice()
	if prefix.IsSingleIP() {
		return newKey(kindAddr, net.IP(ip).String()), ip
	}
	text := (&net.IPNet{IP: ip, Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}).String()
	return newKey(kindSubnet, text), []byte(text)
}

// parseShared returns the target of an entry of go-libp2p's gater. That gater goes by
// the value when it loads, and by the key when it deletes, so both must mean the same.
func parseShared(kind, text string, value []byte) (connmgr.Target, error) {
	var target, named connmgr.Target
	switch kind {
	case kindPeer:
		target = connmgr.PeerTarget(connmgr.NodeID(value))
		if id := peer.ID(value).String(); id != text {
			return connmgr.Target{}, fmt.Errorf("its value is the ID of peer %q", id)
		}
		return target, nil
	case kindAddr:
		addr, ok := netip.AddrFromSlice(value)
		if !ok {
			return connmgr.Target{}, fmt.Errorf("its value has %d bytes, an address has 4 or 16", len(value))
		}
		target = connmgr.AddrTarget(addr)
		if ip := net.ParseIP(text); ip != nil {
			addr, _ = netip.AddrFromSlice(ip)
			named = connmgr.AddrTarget(addr)
		}
	case kindSubnet:
		var err error
		if target, err = parseSubnet(string(value)); err != nil {
			return connmgr.Target{}, fmt.Errorf("its value %q is no prefix such as 10.0.0.0/8", value)
		}
		named, _ = parseSubnet(text)
	}
	if target != named {
		return connmgr.Target{}, fmt.Errorf("its value is about %v", target)
	}
	return target, nil
}

// parseSubnet reads a prefix as go-libp2p's gater does: bits behind it do not matter.
func parseSubnet(text string) (connmgr.Target, error) {
	_, subnet, err := net.ParseCIDR(text)
	if err != nil {
		return connmgr.Target{}, err
	}
	addr, _ := netip.AddrFromSlice(subnet.IP)
	bits, _ := subnet.Mask.Size()
	return connmgr.PrefixTarget(netip.PrefixFrom(addr, bits)), nil
}

// detailsKey returns the key of what we know about a target.
func detailsKey(target connmgr.Target) datastore.Key {
	if id, ok := target.Peer(); ok {
		return newKey(kindDetails, kindPeer, peer.ID(id).String())
	}
	if prefix, ok := target.Prefix(); ok {
		return newKey(kindDetails, kindDetailsPrefix, prefix.String())
	}
	port, _ := target.Port()
	return newKey(kindDetails, kindDetailsPort, strconv.Itoa(int(port)))
}

// parseDetailsKey returns the target of a details key, of which text is what comes
// after the kind.
func parseDetailsKey(text string) (connmgr.Target, error) {
	var target connmgr.Target
	kind, name, _ := strings.Cut(text, "/")
	switch kind {
	case kindPeer:
		id, err := base58.Decode(name)
		if name != "" && err != nil {
			return connmgr.Target{}, fmt.Errorf("its key does not end in a peer ID: %w", err)
		}
		target = connmgr.PeerTarget(connmgr.NodeID(id))
	case kindDetailsPrefix:
		prefix, err := netip.ParsePrefix(name)
		if err != nil {
			return connmgr.Target{}, fmt.Errorf("its key does not end in a prefix: %w", err)
		}
		target = connmgr.PrefixTarget(prefix)
	case kindDetailsPort:
		port, err := strconv.ParseUint(name, 10, 16)
		if err != nil {
			return connmgr.Target{}, fmt.Errorf("its key does not end in a port: %w", err)
		}
		target = connmgr.PortTarget(uint16(port))
	default:
		return connmgr.Target{}, fmt.Errorf("details are about a peer, a prefix or a port, not about %q", kind)
	}
	// What has two names would have two records.
	if newKey(kindDetails, text) != detailsKey(target) {
		return connmgr.Target{}, errors.New("its key names the target in other words than ours")
	}
	return target, nil
}
