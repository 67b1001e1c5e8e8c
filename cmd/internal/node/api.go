package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// This file is where the node can be asked: the API, its page, and the metrics.

// api serves one handler on some listeners.
type api struct {
	listeners []net.Listener
	handler   http.Handler
	metrics   *connmgrprom.Collector
	log       *slog.Logger
	failed    chan error // has room for one
	stop      context.CancelFunc
	ctx       context.Context
	wg        sync.WaitGroup

	mu  sync.Mutex // guards err
	err error
}

// openAPI listens, so that an address that is taken is an error, and serves nothing yet.
func (n *Node) openAPI() (_ *api, err error) {
	cfg := n.cfg.API
	a := &api{log: n.log, failed: make(chan error, 1)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if len(cfg.Listen) == 0 {
		return a, nil
	}
	a.metrics = connmgrprom.NewCollector(n.cm.Core(), connmgrprom.WithTrimDurations(), connmgrprom.WithScores())
	for _, c := range []prometheus.Collector{
		a.metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := n.registry.Register(c); err != nil {
			return nil, fmt.Errorf("connmgr: metrics: %w", err)
		}
	}
	a.handler, err = connmgrhttp.Handler(n.cm.Core(), n.cm.Gater().Core(), connmgrhttp.Config{
		Token: cfg.Token, Hosts: cfg.Hosts,
		Names: connmgrlibp2p.ListFormat(), Node: n.host.ID().String(),
		Metrics: promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{Registry: n.registry}),
		Logger:  n.log,
	})
	if err != nil {
		return nil, err
	}
	for _, address := range cfg.Listen {
		l, err := connmgrhttp.Listen(address, cfg.Token)
		if err != nil {
			return nil, err
		}
		a.listeners = append(a.listeners, l)
	}
	return a, nil
}

// serve serves until the API is closed.
func (a *api) serve() {
	for _, l := range a.listeners {
		a.wg.Go(func() {
			err := connmgrhttp.Serve(a.ctx, l, a.handler)
			if err == nil {
				return
			}
			if a.ctx.Err() == nil { // not asked to end
				a.log.Error("the API ended", "address", l.Addr().String(), "err", err)
				select {
				case a.failed <- err:
				default:
				}
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			a.err = errors.Join(a.err, err)
		})
	}
}

// drain ends requests and streams, and waits for them.
func (a *api) drain() error {
	a.stop()
	a.wg.Wait()
	if a.metrics != nil {
		a.metrics.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// close also closes listeners that nothing serves.
func (a *api) close() {
	for _, l := range a.listeners {
		_ = l.Close()
	}
	_ = a.drain()
}

// pageURL is what a browser is given.
func pageURL(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.Network() + ":" + addr.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "localhost"
	}
	return fmt.Sprintf("http://%s/", net.JoinHostPort(host, fmt.Sprint(tcp.Port)))
}
