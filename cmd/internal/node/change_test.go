package node

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file changes running nodes, takes their peers away, and ends them.

// writeList writes a list of rules.
func writeList(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rulesOf is the targets of the rules of an origin.
func rulesOf(n *Node, origin string) string {
	var targets []string
	for r := range n.Manager().Gater().Core().Rules() {
		if r.Origin == origin {
			targets = append(targets, r.Effect.String()+" "+r.Target.String())
		}
	}
	return strings.Join(targets, ", ")
}

func TestAReloadChangesWhatARunningNodeCanAndWarnsOfTheRest(t *testing.T) {
	cfg := testConfig(t)
	n, log := start(t, cfg)
	p := newPeer(t)
	next := cfg
	next.Watermarks.Low, next.Watermarks.High, next.Watermarks.HardLimit, next.Watermarks.OutboundFloor = 1, 2, 3, 1
	next.Gate.MaxInbound, next.Gate.PerPrefix = 9, nil
	next.Protect = []string{p.ID().String()}
	next.Watermarks.Grace = time.Hour
	next.Listen = []string{"/ip4/127.0.0.1/tcp/1"}
	next.Identity = "another"
	if err := n.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	core := n.Manager().Core()
	if got, want := core.Limits(), (connmgr.Limits{LowWater: 1, HighWater: 2, HardLimit: 3, OutboundFloor: 1}); got != want {
		t.Errorf("limits are %+v, want %+v", got, want)
	}
	if got := core.Gater().Limits(); got.MaxInbound != 9 || len(got.PerPrefix) != 0 {
		t.Errorf("limits of the gate are %+v, want 9 inbound connections and none per prefix", got)
	}
	if !n.Manager().IsProtected(p.ID(), "") {
		t.Error("the peer is not protected")
	}
	for _, want := range []string{
		`level=WARN msg="changed, but takes a restart" field=listen `, `level=WARN msg="changed, but takes a restart" field=identity `,
		`level=WARN msg="changed, but takes a restart" field=watermarks.grace from=20s to=1h`,
		`level=INFO msg=changed field=watermarks.low from=100 to=1`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the reload is logged as\n%s\nwant a line with %s", log, want)
		}
	}
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if n.Manager().IsProtected(p.ID(), "") || core.Limits().LowWater != 100 {
		t.Error("taking the changes back leaves the peer protected, or limits changed")
	}
}

func TestAReloadPutsTheFilesLimitsInPlaceOfThoseOfTheAPI(t *testing.T) {
	cfg := testConfig(t)
	n, _ := start(t, cfg)
	core := n.Manager().Core()
	if err := core.SetLimits(connmgr.Limits{LowWater: 1, HighWater: 2, HardLimit: 3}); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := core.Limits(); got != cfg.Watermarks.Limits() {
		t.Errorf("limits are %+v after a reload, want those of the file %+v", got, cfg.Watermarks.Limits())
	}
}

func TestAListIsReplacedOnReloadAndABrokenOneChangesNothing(t *testing.T) {
	cfg := testConfig(t)
	name := filepath.Join(t.TempDir(), "list.txt")
	friends := filepath.Join(t.TempDir(), "friends.txt")
	writeList(t, name, "192.0.2.0/24\n198.51.100.0/24\n")
	writeList(t, friends, "203.0.113.7\n")
	cfg.Rules.Lists = []config.RuleList{{Origin: "list", File: name}, {Origin: "friends", File: friends, Allow: true}}
	n, log := start(t, cfg)
	wantRules := func(origin, want string) {
		t.Helper()
		if got := rulesOf(n, origin); got != want {
			t.Errorf("rules of %q are %q, want %q", origin, got, want)
		}
	}
	wantRules("list", "deny 192.0.2.0/24, deny 198.51.100.0/24")
	wantRules("friends", "allow 203.0.113.7")

	writeList(t, name, "192.0.2.0/24\n2001:db8::/32\n")
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantRules("list", "deny 192.0.2.0/24, deny 2001:db8::/32")

	for _, bad := range []struct{ text, want string }{
		{"192.0.2.0/24\n10.0.0.300/8\n", name + ":2: "},
		{"# nothing\n", name + ": has no rules in it"},
	} {
		text, want := bad.text, bad.want
		writeList(t, name, text)
		err := n.Reload(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a list with %q: the error is %v, want one that has %q", text, err, want)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), want) {
			t.Errorf("a list with %q is logged as\n%s\nwant an error that has %q", text, log, want)
		}
		wantRules("list", "deny 192.0.2.0/24, deny 2001:db8::/32")
		wantRules("friends", "allow 203.0.113.7")
	}
	stop(t, n)

	// A node that starts with the broken list has the rules that were kept.
	n, log = start(t, cfg)
	wantRules("list", "deny 192.0.2.0/24, deny 2001:db8::/32")
	if !strings.Contains(log.String(), "has no rules in it") {
		t.Errorf("the start is logged as\n%s\nwant a word on the list that is empty", log)
	}
	cfg.Rules.Lists = cfg.Rules.Lists[1:]
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantRules("list", "")
	wantRules("friends", "allow 203.0.113.7")
}

func TestAPeerToConnectToIsDialledAgainWhenItIsLost(t *testing.T) {
	key := newKey(t)
	p := newPeer(t, libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	addr := addrsOf(p, "tcp")
	cfg := testConfig(t)
	cfg.Connect = p2pAddrs(t, addr)
	n, log := start(t, cfg)
	eventually(t, "the node has dialled", func() bool { return connected(p, n.Host().ID()) })
	if !n.Manager().IsProtected(p.ID(), "") {
		t.Error("the peer is not protected: a trim would close what is dialled again at once")
	}

	eventually(t, "the loss is noticed", func() bool {
		_ = p.Network().ClosePeer(n.Host().ID()) // of two addresses dialled at once it may have closed the one that is given up
		return strings.Contains(log.String(), "connection lost")
	})
	eventually(t, "the node has dialled again", func() bool { return connected(p, n.Host().ID()) })

	// It goes away for good, and another process has its address and identity later.
	_ = p.Close()
	eventually(t, "a dial that fails is logged", func() bool { return strings.Contains(log.String(), "cannot connect") })
	again := newPeer(t, libp2p.Identity(key), libp2p.ListenAddrs(addr.Addrs...))
	eventually(t, "the node has dialled who came back", func() bool { return connected(again, n.Host().ID()) })

	cfg.Connect = nil
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if n.Manager().IsProtected(p.ID(), "") {
		t.Error("a peer that is not to be connected to any more is still protected")
	}
}

func TestPeersToConnectToCanComeWithAReload(t *testing.T) {
	cfg := testConfig(t)
	n, _ := start(t, cfg)
	p := newPeer(t)
	cfg.Connect = p2pAddrs(t, addrsOf(p, "quic-v1"))
	if err := n.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has dialled over QUIC", func() bool { return connected(p, n.Host().ID()) })
}

func TestADrainEndsStreamsAndConnectionsAndLeavesNothingBehind(t *testing.T) {
	before := len(ours())
	n, log := start(t, testConfig(t))
	p := newPeer(t)
	if err := connect(t, p, addrsOf(n.Host(), "tcp")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(url(n, "/v1/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	address, id := n.APIAddr().String(), n.Host().ID()
	stop(t, n)
	if rest, err := io.ReadAll(bufio.NewReader(resp.Body)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream of events ended with %v after %q, want it to end", err, rest)
	}
	eventually(t, "the peer has lost its connection", func() bool { return !connected(p, id) })
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the API's port is still open")
	}
	if !strings.Contains(log.String(), "msg=draining connections=1 within=10s") || !strings.Contains(log.String(), "msg=drained") {
		t.Errorf("the end is logged as\n%s\nwant how it began and that it was done", log)
	}
	_ = p.Close()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "no goroutine of the node is left", func() bool { return len(ours()) <= before })
}

func TestNobodyIsLetInOrDialledDuringADrain(t *testing.T) {
	n, _ := start(t, testConfig(t))
	p := newPeer(t)
	to := addrsOf(p, "")
	far := newPeer(t)
	if err := connect(t, far, to); err != nil {
		t.Fatal(err)
	}
	between := far.Network().ConnsToPeer(p.ID())[0]
	if !n.door.InterceptAccept(between) || !n.door.InterceptPeerDial(p.ID()) {
		t.Error("the gate is shut before the node ends")
	}
	n.door.shut.Store(true)
	if n.door.InterceptAccept(between) || n.door.InterceptPeerDial(p.ID()) || n.door.InterceptSecured(network.DirInbound, p.ID(), between) {
		t.Error("the gate of a node that ends is not shut at every place")
	}
	if err := connect(t, n.Host(), to); err == nil {
		t.Error("a node that ends dials a peer")
	}
	_ = connect(t, p, addrsOf(n.Host(), "tcp"))
	_ = connect(t, p, addrsOf(n.Host(), "quic-v1"))
	eventually(t, "the peer is refused", func() bool { return !connected(p, n.Host().ID()) })
	if conns := n.Manager().Core().ConnCount(); conns != 0 {
		t.Errorf("a node that ends has let %d connections in", conns)
	}
}

func TestADrainThatTakesTooLongIsAnError(t *testing.T) {
	cfg := testConfig(t)
	cfg.DrainTimeout = 100 * time.Millisecond
	n, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// A request that does not return.
	release := make(chan struct{})
	n.api.wg.Go(func() { <-release })
	err = n.Close()
	if err == nil || err.Error() != "connmgr: drain timeout of 100ms exceeded while closing: API" {
		t.Errorf("the error is %v, want one that says what was still at work", err)
	}
	close(release)
	n.cfg.DrainTimeout = patience
	if err := n.Close(); err != nil {
		t.Logf("the second end: %v", err)
	}
}

func TestAKeptPeerThatIsThisNodeItselfIsLeftOut(t *testing.T) {
	cfg := testConfig(t)
	n, _ := start(t, cfg)
	n.keep.set([]peer.AddrInfo{addrsOf(n.Host(), "tcp")})
	if len(n.keep.peers) != 0 {
		t.Error("the node dials itself")
	}
}
