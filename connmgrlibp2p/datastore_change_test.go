package connmgrlibp2p_test

import (
	"slices"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
)

// This file lets the rules about one target change in every way there is: two origins
// that deny it, each for good, for a time or not at all, and one that allows it or
// does not.

// ruleSets returns sets of rules about a target: all that deny it, and some with a rule
// that allows it.
func ruleSets(target connmgr.Rule) [][]connmgr.Rule {
	plain, listed, allow := target, fromOrigin("list", "spam", target), allowRule(target)
	sets := [][]connmgr.Rule{{allow}, {allow, plain}, {allow, listed, timedRule(plain)}}
	for _, first := range [][]connmgr.Rule{nil, {plain}, {timedRule(plain)}} {
		for _, second := range [][]connmgr.Rule{nil, {listed}, {timedRule(listed)}} {
			sets = append(sets, slices.Concat(first, second))
		}
	}
	return sets
}

// changesBetween returns what turns one set of rules into another.
func changesBetween(before, after []connmgr.Rule) []connmgr.RuleChange {
	var changes []connmgr.RuleChange
	for _, r := range before {
		if !slices.ContainsFunc(after, r.Same) {
			changes = append(changes, removing(r)...)
		}
	}
	for _, r := range after {
		if !slices.Contains(before, r) {
			changes = append(changes, adding(r)...)
		}
	}
	return changes
}

// deniedForGood reports what go-libp2p's gater has to make of rules.
func deniedForGood(rules []connmgr.Rule) bool {
	return slices.ContainsFunc(rules, func(r connmgr.Rule) bool {
		_, port := r.Target.Port()
		return r.Effect == connmgr.Deny && r.Expires.IsZero() && !port
	})
}

// changingTargets are one of each kind, and one that go-libp2p's gater has at other
// keys than ours.
var changingTargets = []struct {
	name   string
	target connmgr.Rule
	// odd puts the entries that are at other keys.
	odd map[string]string
}{
	{"peer", peerRule("peer"), nil},
	{"address", prefixRule("192.0.2.1/32"), nil},
	{"prefix", prefixRule("10.0.0.0/8"), nil},
	{"port", portRule(25), nil},
	{"prefix with bits behind it", prefixRule("10.0.0.0/8"), map[string]string{
		"/subnet/10.1.2.3/8": "10.1.2.3/8", "/subnet/10.9.9.9/8": "10.9.9.9/8",
	}},
	{"address as a prefix", prefixRule("192.0.2.1/32"), map[string]string{"/subnet/192.0.2.1/32": "192.0.2.1/32"}},
}

// eachChange calls f for every change between two sets of rules about a target.
func eachChange(target connmgr.Rule, f func(before, after []connmgr.Rule)) {
	sets := ruleSets(target)
	for i, before := range sets {
		for j, after := range sets {
			if i != j {
				f(before, after)
			}
		}
	}
}

// prepare puts rules into a datastore, and then an odd entry into the place of ours.
func prepareChange(t *testing.T, ds datastore.Datastore, before []connmgr.Rule, odd map[string]string) {
	t.Helper()
	saveRules(t, ds, adding(before...)...)
	if !deniedForGood(before) || odd == nil {
		return
	}
	for key, value := range odd {
		putEntry(t, ds, conngaterKeys+key, value)
	}
	for _, key := range []string{"/addr/192.0.2.1", "/subnet/10.0.0.0/8"} {
		if err := ds.Delete(t.Context(), datastore.NewKey(conngaterKeys+key)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantExactly fails the test unless both gaters see these rules, and nothing else is
// left behind than a first Save would have written.
func wantExactly(t *testing.T, what string, ds datastore.Datastore, rules []connmgr.Rule, odd map[string]string) {
	t.Helper()
	wantRules(t, what, ds, rules...)
	if len(rules) > 0 {
		if got, want := basicDenies(t, ds, rules[0]), deniedForGood(rules); got != want {
			t.Errorf("%s: go-libp2p's gater denies it: %v, want %v", what, got, want)
		}
	}
	if odd != nil {
		return
	}
	fresh := datastore.NewMapDatastore()
	saveRules(t, fresh, adding(rules...)...)
	wantEntries(t, what, ds, entriesOf(t, fresh))
}

func TestRulesInADatastoreChangeInEveryWay(t *testing.T) {
	for _, c := range changingTargets {
		for kind, newDatastore := range datastoreKinds {
			if kind != "map" && c.name != "peer" {
				continue // what is written where makes no difference to the kind
			}
			t.Run(c.name+" in a "+kind, func(t *testing.T) {
				eachChange(c.target, func(before, after []connmgr.Rule) {
					ds := newDatastore()
					prepareChange(t, ds, before, c.odd)
					wantExactly(t, "before", ds, before, c.odd)
					saveRules(t, ds, changesBetween(before, after)...)
					wantExactly(t, "after", ds, after, c.odd)
					if t.Failed() {
						t.Fatalf("that was from %v to %v", before, after)
					}
				})
			})
		}
	}
}

// One store, change after change, is as good as a new one for each.
func TestAStoreRemembersNothingWrong(t *testing.T) {
	for _, c := range changingTargets {
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			for key, value := range c.odd {
				putEntry(t, ds, conngaterKeys+key, value)
			}
			store := connmgrlibp2p.NewRuleStore(ds)
			now, err := store.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			eachChange(c.target, func(before, after []connmgr.Rule) {
				for _, next := range [][]connmgr.Rule{before, after} {
					if err := store.Save(t.Context(), changesBetween(now, next)); err != nil {
						t.Fatalf("from %v to %v: %v", now, next, err)
					}
					wantExactly(t, "changed", ds, next, c.odd)
					if t.Failed() {
						t.Fatalf("that was from %v to %v", now, next)
					}
					now = next
				}
			})
		})
	}
}
