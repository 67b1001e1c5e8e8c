package connmgrbolt_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
)

func ExampleOpen() {
	folder, err := os.MkdirTemp("", "rules")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "rules.db")
	ctx := context.Background()

	store, err := connmgrbolt.Open(path)
	if err != nil {
		panic(err)
	}
	err = store.Save(ctx, []connmgr.RuleChange{
		{Rule: connmgr.Rule{
			Target: connmgr.PrefixTarget(netip.MustParsePrefix("203.0.113.0/24")),
			Reason: "port scans",
			Origin: "watchdog",
		}},
		{Rule: connmgr.Rule{
			Target:  connmgr.PeerTarget("alice"),
			Expires: time.Date(2040, 12, 24, 18, 0, 0, 0, time.UTC),
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := store.Close(); err != nil {
		panic(err)
	}

	// After a restart, or in a command that looks at the file.
	store, err = connmgrbolt.Open(path, connmgrbolt.ReadOnly())
	if err != nil {
		panic(err)
	}
	defer store.Close()
	rules, err := store.Load(ctx)
	if err != nil {
		panic(err)
	}
	for _, r := range rules {
		fmt.Println(r)
	}
	// Unordered output:
	// deny 203.0.113.0/24 (port scans, from watchdog)
	// deny peer alice until 2040-12-24T18:00:00Z
}
