package connmgrprom_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/dep2p/connmgr/connmgrtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"
)

// This file makes nodes, and has them live, so that there is something to show.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a manager with a fake host, a registry with its collector.
type node struct {
	*connmgr.Manager
	t         *testing.T
	host      *connmgrtest.Host
	store     *connmgrtest.Store
	collector *connmgrprom.Collector
	registry  *prometheus.Registry
}

// newNode makes a node that trims only when it is told to.
func newNode(t *testing.T, cfg connmgr.Config, opts ...connmgrprom.Option) *node {
	t.Helper()
	n := &node{t: t, host: connmgrtest.NewHost(), store: connmgrtest.NewStore(), registry: prometheus.NewPedanticRegistry()}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Gate.Store = n.store
	cfg.ManualStart = true
	m, err := connmgr.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Manager = m
	n.host.Notify(m)
	n.collector = connmgrprom.NewCollector(m, opts...)
	n.registry.MustRegister(n.collector)
	t.Cleanup(func() {
		n.collector.Close()
		_ = m.Close()
	})
	return n
}

func (n *node) connect(count int, name string, options ...connmgrtest.Option) {
	for i := range count {
		n.host.Connect(connmgr.NodeID(fmt.Sprint(name, i)), options...)
	}
}

func (n *node) trim() connmgr.TrimResult {
	n.t.Helper()
	res, err := n.Trim(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	return res
}

// samples returns what a scrape finds now.
func (n *node) samples() samples {
	n.t.Helper()
	return gather(n.t, n.registry)
}

// expect compares the samples whose names are given, and only those.
func (n *node) expect(want samples) {
	n.t.Helper()
	got := n.samples()
	for name, value := range want {
		if have, ok := got[name]; !ok || have != value {
			n.t.Errorf("%s is %v (there: %v), want %v", name, have, ok, value)
		}
	}
}

var noGrace = connmgr.Config{LowWater: 2, HighWater: 4, HardLimit: 8, GracePeriod: connmgr.Zero}

// series is what a Prometheus server stores of a scrape: it adds where it scraped.
func (n *node) series() (all []series) {
	n.t.Helper()
	for _, s := range gatherSeries(n.t, n.registry) {
		b := labels.NewBuilder(s.labels).Set("job", "nodes").Set("instance", "node:9090")
		all = append(all, series{b.Labels(), s.value})
	}
	return all
}

// connectAsAHostDoes lets a peer dial us: past the gate, and in.
func (n *node) connectAsAHostDoes(peer connmgr.NodeID, addr netip.AddrPort) error {
	g := n.Gater()
	conn := connmgrtest.NewConn(peer)
	for _, ask := range []func() error{
		func() error { return g.InterceptAccept(addr) },
		func() error { return g.InterceptSecured(connmgr.DirInbound, peer, addr) },
		func() error { return g.InterceptUpgraded(connmgr.DirInbound, peer, addr, conn) },
	} {
		if err := ask(); err != nil {
			return err
		}
	}
	n.Connected(peer, conn)
	return nil
}

// live is an ordinary day: peers come, a trim lets some go, a few are refused.
func (n *node) live() {
	n.t.Helper()
	for i := range 6 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4001)
		if err := n.connectAsAHostDoes(connmgr.NodeID(fmt.Sprint("guest", i)), addr); err != nil {
			n.t.Fatal(err)
		}
	}
	n.trim()
	n.block("mallory")
	_ = n.connectAsAHostDoes("mallory", netip.AddrPort{})
}

func (n *node) block(peer connmgr.NodeID) {
	n.t.Helper()
	if err := n.Gater().Block(context.Background(), connmgr.PeerTarget(peer), 0, "spam"); err != nil {
		n.t.Fatal(err)
	}
}

// misuse is a bad day: all that can go wrong, and without waiting.
func (n *node) misuse() {
	n.t.Helper()
	n.live()
	n.overProtect()
	n.failToClose("fails", connmgrtest.FailOnClose(errors.New("no")), 3)
}

// overProtect fills the node with connections that a trim must not close.
func (n *node) overProtect() {
	n.t.Helper()
	for i := range 2 * n.Limits().HighWater {
		peer := connmgr.NodeID(fmt.Sprint("friend", i))
		n.Protect(peer, "friend")
		n.host.Connect(peer)
	}
	if n.trim().Shortfall == 0 {
		n.t.Fatal("the trim has no shortfall, so this shows nothing")
	}
}

// failToClose trims a number of times while there are connections that misbehave.
func (n *node) failToClose(name string, how connmgrtest.Option, times int) {
	n.t.Helper()
	n.connect(4*n.Limits().HighWater, name, how)
	for range times {
		n.trim()
	}
}

// checkQuery fails unless an expression refers to what is exported only, and finds
// something, between two scrapes.
func checkQuery(t *testing.T, where, query string, before, now []series) {
	t.Helper()
	for _, mistake := range mistakes(query, now) {
		t.Errorf("%s: %s", where, mistake)
	}
	e := evaluator{before, now}
	switch found, err := e.query(query); {
	case err != nil:
		t.Errorf("%s: %v", where, err)
	case len(found) == 0:
		t.Errorf("%s: %s finds nothing", where, query)
	}
}
