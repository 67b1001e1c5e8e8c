package connmgrhttp_test

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file is the node that docs/api.md asks: who is connected and what has happened when
// the page begins, two minutes after the node was started. All of it is on the clock of
// testing/synctest, which begins with the year 2000 and stands still while somebody works;
// so every answer is the same each time. That goes for IDs of events too: no two things
// happen at once here.

// storyFiles is the files that the page uses, and storyEnv the variables.
var (
	storyFiles = map[string]string{
		"blocklist.txt": "192.0.2.0/25\n198.51.100.128/25  # spam\n203.0.113.77\n",
		"broken.txt":    "192.0.2.0/25\n198.51.100.300/25\n",
	}
	storyEnv = map[string]string{"TOKEN": "c29tZXRoaW5nIHNlY3JldA"}
)

// play is the story, and the nodes in it.
type play struct {
	t      *testing.T
	local  *node // at localhost, without a token
	remote *node // behind a proxy, at node.example.org
	goesOn sync.Once
}

func newPlay(t *testing.T) *play {
	p := &play{t: t}
	p.remote = newNode(t, connmgr.Config{}, connmgrhttp.Config{
		Node: "behind-a-proxy", Token: storyEnv["TOKEN"], Hosts: []string{"node.example.org"},
	})
	p.local = newNode(t, connmgr.Config{
		LowWater: 4, HighWater: 8, HardLimit: 12, Gate: connmgr.GateConfig{Limits: connmgr.PublicNodeLimits()},
	}, connmgrhttp.Config{Node: "example"})
	p.begin()
	return p
}

// at returns who is asked by a host name. What comes in at the other one has passed its
// proxy.
func (p *play) at(host string, r *http.Request) *node {
	if host != "node.example.org" {
		return p.local
	}
	r.Header.Set("X-Forwarded-For", "203.0.113.200")
	return p.remote
}

// begin is what has happened before the page begins.
func (p *play) begin() {
	m := p.local.m
	p.local.host.Connect("alice", connmgrtest.Outbound(), connmgrtest.Streams(2), from("198.51.100.7:4001"))
	m.TagPeer("alice", "useful", 30)
	p.comes("bob", "198.51.100.8:4001")
	m.Protect("bob", "mesh")
	p.comes("carol", "192.0.2.10:50112")
	m.TagPeer("carol", "slow", -10)
	p.comes("dave", "192.0.2.11:50113")
	p.comes("erin", "[2001:db8::5]:4001", connmgrtest.Streams(1))
	p.until(30 * time.Second)
	p.comes("mallory", "203.0.113.66:40404")
	p.comes("peggy", "198.51.100.20:4001")
	m.TagPeer("peggy", "useful", 10)
	p.comes("rupert", "198.51.100.21:4001")
	p.comes("sybil", "192.0.2.12:50114") // the ninth connection is one too many: carol goes
	m.TagPeer("sybil", "slow", -5)
	p.until(90 * time.Second)
	p.local.host.Disconnect("mallory")
	err := m.Gater().Block(context.Background(), connmgr.PrefixTarget(netip.MustParsePrefix("203.0.113.0/24")), 24*time.Hour, "port scans")
	if err != nil {
		p.t.Fatal(err)
	}
	p.until(100 * time.Second)
	p.knocks("203.0.113.66:40405")
	p.until(115 * time.Second)
	p.comes("victor", "198.51.100.30:4001")
	p.until(2 * time.Minute)
}

// until lets time pass, counted from the start.
func (p *play) until(at time.Duration) {
	synctest.Wait()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	<-time.After(at - time.Since(start))
	synctest.Wait()
}

// comes connects a peer, a second after the last one, so that no two are of one age.
func (p *play) comes(peer connmgr.NodeID, addr string, options ...connmgrtest.Option) {
	<-time.After(time.Second)
	p.knocks(addr)
	p.local.host.Connect(peer, append(options, from(addr))...)
	synctest.Wait()
}

// knocks asks the gate about somebody at an address, as a host does.
func (p *play) knocks(addr string) {
	_ = p.local.m.Gater().InterceptAccept(netip.MustParseAddrPort(addr))
}

// meanwhile is what happens while somebody reads a stream for the first time.
func (p *play) meanwhile() {
	p.goesOn.Do(func() {
		<-time.After(time.Second)
		p.comes("walter", "198.51.100.40:4001")
		<-time.After(time.Second)
		p.knocks("203.0.113.66:40406")
	})
}
