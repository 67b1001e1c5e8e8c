package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file makes a node on a fake host with the API's own handler, for the tests of the
// commands that ask one, and runs commands against it.

// What the shell has set is none of the tests' business. (Where this binary is run as the
// command itself, what a script has set is.)
func init() {
	if filepath.Base(os.Args[0]) != "connmgr" {
		os.Unsetenv(envAPI)
		os.Unsetenv(envToken)
	}
}

// testNode is a node on a fake host. Its low water is 2; no trim starts by itself.
type testNode struct {
	t       *testing.T
	host    *connmgrtest.Host
	m       *connmgr.Manager
	store   *connmgrtest.Store
	clock   *testClock
	handler http.Handler
	api     string
	stop    func() // ends the API, and waits until it has
}

func startNode(t *testing.T, cfg connmgrhttp.Config) *testNode {
	t.Helper()
	n := &testNode{t: t, host: connmgrtest.NewHost(), store: connmgrtest.NewStore(), clock: new(testClock), stop: func() {}}
	m, err := connmgr.New(connmgr.Config{
		LowWater: 2, HighWater: 100, Host: n.host, Logger: slog.New(slog.DiscardHandler),
		Gate: connmgr.GateConfig{Store: n.store}, Clock: n.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.m = m
	t.Cleanup(func() { _ = m.Close() })
	n.host.Notify(m)
	if cfg.Names.ParsePeer == nil {
		cfg.Names = connmgrlibp2p.ListFormat()
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	if n.handler, err = connmgrhttp.Handler(m, nil, cfg); err != nil {
		t.Fatal(err)
	}
	n.listen("127.0.0.1:0")
	t.Cleanup(func() { n.stop() })
	return n
}

// listen serves the API at an address from now on.
func (n *testNode) listen(address string) {
	n.t.Helper()
	l, err := connmgrhttp.Listen(address, "")
	if err != nil {
		n.t.Fatal(err)
	}
	n.api = l.Addr().String()
	if strings.HasPrefix(address, "unix:") {
		n.api = address
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = connmgrhttp.Serve(ctx, l, n.handler)
	}()
	n.stop = func() {
		cancel()
		<-done
	}
}

// peerID is the ID of the peer with a number, as go-libp2p makes one of a key of Ed25519.
func peerID(number int) connmgr.NodeID {
	key := sha256.Sum256(fmt.Appendf(nil, "peer %d", number))
	return connmgr.NodeID("\x00\x24\x08\x01\x12\x20" + string(key[:]))
}

func peerNamed(number int) string { return connmgrlibp2p.ListFormat().FormatPeer(peerID(number)) }

// testClock tells the time, or what it was an hour ago.
type testClock struct{ early atomic.Bool }

func (c *testClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (c *testClock) Now() time.Time {
	if c.early.Load() {
		return time.Now().Add(-time.Hour)
	}
	return time.Now()
}

// connect connects a peer that has been there for an hour, from 10.0.0.NUMBER.
func (n *testNode) connect(number int, options ...connmgrtest.Option) {
	n.clock.early.Store(true)
	defer n.clock.early.Store(false)
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}), 4001)
	n.host.Connect(peerID(number), append([]connmgrtest.Option{connmgrtest.From(from)}, options...)...)
}

// result is what came of a command.
type result struct {
	t              *testing.T
	line           string
	status         int
	stdout, stderr string
}

// run runs a command against the node.
func (n *testNode) run(args ...string) result {
	n.t.Helper()
	return runCommand(n.t, append(args, "--api", n.api)...)
}

func runCommand(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, &stdout, &stderr)
	return result{t, "connmgr " + strings.Join(args, " "), status, stdout.String(), stderr.String()}
}

// ok wants a command to succeed, and to say something.
func (r result) ok(want ...string) result {
	r.t.Helper()
	if r.status != 0 {
		r.t.Fatalf("%s: exit status %d, want 0; stderr: %s", r.line, r.status, r.stderr)
	}
	for _, text := range want {
		if !strings.Contains(r.stdout, text) {
			r.t.Errorf("%s wrote\n%s\nwant %q in it", r.line, r.stdout, text)
		}
	}
	return r
}

// fails wants a command to fail with a status, and one line that says why.
func (r result) fails(status int, want ...string) result {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("%s: exit status %d, want %d; stderr: %s", r.line, r.status, status, r.stderr)
	}
	if !strings.HasPrefix(r.stderr, "connmgr: ") || !strings.HasSuffix(r.stderr, "\n") {
		r.t.Errorf("%s: stderr is %q, want lines that begin with \"connmgr: \"", r.line, r.stderr)
	}
	for _, text := range want {
		if !strings.Contains(r.stderr, text) {
			r.t.Errorf("%s: stderr is %q, want %q in it", r.line, r.stderr, text)
		}
	}
	return r
}

// lacks wants the output to be without some texts.
func (r result) lacks(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if strings.Contains(r.stdout, text) {
			r.t.Errorf("%s wrote\n%s\nwant no %q in it", r.line, r.stdout, text)
		}
	}
}

// decode reads the output as one JSON document.
func decode[T any](r result) (doc T) {
	r.t.Helper()
	r.ok()
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	if err := dec.Decode(&doc); err != nil {
		r.t.Fatalf("%s wrote no JSON: %v\n%s", r.line, err, r.stdout)
	}
	if dec.More() {
		r.t.Fatalf("%s wrote more than one document:\n%s", r.line, r.stdout)
	}
	return doc
}
