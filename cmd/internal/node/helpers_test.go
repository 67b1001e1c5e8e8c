package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file has what the tests of real nodes share.

// patience is how long anything on loopback may take, on a machine that has other things
// to do.
const patience = 20 * time.Second

// testConfig is a node on loopback, with its files in a folder of the test.
func testConfig(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	cfg.Identity = filepath.Join(dir, "identity.key")
	cfg.Rules.Store = filepath.Join(dir, "rules.db")
	cfg.API.Listen = []string{"127.0.0.1:0"}
	return cfg
}

// start runs a node until the test ends.
func start(t *testing.T, cfg config.Config) (*Node, *lines) {
	t.Helper()
	log := &lines{}
	n, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatalf("the node does not start: %v", err)
	}
	closed := sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			t.Errorf("the node does not end in order: %v", err)
		}
	})
	t.Cleanup(closed)
	closers.Store(n, closed)
	return n, log
}

// closers lets a test end a node before the test itself ends.
var closers sync.Map

func stop(t *testing.T, n *Node) {
	t.Helper()
	closed, _ := closers.Load(n)
	closed.(func())()
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// eventually waits for something that real hosts do in their own time.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v it is still not so that %s", patience, what)
		}
	}
}

// newPeer is a plain libp2p node that listens, with a key of its own.
func newPeer(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableMetrics(),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// addrsOf is how to dial a host, over one transport ("tcp" or "quic-v1") or over both ("").
func addrsOf(h host.Host, transport string) peer.AddrInfo {
	info := peer.AddrInfo{ID: h.ID()}
	for _, addr := range h.Network().ListenAddresses() {
		if strings.Contains(addr.String(), "127.0.0.1") && strings.Contains(addr.String(), "/"+transport) {
			info.Addrs = append(info.Addrs, addr)
		}
	}
	return info
}

func p2pAddrs(t *testing.T, info peer.AddrInfo) (texts []string) {
	t.Helper()
	addrs, err := peer.AddrInfoToP2pAddrs(&info)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	return texts
}

func connect(t *testing.T, from host.Host, to peer.AddrInfo) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return from.Connect(ctx, to)
}

func connected(h host.Host, id peer.ID) bool {
	return h.Network().Connectedness(id) == network.Connected
}

// url is where a path of the node's API is.
func url(n *Node, path string) string { return fmt.Sprintf("http://%s%s", n.APIAddr(), path) }

// request asks the API and returns the status of its answer.
func request(t *testing.T, method, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// ours returns the stacks of goroutines that run something of this module's or of libp2p's,
// but for those of tests.
func ours() (stacks []string) {
	buf := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if (strings.Contains(stack, "dep2p/connmgr") || strings.Contains(stack, "libp2p/go-libp2p")) && !strings.Contains(stack, "testing.") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}
