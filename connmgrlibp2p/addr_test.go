package connmgrlibp2p

import (
	"net/netip"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// This file holds the reading of multiaddrs against a table, and against a slow
// reading with go-multiaddr's own functions.

const (
	aPeer = "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
	aHash = "/certhash/uEiAsGPzpiPGQzSlVHRXrUCT5EkTV7YFrV4VZ3hpEKTd_zg"
)

func TestTheAddressIsReadFromTheBeginningOfAMultiaddr(t *testing.T) {
	for text, want := range map[string]string{
		"/ip4/192.0.2.7/tcp/4001":                                               "192.0.2.7:4001",
		"/ip4/192.0.2.7/udp/4001/quic-v1":                                       "192.0.2.7:4001",
		"/ip4/192.0.2.7/udp/4001/quic-v1/webtransport" + aHash:                  "192.0.2.7:4001",
		"/ip4/192.0.2.7/udp/4001/webrtc-direct" + aHash:                         "192.0.2.7:4001",
		"/ip4/192.0.2.7/tcp/443/wss":                                            "192.0.2.7:443",
		"/ip4/192.0.2.7/tcp/443/tls/ws":                                         "192.0.2.7:443",
		"/ip4/192.0.2.7/tcp/443/tls/sni/example.com/ws":                         "192.0.2.7:443",
		"/ip4/192.0.2.7/tcp/80/http/http-path/a":                                "192.0.2.7:80",
		"/ip4/192.0.2.7/tcp/4001" + aPeer:                                       "192.0.2.7:4001",
		"/ip4/192.0.2.7/tcp/256":                                                "192.0.2.7:256",
		"/ip4/192.0.2.7/tcp/0":                                                  "192.0.2.7:0",
		"/ip4/192.0.2.7":                                                        "192.0.2.7:0",
		"/ip4/0.0.0.0/tcp/1":                                                    "0.0.0.0:1",
		"/ip6/2001:db8::7/tcp/4001":                                             "[2001:db8::7]:4001",
		"/ip6/2001:db8::7/udp/65535/quic-v1":                                    "[2001:db8::7]:65535",
		"/ip6zone/eth0/ip6/fe80::7/tcp/4001":                                    "[fe80::7]:4001",
		"/ip6/::ffff:192.0.2.7/tcp/4001":                                        "[::ffff:192.0.2.7]:4001", // the core knows what it is
		"/ip6/64:ff9b::192.0.2.7/tcp/4001":                                      "[64:ff9b::c000:207]:4001",
		"/ip4/192.0.2.7/tcp/1/ip4/198.51.100.1/tcp/2":                           "192.0.2.7:1",
		"/ip4/192.0.2.7/tcp/4001" + aPeer + "/p2p-circuit":                      "", // the relay's
		"/ip4/192.0.2.7/udp/1/quic-v1" + aPeer + "/p2p-circuit" + aPeer:         "",
		"/ip6zone/eth0/ip6/fe80::7/tcp/1" + aPeer + "/p2p-circuit":              "",
		"/ip4/192.0.2.7/p2p-circuit":                                            "",
		"/p2p-circuit":                                                          "",
		"/p2p-circuit/ip4/192.0.2.7/tcp/1":                                      "",
		"/ip4/192.0.2.7/tcp/1" + aPeer + "/p2p-circuit/ip4/1.2.3.4/tcp/1":       "",
		aPeer + "/p2p-circuit":                                                  "",
		aPeer:                                                                   "",
		"/dns/example.com/tcp/443/wss":                                          "",
		"/dns4/example.com/tcp/4001":                                            "",
		"/dns6/example.com/udp/4001/quic-v1":                                    "",
		"/dnsaddr/bootstrap.libp2p.io":                                          "",
		"/dns4/example.com/tcp/4001/ip4/192.0.2.7/tcp/1":                        "",
		"/unix/tmp/socket":                                                      "",
		"/memory/7":                                                             "",
		"/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234": "",
	} {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got := addrPort(m)
		switch {
		case want == "" && got != netip.AddrPort{}:
			t.Errorf("addrPort(%s) is %v, want the zero AddrPort: no address of the peer's is known", text, got)
		case want != "" && got != netip.MustParseAddrPort(want):
			t.Errorf("addrPort(%s) is %v, want %s", text, got, want)
		}
	}
	if got := addrPort(nil); got != (netip.AddrPort{}) {
		t.Errorf("addrPort(nil) is %v, want the zero AddrPort", got)
	}
}

func TestAConnectionWithoutAddressesHasTheZeroAddress(t *testing.T) {
	if got := remoteAddrPort(nil); got != (netip.AddrPort{}) {
		t.Errorf("the address of no connection is %v, want the zero AddrPort", got)
	}
	if got := remoteAddrPort(noAddrs{}); got != (netip.AddrPort{}) {
		t.Errorf("the address of a connection with nil multiaddrs is %v, want the zero AddrPort", got)
	}
}

// noAddrs is what InterceptSecured can get.
type noAddrs struct{}

func (noAddrs) LocalMultiaddr() ma.Multiaddr  { return nil }
func (noAddrs) RemoteMultiaddr() ma.Multiaddr { return nil }

func TestReadingAMultiaddrAllocatesNothing(t *testing.T) {
	for _, text := range []string{
		"/ip4/192.0.2.7/tcp/4001",
		"/ip6zone/eth0/ip6/fe80::7/udp/4001/quic-v1",
		"/ip4/192.0.2.7/tcp/4001" + aPeer + "/p2p-circuit",
		"/dns4/example.com/tcp/443/wss",
	} {
		m := ma.StringCast(text)
		if got := testing.AllocsPerRun(100, func() { addrPort(m) }); got != 0 {
			t.Errorf("addrPort(%s) allocates %v times, want never", text, got)
		}
	}
}

// FuzzAddrPort reads multiaddrs that strangers could send.
func FuzzAddrPort(f *testing.F) {
	for _, text := range []string{
		"/ip4/192.0.2.7/tcp/4001",
		"/ip6zone/eth0/ip6/fe80::7/udp/4001/quic-v1",
		"/ip4/192.0.2.7/tcp/4001" + aPeer + "/p2p-circuit",
		"/dns4/example.com/tcp/443/wss",
		"/ip4/192.0.2.7/ipcidr/24",
		"/tcp/80/ip4/192.0.2.7",
		"/ip4/192.0.2.7/tcp/0/udp/1",
		"/ip6zone/a/ip6zone/b/ip6/fe80::7/udp/1",
		"/ip4/192.0.2.7/ws/tcp/1",
		"/ip4/192.0.2.7/p2p-circuit/p2p-circuit/ip6/::1/tcp/1",
	} {
		f.Add(ma.StringCast(text).Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ma.NewMultiaddrBytes(b)
		if err != nil {
			return
		}
		if got, want := addrPort(m), slowAddrPort(m); got != want {
			t.Errorf("addrPort(%s) is %v, want %v", m, got, want)
		}
	})
}

// slowAddrPort is addrPort by go-multiaddr's own functions: they split a multiaddr,
// look for a relay, and know where an IP address is.
func slowAddrPort(m ma.Multiaddr) netip.AddrPort {
	if _, err := m.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.AddrPort{}
	}
	ip, err := manet.ToIP(m)
	if err != nil {
		return netip.AddrPort{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	_, behind := ma.SplitFunc(m, func(c ma.Component) bool {
		return c.Protocol().Code == ma.P_IP4 || c.Protocol().Code == ma.P_IP6
	})
	var port uint16
	if len(behind) > 1 {
		if code := behind[1].Code(); code == ma.P_TCP || code == ma.P_UDP {
			raw := behind[1].RawValue()
			port = uint16(raw[0])<<8 + uint16(raw[1])
		}
	}
	return netip.AddrPortFrom(addr, port)
}
