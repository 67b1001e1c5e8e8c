package connmgrlibp2p_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
)

// This file keeps rules on a disk, in leveldb.

// openLevel opens a datastore on the disk. The function closes it.
func openLevel(t *testing.T, dir string) (ds datastore.Datastore, closeNow func()) {
	t.Helper()
	level, err := leveldb.NewDatastore(dir, nil)
	if err != nil {
		t.Fatalf("opening %s: %v", dir, err)
	}
	open := true
	closeNow = func() {
		if !open {
			return
		}
		open = false
		if err := level.Close(); err != nil {
			t.Errorf("closing %s: %v", dir, err)
		}
	}
	t.Cleanup(closeNow)
	return level, closeNow
}

func TestRulesOnADiskSurviveReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules")
	rules := allSorts()
	for _, step := range []func(datastore.Datastore){
		func(ds datastore.Datastore) { saveRules(t, ds, adding(rules...)...) },
		func(ds datastore.Datastore) { wantRules(t, "reopened", ds, rules...) },
		func(ds datastore.Datastore) { saveRules(t, ds, removing(rules[10:]...)...) },
		func(ds datastore.Datastore) { wantRules(t, "most of them removed", ds, rules[:10]...) },
		func(ds datastore.Datastore) { saveRules(t, ds, removing(rules[:10]...)...) },
		func(ds datastore.Datastore) { wantEntries(t, "all removed", ds, nil) },
	} {
		ds, closeNow := openLevel(t, dir)
		step(ds)
		closeNow()
	}
}

func TestRulesOnADiskChange(t *testing.T) {
	ds, _ := openLevel(t, filepath.Join(t.TempDir(), "rules"))
	store := connmgrlibp2p.NewRuleStore(ds)
	target := prefixRule("10.0.0.0/8")
	var now []connmgr.Rule
	n := 0
	eachChange(target, func(before, after []connmgr.Rule) {
		if n++; n%10 != 0 {
			return // a tenth of all changes will do
		}
		for _, next := range [][]connmgr.Rule{before, after} {
			if err := store.Save(t.Context(), changesBetween(now, next)); err != nil {
				t.Fatalf("from %v to %v: %v", now, next, err)
			}
			wantExactly(t, "changed", ds, next, nil)
			now = next
		}
	})
}

func TestAClosedDatastoreIsAnError(t *testing.T) {
	ds, closeNow := openLevel(t, filepath.Join(t.TempDir(), "rules"))
	store := connmgrlibp2p.NewRuleStore(ds)
	if _, err := store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeNow()
	if err := store.Save(t.Context(), adding(peerRule("p"))); err == nil || !strings.HasPrefix(err.Error(), "connmgr: ") {
		t.Errorf("the error is %v, want one that begins with %q", err, "connmgr: ")
	}
}

// childFolder is the variable that makes this test binary a child process: it saves
// rules there, one after the other, and says so after each, until it is killed. If
// nobody listens any more, saying so kills it.
const childFolder = "CONNMGR_TEST_FOLDER"

func init() {
	folder := os.Getenv(childFolder)
	if folder == "" {
		return
	}
	level, err := leveldb.NewDatastore(folder, nil)
	if err != nil {
		panic(err)
	}
	store := connmgrlibp2p.NewRuleStore(level)
	for i := 0; ; i++ {
		if err := store.Save(context.Background(), killedChanges(i)); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

// killedChanges are the changes number i of the child: it denies an address for good,
// and then for a time, and lifts both bans of one some time ago.
func killedChanges(i int) []connmgr.RuleChange {
	rule := func(i int) connmgr.Rule {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		return fromOrigin("list", "spam", connmgr.Rule{Target: connmgr.AddrTarget(addr)})
	}
	changes := adding(rule(i))
	if i >= 1 {
		changes = append(changes, adding(timedRule(rule(i-1)))...)
	}
	if i >= 10 {
		changes = append(changes, removing(rule(i-10))...)
	}
	return changes
}

// killedRules are the rules after the changes up to number n, without n itself.
func killedRules(n int) []connmgr.Rule {
	var rules []connmgr.Rule
	for i := range n {
		for _, c := range killedChanges(i) {
			rules = slices.DeleteFunc(rules, c.Rule.Same)
			if !c.Remove {
				rules = append(rules, c.Rule)
			}
		}
	}
	return rules
}

func TestRulesSavedBeforeAKillAreThereAfterwards(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, acknowledged := range []int{1, 2, 17, 40, 101} {
		dir := filepath.Join(t.TempDir(), "rules")
		child := exec.CommandContext(t.Context(), self)
		child.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for lines := bufio.NewScanner(out); said < acknowledged && lines.Scan(); {
			said++
		}
		_ = child.Process.Kill()
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || said < acknowledged {
			t.Fatalf("the child saved %d times and ended with %v, want it to save %d times and be killed", said, err, acknowledged)
		}

		ds, closeNow := openLevel(t, dir)
		got := loadRules(t, ds)
		saved := said
		for saved < said+1000 && len(differences(got, killedRules(saved))) > 0 {
			saved++ // it may have saved more than we have read of
		}
		if saved == said+1000 {
			t.Errorf("killed after %d acknowledged saves: the rules are not those after any number of saves from then on: %v", said, got)
		}
		closeNow()
	}
}
