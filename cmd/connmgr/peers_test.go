package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file looks at a node: who is connected, who goes next, and why.

// smallTown is a node with six peers: 1 to 4 with a tag of their number, of whom 3 is
// protected; 5 was dialled by us; 6 has just come. Low water is 2.
func smallTown(t *testing.T) *testNode {
	n := startNode(t, connmgrhttp.Config{Node: "town"})
	for i := 1; i <= 4; i++ {
		n.connect(i)
		n.m.TagPeer(peerID(i), "number", i)
	}
	n.m.Protect(peerID(3), "bootstrap")
	n.connect(5, connmgrtest.Outbound(), connmgrtest.Streams(2))
	n.host.Connect(peerID(6))
	return n
}

// column returns the words in one column of a table, without its title.
func column(t *testing.T, table, title string) (words []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	at := strings.Index(lines[0], title)
	if at < 0 {
		t.Fatalf("there is no column %s in\n%s", title, table)
	}
	for _, line := range lines[1:] {
		cell, _, _ := strings.Cut(line[at:], "  ")
		words = append(words, cell)
	}
	return words
}

func TestPeersAreListedWithThoseFirstWhoGoNext(t *testing.T) {
	n := smallTown(t)
	r := n.run("peers").ok()
	wantColumn := func(r result, title string, want ...string) {
		t.Helper()
		if got := column(t, r.stdout, title); strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%s: the column %s is %q, want %q", r.line, title, got, want)
		}
	}
	wantColumn(r, "PEER", peerNamed(1), peerNamed(2), peerNamed(4), peerNamed(6), peerNamed(3), peerNamed(5))
	wantColumn(r, "NEXT", "1", "2", "3", "-", "-", "-")
	wantColumn(r, "VERDICT", "low score", "low score", "low score", "in grace", "protected", "above the cut")
	wantColumn(r, "SCORE", "1", "2", "4", "0", "3", "30")
	wantColumn(r, "OUT", "0", "0", "0", "0", "0", "1")
	wantColumn(r, "STREAMS", "0", "0", "0", "0", "0", "2")
	if got := column(t, r.stdout, "AGE")[0]; got != "1h00m" {
		t.Errorf("the age of who connected an hour ago is %q, want 1h00m", got)
	}
	if got := column(t, r.stdout, "ADDRESS"); got[0] != "10.0.0.1:4001" || got[3] != "-" {
		t.Errorf("the addresses are %q, want the first one's, and - for who has none", got)
	}

	for flags, want := range map[string][]int{
		"--closed":                                 {1, 2, 4},
		"--kept":                                   {6, 3, 5},
		"--protected":                              {3},
		"--unprotected":                            {1, 2, 4, 6, 5},
		"--direction outbound":                     {5},
		"--reason in_grace":                        {6},
		"--tag number --min-score 2":               {2, 4, 3},
		"--max-score 0":                            {6},
		"--protection bootstrap":                   {3},
		"--address 10.0.0.2":                       {2},
		"--address 10.0.0.4/31":                    {4, 5},
		"-q 10.0.0.5:":                             {5},
		"--search " + peerNamed(2)[40:]:            {2},
		"--sort score":                             {6, 1, 2, 3, 4, 5},
		"--sort score -r --limit 2":                {5, 4},
		"--sort score --offset 4":                  {4, 5},
		"--trigger force --closed":                 {6, 1, 2, 4},
		"--all":                                    {1, 2, 4, 6, 3, 5},
		"--sort streams --reverse --all -q 10.0.0": {5, 4, 3, 2, 1},
	} {
		r := n.run(append([]string{"peers"}, strings.Fields(flags)...)...).ok()
		var names []string
		for _, i := range want {
			names = append(names, peerNamed(i))
		}
		if strings.Contains(flags, "streams") { // those with as many are in any order
			if got := column(t, r.stdout, "PEER"); len(got) != len(want) || got[0] != names[0] {
				t.Errorf("%s: got %q, want %d peers and %s first", r.line, got, len(want), names[0])
			}
			continue
		}
		wantColumn(r, "PEER", names...)
	}
}

func TestAListThatGoesOnSaysSo(t *testing.T) {
	n := smallTown(t)
	if r := n.run("peers", "--limit", "2").ok(); r.stderr != "connmgr: 2 of 6 peers; --all shows all\n" {
		t.Errorf("stderr is %q, want that 2 of 6 peers are shown", r.stderr)
	}
	if r := n.run("peers").ok(); r.stderr != "" {
		t.Errorf("when all are shown, stderr is %q, want nothing", r.stderr)
	}
	r := n.run("peers", "--tag", "nobody-has-it").ok()
	if r.stdout != "" || r.stderr != "connmgr: no peer is like that; 6 peers are connected\n" {
		t.Errorf("when nobody is like that, stdout is %q and stderr %q", r.stdout, r.stderr)
	}
	doc := decode[api.PeerList](n.run("peers", "--json", "--limit", "2"))
	if doc.Matched != 6 || doc.Limit != 2 || len(doc.Peers) != 2 || doc.Peers[0].Peer != peerNamed(1) {
		t.Errorf("with --json it is %+v, want the API's own page of 2", doc)
	}
}

func TestAListOfNobodyHasNoTable(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	if r := n.run("peers").ok(); r.stdout != "" || r.stderr != "connmgr: nobody is connected\n" {
		t.Errorf("peers of nobody are %q, and %q; want a word in place of a table", r.stdout, r.stderr)
	}
	if doc := decode[api.PeerList](n.run("peers", "--json")); doc.Peers == nil || doc.Total != 0 {
		t.Errorf("with --json it is %+v, want an empty list", doc)
	}
}

func TestAllPeersAreMoreThanAPage(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.run("limits", "set", "low=2000", "high=2000", "hard=none").ok()
	for i := range 1200 {
		n.connect(i)
	}
	if got := column(t, n.run("peers", "--all").ok().stdout, "PEER"); len(got) != 1200 {
		t.Errorf("--all shows %d peers, want 1200", len(got))
	}
	if doc := decode[api.PeerList](n.run("peers", "--all", "--json")); len(doc.Peers) != 1200 || doc.Limit != 1200 {
		t.Errorf("--all --json has %d peers and limit %d, want 1200", len(doc.Peers), doc.Limit)
	}
}

func TestANodeIsExplainedOnAPage(t *testing.T) {
	n := smallTown(t)
	r := n.run("status").ok()
	for _, want := range []string{
		`^node +town at ` + n.api + `$`,
		`^started +20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, \d+s ago$`,
		`^connections +6 open: 5 inbound, 1 outbound$`,
		`^limits +low 2, high 100, hard 150$`,
		`^peers +6 connected, 1 protected$`,
		`^grace period +20s$`,
		`^trims +0$`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(r.stdout) {
			t.Errorf("status is\n%s\nwant a line like %s", r.stdout, want)
		}
	}
	r.lacks("warning", "last trim")
	n.run("trim").ok()
	n.run("status").ok("trims          1: manual 1\n", "ago (manual), freed 3 connections in ", "closed peers   3: low score 3\n")
	if doc := decode[api.Status](n.run("status", "--json")); doc.Connections.Open != 3 || doc.Node != "town" {
		t.Errorf("status --json is %+v, want 3 open connections at town", doc)
	}
}

func TestStatusBeginsWithWhatIsWrong(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.store.FailSaves(fmt.Errorf("disk \x1b[31mfull"))
	n.run("block", "192.0.2.1").fails(1, "in force, but not saved, so a restart of the node forgets it", "disk")
	for i := range 4 {
		n.connect(i)
		n.m.Protect(peerID(i), "x")
	}
	if err := n.m.SetLimits(connmgr.Limits{LowWater: 1, HighWater: 3, HardLimit: 4}); err != nil {
		t.Fatal(err)
	}
	n.run("trim").ok("3 short: the others are protected")
	r := n.run("status").ok(
		"warning: 1 change of rules is not saved: in force, but a restart forgets them",
		"warning: 4 connections are open, and the hard limit is 4: newcomers are refused",
		"warning: the last trim, ",
		"fell 3 connections short: the others are protected",
	)
	if !strings.HasPrefix(r.stdout, "warning: ") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("status is\n%q\nwant the warnings first, and no colours where there is no terminal", r.stdout)
	}
}

func TestAPlanSaysWhoGoesAndWhyTheOthersStay(t *testing.T) {
	n := smallTown(t)
	r := n.run("plan").ok(
		"A trim (manual) would close 3 peers.\n",
		"connections  6: 1 protected, 1 in grace, 5 counted\n",
		"target       3 to go, 3 freed\n",
	)
	if !regexp.MustCompile(`stay +1 above the cut, 1 in grace, 1 protected`).MatchString(r.stdout) {
		t.Errorf("the plan is\n%s\nwant it to count who stays by reason", r.stdout)
	}
	_, table, _ := strings.Cut(r.stdout, "\n\n")
	if got := column(t, table, "PEER"); strings.Join(got, " ") != peerNamed(1)+" "+peerNamed(2)+" "+peerNamed(4) {
		t.Errorf("the plan lists %q, want 1, 2 and 4", got)
	}
	n.run("plan", "--limit", "1").ok("and 2 more\n")
	n.run("plan", "--trigger", "force").ok("A trim (force) would close 4 peers.")
	if doc := decode[api.Plan](n.run("plan", "--json", "--limit", "0")); doc.Closes != 3 || len(doc.Peers) != 0 {
		t.Errorf("plan --json is %+v, want 3 to go and none listed", doc)
	}
	if n.host.Len() != 6 {
		t.Errorf("%d connections are left, want 6: plans close nobody", n.host.Len())
	}
}

func TestAPeerIsExplained(t *testing.T) {
	n := smallTown(t)
	r := n.run("explain", peerNamed(1)).ok(
		"A trim now would close it as number 1 of 3",
		"\nSCORE 1\n  1  tag number\n",
		"\nCONNECTED for 1h00m, since ",
		"10.0.0.1:4001",
	)
	if !strings.HasPrefix(r.stdout, peerNamed(1)+"\n") {
		t.Errorf("the explanation is\n%s\nwant the peer's whole name first", r.stdout)
	}
	n.run("explain", peerNamed(3)).ok("It stays: it is protected (bootstrap)", "\nPROTECTED under bootstrap\n")
	n.run("explain", peerNamed(5)).ok("\nSCORE 30\n", "10  for being dialled by us", "20  for open streams", "outbound")
	n.run("explain", peerNamed(6), "--trigger", "force").ok("A forced trim would close it as number 1 of 4")

	n.run("trim").ok()
	n.run("explain", peerNamed(1)).ok("It is not connected.", "\nHISTORY\n", "closed as number 1 of a ").lacks("CONNECTED", "DIRECTION")
	n.run("block", "10.0.0.0/8", "--reason", "scans").ok()
	if doc := decode[api.PeerDetail](n.run("explain", peerNamed(1), "--json")); doc.Connected || len(doc.Why) == 0 {
		t.Errorf("explain --json is %+v, want who is not connected any more, and why", doc)
	}
	n.run("explain", peerNamed(77)).fails(5, "nothing is known about peer", peerNamed(77))
}

func TestWhatStandsInATableCanBeCopiedToTheNextCommand(t *testing.T) {
	n := smallTown(t)
	whole := peerNamed(2)
	for _, text := range []string{
		shortPeer(whole), "..." + whole[44:], whole[44:], whole[:20], whole[:12] + "…" + whole[44:], whole + "…",
	} {
		if text == whole[:20] && strings.HasPrefix(peerNamed(1), text) {
			t.Fatal("the test needs peers that differ in their beginnings")
		}
		n.run("explain", text).ok(whole + "\n")
	}
	// A part in the middle could be anybody's.
	n.run("explain", whole[20:30]).fails(5, "no peer that is or lately was connected", whole[20:30])
	n.run("explain", "zzzzzzzz").fails(5, `no peer that is or lately was connected to `+n.api+` has an ID like "zzzzzzzz"`, "must be named in full")

	r := n.run("close", "12D3KooW").fails(1)
	if want := "connmgr: \"12D3KooW\" is 6 peers; say more of the one that is meant\n"; !strings.HasSuffix(r.stderr, want) {
		t.Errorf("stderr is\n%s\nwant its last line to say %s", r.stderr, want)
	}
	for i := 1; i <= 6; i++ {
		if !strings.Contains(r.stderr, "connmgr:   "+peerNamed(i)+"\n") {
			t.Errorf("stderr is\n%s\nwant the candidate %s in it", r.stderr, peerNamed(i))
		}
	}
	if n.host.Len() != 6 {
		t.Errorf("%d connections are left, want 6: who is meant is not clear", n.host.Len())
	}
}

func TestOfManyCandidatesSomeAreNamed(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	for i := range 16 {
		n.connect(i)
	}
	if r := n.run("close", "12D3KooW").fails(1, "connmgr:   and 6 more\nconnmgr: \"12D3KooW\" is 16 peers"); strings.Count(r.stderr, "\n") != 12 {
		t.Errorf("stderr has the lines\n%s\nwant ten candidates, how many more, and what is wrong", r.stderr)
	}
}

func TestAPeerThatHasGoneCanBeNamedByAPartOfItsName(t *testing.T) {
	n := smallTown(t)
	n.host.Disconnect(peerID(2))
	whole := peerNamed(2)
	n.run("explain", shortPeer(whole)).ok(whole+"\n", "It is not connected.", "\nSCORE 2, should it come back\n  2  tag number\n")
	n.m.TagPeer(peerID(2), "number", 0)
	n.run("explain", shortPeer(whole)).ok(whole+"\n").lacks("SCORE", "tag number")
	n.run("block", whole[44:]).ok("deny peer " + whole)
}

func TestAShortNameIsNeverTakenForAnother(t *testing.T) {
	// A node that names its peers by their IDs can have one that begins like another.
	n := startNode(t, connmgrhttp.Config{Names: connmgr.ListFormat{ParsePeer: func(name string) (connmgr.NodeID, error) {
		return connmgr.NodeID(name), nil
	}, FormatPeer: func(id connmgr.NodeID) string { return string(id) }}})
	n.host.Connect("node-10")
	n.run("close", "node-1").fails(5, "node-1 was not connected")
	if n.host.Len() != 1 {
		t.Error("node-10 was closed, and node-1 was meant")
	}
	n.run("protect", "node-1").ok("node-1 is protected under operator")
	n.run("close", "node-1…").ok("node-10: closed 1 connection\n")
	n.run("explain", "…de-1").fails(5, "no peer that is or lately was connected") // node-1 is known, but has never been
}

func TestWhatStrangersWriteDoesNotReachTheTerminal(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	const evil = "\x1b]0;owned\x07\u009b31m\u202e\nnode  fake"
	n.connect(1)
	n.m.TagPeer(peerID(1), evil, 7)
	n.m.Protect(peerID(1), evil)
	r := connmgr.Rule{Target: connmgr.AddrTarget(netip.MustParseAddr("192.0.2.1")), Reason: strings.ReplaceAll(evil, "\n", ""), Origin: "\x1b[2J"}
	if err := n.m.Gater().Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := n.m.Gater().Add(t.Context(), connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget(peerID(1)), Reason: "\x1b[31m"}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"status", "peers", "explain PEER", "plan", "rules list", "events", "watch --since 0 --count 1", "tag PEER a=1",
		"protect PEER", "rules export",
	} {
		for _, asJSON := range []bool{false, true} {
			args := strings.Fields(strings.ReplaceAll(line, "PEER", peerNamed(1)))
			if asJSON {
				if line == "rules export" {
					continue
				}
				args = append(args, "--json")
			}
			r := n.run(args...).ok()
			for _, c := range []string{"\x1b", "\x07", "\u009b", "\u202e"} {
				if strings.Contains(r.stdout+r.stderr, c) {
					t.Errorf("%s: %q comes through:\n%q", r.line, c, r.stdout)
				}
			}
			if strings.Contains(r.stdout, "\nnode  fake") {
				t.Errorf("%s: a tag has made a line of its own:\n%s", r.line, r.stdout)
			}
		}
	}
	doc := decode[api.PeerDetail](n.run("explain", peerNamed(1), "--json"))
	if doc.Tags[evil] != 7 {
		t.Errorf("with --json the tags are %v, want the tag as it is, in escapes", doc.Tags)
	}
}
