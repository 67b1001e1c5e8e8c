package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file works on the rules of a running node. What is done with --db is in
// testdata/script/rules.txtar.

func TestRulesOfANodeAreAddedListedAndRemoved(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	if r := n.run("rules", "list").ok(); r.stdout != "" || r.stderr != "connmgr: no rules\n" {
		t.Errorf("a list of none is %q, and %q; want a word in place of a table", r.stdout, r.stderr)
	}
	n.run("rules", "add", "192.0.2.0/24", "--for", "24h", "--reason", "port scans", "--origin", "watchdog").
		ok("in force: deny 192.0.2.0/24 until ", " (port scans) from watchdog\n")
	n.run("rules", "add", "--allow", "192.0.2.7").ok("in force: allow 192.0.2.7\n")
	n.run("rules", "add", peerNamed(1), "--json").ok(`"target": "peer ` + peerNamed(1) + `"`)
	n.run("rules", "add", "port", "25").ok("in force: deny port 25\n")

	r := n.run("rules", "list").ok("EFFECT  TARGET")
	if got := strings.Count(r.stdout, "\n"); got != 5 {
		t.Errorf("the table has %d lines, want 5:\n%s", got, r.stdout)
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--effect", "allow"}, "192.0.2.7"},
		{[]string{"--origin", "watchdog"}, "192.0.2.0/24"},
		{[]string{"--target", "192.0.2.0/24"}, "192.0.2.0/24"},
		{[]string{"--target", "port 25"}, "port 25"},
		{[]string{"-q", "SCANS"}, "192.0.2.0/24"},
		{[]string{"--search", peerNamed(1)}, "peer " + peerNamed(1)},
		{[]string{"--effect", "deny", "--origin=", "--offset", "1"}, "port 25"},
	} {
		r := n.run(append([]string{"rules", "list"}, c.flags...)...).ok()
		if got := strings.Join(column(t, r.stdout, "TARGET"), ","); got != c.want {
			t.Errorf("%s lists %q, want %q", r.line, got, c.want)
		}
	}
	if r := n.run("rules", "list", "--limit", "1").ok(); r.stderr != "connmgr: 1 of 4 rules; --all shows all\n" {
		t.Errorf("stderr is %q, want that 1 of 4 rules is shown", r.stderr)
	}
	if r := n.run("rules", "list", "-q", "no such thing").ok(); r.stdout != "" || r.stderr != "connmgr: no rule is like that, of 4\n" {
		t.Errorf("a list of none is %q, and %q; want a word in place of a table", r.stdout, r.stderr)
	}
	doc := decode[api.RuleList](n.run("rules", "list", "--json"))
	if doc.Total != 4 || len(doc.Rules) != 4 {
		t.Errorf("rules list --json is %+v, want the API's own list of 4", doc)
	}

	n.run("rules", "remove", "192.0.2.0/24").fails(5, "there is no rule deny 192.0.2.0/24")
	n.run("rules", "remove", "192.0.2.0/24", "--origin", "watchdog").ok("removed 1 rule\n")
	n.run("rules", "remove", "192.0.2.7").fails(5)
	n.run("rules", "remove", "--allow", "192.0.2.7").ok("removed 1 rule\n")
	n.run("rules", "remove", peerNamed(1)).ok("removed 1 rule\n")
	if saved := n.store.Rules(); len(saved) != 1 {
		t.Errorf("%d rules are saved, want the one about the port", len(saved))
	}
}

func TestListsAreImportedIntoARunningNodeAndExportedAgain(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	dir := t.TempDir()
	list := func(name, text string) string {
		writeTestFile(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	good := list("good.txt", "\xef\xbb\xbf# a list\r\n192.0.2.0/24 # scans\r\nallow 192.0.2.7\r\n198.51.100.9 until 2001-01-01T00:00:00Z")
	other := list("other.txt", "2001:db8::/32\n")

	n.run("rules", "import", "--origin", "mine", good).
		ok(n.api+": 1 left out, since they have expired\n", n.api+`: 2 added, 0 changed, 0 removed, 0 kept of origin "mine"; 2 rules now`+"\n")
	n.run("rules", "import", "--reason", "by hand", "--for", "24h", other).ok(": 1 added, 0 changed, 0 there already; 3 rules now\n")
	n.run("rules", "import", "--reason", "again", other).ok(": 0 added, 1 changed, 0 there already; 3 rules now\n")
	n.run("rules", "import", "--origin", "mine", other).ok(`: 1 added, 0 changed, 2 removed, 0 kept of origin "mine"; 2 rules now`)
	doc := decode[api.Imported](n.run("rules", "import", "--origin", "mine", good, other, "--json"))
	if doc.Added != 2 || doc.Kept != 1 || doc.Total != 4 {
		t.Errorf("importing two lists gives %+v, want 2 added and 1 kept", doc)
	}

	// What is exported can be put in again, with its origins, beside lists without.
	out := filepath.Join(dir, "saved.txt")
	n.run("rules", "export", "-o", out).ok()
	if exported := n.run("rules", "export").ok("2001:db8::/32", "#! origin mine"); exported.stdout != readTestFile(t, out) {
		t.Errorf("exported to a file it is\n%s\nand to standard output\n%s", readTestFile(t, out), exported.stdout)
	}
	n.run("rules", "export", "--origin", "mine").ok("192.0.2.0/24").lacks("again")
	m := startNode(t, connmgrhttp.Config{})
	m.run("rules", "import", out, list("more.txt", "203.0.113.0/24\n")).ok("5 added")
	if doc := decode[api.RuleList](m.run("rules", "list", "--origin=", "--json")); doc.Matched != 2 {
		t.Errorf("%d rules have no origin, want that of the last list and the one by hand: %+v", doc.Matched, doc.Rules)
	}
	n.run("rules", "export", "-o", filepath.Join(dir, "no", "such", "folder")).fails(1, "no such file")
}

func TestAMistakeInAListIsNamedWithItsFileAndLine(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	dir := t.TempDir()
	for i, c := range []struct {
		lists []string
		want  string
	}{
		{[]string{"192.0.2.0/24\n10.0.0.300/8\n"}, `0.txt:2: "10.0.0.300/8": want `},
		{[]string{"10.0.0.300/8"}, "0.txt:1: "},
		{[]string{"192.0.2.1\n192.0.2.2", "192.0.2.3\n\nno such thing\n"}, "1.txt:3: "},
		{[]string{"192.0.2.1\r192.0.2.2\r\n192.0.2.3", "", "no such thing"}, "2.txt:1: "},
		{[]string{"# only\r\n\r\n# comments\r\nno such thing\r\n", "192.0.2.1"}, "0.txt:4: "},
	} {
		args := []string{"rules", "import"}
		for j, text := range c.lists {
			name := filepath.Join(dir, fmt.Sprintf("case%d-%d.txt", i, j))
			writeTestFile(t, name, text)
			args = append(args, name)
		}
		n.run(args...).fails(1, "-"+c.want)
	}
	empty := filepath.Join(dir, "empty.txt")
	writeTestFile(t, empty, "# nothing\n")
	n.run("rules", "import", "--origin", "mine", empty).fails(1, "no rules in "+empty, "add --allow-empty")
	n.run("rules", "import", "--origin", "mine", "--allow-empty", empty).ok(`0 added, 0 changed, 0 removed, 0 kept of origin "mine"`)
	n.run("rules", "import", filepath.Join(dir, "missing.txt")).fails(1, "missing.txt")
	large := filepath.Join(dir, "large.txt")
	writeTestFile(t, large, strings.Repeat("# a comment that is not short\n", maxLists/30+1))
	n.run("rules", "import", large).fails(1, "more than 32 MiB")
	if len(n.store.Rules()) > 0 {
		t.Errorf("rules of lists with mistakes are in force: %v", n.store.Rules())
	}
}

func TestRulesThatCannotBeSavedAreSaidToBeInForce(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.store.FailSaves(fmt.Errorf("disk full"))
	name := filepath.Join(t.TempDir(), "list.txt")
	writeTestFile(t, name, "192.0.2.1\n")
	for _, line := range []string{"rules import " + name, "rules add 192.0.2.2", "block 192.0.2.3"} {
		n.run(strings.Fields(line)...).fails(1, "in force, but not saved, so a restart of the node forgets it: disk full\n")
	}
	n.run("rules", "list").ok("192.0.2.1", "192.0.2.2", "192.0.2.3")
}

func TestAnExportThatBreaksOffLeavesTheFileAsItWas(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	n.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("192.0.2.1\n"))
	})
	n.listen("127.0.0.1:0")
	name := filepath.Join(t.TempDir(), "rules.txt")
	writeTestFile(t, name, "as it was\n")
	n.run("rules", "export", "-o", name).fails(3, "broke off")
	if got := readTestFile(t, name); got != "as it was\n" {
		t.Errorf("the file is %q, want it as it was", got)
	}
	if left, _ := filepath.Glob(name + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func readTestFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAFileThatANodeHasOpenIsLeftToTheNode(t *testing.T) {
	t.Parallel() // it waits for the file
	file := filepath.Join(t.TempDir(), "rules.db")
	store, err := connmgrbolt.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, line := range []string{"list", "add 192.0.2.1"} {
		r := runCommand(t, append(append([]string{"rules"}, strings.Fields(line)...), "--db", file)...)
		if want := "connmgr: " + file + " is in use by a running node; leave --db out to ask the node\n"; r.fails(1).stderr != want {
			t.Errorf("%s says %q, want %q", r.line, r.stderr, want)
		}
	}
}

// answerText answers everything with a list.
func answerText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text))
	}
}
