package browsertest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p"
	coreconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// This file makes the nodes behind the page: the one that is watched, which is a real
// libp2p node under connmgr with its API, and the visitors that connect to it.

// chat is what visitors with open streams speak.
const chat = "/connmgr/browsertest/1"

// watched is the node that a page shows.
type watched struct {
	host.Host
	t       *testing.T
	cm      *connmgrlibp2p.ConnManager
	handler http.Handler
	address string // of the API
	url     string // of the page
	stop    func() // ends serving; the node goes on
}

// setup says what is special about a watched node. The zero value is a node without trims:
// tests say what they need.
type setup struct {
	low, high, hard int           // 0 is 500, 1000, 2000
	grace           time.Duration // 0 is none
	silence         time.Duration // 0 is a fifth of a second
	token           string
	prefix          string // such as "/ops/connmgr", without a slash at its end
	gate            connmgr.GateConfig
}

// watch starts a node and its page. Both end with the test.
func watch(t *testing.T, s setup) *watched {
	t.Helper()
	if s.high == 0 {
		s.low, s.high, s.hard = 500, 1000, 2000
	}
	if s.silence == 0 {
		s.silence = 200 * time.Millisecond
	}
	silent := slog.New(slog.DiscardHandler)
	cm, err := connmgrlibp2p.NewConnManager(s.low, s.high,
		connmgrlibp2p.WithGracePeriod(s.grace),
		connmgrlibp2p.WithSilencePeriod(s.silence),
		connmgrlibp2p.WithHardLimit(s.hard),
		connmgrlibp2p.WithGate(s.gate),
		connmgrlibp2p.WithLogger(silent))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(append(options(newKey(t)),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.ConnectionManager(cm), libp2p.ConnectionGater(cm.Gater()))...)
	if err != nil {
		t.Fatal(err)
	}
	h.SetStreamHandler(chat, func(s network.Stream) {
		_, _ = io.Copy(s, s) // open until the other side or the connection closes
		_ = s.Close()
	})
	handler, err := connmgrhttp.Handler(cm.Core(), cm.Gater().Core(), connmgrhttp.Config{
		Token: s.token, Names: connmgrlibp2p.ListFormat(), Node: h.ID().String(), Logger: silent,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.prefix != "" {
		mux := http.NewServeMux()
		mux.Handle(s.prefix+"/", http.StripPrefix(s.prefix, handler))
		handler = mux
	}
	w := &watched{Host: h, t: t, cm: cm, handler: handler, address: "127.0.0.1:0"}
	w.serve()
	w.url = "http://" + w.address + s.prefix + "/"
	t.Cleanup(func() {
		_ = h.Close() // the manager too
		w.stop()
	})
	return w
}

// serve serves the API, at the same address as before if it was served before.
func (w *watched) serve() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- connmgrhttp.Serve(ctx, l, w.handler) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("Serve ends with %v, want nil", err)
		}
	})
}

// core is the manager as the core knows it.
func (w *watched) core() *connmgr.Manager { return w.cm.Core() }

// options are common to all nodes. There is no resource manager, since its own limits would
// refuse a crowd that all comes from loopback.
func options(key crypto.PrivKey) []libp2p.Option {
	return []libp2p.Option{
		libp2p.Identity(key),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.Ping(false),
	}
}

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// visitor is a node that connects to watched ones. Its name is how the page calls it.
type visitor struct {
	host.Host
	name string
}

// visitors starts nodes, which end with the test.
func visitors(t *testing.T, n int) []*visitor {
	t.Helper()
	return visitorsAt(t, n, func(int) libp2p.Option { return libp2p.NoListenAddrs })
}

// visitorsAt starts nodes that listen somewhere, and dial from there.
func visitorsAt(t *testing.T, n int, listen func(i int) libp2p.Option) []*visitor {
	t.Helper()
	list := make([]*visitor, n)
	errs := make([]error, n)
	keys := make([]crypto.PrivKey, n)
	for i := range keys {
		keys[i] = newKey(t)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			h, err := libp2p.New(append(options(keys[i]), listen(i), libp2p.ConnectionManager(coreconnmgr.NullConnMgr{}))...)
			if errs[i] = err; err == nil {
				list[i] = &visitor{Host: h, name: h.ID().String()}
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		var all sync.WaitGroup
		for _, v := range list {
			if v != nil {
				all.Go(func() { _ = v.Close() })
			}
		}
		all.Wait()
	})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// connect connects visitors to a node, all at once, and waits until its manager knows them.
func connect(t *testing.T, to *watched, list ...*visitor) {
	t.Helper()
	var all sync.WaitGroup
	for _, v := range list {
		all.Go(func() {
			if err := v.dial(to); err != nil {
				t.Errorf("a visitor cannot connect: %v", err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, v := range list {
		eventually(t, "the manager knows "+v.name, func() bool {
			info := to.cm.GetTagInfo(v.ID())
			return info != nil && len(info.Conns) > 0
		})
	}
}

func (v *visitor) dial(to *watched) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return v.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()})
}

// connected is the visitor's own word on whether it is connected.
func (v *visitor) connected(to *watched) bool {
	return v.Network().Connectedness(to.ID()) == network.Connected
}

// talk opens a stream and leaves it open.
func (v *visitor) talk(t *testing.T, to *watched) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := v.NewStream(network.WithNoDial(ctx, "browsertest"), to.ID(), chat)
	if err == nil {
		_, err = fmt.Fprint(s, "hello")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// leave closes the connection from the visitor's side.
func (v *visitor) leave(t *testing.T, from *watched) {
	t.Helper()
	if err := v.Network().ClosePeer(from.ID()); err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for something that should come soon.
const patience = 15 * time.Second

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("after %v it is still not so that %s", patience, what)
		case <-tick.C:
		}
	}
}
