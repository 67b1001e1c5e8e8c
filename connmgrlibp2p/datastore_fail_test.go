package connmgrlibp2p_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
)

// This file lets the datastore fail at every single operation, in every way, and the
// power fail at every moment. The rules about a target must be as they were or as
// they shall be, for us and for go-libp2p's gater.

// wantOldOrNew fails the test unless a datastore holds one of two sets of rules, the
// same for both gaters. It returns the one.
func wantOldOrNew(t *testing.T, what string, ds datastore.Datastore, before, after []connmgr.Rule) []connmgr.Rule {
	t.Helper()
	got := loadRules(t, ds)
	for _, rules := range [][]connmgr.Rule{after, before} {
		if len(differences(got, rules)) > 0 {
			continue
		}
		for _, r := range rules {
			about := rulesAbout(rules, r.Target)
			if denied, want := basicDenies(t, ds, r), deniedForGood(about); denied != want {
				t.Fatalf("%s: from %v to %v: go-libp2p's gater denies %v: %v, want %v", what, before, after, r.Target, denied, want)
			}
		}
		return rules
	}
	t.Fatalf("%s: from\n%v to\n%v, neither is what is loaded:\n%v", what, before, after, got)
	return nil
}

func rulesAbout(rules []connmgr.Rule, target connmgr.Target) (out []connmgr.Rule) {
	for _, r := range rules {
		if r.Target == target {
			out = append(out, r)
		}
	}
	return out
}

// batchKinds are the ways in which a faulty datastore can have batches.
var batchKinds = map[string]func(*faultyDatastore) datastore.Datastore{
	"no batches":     func(d *faultyDatastore) datastore.Datastore { return d },
	"atomic batches": func(d *faultyDatastore) datastore.Datastore { return atomicBatches{d} },
	"broken batches": func(d *faultyDatastore) datastore.Datastore { return brokenBatches{d} },
}

// wantFailure fails the test unless an error says what failed.
func wantFailure(t *testing.T, err error, d *faultyDatastore) {
	t.Helper()
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "connmgr: ") {
		t.Fatalf("%v failed, the error is %v, want one that begins with %q and wraps it", d.failed, err, "connmgr: ")
	}
	_, key, named := strings.Cut(d.failed[0], " /")
	if named && !strings.Contains(err.Error(), conngaterKeys) {
		t.Fatalf("%v failed, the error is %q, want it to name /%s", d.failed, err, key)
	}
}

// failEverywhere saves changes on a datastore that fails at each operation in turn,
// and calls check with every one that is left behind.
func failEverywhere(t *testing.T, wrap func(*faultyDatastore) datastore.Datastore, entries map[string]string, changes []connmgr.RuleChange,
	check func(what string, d *faultyDatastore, store *connmgrlibp2p.RuleStore),
) {
	t.Helper()
	for _, way := range []struct {
		name          string
		late, forever bool
	}{{"an error", false, false}, {"an error after the deed", true, false}, {"a crash", false, true}} {
		for n := 1; ; n++ {
			d := newFaulty(entries)
			store := connmgrlibp2p.NewRuleStore(wrap(d))
			if _, err := store.Load(t.Context()); err != nil {
				t.Fatalf("Load: %v", err)
			}
			d.calls, d.failAt, d.late, d.forever = 0, n, way.late, way.forever
			err := store.Save(t.Context(), changes)
			d.failAt = 0
			if len(d.failed) == 0 {
				if err != nil {
					t.Fatalf("nothing failed, but Save returned %v", err)
				}
				break
			}
			wantFailure(t, err, d)
			check(fmt.Sprintf("%s of operation %d, %s", way.name, n, d.failed[0]), d, store)
		}
	}
}

func TestRulesAreOldOrNewWhateverFails(t *testing.T) {
	for _, c := range changingTargets {
		for kind, wrap := range batchKinds {
			if c.name != "peer" && (kind != "no batches" || c.odd == nil && c.name != "port") {
				continue // what is written where makes no difference to batches
			}
			t.Run(c.name+" with "+kind, func(t *testing.T) {
				t.Parallel()
				later := false
				eachChange(c.target, func(before, after []connmgr.Rule) {
					start := datastore.NewMapDatastore()
					prepareChange(t, start, before, c.odd)
					entries := entriesOf(t, start)
					failEverywhere(t, wrap, entries, changesBetween(before, after), func(what string, d *faultyDatastore, store *connmgrlibp2p.RuleStore) {
						// A new store finds one or the other, and tidies up with the next change.
						left := newFaulty(entriesOf(t, d.MapDatastore))
						found := wantOldOrNew(t, what, left, before, after)
						saveOther(t, connmgrlibp2p.NewRuleStore(left))
						wantExactly(t, what+", then another change", left, found, c.odd)

						// The same store does so too. It succeeds when it tries again, at once
						// or later, and has it on the disk.
						if later = !later; later {
							saveOther(t, store)
							wantExactly(t, what+", then another change by the same store", d.MapDatastore, found, c.odd)
						}
						if err := store.Save(t.Context(), changesBetween(before, after)); err != nil {
							t.Fatalf("%s: the second try: %v", what, err)
						}
						wantExactly(t, what+", then the second try", d.MapDatastore, after, c.odd)
						if d.unsynced() {
							t.Errorf("%s: the second try did not sync what the first wrote", what)
						}
						if t.Failed() {
							t.Fatalf("that was from %v to %v", before, after)
						}
					})
				})
			})
		}
	}
}

// saveOther saves a change that is about something else, and takes it back.
func saveOther(t *testing.T, store *connmgrlibp2p.RuleStore) {
	t.Helper()
	for _, changes := range [][]connmgr.RuleChange{adding(portRule(1)), removing(portRule(1))} {
		if err := store.Save(t.Context(), changes); err != nil {
			t.Fatalf("Save of something else: %v", err)
		}
	}
}

func TestRulesAreOldOrNewWhenThePowerFails(t *testing.T) {
	for _, c := range changingTargets {
		t.Run(c.name, func(t *testing.T) {
			eachChange(c.target, func(before, after []connmgr.Rule) {
				start := datastore.NewMapDatastore()
				prepareChange(t, start, before, c.odd)
				entries := entriesOf(t, start)
				d := newFaulty(entries)
				saveRules(t, d, changesBetween(before, after)...)
				if d.unsynced() {
					t.Errorf("from %v to %v: Save returned before all was synced", before, after)
				}
				powerFailures(t, entries, d.history, func(what string, disk map[string]string) {
					wantOldOrNew(t, what, newFaulty(disk), before, after)
				})
			})
		})
	}
}

// With batches that are done or not done, so is a Save about many targets.
func TestASaveIsAllOrNothingWhereBatchesAre(t *testing.T) {
	var before, after []connmgr.Rule
	sets := ruleSets(connmgr.Rule{})
	for i := range sets {
		for j := range sets {
			if (i+j)%5 != 0 {
				continue // a fifth of all changes will do
			}
			target := peerRule(connmgr.NodeID(fmt.Sprintf("peer %d-%d", i, j)))
			before = append(before, ruleSets(target)[i]...)
			after = append(after, ruleSets(target)[j]...)
		}
	}
	start := datastore.NewMapDatastore()
	saveRules(t, start, adding(before...)...)
	entries := entriesOf(t, start)
	outcomes := make(map[bool]int)
	failEverywhere(t, batchKinds["atomic batches"], entries, changesBetween(before, after), func(what string, d *faultyDatastore, _ *connmgrlibp2p.RuleStore) {
		got := loadRules(t, d.MapDatastore)
		isOld, isNew := len(differences(got, before)) == 0, len(differences(got, after)) == 0
		if !isOld && !isNew {
			t.Fatalf("%s: the rules are neither all as they were nor all as they shall be", what)
		}
		outcomes[isNew]++
	})
	if outcomes[false] == 0 || outcomes[true] == 0 {
		t.Errorf("%d failures left the old rules and %d the new ones, want some of both", outcomes[false], outcomes[true])
	}
}

func TestLoadReturnsWhatFails(t *testing.T) {
	start := datastore.NewMapDatastore()
	saveRules(t, start, adding(peerRule("a"), fromOrigin("list", "", prefixRule("10.0.0.0/8")), portRule(1))...)
	for n := 1; ; n++ {
		d := newFaulty(entriesOf(t, start))
		d.failAt = n
		rules, err := connmgrlibp2p.NewRuleStore(d).Load(t.Context())
		if len(d.failed) == 0 {
			if n < 5 {
				t.Errorf("only %d operations can fail, want the query and each of its results", n-1)
			}
			return
		}
		wantFailure(t, err, d)
		if rules != nil {
			t.Errorf("%v failed, but Load returned %v, want no rules", d.failed, rules)
		}
	}
}

// A Save without a Load before it must know all the same where go-libp2p's gater has
// its entries, or not save.
func TestASaveThatCannotLoadSavesNothing(t *testing.T) {
	d := newFaulty(map[string]string{conngaterKeys + "/subnet/10.1.2.3/8": "10.1.2.3/8"})
	store := connmgrlibp2p.NewRuleStore(d)
	d.failAt = 1
	wantFailure(t, store.Save(t.Context(), removing(prefixRule("10.0.0.0/8"))), d)
	wantRules(t, "failed", d, prefixRule("10.0.0.0/8"))
	if err := store.Save(t.Context(), removing(prefixRule("10.0.0.0/8"))); err != nil {
		t.Errorf("the second try: %v", err)
	}
	wantEntries(t, "removed", d, nil)
}

// A sync that failed may have left writes in the air. What builds on them must wait
// until they are on the disk.
func TestASaveMakesUpForASyncThatFailed(t *testing.T) {
	target := prefixRule("10.0.0.0/8")
	eachChange(target, func(before, between []connmgr.Rule) {
		start := datastore.NewMapDatastore()
		saveRules(t, start, adding(before...)...)
		entries := entriesOf(t, start)
		d := newFaulty(entries)
		store := connmgrlibp2p.NewRuleStore(d)
		if err := store.Save(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		// The first sync fails, and then something else is saved.
		failed := false
		d.onCall = func(n int) {
			if !failed && d.unsynced() {
				failed, d.failAt = true, n
			}
		}
		if err := store.Save(t.Context(), changesBetween(before, between)); err == nil {
			t.Fatalf("from %v to %v: no error", before, between)
		}
		d.onCall = nil
		another := timedRule(fromOrigin("watchdog", "", target))
		if err := store.Save(t.Context(), adding(another)); err != nil {
			t.Fatal(err)
		}
		asked := slices.Concat(before, between, []connmgr.Rule{another})
		powerFailures(t, entries, d.history, func(what string, disk map[string]string) {
			for _, r := range loadRules(t, newFaulty(disk)) {
				if !slices.ContainsFunc(asked, func(other connmgr.Rule) bool { return ruleText(r) == ruleText(other) }) {
					t.Fatalf("%s: from %v to %v, with an error, and then %v: there is %v, which nobody ever asked for", what, before, between, another, r)
				}
			}
		})
	})
}

func TestNoWriteIsBegunOnceTheContextHasEnded(t *testing.T) {
	rule := fromOrigin("list", "spam", prefixRule("10.0.0.0/8"))
	before, after := []connmgr.Rule{rule}, []connmgr.Rule{timedRule(rule)}
	start := datastore.NewMapDatastore()
	saveRules(t, start, adding(before...)...)
	for kind, wrap := range batchKinds {
		for n := 0; ; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			d := newFaulty(entriesOf(t, start))
			d.onCall = func(i int) {
				if i == n {
					cancel()
				}
			}
			if n == 0 {
				cancel()
			}
			err := connmgrlibp2p.NewRuleStore(wrap(d)).Save(ctx, changesBetween(before, after))
			cancel()
			if d.calls < n {
				if err != nil {
					t.Errorf("%s: the context did not end, but Save returned %v", kind, err)
				}
				break
			}
			for _, op := range d.done[n:] {
				if kind == "broken batches" {
					break // go-datastore's own do not look at the context between their writes
				}
				switch op, _, _ := strings.Cut(op, " "); op {
				case "put", "delete", "commit", "sync":
					t.Errorf("%s: the context ended in operation %d of %q, but a %s was begun", kind, n, d.done, op)
				}
			}
			if err != nil && (!errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "connmgr: ")) {
				t.Errorf("%s: the error is %v, want one that begins with %q and wraps context.Canceled", kind, err, "connmgr: ")
			}
			found := wantOldOrNew(t, fmt.Sprintf("%s, ended in operation %d", kind, n), d, before, after)
			if err == nil && slices.Contains(found, rule) {
				t.Errorf("%s: the context ended in operation %d, Save returned no error, but the rules are the old ones", kind, n)
			}
		}
	}
}

func TestSavingOneRuleCostsTheSameWithManyRules(t *testing.T) {
	d := newFaulty(nil)
	store := connmgrlibp2p.NewRuleStore(d)
	var rules []connmgr.Rule
	for i := range 1000 {
		rules = append(rules, fromOrigin("list", "", peerRule(connmgr.NodeID(fmt.Sprint(i)))))
	}
	if err := store.Save(t.Context(), adding(rules...)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		changes []connmgr.RuleChange
		most    int
	}{
		{"one more, which is two reads, two writes and two syncs", adding(fromOrigin("list", "", peerRule("p"))), 6},
		{"the same again, which is two reads", adding(fromOrigin("list", "", peerRule("p"))), 2},
		{"nothing", nil, 0},
	} {
		d.calls = 0
		if err := store.Save(t.Context(), c.changes); err != nil {
			t.Fatal(err)
		}
		if d.calls > c.most {
			t.Errorf("saving %s: %d operations, want at most %d", c.what, d.calls, c.most)
		}
	}
}
