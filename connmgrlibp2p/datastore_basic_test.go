package connmgrlibp2p_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// This file puts our store and go-libp2p's own gater on one datastore, in turns.

// basicGater makes go-libp2p's gater from what a datastore holds.
func basicGater(t *testing.T, ds datastore.Datastore) *conngater.BasicConnectionGater {
	t.Helper()
	g, err := conngater.NewBasicConnectionGater(ds)
	if err != nil {
		t.Fatalf("go-libp2p's gater cannot load: %v", err)
	}
	return g
}

// remoteOnly is a connection of which only the other side is known.
type remoteOnly struct {
	network.ConnMultiaddrs
	remote ma.Multiaddr
}

func (c remoteOnly) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// basicDeniesPeer reports what go-libp2p's gater does with a peer at both checkpoints
// that look at one.
func basicDeniesPeer(t *testing.T, g *conngater.BasicConnectionGater, id peer.ID) bool {
	t.Helper()
	dial, secured := !g.InterceptPeerDial(id), !g.InterceptSecured(network.DirInbound, id, nil)
	if dial != secured {
		t.Errorf("go-libp2p's gater denies peer %q when dialled: %v, but when it dials: %v", string(id), dial, secured)
	}
	return dial
}

// basicDeniesAddr does the same for an address.
func basicDeniesAddr(t *testing.T, g *conngater.BasicConnectionGater, addr netip.Addr) bool {
	t.Helper()
	a, err := manet.FromNetAddr(&net.TCPAddr{IP: addr.AsSlice(), Port: 4001})
	if err != nil {
		t.Fatalf("multiaddr of %v: %v", addr, err)
	}
	dial, accept := !g.InterceptAddrDial("", a), !g.InterceptAccept(remoteOnly{remote: a})
	if dial != accept {
		t.Errorf("go-libp2p's gater denies address %v when dialled: %v, but when it dials: %v", addr, dial, accept)
	}
	return dial
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// basicDenies reports whether go-libp2p's gater, with what it finds in a datastore,
// denies what a rule is about.
func basicDenies(t *testing.T, ds datastore.Datastore, rule connmgr.Rule) bool {
	t.Helper()
	g := basicGater(t, ds)
	if id, ok := rule.Target.Peer(); ok {
		return basicDeniesPeer(t, g, peer.ID(id))
	}
	prefix, ok := rule.Target.Prefix()
	if !ok {
		return false // it knows no ports
	}
	first, last := basicDeniesAddr(t, g, prefix.Addr()), basicDeniesAddr(t, g, lastOf(prefix))
	if first != last {
		t.Errorf("go-libp2p's gater denies the first address of %v: %v, but the last: %v", prefix, first, last)
	}
	for _, outside := range []netip.Addr{prefix.Addr().Prev(), lastOf(prefix).Next()} {
		if outside.IsValid() && basicDeniesAddr(t, g, outside) {
			t.Errorf("go-libp2p's gater denies %v, which is outside of %v", outside, prefix)
		}
	}
	return first
}

// mustCIDR parses a prefix without dropping the bits behind it.
func mustCIDR(t *testing.T, s string) *net.IPNet {
	t.Helper()
	ip, subnet, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	subnet.IP = ip
	return subnet
}

// sharedTargets are those that go-libp2p's gater can deny, with how it does and
// undoes that.
func sharedTargets(t *testing.T) []sharedTarget {
	ip := net.ParseIP
	return []sharedTarget{
		{
			"peer", peerRule("a peer"), func(g *conngater.BasicConnectionGater) error { return g.BlockPeer("a peer") },
			func(g *conngater.BasicConnectionGater) error { return g.UnblockPeer("a peer") },
		},
		{
			"peer of other bytes", peerRule("\x00\xff/../"), func(g *conngater.BasicConnectionGater) error { return g.BlockPeer("\x00\xff/../") },
			func(g *conngater.BasicConnectionGater) error { return g.UnblockPeer("\x00\xff/../") },
		},
		{
			"IPv4 of 16 bytes", prefixRule("192.0.2.1/32"), func(g *conngater.BasicConnectionGater) error { return g.BlockAddr(ip("192.0.2.1")) },
			func(g *conngater.BasicConnectionGater) error { return g.UnblockAddr(ip("192.0.2.1")) },
		},
		{
			"IPv4 of 4 bytes", prefixRule("192.0.2.1/32"), func(g *conngater.BasicConnectionGater) error { return g.BlockAddr(ip("192.0.2.1").To4()) },
			func(g *conngater.BasicConnectionGater) error { return g.UnblockAddr(ip("192.0.2.1").To4()) },
		},
		{
			"IPv6", prefixRule("2001:db8::1/128"), func(g *conngater.BasicConnectionGater) error { return g.BlockAddr(ip("2001:db8::1")) },
			func(g *conngater.BasicConnectionGater) error { return g.UnblockAddr(ip("2001:db8::1")) },
		},
		subnetTarget(t, "10.0.0.0/8", "10.0.0.0/8"),
		subnetTarget(t, "2001:db8::/32", "2001:db8::/32"),
		subnetTarget(t, "0.0.0.0/0", "0.0.0.0/0"),
		subnetTarget(t, "::/0", "::/0"),
		subnetTarget(t, "10.0.0.0/8", "10.1.2.3/8"),
		subnetTarget(t, "2001:db8::/32", "2001:db8::1/32"),
		subnetTarget(t, "10.0.0.0/8", "::ffff:10.0.0.0/104"),
		subnetTarget(t, "10.0.0.0/8", "::ffff:10.1.2.3/104"),
		subnetTarget(t, "0.0.0.0/0", "::ffff:0:0/96"),
		subnetTarget(t, "192.0.2.1/32", "192.0.2.1/32"),
		subnetTarget(t, "192.0.2.1/32", "::ffff:192.0.2.1/128"),
		subnetTarget(t, "2001:db8::1/128", "2001:db8::1/128"),
	}
}

type sharedTarget struct {
	name           string
	rule           connmgr.Rule
	block, unblock func(*conngater.BasicConnectionGater) error
}

func subnetTarget(t *testing.T, prefix, text string) sharedTarget {
	return sharedTarget{
		"subnet " + text, prefixRule(prefix),
		func(g *conngater.BasicConnectionGater) error { return g.BlockSubnet(mustCIDR(t, text)) },
		func(g *conngater.BasicConnectionGater) error { return g.UnblockSubnet(mustCIDR(t, text)) },
	}
}

// basicDo fails the test if go-libp2p's gater cannot.
func basicDo(t *testing.T, ds datastore.Datastore, f func(*conngater.BasicConnectionGater) error) {
	t.Helper()
	if err := f(basicGater(t, ds)); err != nil {
		t.Fatalf("go-libp2p's gater: %v", err)
	}
}

func TestWhatGoLibp2pBlockedIsLoadedAndCanBeRemoved(t *testing.T) {
	for _, c := range sharedTargets(t) {
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			basicDo(t, ds, c.block)
			wantRules(t, "blocked by go-libp2p's gater", ds, c.rule)

			listed := fromOrigin("list", "spam", c.rule)
			saveRules(t, ds, adding(listed)...)
			wantRules(t, "and listed", ds, c.rule, listed)

			saveRules(t, ds, removing(c.rule)...)
			wantRules(t, "only listed", ds, listed)
			if !basicDenies(t, ds, c.rule) {
				t.Error("go-libp2p's gater lets it pass, want it denied: one rule is left")
			}

			saveRules(t, ds, removing(listed)...)
			wantRules(t, "removed", ds)
			if basicDenies(t, ds, c.rule) {
				t.Error("go-libp2p's gater denies it, want it to pass: no rule is left")
			}
			wantEntries(t, "removed", ds, nil)
		})
	}
}

func TestWhatIsDeniedForGoodIsDeniedByGoLibp2p(t *testing.T) {
	for _, c := range sharedTargets(t) {
		t.Run(c.name, func(t *testing.T) {
			for _, rule := range []connmgr.Rule{c.rule, fromOrigin("list", "spam", c.rule)} {
				ds := datastore.NewMapDatastore()
				saveRules(t, ds, adding(rule)...)
				if !basicDenies(t, ds, rule) {
					t.Errorf("go-libp2p's gater lets pass %v, want it denied", rule)
				}
			}
		})
	}
}

func TestGoLibp2pLetsPassWhatIsNotDeniedForGood(t *testing.T) {
	for _, c := range append(sharedTargets(t), sharedTarget{name: "port", rule: portRule(4001)}) {
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			saveRules(t, ds, adding(timedRule(c.rule), timedRule(fromOrigin("list", "spam", c.rule)), allowRule(c.rule))...)
			if basicDenies(t, ds, c.rule) {
				t.Error("go-libp2p's gater denies it, want it to pass: bans that end, and allow rules, are not for it")
			}
		})
	}
}

func TestWhatGoLibp2pUnblockedIsGone(t *testing.T) {
	for _, c := range sharedTargets(t) {
		if !basicUndoesOurs(t, c) {
			continue // it asks for another key than ours, see TestGoLibp2pUnblocksByTheKeyItWouldWrite
		}
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			listed, ends, allow := fromOrigin("list", "spam", c.rule), timedRule(fromOrigin("watchdog", "", c.rule)), allowRule(c.rule)
			saveRules(t, ds, adding(c.rule, listed, ends, allow)...)
			basicDo(t, ds, c.unblock)
			wantRules(t, "unblocked by go-libp2p's gater", ds, ends, allow)

			// Adding a rule does not bring back the reason of another that is gone.
			saveRules(t, ds, adding(c.rule)...)
			wantRules(t, "and denied again", ds, c.rule, ends, allow)
		})
	}
}

// basicUndoesOurs reports whether the key that go-libp2p's gater deletes is the one
// that we write.
func basicUndoesOurs(t *testing.T, c sharedTarget) bool {
	t.Helper()
	ours, theirs := datastore.NewMapDatastore(), datastore.NewMapDatastore()
	saveRules(t, ours, adding(c.rule)...)
	basicDo(t, theirs, c.block)
	for key := range entriesOf(t, ours) {
		_, same := entriesOf(t, theirs)[key]
		return same
	}
	return false
}

// What was removed behind our back leaves details that mean nothing. They must not
// name a reason for what somebody denies later.
func TestDetailsOfWhatIsGoneAreDeletedByTheNextSave(t *testing.T) {
	for _, c := range sharedTargets(t) {
		if !basicUndoesOurs(t, c) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			saveRules(t, ds, adding(fromOrigin("list", "spam", c.rule))...)
			basicDo(t, ds, c.unblock)
			saveRules(t, ds, adding(peerRule("somebody else"))...)
			basicDo(t, ds, c.block)
			wantRules(t, "unblocked, saved, blocked again", ds, c.rule, peerRule("somebody else"))
		})
	}
}

// An entry of go-libp2p's gater at another key than ours is left alone as long as the
// rule is there, so that go-libp2p's gater can still remove it by its own name.
func TestGoLibp2pUnblocksByTheKeyItWouldWrite(t *testing.T) {
	ds := datastore.NewMapDatastore()
	odd := subnetTarget(t, "10.0.0.0/8", "10.1.2.3/8")
	basicDo(t, ds, odd.block)
	listed := fromOrigin("list", "spam", odd.rule)
	saveRules(t, ds, adding(listed)...)
	wantRules(t, "listed", ds, odd.rule, listed)
	basicDo(t, ds, odd.unblock)
	wantRules(t, "unblocked by the name it was blocked by", ds)
}

func TestAnAddressDeniedUnderBothItsNamesIsOneRule(t *testing.T) {
	ds := datastore.NewMapDatastore()
	rule := prefixRule("192.0.2.1/32")
	basicDo(t, ds, func(g *conngater.BasicConnectionGater) error { return g.BlockAddr(net.ParseIP("192.0.2.1")) })
	basicDo(t, ds, func(g *conngater.BasicConnectionGater) error { return g.BlockSubnet(mustCIDR(t, "192.0.2.1/32")) })
	wantRules(t, "blocked twice", ds, rule)

	saveRules(t, ds, adding(timedRule(rule))...)
	wantRules(t, "with an end", ds, timedRule(rule))
	if basicDenies(t, ds, rule) {
		t.Error("go-libp2p's gater denies it for good, want it to pass: the ban ends")
	}
	saveRules(t, ds, removing(rule)...)
	wantEntries(t, "removed", ds, nil)
}

// A rule of ours never touches what go-libp2p's gater saved about others.
func TestSavingLeavesOtherEntriesOfGoLibp2pAlone(t *testing.T) {
	ds := datastore.NewMapDatastore()
	for _, c := range sharedTargets(t) {
		basicDo(t, ds, c.block)
	}
	putEntry(t, ds, conngaterKeys+"/somebody/elses", "business")
	before := entriesOf(t, ds)
	others := []connmgr.Rule{peerRule("b"), fromOrigin("list", "", prefixRule("172.16.0.0/12")), timedRule(prefixRule("192.0.2.2/32")), portRule(1)}
	saveRules(t, ds, adding(others...)...)
	saveRules(t, ds, removing(others...)...)
	wantEntries(t, "other rules added and removed", ds, before)
}

func TestGoingBackAndForthBetweenBothGatersLosesNothing(t *testing.T) {
	ds := datastore.NewMapDatastore()
	var rules []connmgr.Rule
	for i, text := range []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"} {
		rules = append(rules, prefixRule(text), fromOrigin("list", "spam", prefixRule(text)), allowRule(prefixRule(text)))
		rules = append(rules, timedRule(fromOrigin("watchdog", "", peerRule(connmgr.NodeID(text)))), portRule(uint16(i)))
	}
	saveRules(t, ds, adding(rules...)...)
	for i := range 5 {
		g := basicGater(t, ds)
		if got := len(g.ListBlockedSubnets()) + len(g.ListBlockedAddrs()) + len(g.ListBlockedPeers()); got != 3+i {
			t.Fatalf("round %d: go-libp2p's gater has %d entries, want %d", i, got, 3+i)
		}
		id := peer.ID(rune('a' + i))
		if err := g.BlockPeer(id); err != nil {
			t.Fatal(err)
		}
		rules = append(rules, peerRule(connmgr.NodeID(id)))
		wantRules(t, "after a turn of go-libp2p's gater", ds, rules...)
		reason := fromOrigin("list", "reason of a later round", rules[1])
		rules[1] = reason
		saveRules(t, ds, adding(reason)...)
		wantRules(t, "after a turn of ours", ds, rules...)
	}
}
