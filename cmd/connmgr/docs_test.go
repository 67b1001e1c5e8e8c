//go:build unix

package main

import (
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file holds docs/operators.md against the command: its console blocks are played, in
// the order of the page, and what they print must be what the page has; every command,
// word and fault must be explained. "go test -count=1 -run TestDocs ./cmd/connmgr -update"
// writes what the commands print anew. (Without -count=1 go test takes an old result when
// only the page has changed, for that is outside of the module.)
//
// docs_play_test.go has how a line of the page is run, docs_story_test.go the node that is
// asked.

const docsFolder = "../../docs/"

const operatorsPage = "operators.md"

// docsFile returns a file of the repository's docs folder.
func docsFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsFolder, name))
	if os.IsNotExist(err) {
		t.Skip("the pages belong to the repository, and this module stands alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocsHaveAnExampleOfEveryCommand(t *testing.T) {
	page := docsFile(t, operatorsPage)
	played := make(map[string]bool)
	for _, line := range commandLines(page) {
		args := strings.Fields(line)
		if args[0] != "connmgr" {
			continue
		}
		cmd, _, err := newDocsRoot().Find(args[1:])
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if len(args) > 2 && args[1] == "help" { // of the topic that is asked about
			cmd, _, _ = newDocsRoot().Find(args[2:])
		}
		played[cmd.CommandPath()] = true
	}
	for _, cmd := range leaves(newDocsRoot()) {
		name := cmd.CommandPath()
		switch {
		case played[name]:
		case slices.Contains(mentioned, name):
			if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "    "+name+"\n") {
				t.Errorf("%s does not mention %q", operatorsPage, name)
			}
		default:
			t.Errorf("%s has no example of %q", operatorsPage, name)
		}
	}
}

// mentioned is the commands that the page has no played example of: the demo takes seconds
// of a whole machine (the README has what it prints), each build has another version, and
// completion is the same for all shells.
var mentioned = []string{
	"connmgr demo", "connmgr version", "connmgr completion fish", "connmgr completion powershell", "connmgr completion zsh",
}

// newDocsRoot is the command with those that cobra adds.
func newDocsRoot() *cobra.Command {
	root := newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// leaves returns the commands that do something by themselves.
func leaves(cmd *cobra.Command) (list []*cobra.Command) {
	if cmd.Name() == "help" {
		return nil
	}
	for _, sub := range cmd.Commands() {
		list = append(list, leaves(sub)...)
	}
	// "limits" does something, and has a command below it that does more.
	if !cmd.HasSubCommands() || cmd.Name() == "limits" {
		list = append(list, cmd)
	}
	return list
}

// word is a constant that machines and people get to see.
type word interface {
	encoding.TextMarshaler
	String() string
}

// allWords returns the constants of a type.
func allWords[T interface {
	~uint8
	word
}]() (list []word) {
	for v := T(0); ; v++ {
		if _, err := v.MarshalText(); err != nil {
			return list
		}
		list = append(list, v)
	}
}

// Each word has a row with its text beside it, and something in every other column.
func TestDocsExplainEveryWord(t *testing.T) {
	page := docsFile(t, operatorsPage)
	sets := map[string][]word{
		"reason":     allWords[connmgr.Reason](),
		"trigger":    allWords[connmgr.Trigger](),
		"checkpoint": allWords[connmgr.Checkpoint](),
		"outcome":    allWords[connmgr.Outcome](),
	}
	for kind, words := range sets {
		rows := tableOf(page, "| "+kind+" |")
		for _, w := range words {
			name, err := w.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			row := rows["`"+string(name)+"`"]
			delete(rows, "`"+string(name)+"`")
			switch {
			case row == nil:
				t.Errorf("%s has no row about the %s %s", operatorsPage, kind, name)
			case row[0] != w.String():
				t.Errorf("%s says that the %s %s is shown as %q, it is as %q", operatorsPage, kind, name, row[0], w.String())
			case slices.ContainsFunc(row, func(cell string) bool { return cell == "" }):
				t.Errorf("the row of %s about the %s %s has an empty cell", operatorsPage, kind, name)
			}
			if r, isReason := w.(connmgr.Reason); isReason && row != nil {
				fate := map[bool]string{true: "closed", false: "stays"}[r.Closed()]
				if r == connmgr.NotConnected {
					fate = "–"
				}
				if row[1] != fate {
					t.Errorf("%s says of a peer with the reason %s: %q, want %q", operatorsPage, name, row[1], fate)
				}
			}
		}
		for name := range rows {
			t.Errorf("%s has a row about the %s %s, which does not exist", operatorsPage, kind, name)
		}
	}
	for _, cause := range connmgr.Cause(0xff).Words() {
		if row := tableOf(page, "| cause |")["`"+cause+"`"]; len(row) < 2 || row[1] == "" {
			t.Errorf("%s has no row about the cause %s", operatorsPage, cause)
		}
	}
}

// tableOf returns the rows of the table whose head begins so, by their first cell.
func tableOf(page, head string) map[string][]string {
	rows := make(map[string][]string)
	_, rest, _ := strings.Cut(page, "\n"+head)
	for line := range strings.Lines(rest) {
		if len(rows) > 0 && !strings.HasPrefix(line, "|") {
			break
		}
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

func TestDocsSayWhatEveryFaultMeans(t *testing.T) {
	page := docsFile(t, operatorsPage)
	faults := tableOf(page, "| fault |")
	for f := range reflect.TypeFor[api.FaultCounts]().Fields() {
		name := f.Tag.Get("json")
		if row := faults["`"+name+"`"]; len(row) < 2 || row[1] == "" {
			t.Errorf("%s does not say what to do about the fault %s", operatorsPage, name)
		}
		var s api.Status
		if field := reflect.ValueOf(&s.Faults).Elem().FieldByIndex(f.Index); field.CanInt() {
			field.SetInt(1)
		} else {
			field.SetUint(1)
		}
		if len(warnings(&s)) == 0 {
			t.Errorf("status does not warn of %s, and %s says that it does of each fault", name, operatorsPage)
		}
	}
}

func TestDocsDescribeEverySectionOfThePage(t *testing.T) {
	page := docsFile(t, operatorsPage)
	html, err := os.ReadFile("../../connmgrhttp/internal/page/static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	tabs := regexp.MustCompile(`data-tab="\w+">([^<]+)<`).FindAllStringSubmatch(string(html), -1)
	if len(tabs) < 3 {
		t.Fatalf("the page has the tabs %q, want those of all sections", tabs)
	}
	rows := tableOf(page, "| section |")
	for _, tab := range tabs {
		if len(rows["**"+tab[1]+"**"]) == 0 {
			t.Errorf("%s has no row about the section %q of the page", operatorsPage, tab[1])
		}
	}
}

// What the pages refer to is there, headings included.
func TestDocsReferToWhatIsThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	for _, name := range []string{operatorsPage, "api.md", "embedding.md"} {
		for _, m := range link.FindAllStringSubmatch(docsFile(t, name), -1) {
			file := filepath.Join(docsFolder, m[1])
			if m[1] == "" {
				file = filepath.Join(docsFolder, name)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s refers to %s, which is not there", name, m[1])
				continue
			}
			if m[2] == "" {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(anchors(string(text)), m[2][1:]) {
				t.Errorf("%s refers to %s%s, and there is no such heading", name, m[1], m[2])
			}
		}
	}
}

// anchors returns what headings are called in links.
func anchors(page string) (list []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(text, " ", "-"))
	}
	return list
}
