package apiload

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// This file makes the node that is loaded, with its API.

// echoProtocol sends back what it gets.
const echoProtocol = "/connmgr/apiload/1"

// node is the node with the manager, and the API that shows it.
type node struct {
	manager *connmgrlibp2p.ConnManager
	timed   *timedManager
	host    host.Host
	metrics *connmgrprom.Collector
	url     string // of the API
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

func startNode(cfg Config) (_ *node, err error) {
	n := &node{stop: func() {}}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	discard := slog.New(slog.DiscardHandler)
	n.manager, err = connmgrlibp2p.NewConnManager(cfg.Low, cfg.High,
		connmgrlibp2p.WithHardLimit(cfg.Hard),
		connmgrlibp2p.WithGracePeriod(grace), connmgrlibp2p.WithSilencePeriod(silencePeriod),
		connmgrlibp2p.WithGate(connmgr.GateConfig{Limits: connmgr.TestLimits()}),
		connmgrlibp2p.WithLogger(discard),
	)
	if err != nil {
		return nil, err
	}
	n.timed = newTimedManager(n.manager)
	opts, err := hostOptions("tcp", "quic")
	if err != nil {
		return nil, err
	}
	n.host, err = libp2p.New(append(opts,
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.ConnectionManager(n.timed), libp2p.ConnectionGater(n.manager.Gater()),
	)...)
	if err != nil {
		return nil, err
	}
	n.host.SetStreamHandler(echoProtocol, func(s network.Stream) {
		_, _ = io.Copy(s, s) // until the other side closes it, or the connection
		_ = s.Close()
	})
	return n, n.serve(discard)
}

// serve serves the API, as `connmgr run` does.
func (n *node) serve(log *slog.Logger) error {
	core := n.manager.Core()
	registry := prometheus.NewRegistry()
	n.metrics = connmgrprom.NewCollector(core, connmgrprom.WithTrimDurations(), connmgrprom.WithScores())
	if err := registry.Register(n.metrics); err != nil {
		return err
	}
	handler, err := connmgrhttp.Handler(core, core.Gater(), connmgrhttp.Config{
		Token: token, Names: connmgrlibp2p.ListFormat(), Node: n.host.ID().String(),
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Logger: log,
	})
	if err != nil {
		return err
	}
	listener, err := connmgrhttp.Listen("127.0.0.1:0", token)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.url = "http://" + listener.Addr().String()
	n.wg.Go(func() { _ = connmgrhttp.Serve(ctx, listener, handler) })
	return nil
}

// addr is where the API listens.
func (n *node) addr() string { return n.url[len("http://"):] }

func (n *node) close() {
	n.stop()
	n.wg.Wait()
	if n.metrics != nil {
		n.metrics.Close()
	}
	if n.host != nil {
		_ = n.host.Close() // closes the manager too
	}
	if n.manager != nil {
		_ = n.manager.Close()
	}
}

// hostOptions are common to all hosts. The resource manager is off on purpose: its own
// limits (8 connections from an address) would refuse a crowd that all comes from
// loopback before the connection manager sees it.
func hostOptions(transports ...string) ([]libp2p.Option, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
	}
	for _, t := range transports {
		switch t {
		case "tcp":
			opts = append(opts, libp2p.Transport(tcp.NewTCPTransport))
		case "quic":
			opts = append(opts, libp2p.Transport(libp2pquic.NewTransport))
		default:
			return nil, errors.New("no transport " + t)
		}
	}
	return opts, nil
}

// dialAPI connects to the API, for what package net/http would not do.
func (n *node) dialAPI(ctx context.Context, d *net.Dialer) (net.Conn, error) {
	return d.DialContext(ctx, "tcp", n.addr())
}

// head is the beginning of a request, up to where a body or an empty line comes.
func (n *node) head(method, path string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: " + n.addr() + "\r\nAuthorization: Bearer " + token + "\r\n"
}

// get makes a request for a client of package net/http.
func get(ctx context.Context, url string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req, nil
}
