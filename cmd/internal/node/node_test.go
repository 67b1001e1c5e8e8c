package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// This file starts real nodes on loopback and sees what they do, and what happens if they
// cannot start.

func TestANodeIsReachedOverTCPAndQUICAndSaysHowItIs(t *testing.T) {
	n, log := start(t, testConfig(t))
	for _, transport := range []string{"tcp", "quic-v1"} {
		p := newPeer(t)
		if err := connect(t, p, addrsOf(n.Host(), transport)); err != nil {
			t.Errorf("a peer cannot connect over %s: %v", transport, err)
		}
	}
	eventually(t, "the manager knows both", func() bool { return n.Manager().Core().ConnCount() == 2 })
	if status := request(t, "GET", url(n, "/v1/status"), ""); status != http.StatusOK {
		t.Errorf("the API answers with status %d, want 200", status)
	}
	resp, err := http.Get(url(n, "/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for _, want := range []string{"\nconnmgr_open_connections 2\n", "\nconnmgr_peer_score_count 2\n", "connmgr_trim_duration_seconds_count 0", "\ngo_goroutines ", "\nlibp2p_"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics do not have %q", want)
		}
	}
	for _, want := range []string{
		"peer=" + n.Host().ID().String(), "low_water=100 high_water=400 hard_limit=600",
		"/quic-v1/p2p/" + n.Host().ID().String(), "url=" + url(n, "/"),
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the start is logged as\n%s\nwant a word on %q", log, want)
		}
	}
	if strings.Contains(log.String(), "p2p-circuit") {
		t.Errorf("an address at which nobody reaches the node is logged:\n%s", log)
	}
}

func TestTheResourceManagerLeavesConnectionsToUs(t *testing.T) {
	rm, err := newResourceManager()
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	far, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/1")
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 { // go-libp2p's own limits end at 8, 16 and some hundreds of these
		scope, err := rm.OpenConnection(network.DirInbound, true, far)
		if err != nil {
			t.Fatalf("connection %d from one address is refused by the resource manager: %v", i+1, err)
		}
		if err := scope.SetPeer(id); err != nil {
			t.Fatalf("connection %d with one peer is refused by the resource manager: %v", i+1, err)
		}
	}
	from := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	if rm.VerifySourceAddress(from) {
		t.Error("the first QUIC handshake of an address has to show that the address is its own, want that of many only")
	}
	for range 100 {
		if rm.VerifySourceAddress(from) {
			return
		}
	}
	t.Error("100 QUIC handshakes in a moment need not show that their address is their own")
}

func TestTheHardLimitHoldsForARealCrowd(t *testing.T) {
	cfg := testConfig(t)
	cfg.Watermarks.Low, cfg.Watermarks.High, cfg.Watermarks.HardLimit = 3, 5, 8
	n, _ := start(t, cfg)
	to := addrsOf(n.Host(), "")
	var wg sync.WaitGroup
	for range 20 {
		p := newPeer(t, libp2p.NoListenAddrs)
		wg.Go(func() { _ = connect(t, p, to) })
	}
	wg.Wait()
	eventually(t, "20 newcomers have been counted", func() bool { return n.Manager().Core().ConnCount() >= 5 })
	if conns := n.Manager().Core().ConnCount(); conns > 8 {
		t.Errorf("there are %d connections, want at most the hard limit of 8", conns)
	}
}

func TestABlockMadeThroughTheAPISurvivesARestart(t *testing.T) {
	cfg := testConfig(t)
	n, _ := start(t, cfg)
	id := n.Host().ID()
	p := newPeer(t)
	if err := connect(t, p, addrsOf(n.Host(), "tcp")); err != nil {
		t.Fatal(err)
	}
	body := `{"target":"peer ` + p.ID().String() + `","reason":"spam"}`
	if status := request(t, "POST", url(n, "/v1/block"), body); status >= 300 {
		t.Fatalf("the API answers a block with status %d", status)
	}
	eventually(t, "the blocked peer has lost its connection", func() bool { return !connected(p, id) })
	stop(t, n)

	n, log := start(t, cfg)
	if n.Host().ID() != id {
		t.Errorf("after a restart the node is %v, want the same %v", n.Host().ID(), id)
	}
	_ = connect(t, p, addrsOf(n.Host(), "tcp")) // the dialler may see success before it is refused
	eventually(t, "the blocked peer has no connection", func() bool { return !connected(p, id) })
	if conns := n.Manager().Core().ConnCount(); conns != 0 {
		t.Errorf("the restarted node has %d connections, want none with the peer that is blocked", conns)
	}
	if !strings.Contains(log.String(), "rules=1") {
		t.Errorf("the start is logged as\n%s\nwant a word on the one rule that was kept", log)
	}
	other := newPeer(t)
	if err := connect(t, other, addrsOf(n.Host(), "tcp")); err != nil {
		t.Errorf("another peer cannot connect: %v", err)
	}
}

func TestAUnixSocketServesTheAPI(t *testing.T) {
	cfg := testConfig(t)
	path := filepath.Join(t.TempDir(), "s")
	cfg.API.Listen = []string{"unix:" + path, "127.0.0.1:0"}
	n, log := start(t, cfg)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("the socket answers %q, want status 200", answer)
	}
	if !strings.Contains(log.String(), "unix:"+path) {
		t.Errorf("the start is logged as\n%s\nwant the socket's path", log)
	}
	stop(t, n)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the node has ended its socket is still there (%v)", err)
	}
}

func TestWithoutAnAPIThereIsNone(t *testing.T) {
	cfg := testConfig(t)
	cfg.API.Listen = nil
	cfg.Rules.Store = ""
	n, _ := start(t, cfg)
	if addr := n.APIAddr(); addr != nil {
		t.Errorf("the API is at %v, want nowhere", addr)
	}
}

func TestANodeRelaysIfItIsAskedTo(t *testing.T) {
	for _, relay := range []bool{true, false} {
		cfg := testConfig(t)
		cfg.Relay = relay
		n, _ := start(t, cfg)
		reserves := func(p host.Host) bool {
			_, err := client.Reserve(t.Context(), p, addrsOf(n.Host(), "tcp"))
			return err == nil
		}
		p := newPeer(t)
		if relay {
			eventually(t, "a peer gets a reservation", func() bool { return reserves(p) })
		} else if reserves(p) {
			t.Error("a peer gets a reservation from a node that is not to relay")
		}
	}
}

// TestWhatIsWrongAtTheStartIsOneErrorAndNothingStaysOpen starts nodes that cannot start,
// and then one with the same files and ports that can.
func TestWhatIsWrongAtTheStartIsOneErrorAndNothingStaysOpen(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, tcpPort, _ := net.SplitHostPort(taken.Addr().String())
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())
	another, _ := start(t, testConfig(t))
	var sharedPort string
	for _, addr := range another.Host().Network().ListenAddresses() {
		if port, err := addr.ValueForProtocol(ma.P_TCP); err == nil {
			sharedPort = port
		}
	}

	for _, c := range []struct {
		name  string
		spoil func(*config.Config)
		want  string
		is    error
	}{
		{"a TCP port that is taken", func(c *config.Config) { c.Listen = append(c.Listen, "/ip4/127.0.0.1/tcp/"+tcpPort) }, "cannot listen on /ip4/127.0.0.1/tcp/" + tcpPort, nil},
		{"a port that another node would share", func(c *config.Config) { c.Listen = append(c.Listen, "/ip4/127.0.0.1/tcp/"+sharedPort) }, "cannot listen on /ip4/127.0.0.1/tcp/" + sharedPort, nil},
		{"a UDP port that is taken", func(c *config.Config) {
			c.Listen = append(c.Listen, "/ip4/127.0.0.1/udp/"+udpPort+"/quic-v1")
		}, "cannot listen on /ip4/127.0.0.1/udp/" + udpPort, nil},
		{"an API port that is taken", func(c *config.Config) { c.API.Listen = append(c.API.Listen, "127.0.0.1:"+tcpPort) }, "127.0.0.1:" + tcpPort, nil},
		{"rules of another process", func(c *config.Config) { c.Rules.Store = another.cfg.Rules.Store }, another.cfg.Rules.Store, connmgrbolt.ErrLocked},
		{"a list that is missing", func(c *config.Config) { c.Rules.Lists = []config.RuleList{{Origin: "list", File: "/nowhere/list"}} }, "/nowhere/list", os.ErrNotExist},
		{"an identity that others can read", func(c *config.Config) {
			c.Identity = filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(c.Identity, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(t)
			good := cfg
			c.spoil(&cfg)
			before := len(ours())
			_, err := New(t.Context(), cfg, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "connmgr") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %v, want one line that names %s", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error %v is not %v", err, c.is)
			}
			eventually(t, "no goroutine of a node that did not start is left", func() bool { return len(ours()) <= before })
			n, _ := start(t, good)
			stop(t, n)
		})
	}
}

func TestAnIdentityIsMadeOnceForItsOwnerAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "identity.key")
	keys := make([]crypto.PrivKey, 8)
	var wg sync.WaitGroup
	for i := range keys { // several processes may start at once
		wg.Go(func() {
			var err error
			if keys[i], err = LoadIdentity(name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys[1:] {
		if !key.Equals(keys[0]) {
			t.Fatal("two of those that started at once got different identities")
		}
	}
	if keys[0].Type() != crypto.Ed25519 {
		t.Errorf("the key is of type %v, want Ed25519", keys[0].Type())
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v (%v), want 0600", info.Mode().Perm(), err)
	}
	if rest, _ := filepath.Glob(name + ".*"); len(rest) > 0 {
		t.Errorf("%v is left behind", rest)
	}
}

func TestAnIdentityThatCannotBeTrustedIsRefusedAndLeftAlone(t *testing.T) {
	key, err := crypto.MarshalPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data []byte
		mode os.FileMode
		want string
	}{
		{"others can read it", key, 0o640, "has mode 0640, so others can use the private key"},
		{"it is cut off", key[:len(key)-1], 0o600, "is damaged, or not a private key"},
		{"it is empty", nil, 0o600, "is damaged, or not a private key"},
		{"it is text", []byte("not a key"), 0o600, "is damaged, or not a private key"},
		{"it is too large", make([]byte, maxKey+1), 0o600, "has 65537 bytes"},
	} {
		name := filepath.Join(t.TempDir(), "identity.key")
		if err := errors.Join(os.WriteFile(name, c.data, c.mode), os.Chmod(name, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := LoadIdentity(name)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error is %v, want one that names the file and says that it %s", c.name, err, c.want)
		}
		if after, _ := os.ReadFile(name); string(after) != string(c.data) {
			t.Errorf("%s: the file was changed", c.name)
		}
	}
	if _, err := LoadIdentity(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a folder: the error is %v, want one that says that it is none", err)
	}
	if _, err := LoadIdentity(filepath.Join(t.TempDir(), "no", "folder")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a folder that is missing: the error is %v, want that", err)
	}
}

func TestTheServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("this system has no such sockets: %v", err)
	}
	defer l.Close()
	if err := Notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v, want nothing", err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify("READY=1", "STATUS=up"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := l.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1\nSTATUS=up" {
		t.Errorf("it is told %q (%v), want both states", buf[:n], err)
	}
	if states := Reloading(); states[0] != "RELOADING=1" {
		t.Errorf("reloading is %q", states)
	}
}

func TestANodeLogsNumbersAndNothingThatIsNot(t *testing.T) {
	cfg := testConfig(t)
	cfg.Watermarks.HardLimit = 0
	cfg.API.Listen = []string{"0.0.0.0:0"}
	cfg.API.Token = "a-token-of-16-bytes"
	n, log := start(t, cfg)
	if text := log.String(); strings.Contains(text, "hard_limit") || strings.Contains(text, "kept from before") {
		t.Errorf("the node logs\n%s\nwant no hard limit where there is none, and no rules from before", text)
	}
	want := fmt.Sprintf(`msg="API and page" url=http://localhost:%d/ also="every other address of this machine"`, n.APIAddr().(*net.TCPAddr).Port)
	if !strings.Contains(log.String(), want) {
		t.Errorf("the node logs\n%s\nwant a line with %s", log, want)
	}
}
