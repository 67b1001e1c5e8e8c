package connmgrlibp2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// This file reads the IP address out of a multiaddr.

// addrPort returns the address and port with which a multiaddr begins, and the zero
// AddrPort if it begins with something else, such as a DNS name, or is relayed: the
// address in front of /p2p-circuit is the relay's. It allocates nothing.
func addrPort(m ma.Multiaddr) netip.AddrPort {
	for i := range m {
		if m[i].Code() == ma.P_CIRCUIT {
			return netip.AddrPort{}
		}
	}
	for len(m) > 0 && m[0].Code() == ma.P_IP6ZONE { // zones are not judged
		m = m[1:]
	}
	if len(m) == 0 || m[0].Code() != ma.P_IP4 && m[0].Code() != ma.P_IP6 {
		return netip.AddrPort{}
	}
	addr, ok := netip.AddrFromSlice(m[0].RawValue())
	if !ok {
		return netip.AddrPort{}
	}
	var port uint16
	if len(m) > 1 && (m[1].Code() == ma.P_TCP || m[1].Code() == ma.P_UDP) {
		if b := m[1].RawValue(); len(b) == 2 {
			port = uint16(b[0])<<8 | uint16(b[1])
		}
	}
	return netip.AddrPortFrom(addr, port)
}

// remoteAddrPort is addrPort of the other side of a connection. InterceptSecured can
// get connections without addresses.
func remoteAddrPort(c network.ConnMultiaddrs) netip.AddrPort {
	if c == nil {
		return netip.AddrPort{}
	}
	return addrPort(c.RemoteMultiaddr())
}
