package main

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file changes a node: protects, tags, closes, trims, blocks, and sets limits.

func TestAProtectedPeerStays(t *testing.T) {
	n := smallTown(t)
	n.run("protect", shortPeer(peerNamed(1))).ok(peerNamed(1) + " is protected under operator\n")
	n.run("protect", peerNamed(1), "--tag", "bootstrap list").ok("is protected under bootstrap list, operator\n")
	n.run("trim").ok("closed 3 peers")
	if !n.host.Connected(peerID(1)) || n.host.Connected(peerID(2)) {
		t.Error("the protected peer was closed, or nobody was")
	}
	n.run("unprotect", peerNamed(1)).ok("is protected under bootstrap list\n")
	doc := decode[api.Protections](n.run("unprotect", peerNamed(1), "--tag", "bootstrap list", "--json"))
	if doc.Protected || n.m.IsProtected(peerID(1), "") {
		t.Errorf("after both are taken back it is %+v, want no protection", doc)
	}
	n.run("protect", peerNamed(1), "--tag", "a").ok()
	n.run("protect", peerNamed(1), "--tag", "b").ok()
	n.run("unprotect", peerNamed(1), "--all").ok(peerNamed(1) + " is not protected\n")
	n.run("unprotect", peerNamed(1), "--all").fails(5, "is not protected")

	// Somebody who is not connected is protected for when he comes.
	n.run("protect", peerNamed(99)).ok(peerNamed(99) + " is protected")
	if !n.m.IsProtected(peerID(99), "operator") {
		t.Error("who is not connected is not protected")
	}
}

func TestTagsAddUpToTheScore(t *testing.T) {
	n := smallTown(t)
	r := n.run("tag", peerNamed(1), "friend=100", "slow=-20", "a=b=3").ok(peerNamed(1) + " has 4 tags, in sum 84\n")
	if want := "  100  friend\n  3    a=b\n  1    number\n  -20  slow\n"; !strings.HasSuffix(r.stdout, want) {
		t.Errorf("the tags are\n%s\nwant\n%s", r.stdout, want)
	}
	n.run("untag", peerNamed(1), "slow", "never had it").ok("has 3 tags, in sum 104\n").lacks("slow")
	n.run("tag", peerNamed(1), fmt.Sprintf("friend=%d", math.MaxInt)).ok(fmt.Sprintf("in sum %d\n", math.MaxInt))
	if doc := decode[api.Tags](n.run("untag", peerNamed(1), "friend", "--json")); doc.TagSum != 4 || doc.Tags["number"] != 1 {
		t.Errorf("untag --json is %+v, want a sum of 4", doc)
	}
	// One value that is wrong, and no tag is set.
	n.run("tag", peerNamed(2), "good=1", "bad=x").fails(2)
	if info, _ := n.m.PeerInfo(peerID(2)); info.Tags["good"] != 0 {
		t.Errorf("the tags of peer 2 are %v, want none of a command line that is wrong", info.Tags)
	}
}

func TestATrimSaysWhomItClosed(t *testing.T) {
	n := smallTown(t)
	r := n.run("trim").ok("closed 3 peers in ", "target       3 to go, 3 freed\n", "low score")
	for i := range 7 {
		if closed := strings.Contains(r.stdout, peerNamed(i)); closed != (i == 1 || i == 2 || i == 4) {
			t.Errorf("the trim's list has peer %d: %v\n%s", i, closed, r.stdout)
		}
	}
	n.run("trim").ok("closed nobody in ", "target       0 to go")
	n.run("trim", "--force", "--yes", "--quiet").ok("closed 1 peer in ").lacks("PEER")
	if n.host.Connected(peerID(6)) || n.host.Len() != 2 {
		t.Error("after a forced trim who is in grace is there still, or the others are not")
	}
	if doc := decode[api.Trim](n.run("trim", "-y", "--force", "--json")); doc.Closed != 0 || doc.Trigger != connmgr.TriggerForce {
		t.Errorf("trim --json is %+v, want a forced one that closed nobody", doc)
	}
}

func TestATrimThatMeetsFaultsSaysSo(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	for i := range 4 {
		n.connect(i, connmgrtest.FailOnClose(fmt.Errorf("no")))
	}
	n.run("trim").ok("faults       2 connections would not close, 0 peers still closing\n")
	n.run("status").ok("warning: 2 times a connection would not close")
}

func TestAPeerIsClosedOnRequest(t *testing.T) {
	n := smallTown(t)
	n.run("close", peerNamed(3)).ok(peerNamed(3) + ": closed 1 connection\n")
	if n.host.Connected(peerID(3)) {
		t.Error("the peer is connected still")
	}
	if r := n.run("close", peerNamed(3)).fails(5); r.stdout != "" || r.stderr != "connmgr: "+peerNamed(3)+" was not connected\n" {
		t.Errorf("%s says %q and %q, want the error alone", r.line, r.stdout, r.stderr)
	}
	n.run("explain", peerNamed(3)).ok("It is not connected.", "on request")
	if doc := decode[api.Closed](n.run("close", peerNamed(4), "--json")); doc.Connections != 1 {
		t.Errorf("close --json is %+v, want 1 connection", doc)
	}
}

func TestABlockClosesAndHoldsUntilItIsTakenBack(t *testing.T) {
	n := smallTown(t)
	r := n.run("block", "10.0.0.2/31", "--for", "24h", "--reason", "port scans").ok("in force: deny 10.0.0.2/31 until ", " (port scans); closed 2 peers\n")
	if n.host.Connected(peerID(2)) || n.host.Connected(peerID(3)) || n.host.Len() != 4 {
		t.Errorf("%s left %d connections, want the two of the range gone, the protected one too", r.line, n.host.Len())
	}
	n.run("block", shortPeer(peerNamed(1))).ok("in force: deny peer " + peerNamed(1) + "; closed 1 peer\n")
	n.run("block", "peer", peerNamed(4)).ok("deny peer " + peerNamed(4))
	n.run("block", "port", "25").ok("in force: deny port 25; closed 0 peers")
	n.run("block", "port 26").ok("in force: deny port 26")
	n.run("block", "::ffff:192.0.2.1").ok("in force: deny 192.0.2.1;")
	n.run("block", "2001:db8::1/32").ok("in force: deny 2001:db8::/32;")
	if doc := decode[api.Blocked](n.run("block", "192.0.2.9", "--json")); doc.Rule.Target != "192.0.2.9" {
		t.Errorf("block --json is %+v, want the rule", doc)
	}

	n.run("unblock", "port", "25").ok("removed 1 rule\n")
	n.run("unblock", "port", "25").fails(5, "no rule denied port 25 itself")
	n.run("unblock", peerNamed(1)).ok("removed 1 rule\n")
	n.run("block", "10.0.0.0/8").ok()
	n.run("unblock", "10.0.0.2/31").ok("removed 1 rule\n", "still denied by: deny 10.0.0.0/8\n")
	n.run("unblock", "10.0.0.2/31").fails(5, "no rule denied 10.0.0.2/31 itself; it is denied by: deny 10.0.0.0/8\n").lacks("removed")
	doc := decode[api.RuleList](n.run("rules", "list", "--json", "--all"))
	if doc.Total != 6 {
		t.Errorf("%d rules are left, want 6: %+v", doc.Total, doc.Rules)
	}
	if saved := n.store.Rules(); len(saved) != 6 {
		t.Errorf("%d rules are saved, want 6", len(saved))
	}
}

func TestLimitsChangeTogetherOrNotAtAll(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.run("limits").ok("low             2      ", "high            100    ", "hard            150    ", "per-prefix      none")
	n.run("limits", "set", "low=10", "high=20", "hard=none", "floor=3", "max-inbound=50", "max_per_peer=4", "exempt-private=true").ok(
		"low             10 ", "high            20 ", "hard            none ", "floor           3 ", "max-inbound     50 ", "max-per-peer    4 ", "exempt-private  yes")
	n.run("limits", "set", "high=5").fails(1, "low_water 10 is above high_water 5")
	n.run("limits", "set", "low=1", "high=2", "per-prefix=99/0:8").fails(1, "per_prefix")
	if got := n.m.Limits(); got.LowWater != 10 || got.HighWater != 20 || got.HardLimit != math.MaxInt {
		t.Errorf("after changes that cannot be, the limits are %+v, want them as they were", got)
	}
	n.run("limits", "set", "per-prefix=32/56:8:5:20", "per-prefix=24/0:64:0.5").ok(
		"per-prefix      32/56:8:5:20  from an IPv4 /32 or an IPv6 /56: 8 connections and 5 new ones a second",
		"per-prefix      24/0:64:0.5   from an IPv4 /24: 64 connections and 0.5 new ones a second")
	// What is shown can be given back.
	n.run("limits", "set", "per-prefix=24/0:64:0.5", "hard=30").ok("hard            30 ").lacks("32/56")
	n.run("limits", "set", "hard=0").ok("hard            none ")
	n.run("limits", "set", "hard=30").ok("hard            30 ")
	n.run("limits", "set", "per-prefix=none").ok("per-prefix      none")
	if doc := decode[api.Limits](n.run("limits", "set", "low=11", "--json")); doc.LowWater != 11 || *doc.HardLimit != 30 {
		t.Errorf("limits set --json is %+v, want a low water of 11", doc)
	}
	if doc := decode[api.Limits](n.run("limits", "--json")); doc.Gate.MaxPerPeer != 4 {
		t.Errorf("limits --json is %+v, want 4 connections per peer", doc)
	}
}
