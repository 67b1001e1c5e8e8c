package embedding_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/libp2p/go-libp2p"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// This file is a go-libp2p node that can be watched and changed, as docs/embedding.md shows
// it: the drop-in, the API and its page, metrics.

// A libp2p node with the drop-in, and the API and the page beside it.
func Example_libp2p() {
	ctx, stop := context.WithCancel(context.Background())
	address, cleanUp := socket()
	defer cleanUp()

	cm, err := connmgrlibp2p.NewConnManager(100, 400) // watermarks, in connections
	if err != nil {
		log.Fatal(err)
	}
	node, err := libp2p.New(libp2p.ConnectionManager(cm), libp2p.ConnectionGater(cm.Gater()))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	admin, err := connmgrhttp.Handler(cm.Core(), cm.Gater().Core(), connmgrhttp.Config{
		Names: connmgrlibp2p.ListFormat(), // 12D3KooW…
		Node:  node.ID().String(),
	})
	if err != nil {
		log.Fatal(err)
	}
	l, err := connmgrhttp.Listen(address, "") // such as 127.0.0.1:7654
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- connmgrhttp.Serve(ctx, l, admin) }()

	status := get(address, "/v1/status")
	fmt.Println(strings.Contains(status, `"node":"`+node.ID().String()+`"`))
	stop()
	fmt.Println(<-ended)
	// Output:
	// true
	// <nil>
}

// The metrics of a manager, for Prometheus, behind the same guard as the API.
func Example_metrics() {
	ctx, stop := context.WithCancel(context.Background())
	address, cleanUp := socket()
	defer cleanUp()
	m, err := connmgr.New(connmgr.Config{LowWater: 100, HighWater: 400})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(connmgrprom.NewCollector(m))
	admin, err := connmgrhttp.Handler(m, m.Gater(), connmgrhttp.Config{
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	})
	if err != nil {
		log.Fatal(err)
	}

	l, err := connmgrhttp.Listen(address, "")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- connmgrhttp.Serve(ctx, l, admin) }()
	for line := range strings.Lines(get(address, "/metrics")) {
		if strings.HasPrefix(line, "connmgr_high_water") {
			fmt.Print(line)
		}
	}
	stop()
	<-ended
	// Output: connmgr_high_water_connections 400
}

// socket returns the address of a unix socket that nobody has, so that examples do not
// compete for a port.
func socket() (address string, cleanUp func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	return "unix:" + filepath.Join(dir, "api.sock"), func() { _ = os.RemoveAll(dir) }
}
