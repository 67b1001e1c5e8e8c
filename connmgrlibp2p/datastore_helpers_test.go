package connmgrlibp2p_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
)

// This file holds what the tests of the store of rules share: rules, datastores, and
// ways to compare what is in them.

const conngaterKeys = "/libp2p/net/conngater"

// christmas is when rules of these tests end.
var christmas = time.Date(2026, 12, 24, 18, 0, 0, 123456789, time.UTC)

// datastoreKinds are tried wherever it could make a difference.
var datastoreKinds = map[string]func() datastore.Datastore{
	"map":             func() datastore.Datastore { return datastore.NewMapDatastore() },
	"map with a lock": func() datastore.Datastore { return dssync.MutexWrap(datastore.NewMapDatastore()) },
	"without batches": func() datastore.Datastore { return plainDatastore{datastore.NewMapDatastore()} },
	"locked without batches": func() datastore.Datastore {
		return dssync.MutexWrap(plainDatastore{datastore.NewMapDatastore()})
	},
}

// plainDatastore hides what a datastore can do beyond the interface.
type plainDatastore struct{ datastore.Datastore }

func peerRule(id connmgr.NodeID) connmgr.Rule {
	return connmgr.Rule{Target: connmgr.PeerTarget(id)}
}

func prefixRule(prefix string) connmgr.Rule {
	return connmgr.Rule{Target: connmgr.PrefixTarget(netip.MustParsePrefix(prefix))}
}

func portRule(port uint16) connmgr.Rule {
	return connmgr.Rule{Target: connmgr.PortTarget(port)}
}

// ruleWith changes a rule.
func ruleWith(r connmgr.Rule, change func(*connmgr.Rule)) connmgr.Rule {
	change(&r)
	return r
}

func timedRule(r connmgr.Rule) connmgr.Rule {
	return ruleWith(r, func(r *connmgr.Rule) { r.Expires = christmas })
}

func allowRule(r connmgr.Rule) connmgr.Rule {
	return ruleWith(r, func(r *connmgr.Rule) { r.Effect = connmgr.Allow })
}

func fromOrigin(origin, reason string, r connmgr.Rule) connmgr.Rule {
	return ruleWith(r, func(r *connmgr.Rule) { r.Origin, r.Reason = origin, reason })
}

func adding(rules ...connmgr.Rule) []connmgr.RuleChange {
	changes := make([]connmgr.RuleChange, len(rules))
	for i, r := range rules {
		changes[i] = connmgr.RuleChange{Rule: r}
	}
	return changes
}

func removing(rules ...connmgr.Rule) []connmgr.RuleChange {
	changes := adding(rules...)
	for i := range changes {
		changes[i].Remove = true
	}
	return changes
}

// saveRules saves changes with a new store, which fails the test if it cannot.
func saveRules(t *testing.T, ds datastore.Datastore, changes ...connmgr.RuleChange) {
	t.Helper()
	if err := connmgrlibp2p.NewRuleStore(ds).Save(t.Context(), changes); err != nil {
		t.Fatalf("Save of %d changes: %v", len(changes), err)
	}
}

// loadRules loads rules with a new store, which fails the test if it cannot.
func loadRules(t *testing.T, ds datastore.Datastore) []connmgr.Rule {
	t.Helper()
	rules, err := connmgrlibp2p.NewRuleStore(ds).Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return rules
}

// ruleText says all of a rule.
func ruleText(r connmgr.Rule) string {
	end := "never"
	if !r.Expires.IsZero() {
		end = r.Expires.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%v %v, reason %q, origin %q, ends %s", r.Effect, r.Target, r.Reason, r.Origin, end)
}

// differences says how rules differ from those that are wanted.
func differences(got, want []connmgr.Rule) (out []string) {
	count := make(map[string]int)
	for _, r := range got {
		count[ruleText(r)]++
	}
	for _, r := range want {
		count[ruleText(r)]--
	}
	for _, text := range slices.Sorted(maps.Keys(count)) {
		switch n := count[text]; {
		case n > 0:
			out = append(out, fmt.Sprintf("loaded %d times too often: %.300s", n, text))
		case n < 0:
			out = append(out, fmt.Sprintf("not loaded: %.300s", text))
		}
	}
	return out
}

// wantRules fails the test unless a datastore holds exactly these rules.
func wantRules(t *testing.T, what string, ds datastore.Datastore, want ...connmgr.Rule) {
	t.Helper()
	for _, difference := range differences(loadRules(t, ds), want) {
		t.Errorf("%s: %s", what, difference)
	}
}

// entriesOf returns all that a datastore holds.
func entriesOf(t testing.TB, ds datastore.Datastore) map[string]string {
	t.Helper()
	results, err := ds.Query(context.Background(), query.Query{})
	if err != nil {
		t.Fatalf("querying everything: %v", err)
	}
	entries, err := results.Rest()
	if err != nil {
		t.Fatalf("querying everything: %v", err)
	}
	out := make(map[string]string)
	for _, e := range entries {
		out[e.Key] = string(e.Value)
	}
	return out
}

// wantEntries fails the test unless a datastore holds exactly that.
func wantEntries(t *testing.T, what string, ds datastore.Datastore, want map[string]string) {
	t.Helper()
	got := entriesOf(t, ds)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[key]; !ok || value != want[key] {
			t.Errorf("%s: at %s is %q (%v), want %q", what, key, value, ok, want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: at %s is %q, want nothing there", what, key, got[key])
		}
	}
}

// putEntry writes what somebody else would have written.
func putEntry(t *testing.T, ds datastore.Datastore, key, value string) {
	t.Helper()
	if err := ds.Put(context.Background(), datastore.NewKey(key), []byte(value)); err != nil {
		t.Fatalf("Put of %s: %v", key, err)
	}
}
