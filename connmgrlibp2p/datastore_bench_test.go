package connmgrlibp2p_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
)

// This file measures 100,000 rules. Run with:
//
//	go test -run '^$' -bench Datastore ./connmgrlibp2p

// manyRules are prefixes that are denied for good.
func manyRules(origin, reason string) []connmgr.RuleChange {
	rules := make([]connmgr.Rule, 100_000)
	for i := range rules {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		rules[i] = fromOrigin(origin, reason, connmgr.Rule{Target: connmgr.PrefixTarget(netip.PrefixFrom(addr, 31+i%2))})
	}
	return adding(rules...)
}

// benchmarkDatastores calls f for each kind of rule and datastore.
func benchmarkDatastores(b *testing.B, f func(b *testing.B, open func() datastore.Datastore, changes []connmgr.RuleChange)) {
	level := func() datastore.Datastore {
		ds, err := leveldb.NewDatastore(filepath.Join(b.TempDir(), "rules"), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = ds.Close() })
		return ds
	}
	for name, open := range map[string]func() datastore.Datastore{"map": datastoreKinds["map"], "leveldb": level} {
		b.Run(fmt.Sprintf("%s/plain", name), func(b *testing.B) { f(b, open, manyRules("", "")) })
		b.Run(fmt.Sprintf("%s/listed", name), func(b *testing.B) { f(b, open, manyRules("list", "spam")) })
	}
}

func BenchmarkSaveDatastore(b *testing.B) {
	benchmarkDatastores(b, func(b *testing.B, open func() datastore.Datastore, changes []connmgr.RuleChange) {
		for b.Loop() {
			if err := connmgrlibp2p.NewRuleStore(open()).Save(b.Context(), changes); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One more rule, when there are many already.
func BenchmarkSaveOneDatastore(b *testing.B) {
	benchmarkDatastores(b, func(b *testing.B, open func() datastore.Datastore, changes []connmgr.RuleChange) {
		store := connmgrlibp2p.NewRuleStore(open())
		if err := store.Save(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
		one := fromOrigin("list", "spam", peerRule("one more"))
		for i := 0; b.Loop(); i++ {
			change := adding(one)
			change[0].Remove = i%2 == 1
			if err := store.Save(b.Context(), change); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLoadDatastore(b *testing.B) {
	benchmarkDatastores(b, func(b *testing.B, open func() datastore.Datastore, changes []connmgr.RuleChange) {
		ds := open()
		if err := connmgrlibp2p.NewRuleStore(ds).Save(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if rules, err := connmgrlibp2p.NewRuleStore(ds).Load(b.Context()); err != nil || len(rules) != len(changes) {
				b.Fatalf("Load returned %d rules and %v, want %d", len(rules), err, len(changes))
			}
		}
	})
}
