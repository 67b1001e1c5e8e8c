// Package node is the long-lived libp2p node of "connmgr run": a host under connmgr, with
// its rules on disk, its API, and the peers that it keeps connections with.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/prometheus/client_golang/prometheus"
)

// This file is the node and how it begins: each part is opened in turn, and when one
// fails those before it are closed again. drain.go is how it ends.

// Node is a running node. Make one with [New], end it with [Node.Close]. Methods may be
// called from several goroutines, but Reload and Close not at once.
type Node struct {
	cfg   config.Config
	log   *slog.Logger
	store *connmgrbolt.Store // nil if rules are not kept
	cm    *connmgrlibp2p.ConnManager
	door  *door
	host  host.Host
	keep  *keeper
	api   *api

	registry *prometheus.Registry
	undo     []func() // closes what is open, the last first, while New is at work
}

// New starts a node. It listens and serves when New returns, and goes on until Close; ctx
// is about starting only. If something is wrong, whatever was opened is closed again. A
// nil logger means slog.Default().
func New(ctx context.Context, cfg config.Config, log *slog.Logger) (_ *Node, err error) {
	if log == nil {
		log = slog.Default()
	}
	n := &Node{cfg: cfg, log: log, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			for i := len(n.undo) - 1; i >= 0; i-- {
				n.undo[i]()
			}
		}
	}()
	key, err := LoadIdentity(cfg.Identity)
	if err != nil {
		return nil, err
	}
	if err := n.openManager(); err != nil {
		return nil, err
	}
	n.host, err = newHost(key, n.cm, n.door, cfg.Relay, n.registry)
	if err != nil {
		return nil, fmt.Errorf("connmgr: cannot start the libp2p host: %w", err)
	}
	n.undo = append(n.undo, func() { _ = n.host.Close() })
	// Rules before anybody can come, peers that are protected before they do.
	if err := n.startRules(ctx); err != nil {
		return nil, err
	}
	protect(n.cm, nil, cfg.PeersToProtect(), protectTag)
	n.keep = newKeeper(n.host, n.cm, log)
	n.undo = append(n.undo, n.keep.close)
	if n.api, err = n.openAPI(); err != nil {
		return nil, err
	}
	n.undo = append(n.undo, n.api.close)
	if err := n.listen(); err != nil {
		return nil, err
	}
	n.api.serve()
	n.keep.set(cfg.PeersToConnect())
	n.undo = nil
	n.announce()
	return n, nil
}

// openManager opens the file of rules and makes the manager with its gate.
func (n *Node) openManager() (err error) {
	w := n.cfg.Watermarks
	gate := connmgr.GateConfig{Limits: n.cfg.Gate.Limits(), Ladder: n.cfg.Bans.Ladder()}
	if file := n.cfg.Rules.Store; file != "" {
		if n.store, err = connmgrbolt.Open(file); err != nil {
			return err
		}
		n.undo = append(n.undo, func() { _ = n.store.Close() })
		gate.Store = n.store
	}
	n.cm, err = connmgrlibp2p.NewConnManager(w.Low, w.High,
		connmgrlibp2p.WithHardLimit(w.Limit()),
		connmgrlibp2p.WithOutboundFloor(w.OutboundFloor),
		connmgrlibp2p.WithGracePeriod(w.Grace),
		connmgrlibp2p.WithSilencePeriod(w.Silence),
		connmgrlibp2p.WithMemoryHighWater(n.cfg.MemoryHighWater),
		connmgrlibp2p.WithGate(gate),
		connmgrlibp2p.WithLogger(n.log),
	)
	if err != nil {
		return err
	}
	n.undo = append(n.undo, func() { _ = n.cm.Close() })
	n.door = &door{Gater: n.cm.Gater()}
	return nil
}

// announce says what has started, in a few lines.
func (n *Node) announce() {
	attrs := append([]any{"peer", n.host.ID().String()}, limitAttrs(n.cm.Core().Limits())...)
	n.log.Info("started", append(attrs, "gate", n.cfg.Gate.Preset)...)
	addrs := n.ListenAddrs()
	for _, addr := range addrs {
		n.log.Info("listening", "address", addr.String())
	}
	if len(addrs) == 0 {
		n.log.Info("not listening, dialling only")
	}
	for _, l := range n.api.listeners {
		attrs := []any{"url", pageURL(l.Addr())}
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			attrs = append(attrs, "also", "every other address of this machine")
		}
		n.log.Info("API and page", attrs...)
	}
}

// limitAttrs is limits as logs show them. There is no hard limit to show if there is none.
func limitAttrs(l connmgr.Limits) []any {
	attrs := []any{"low_water", l.LowWater, "high_water", l.HighWater}
	if l.HardLimit != math.MaxInt {
		attrs = append(attrs, "hard_limit", l.HardLimit)
	}
	return attrs
}

// Host returns the libp2p host.
func (n *Node) Host() host.Host { return n.host }

// Manager returns the connection manager.
func (n *Node) Manager() *connmgrlibp2p.ConnManager { return n.cm }

// APIAddr returns the first address of the API, nil if there is none.
func (n *Node) APIAddr() net.Addr {
	if len(n.api.listeners) == 0 {
		return nil
	}
	return n.api.listeners[0].Addr()
}

// Failed returns a channel that gets an error if the node cannot go on.
func (n *Node) Failed() <-chan error { return n.api.failed }

// within runs f, and gives up waiting for it when ctx ends. It reports whether f
// returned.
func within(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// since is a duration as logs show it.
func since(t time.Time) string { return time.Since(t).Round(time.Millisecond).String() }
