//go:build unix

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/dep2p/connmgr/connmgrtest"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// This file is the node that docs/operators.md asks: what "connmgr run" would serve, on a
// fake host, two minutes after its start, on the clock of testing/synctest. No two things
// happen at once here, so that everything is the same in every run.

// docsPlay is the story: the node, and the shell in which the commands run.
type docsPlay struct {
	t       *testing.T
	m       *connmgr.Manager
	host    *connmgrtest.Host
	handler http.Handler

	node    string            // its peer ID
	api     string            // where the node's API is now
	nobody  string            // where nobody listens
	status  int               // the exit status of the last command
	lasting map[string]string // what the lines print that run a node
}

// docsFiles is the files in the folder in which the commands run.
var docsFiles = map[string]string{
	"connmgr.toml": `[watermarks]
low = 4
high = 8
hard-limit = 12

[log]
level = "info"
`,
	"mistakes.toml": `[watermarks]
low = 500
hihg = 400

[gate]
preset = "publik"
`,
	"blocklist.txt": `# fetched from a list that is published
198.51.100.128/25
203.0.113.0/24     # spam
203.0.113.77 until 2000-01-03T00:00:00Z
`,
	"broken.txt": "198.51.100.128/25\n203.0.113.300\n",
}

// folder makes the folder in which the commands run.
func (p *docsPlay) folder() string {
	dir := p.t.TempDir()
	for name, text := range docsFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	// The node's key, so that its peer ID is the same each time.
	seed := sha256.Sum256([]byte("the node of docs/operators.md"))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		p.t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.node = id.String()
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity.key"), raw, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// begin starts the node and lets happen what has happened before the page begins.
func (p *docsPlay) begin() {
	log := slog.New(slog.DiscardHandler)
	m, err := connmgr.New(connmgr.Config{
		LowWater: 4, HighWater: 8, HardLimit: 12, Logger: log,
		OutboundBonus: connmgr.Zero, ActiveBonus: connmgr.Zero, // as connmgrlibp2p has it
		Gate: connmgr.GateConfig{Store: connmgrtest.NewStore(), Limits: connmgr.PublicNodeLimits()},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.m, p.host = m, connmgrtest.NewHost()
	p.host.Notify(m)
	registry := prometheus.NewRegistry()
	registry.MustRegister(connmgrprom.NewCollector(m))
	p.handler, err = connmgrhttp.Handler(m, nil, connmgrhttp.Config{
		Node: p.node, Names: connmgrlibp2p.ListFormat(), Logger: log,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.connects(1, "198.51.100.7:4001", connmgrtest.Outbound(), connmgrtest.Streams(2))
	m.TagPeer(peerID(1), "kbucket", 5)
	p.comes(2, "198.51.100.8:4001")
	m.Protect(peerID(2), "pubsub:blocks")
	p.comes(3, "192.0.2.10:50112")
	m.TagPeer(peerID(3), "badblock", -20)
	p.comes(4, "192.0.2.11:50113")
	p.comes(5, "[2001:db8::5]:4001", connmgrtest.Streams(1))
	m.TagPeer(peerID(5), "kbucket", 5)
	p.until(30 * time.Second)
	p.comes(6, "203.0.113.66:40404")
	p.comes(7, "198.51.100.20:4001")
	m.TagPeer(peerID(7), "relay-v2-hop", 2)
	p.comes(8, "198.51.100.21:4001")
	p.comes(9, "192.0.2.12:50114") // the ninth connection is one too many: peer 3 goes
	m.TagPeer(peerID(9), "badblock", -10)
	p.until(90 * time.Second)
	p.host.Disconnect(peerID(6))
	err = m.Gater().Block(context.Background(), connmgr.PrefixTarget(netip.MustParsePrefix("203.0.113.0/24")), 24*time.Hour, "port scans")
	if err != nil {
		p.t.Fatal(err)
	}
	p.until(100 * time.Second)
	p.knocks("203.0.113.66:40405")
	p.until(110 * time.Second)
	p.knocks("203.0.113.91:50000")
	p.until(115 * time.Second)
	p.comes(10, "198.51.100.30:4001")
	p.until(2 * time.Minute)
}

func (p *docsPlay) end() {
	if err := p.m.Close(); err != nil {
		p.t.Error(err)
	}
}

// until lets time pass, counted from the start.
func (p *docsPlay) until(at time.Duration) {
	synctest.Wait()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	<-time.After(at - time.Since(start))
	synctest.Wait()
}

// comes connects a peer that has passed the gate, a second after the last one, so that no
// two are of one age.
func (p *docsPlay) comes(number int, addr string, options ...connmgrtest.Option) {
	<-time.After(time.Second)
	p.knocks(addr)
	p.connects(number, addr, options...)
}

func (p *docsPlay) connects(number int, addr string, options ...connmgrtest.Option) {
	p.host.Connect(peerID(number), append(options, connmgrtest.From(netip.MustParseAddrPort(addr)))...)
	synctest.Wait()
}

// knocks asks the gate about somebody at an address, as a host does.
func (p *docsPlay) knocks(addr string) {
	_ = p.m.Gater().InterceptAccept(netip.MustParseAddrPort(addr))
}

// live is what happens while somebody watches.
func (p *docsPlay) live() { p.knocks("203.0.113.66:40406") }
