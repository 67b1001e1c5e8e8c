package apitest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file makes the node that is asked: a manager on a fake host, with a store for its
// rules that fails on demand, and the handler in front of it. It runs on the clock of
// testing/synctest.

// naming is a way to name peers.
type naming struct {
	title  string
	format connmgr.ListFormat
	// id is the ID of the peer that the tests call by a nickname, name its name.
	id   func(nick string) connmgr.NodeID
	name func(nick string) string
}

// namings is the ways in use: by the IDs themselves, and as go-libp2p names them.
var namings = []naming{
	{
		title: "by ID",
		id:    func(nick string) connmgr.NodeID { return connmgr.NodeID(nick) },
		name:  func(nick string) string { return nick },
	},
	{
		title: "by binary IDs",
		id:    binaryID,
		name:  func(nick string) string { return "0x" + hex.EncodeToString([]byte(binaryID(nick))) },
	},
	{
		title:  "as go-libp2p names them",
		format: connmgrlibp2p.ListFormat(),
		id:     libp2pID,
		name:   func(nick string) string { return connmgrlibp2p.ListFormat().FormatPeer(libp2pID(nick)) },
	},
}

func binaryID(nick string) connmgr.NodeID { return connmgr.NodeID("\x00/%?#\xff" + nick) }

func libp2pID(nick string) connmgr.NodeID {
	seed := sha256.Sum256([]byte(nick))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return connmgr.NodeID(id)
}

// world is a node and what is known of its API.
type world struct {
	naming
	t       *testing.T
	host    *moodyHost
	store   *connmgrtest.Store
	m       *connmgr.Manager
	gate    *connmgr.Gater
	handler http.Handler
	seen    *coverage
}

const token = "a-token-of-enough-bytes"

// newWorld makes a node without connections. change may change what it is made with.
func newWorld(t *testing.T, seen *coverage, names naming, change func(*connmgr.Config, *connmgrhttp.Config)) *world {
	t.Helper()
	host := &moodyHost{Host: connmgrtest.NewHost()}
	store := connmgrtest.NewStore()
	core := connmgr.Config{
		LowWater: 3, HighWater: 50, HardLimit: 60,
		Host:   host,
		Logger: slog.New(slog.DiscardHandler),
		Gate:   connmgr.GateConfig{Store: store, Limits: connmgr.PublicNodeLimits(), Ladder: connmgr.DefaultLadder()},
	}
	cfg := connmgrhttp.Config{
		Names: names.format, Node: names.name("me"), Logger: core.Logger,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			_, _ = w.Write([]byte("up 1\n"))
		}),
	}
	if change != nil {
		change(&core, &cfg)
	}
	m, err := connmgr.New(core)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	host.Notify(m)
	h, err := connmgrhttp.Handler(m, m.Gater(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &world{naming: names, t: t, host: host, store: store, m: m, gate: m.Gater(), handler: h, seen: seen}
}

// connect opens a connection to the peer with a nickname.
func (w *world) connect(nick string, options ...connmgrtest.Option) *connmgrtest.Conn {
	return w.host.Connect(w.id(nick), options...)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { <-time.After(d) }

// moodyHost is a host whose list of connections can panic.
type moodyHost struct {
	*connmgrtest.Host
	panics atomic.Bool
}

func (h *moodyHost) Connections() []connmgr.Conn {
	if h.panics.Load() {
		panic("a host that panics")
	}
	return h.Host.Connections()
}

// stuckConn is a connection that can stop to say how many streams it has.
type stuckConn struct {
	*connmgrtest.Conn
	stuck atomic.Pointer[chan struct{}]
}

// hang makes Stat hang until the function is called that it returns.
func (c *stuckConn) hang() (letGo func()) {
	until := make(chan struct{})
	c.stuck.Store(&until)
	return func() { close(until) }
}

func (c *stuckConn) Stat() connmgr.ConnStat {
	if until := c.stuck.Load(); until != nil {
		<-*until
	}
	return c.Conn.Stat()
}

func from(addr string) connmgrtest.Option { return connmgrtest.From(netip.MustParseAddrPort(addr)) }

func addrPort(addr string) netip.AddrPort { return netip.MustParseAddrPort(addr) }

// report says that a peer has misbehaved.
func (w *world) report(nick string, weight float64) {
	w.t.Helper()
	if _, err := w.gate.Report(context.Background(), w.id(nick), weight, "invalid block"); err != nil {
		w.t.Fatal(err)
	}
}
