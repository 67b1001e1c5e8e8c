package connmgrprom_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/dep2p/connmgr/connmgrtest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A node registers a collector and serves its metrics; this is what Prometheus finds.
func Example() {
	m, err := connmgr.New(connmgr.Config{
		LowWater:    2,
		HighWater:   4,
		GracePeriod: connmgr.Zero,
		Logger:      slog.New(slog.DiscardHandler),
		ManualStart: true, // so that this example trims when it says so
	})
	if err != nil {
		panic(err)
	}
	defer m.Close()
	prometheus.MustRegister(connmgrprom.NewCollector(m))
	server := httptest.NewServer(promhttp.Handler())
	defer server.Close()

	host := connmgrtest.NewHost() // a program has a real one
	host.Notify(m)
	for _, peer := range []connmgr.NodeID{"alice", "bob", "carol", "dave", "eve"} {
		host.Connect(peer)
	}
	m.Protect("alice", "friend")
	m.TrimOpenConns(context.Background())

	response, err := http.Get(server.URL)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		for _, name := range []string{"connections", "trims", "closed_peers", "protected_peers"} {
			if strings.HasPrefix(line, "connmgr_"+name) && !strings.HasSuffix(line, " 0\n") {
				fmt.Print(line)
			}
		}
	}
	// Output:
	// connmgr_closed_peers_total{reason="low_score"} 3
	// connmgr_connections{direction="inbound"} 2
	// connmgr_protected_peers 1
	// connmgr_trims_total{trigger="manual"} 1
}

// Two managers of one program have one registry, told apart by a label.
func ExampleWithLabels() {
	registry := prometheus.NewRegistry()
	for _, network := range []string{"private", "public"} {
		m, err := connmgr.New(connmgr.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			panic(err)
		}
		defer m.Close()
		m.Protect("alice", "friend")
		c := connmgrprom.NewCollector(m, connmgrprom.WithLabels(prometheus.Labels{"network": network}))
		if err := registry.Register(c); err != nil {
			panic(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() != "connmgr_protected_peers" {
			continue
		}
		for _, metric := range f.GetMetric() {
			fmt.Println(f.GetName(), metric.GetLabel()[0].GetValue(), metric.GetGauge().GetValue())
		}
	}
	// Output:
	// connmgr_protected_peers private 1
	// connmgr_protected_peers public 1
}
