package connmgrlibp2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// This file reads the IP address out of a multiaddr.

// addrPort returns the address and port at which a multiaddr begins, and the zero
// AddrPort if it begins with something else, such as a DNS name, or is relayed: the
// address in front of /p2p-circuit is the relay's. It allocates nothing.
func addrPort(m ma.Multiaddr) (out netip.AddrPort) {
	var addr netip.Addr
	var port uint16
	for i := range m {
		switch c := &m[i]; c.Code() {
		case ma.P_IP4, ma.P_IP6:
			if !addr.IsValid() {
				addr, _ = netip.AddrFromSlice(c.RawValue())
			}
		case ma.P_TCP, ma.P_UDP:
			if b := c.RawValue(); port == 0 && len(b) == 2 {
				port = uint16(b[0])<<8 | uint16(b[1])
			}
		case ma.P_IP6ZONE: // comes before its address, and is not judged
		case ma.P_CIRCUIT:
			return netip.AddrPort{}
		default:
			if !addr.IsValid() {
				return netip.AddrPort{}
			}
		}
	}
	if !addr.IsValid() {
		return netip.AddrPort{}
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
