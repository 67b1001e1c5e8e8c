package guard

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// This file tests which Host headers are ours.

func TestWhichHostsAreOurs(t *testing.T) {
	g := New(Config{Hosts: []string{"Node.Example", "node2.example.:7654", "10.1.1.1", "2001:db8::5", "[2001:db8::6]:80"}})
	local := netip.MustParseAddr("192.0.2.7")
	linkLocal := netip.MustParseAddr("fe80::1%eth0")
	mapped := netip.MustParseAddr("::ffff:192.0.2.7")
	var unix netip.Addr
	for _, test := range []struct {
		header string
		local  netip.Addr
		ours   bool
	}{
		{"localhost", local, true},
		{"localhost:7654", local, true},
		{"LOCALHOST.:1", local, true},
		{"localhost", unix, true},
		{"127.0.0.1", local, true},
		{"127.255.0.9:80", unix, true},
		{"127.0.0.1.:80", local, true},
		{"[::1]", local, true},
		{"[::1]:7654", local, true},
		{"[0:0:0:0:0:0:0:1]", local, true},
		{"[::ffff:127.0.0.1]:80", local, true},
		{"192.0.2.7:7654", local, true},
		{"192.0.2.7:7654", mapped, true},
		{"[::ffff:192.0.2.7]", local, true},
		{"[fe80::1]:7654", linkLocal, true},
		{"node.example", local, true},
		{"NODE.EXAMPLE.:65535", unix, true},
		{"node2.example", local, true},
		{"10.1.1.1", local, true},
		{"[2001:db8::5]:7654", local, true},
		{"[2001:db8:0::6]", unix, true},

		{"", local, false},
		{"", unix, false},
		{".", local, false},
		{":7654", local, false},
		{"localhost:", local, false},
		{"localhost:http", local, false},
		{"localhost:65536", local, false},
		{"localhost:+80", local, false},
		{"localhost:-1", local, false},
		{"localhost:80:80", local, false},
		{"localhost:8_0", local, false},
		{"localhost..", local, false},
		{".localhost", local, false},
		{"app.localhost", local, false},
		{"localhost.evil.example", local, false},
		{"evil.example", local, false},
		{"evil.example:7654", unix, false},
		{"xnode.example", local, false},
		{"node.example.evil.example", local, false},
		{"node.examplé", local, false},
		{"ｌocalhost", local, false},
		{"\u212aocalhost", local, false},
		{"localhost@evil.example", local, false},
		{"evil.example@localhost", local, false},
		{"user:pass@localhost", local, false},
		{"localhost evil.example", local, false},
		{" localhost", local, false},
		{"localhost\t", local, false},
		{"localhost,evil.example", local, false},
		{"localhost/evil", local, false},
		{"localhost?", local, false},
		{"localhost#evil.example", local, false},
		{"localhost\\evil.example", local, false},
		{"localhost%00.evil.example", local, false},
		{"loc%61lhost", local, false},
		{"localhost\x00", local, false},
		{"localhost\r\nX: y", local, false},
		{"127.0.0.1.evil.example", local, false},
		{"127.1", local, false},
		{"2130706433", local, false},
		{"0x7f.0.0.1", local, false},
		{"0177.0.0.1", local, false},
		{"127.0.0.01", local, false},
		{"0.0.0.0", local, false},
		{"[::]", local, false},
		{"::1", local, false},
		{"[::1", local, false},
		{"::1]", local, false},
		{"[::1]]", local, false},
		{"[[::1]]", local, false},
		{"[::1]x", local, false},
		{"[::1]:", local, false},
		{"[::1]:80:80", local, false},
		{"[::1]@evil.example", local, false},
		{"[::1%25eth0]", local, false},
		{"[::1%eth0]", local, false},
		{"[fe80::1%eth0]", linkLocal, false},
		{"[127.0.0.1]", local, false},
		{"[localhost]", local, false},
		{"192.0.2.8", local, false},
		{"192.0.2.7", unix, false},
		{"[fe80::2]", linkLocal, false},
		{strings.Repeat("a", 300), local, false},
	} {
		if got := g.isFor(test.header, test.local); got != test.ours {
			t.Errorf("Host %q at %v: ours is %v, want %v", test.header, test.local, got, test.ours)
		}
	}
}

func TestAnInvalidNameInHostsMatchesNothing(t *testing.T) {
	g := New(Config{Hosts: []string{"", "*", "*.example", "http://x.example", "x.example/", "[", "fe80::1%eth0"}})
	for _, header := range []string{"", "*", "a.example", "x.example", "http://x.example", "x.example/", "[", "[fe80::1]", "0.0.0.0"} {
		if g.isFor(header, netip.Addr{}) {
			t.Errorf("Host %q is ours, want it refused", header)
		}
	}
}

// FuzzHost holds the check against how a URL is read, by another parser: what is taken for
// ours must be ours to whoever puts it into a URL, too.
func FuzzHost(f *testing.F) {
	for _, s := range []string{
		"localhost", "localhost:80", "[::1]:80", "127.0.0.1", "192.0.2.7", "node.example.", "evil.example",
		"localhost@evil.example", "localhost:80:80", "[::ffff:7f00:1]", "[::1%25eth0]", "LOCALHOST", "localhost.", "127.1",
		"localhost%2eevil.example", "localhost\\evil.example", "\u017f", "[fe80::1]",
	} {
		f.Add(s, []byte{192, 0, 2, 7})
	}
	names := []string{"localhost", "node.example", "x_1.example"}
	g := New(Config{Hosts: names[1:]})
	f.Fuzz(func(t *testing.T, header string, from []byte) {
		local, _ := netip.AddrFromSlice(from)
		if !g.isFor(header, local) {
			return
		}
		for _, s := range []string{"http://" + header, "http://" + header + "/v1/status?a=b"} {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatalf("Host %q is taken for ours, but is no host to net/url: %v", header, err)
			}
			if u.User != nil || u.Host != header {
				t.Fatalf("Host %q is taken for ours, but net/url reads user %v, host %q", header, u.User, u.Host)
			}
			name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
			ip := net.ParseIP(name)
			isLocal := ip != nil && local.IsValid() && ip.Equal(net.IP(local.AsSlice()))
			if !slices.Contains(names, name) && !isLocal && (ip == nil || !ip.IsLoopback()) {
				t.Fatalf("Host %q at %v is taken for ours, but names %q", header, local, name)
			}
		}
	})
}
