package connmgrlibp2p_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
	ma "github.com/multiformats/go-multiaddr"
)

// This file tries the methods of go-libp2p's BasicConnectionGater on both gaters, where
// go-libp2p's own tests do not.

// basicMethods is what go-libp2p's gater and ours have in common.
type basicMethods interface {
	libp2p.ConnectionGater
	BlockPeer(peer.ID) error
	UnblockPeer(peer.ID) error
	ListBlockedPeers() []peer.ID
	BlockAddr(net.IP) error
	UnblockAddr(net.IP) error
	ListBlockedAddrs() []net.IP
	BlockSubnet(*net.IPNet) error
	UnblockSubnet(*net.IPNet) error
	ListBlockedSubnets() []*net.IPNet
}

var (
	_ basicMethods = (*conngater.BasicConnectionGater)(nil)
	_ basicMethods = (*connmgrlibp2p.BasicConnectionGater)(nil)
)

// newBasicAlone makes ours as a program does that has changed its import.
func newBasicAlone(t *testing.T) *connmgrlibp2p.BasicConnectionGater {
	t.Helper()
	g, err := connmgrlibp2p.NewBasicConnectionGater(nil)
	if err != nil {
		t.Fatalf("NewBasicConnectionGater: %v", err)
	}
	return g
}

// must fails the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mayDial reports whether an IP address may be dialled.
func mayDial(g libp2p.ConnectionGater, ip string) bool {
	proto := "/ip4/"
	if strings.Contains(ip, ":") {
		proto = "/ip6/"
	}
	return g.InterceptAddrDial("somebody", ma.StringCast(proto+ip+"/tcp/1"))
}

func parseCIDR(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, subnet, err := net.ParseCIDR(s)
	must(t, err)
	return subnet
}

// ipNet is a subnet as a program may have it: the address is not masked.
func ipNet(ip string, ones, bits int) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(ones, bits)}
}

func TestABlockedSubnetStaysWhatItWas(t *testing.T) {
	run := func(t *testing.T, g basicMethods, denied bool) {
		subnet := parseCIDR(t, "192.0.2.0/24")
		must(t, g.BlockSubnet(subnet))
		subnet.IP[0] = 10 // the caller's own variable
		if got := !mayDial(g, "192.0.2.7"); got != denied {
			t.Errorf("after the caller has changed its own *net.IPNet, an address in the subnet is denied: %v, want %v", got, denied)
		}
		if got := !mayDial(g, "10.0.2.7"); got == denied {
			t.Errorf("an address in what the caller has now is denied: %v, want %v", got, !denied)
		}
	}
	run(t, newBasicAlone(t), true)
	t.Run(gaterTwin, func(t *testing.T) { run(t, newBasicGater(t), false) })
}

func TestWhatTheListsReturnIsTheCallers(t *testing.T) {
	g := newBasicAlone(t)
	must(t, g.BlockSubnet(parseCIDR(t, "192.0.2.0/24")))
	must(t, g.BlockAddr(net.ParseIP("198.51.100.1")))
	g.ListBlockedSubnets()[0].IP[0] = 10
	g.ListBlockedAddrs()[0][0] = 10
	if mayDial(g, "192.0.2.7") || mayDial(g, "198.51.100.1") {
		t.Error("a change of what a list returned has changed the rules")
	}
}

func TestASubnetIsTheSameHoweverItIsWritten(t *testing.T) {
	for _, test := range []struct {
		blocked, unblocked *net.IPNet
		inside             string
		// opens says whether the second one unblocks the first at go-libp2p.
		opens bool
	}{
		{ipNet("192.0.2.9", 24, 32), ipNet("192.0.2.0", 24, 32), "192.0.2.7", false},
		{ipNet("192.0.2.0", 24, 32), ipNet("192.0.2.0", 120, 128), "192.0.2.7", true},
		{ipNet("2001:db8::9", 32, 128), ipNet("2001:db8::", 32, 128), "2001:db8::7", false},
		{parseCIDR(t, "192.0.2.0/24"), parseCIDR(t, "192.0.2.0/24"), "192.0.2.7", true},
	} {
		run := func(t *testing.T, g basicMethods, opens bool) {
			must(t, g.BlockSubnet(test.blocked))
			if mayDial(g, test.inside) {
				t.Errorf("%s may be dialled with %v blocked", test.inside, test.blocked)
			}
			must(t, g.UnblockSubnet(test.unblocked))
			if got := mayDial(g, test.inside); got != opens {
				t.Errorf("%v blocked, %v unblocked: %s may be dialled: %v, want %v", test.blocked, test.unblocked, test.inside, got, opens)
			}
		}
		run(t, newBasicAlone(t), true)
		t.Run(gaterTwin, func(t *testing.T) { run(t, newBasicGater(t), test.opens) })
	}
}

func TestASubnetOfOneAddressIsThatAddress(t *testing.T) {
	run := func(t *testing.T, g basicMethods, addrs, subnets int, open bool) {
		must(t, g.BlockSubnet(parseCIDR(t, "192.0.2.7/32")))
		if mayDial(g, "192.0.2.7") {
			t.Error("the address may be dialled, want it denied")
		}
		if got, want := len(g.ListBlockedAddrs()), addrs; got != want {
			t.Errorf("%d addresses are listed, want %d", got, want)
		}
		if got, want := len(g.ListBlockedSubnets()), subnets; got != want {
			t.Errorf("%d subnets are listed, want %d", got, want)
		}
		must(t, g.UnblockAddr(net.ParseIP("192.0.2.7")))
		if got := mayDial(g, "192.0.2.7"); got != open {
			t.Errorf("after UnblockAddr the address may be dialled: %v, want %v", got, open)
		}
	}
	run(t, newBasicAlone(t), 1, 0, true)
	t.Run(gaterTwin, func(t *testing.T) { run(t, newBasicGater(t), 0, 1, false) })
}

func TestUnblockingTakesBackNoMoreThanWasBlocked(t *testing.T) {
	run := func(t *testing.T, g basicMethods) {
		must(t, g.BlockSubnet(parseCIDR(t, "192.0.2.0/24")))
		must(t, g.BlockSubnet(parseCIDR(t, "192.0.0.0/16")))
		must(t, g.BlockAddr(net.ParseIP("192.0.2.7")))
		must(t, g.UnblockAddr(net.ParseIP("192.0.2.7")))
		if mayDial(g, "192.0.2.7") {
			t.Error("an address may be dialled that is still in a blocked subnet")
		}
		must(t, g.UnblockSubnet(parseCIDR(t, "192.0.0.0/16")))
		if mayDial(g, "192.0.2.7") || !mayDial(g, "192.0.3.7") {
			t.Error("UnblockSubnet of the wider one took back something else")
		}
		must(t, g.UnblockSubnet(parseCIDR(t, "192.0.2.0/24")))
		if !mayDial(g, "192.0.2.7") {
			t.Error("an address is denied though everything is unblocked")
		}
		// What is not blocked can be unblocked as well.
		must(t, g.UnblockPeer("nobody"))
		must(t, g.UnblockAddr(net.ParseIP("192.0.2.7")))
		must(t, g.UnblockSubnet(parseCIDR(t, "192.0.2.0/24")))
	}
	run(t, newBasicAlone(t))
	t.Run("as in go-libp2p", func(t *testing.T) { run(t, newBasicGater(t)) })
}

func TestUnblockTakesBackDeniesOfEveryOriginAndNoAllow(t *testing.T) {
	g := newBasicAlone(t)
	target := addrTarget("192.0.2.7")
	must(t, g.Core().Add(context.Background(),
		connmgr.Rule{Target: target, Origin: "list"},
		connmgr.Rule{Target: target, Origin: "another list"},
		connmgr.Rule{Target: target, Origin: "trusted", Effect: connmgr.Allow},
		connmgr.Rule{Target: netTarget("192.0.2.0/24")},
	))
	if mayDial(g, "192.0.2.7") {
		t.Error("the address may be dialled, want a deny to win over an allow of the same target")
	}
	must(t, g.UnblockAddr(net.ParseIP("192.0.2.7")))
	if !mayDial(g, "192.0.2.7") {
		t.Error("the address is denied, want the allow rule to remain and open a hole in the subnet")
	}
}

func TestListsNameWhatIsDeniedNowAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBasicAlone(t)
		if p, a, s := g.ListBlockedPeers(), g.ListBlockedAddrs(), g.ListBlockedSubnets(); p == nil || a == nil || s == nil || len(p)+len(a)+len(s) != 0 {
			t.Errorf("the lists are %v, %v, %v; want them empty and, as in go-libp2p, not nil", p, a, s)
		}
		must(t, g.BlockPeer("one"))
		must(t, g.BlockPeer(""))
		must(t, g.BlockAddr(net.ParseIP("192.0.2.7")))
		must(t, g.BlockAddr(net.ParseIP("2001:db8::7")))
		must(t, g.BlockSubnet(parseCIDR(t, "10.0.0.0/8")))
		must(t, g.BlockSubnet(parseCIDR(t, "2001:db8::/32")))
		must(t, g.Core().Add(context.Background(),
			connmgr.Rule{Target: peerTarget("one"), Origin: "list"}, // twice denied is once listed
			connmgr.Rule{Target: netTarget("10.0.0.0/8"), Origin: "list"},
			connmgr.Rule{Target: peerTarget("trusted"), Effect: connmgr.Allow},
			connmgr.Rule{Target: netTarget("172.16.0.0/12"), Effect: connmgr.Allow},
			connmgr.Rule{Target: connmgr.PortTarget(1)},
		))
		must(t, g.Core().Block(context.Background(), peerTarget("two"), time.Minute, ""))
		must(t, g.Core().Block(context.Background(), addrTarget("192.0.2.8"), time.Minute, ""))

		want := func(peers, addrs, subnets string) {
			t.Helper()
			var p, a, s []string
			for _, id := range g.ListBlockedPeers() {
				p = append(p, string(id))
			}
			for _, ip := range g.ListBlockedAddrs() {
				a = append(a, ip.String())
			}
			for _, n := range g.ListBlockedSubnets() {
				s = append(s, n.String())
			}
			slices.Sort(p)
			for _, list := range []struct {
				name string
				got  []string
				want string
			}{{"peers", p, peers}, {"addresses", a, addrs}, {"subnets", s, subnets}} {
				if got := strings.Join(list.got, " "); got != list.want {
					t.Errorf("blocked %s are %q, want %q", list.name, got, list.want)
				}
			}
		}
		want(" one two", "192.0.2.7 192.0.2.8 2001:db8::7", "10.0.0.0/8 2001:db8::/32")
		passTime(time.Minute)
		want(" one", "192.0.2.7 2001:db8::7", "10.0.0.0/8 2001:db8::/32")
	})
}

// TestListedAddressesAreThoseOfGoLibp2p compares byte for byte: a program may use the
// bytes of an address as a key.
func TestListedAddressesAreThoseOfGoLibp2p(t *testing.T) {
	for _, blocked := range []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("192.0.2.7").To4(), net.ParseIP("2001:db8::7")} {
		ours, theirs := newBasicAlone(t), newBasicGater(t)
		must(t, ours.BlockAddr(blocked))
		must(t, theirs.BlockAddr(blocked))
		if got, want := ours.ListBlockedAddrs(), theirs.ListBlockedAddrs(); !slices.EqualFunc(got, want, func(a, b net.IP) bool { return string(a) == string(b) }) {
			t.Errorf("with %v blocked, %#v is listed, want %#v as in go-libp2p", blocked, got, want)
		}
	}
}

func TestWhatIsNoAddressOrSubnetIsAnError(t *testing.T) {
	g := newBasicAlone(t)
	wantError := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), "connmgr: ") {
			t.Errorf("%s: %v, want an error that begins with %q", what, err, "connmgr: ")
		}
	}
	for _, ip := range []net.IP{nil, {}, {1, 2}, make(net.IP, 17)} {
		wantError("BlockAddr", g.BlockAddr(ip))
		wantError("UnblockAddr", g.UnblockAddr(ip))
	}
	four, six := net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")
	for _, subnet := range []*net.IPNet{
		nil,
		{},
		{IP: four},
		{Mask: net.CIDRMask(8, 32)},
		{IP: net.IP{1, 2}, Mask: net.CIDRMask(8, 32)},
		{IP: four, Mask: net.IPMask{255, 0, 255, 0}},
		{IP: four, Mask: net.CIDRMask(80, 128)},
		{IP: six, Mask: net.CIDRMask(24, 32)},
	} {
		wantError("BlockSubnet", g.BlockSubnet(subnet))
		wantError("UnblockSubnet", g.UnblockSubnet(subnet))
	}
	if got := g.Core().Stats().Rules; got != 0 {
		t.Errorf("there are %d rules after nothing but errors, want none", got)
	}

	t.Run(gaterTwin, func(t *testing.T) {
		g := newBasicGater(t)
		must(t, g.BlockAddr(net.IP{1, 2}))
		if got := g.ListBlockedAddrs(); len(got) != 1 || got[0] != nil {
			t.Errorf("with an address of two bytes blocked, %v is listed, was one nil", got)
		}
		panicked := func() (p any) {
			defer func() { p = recover() }()
			_ = g.BlockSubnet(nil)
			_ = mayDial(g, "192.0.2.7")
			return nil
		}()
		if panicked == nil {
			t.Error("a nil subnet is accepted and harmless, was a panic")
		}
	})
}

func TestNAT64IsJudgedByTheAddressInside(t *testing.T) {
	run := func(t *testing.T, g basicMethods, denied bool) {
		must(t, g.BlockAddr(net.IP(netip.MustParseAddr("192.0.2.7").AsSlice())))
		if got := !mayDial(g, "64:ff9b::c000:207"); got != denied {
			t.Errorf("with 192.0.2.7 blocked, the same behind NAT64 is denied: %v, want %v", got, denied)
		}
	}
	run(t, newBasicAlone(t), true)
	t.Run(gaterTwin, func(t *testing.T) { run(t, newBasicGater(t), false) })
}

func TestTheMethodsMayBeCalledAllAtOnce(t *testing.T) {
	g := newBasicAlone(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, check := range gateChecks {
				check.ask(g, "bystander", "/ip4/203.0.113.1/tcp/1")
			}
			_, _, _ = g.ListBlockedPeers(), g.ListBlockedAddrs(), g.ListBlockedSubnets()
		}
	}()
	for i := range 200 {
		p, ip := peerNumber("peer", i), net.IPv4(192, 0, 2, byte(i))
		must(t, g.BlockPeer(p))
		must(t, g.BlockAddr(ip))
		must(t, g.BlockSubnet(&net.IPNet{IP: ip, Mask: net.CIDRMask(31, 32)}))
		if g.InterceptPeerDial(p) || mayDial(g, ip.String()) {
			t.Fatalf("peer and address number %d may be dialled right after the block", i)
		}
		must(t, g.UnblockPeer(p))
		must(t, g.UnblockAddr(ip))
		must(t, g.UnblockSubnet(&net.IPNet{IP: ip, Mask: net.CIDRMask(31, 32)}))
		if !g.InterceptPeerDial(p) || !mayDial(g, ip.String()) {
			t.Fatalf("peer and address number %d may not be dialled right after they were unblocked", i)
		}
	}
	close(stop)
	<-stopped
}
