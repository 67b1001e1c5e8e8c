package connmgrhttp_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file holds docs/api.md against the handler: every example in it is played, in the
// order of the page, and what it prints must be what the page has; every route, parameter
// and problem must be explained. With -update the examples are written anew.
//
// docs_play_test.go has how a line of the shell becomes a request, docs_story_test.go the
// node that is asked.

var updateDocs = flag.Bool("update", false, "write anew what the examples of docs/api.md print")

const apiPage = "../docs/api.md"

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocsShowWhatTheAPIAnswers(t *testing.T) {
	page := readPage(t, apiPage)
	var played string
	synctest.Test(t, func(t *testing.T) {
		played = newPlay(t).page(page)
	})
	if played == page || t.Failed() {
		return
	}
	if *updateDocs {
		if err := os.WriteFile(apiPage, []byte(played), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	is, want := strings.Split(page, "\n"), strings.Split(played, "\n")
	for i := range max(len(is), len(want)) {
		if at(is, i) != at(want, i) {
			t.Fatalf("%s:%d:\n\t%s\nbut the API answers\n\t%s\nIf it should, write the examples anew with -update, and read the difference", apiPage, i+1, at(is, i), at(want, i))
		}
	}
}

// at is a line of a page, or what stands for one beyond the last.
func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// operation is what openapi.json says about a route; another test holds that against the
// handler.
type operation struct {
	name   string // such as "GET /v1/peers/{peer}"
	params []string
}

func operations(t *testing.T) (list []operation) {
	t.Helper()
	type param struct{ Ref, Name, In string }
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Parameters map[string]param }
	}
	if err := json.Unmarshal([]byte(readPage(t, "openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			if method == "parameters" { // of the path, which its name shows
				continue
			}
			op := operation{name: strings.ToUpper(method) + " " + path}
			var body struct{ Parameters []map[string]any }
			if err := json.Unmarshal(raw, &body); err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
			for _, p := range body.Parameters {
				name, _ := p["name"].(string)
				in, _ := p["in"].(string)
				if ref, ok := p["$ref"].(string); ok {
					shared := doc.Components.Parameters[ref[strings.LastIndexByte(ref, '/')+1:]]
					name, in = shared.Name, shared.In
				}
				if in == "query" {
					op.params = append(op.params, name)
				}
			}
			list = append(list, op)
		}
	}
	return list
}

// sections returns the text below each heading "### `NAME`".
func sections(page string) map[string]string {
	found := make(map[string]string)
	for _, part := range strings.Split(page, "\n### `")[1:] {
		name, text, _ := strings.Cut(part, "`\n")
		text, _, _ = strings.Cut(text, "\n## ")
		found[name] = text
	}
	return found
}

func TestDocsHaveASectionForEveryRoute(t *testing.T) {
	found := sections(readPage(t, apiPage))
	for _, op := range operations(t) {
		text, there := found[op.name]
		delete(found, op.name)
		if !there {
			t.Errorf("%s has no section ### `%s`", apiPage, op.name)
			continue
		}
		// What a node shows at /metrics is the program's.
		if op.name != "GET /metrics" && !strings.Contains(text, "```console\n$ ") {
			t.Errorf("the section %s of %s has no example", op.name, apiPage)
		}
		explained := tableWords(text)
		for _, p := range op.params {
			if !slices.Contains(explained, p) {
				t.Errorf("the section %s of %s does not explain the parameter %s", op.name, apiPage, p)
			}
		}
		for _, p := range explained {
			if !slices.Contains(op.params, p) {
				t.Errorf("the section %s of %s explains %s, which is none of its parameters: %v", op.name, apiPage, p, op.params)
			}
		}
	}
	for name := range found {
		t.Errorf("%s has a section about %s, which is no route", apiPage, name)
	}
}

// tableWords returns what stands in backquotes in the first column of tables.
func tableWords(text string) (list []string) {
	for line := range strings.Lines(text) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			word, _, _ := strings.Cut(cell, "`")
			list = append(list, word)
		}
	}
	return list
}

// An example belongs to the section that it stands in.
func TestDocsAskInEachSectionForWhatItIsAbout(t *testing.T) {
	mux := http.NewServeMux()
	for _, op := range operations(t) {
		mux.HandleFunc(op.name, func(http.ResponseWriter, *http.Request) {})
	}
	for name, text := range sections(readPage(t, apiPage)) {
		asked := false
		for _, b := range consoleBlocks(text) {
			for _, c := range b.commands {
				line, _, _ := strings.Cut(c.line, " | ")
				asks, err := parseCurl(line, storyFiles, storyEnv)
				if err != nil {
					continue // no curl
				}
				_, pattern := mux.Handler(asks.request())
				asked = asked || pattern == name
			}
		}
		if !asked && name != "GET /metrics" {
			t.Errorf("no example in the section %s of %s is a request of that kind", name, apiPage)
		}
	}
}

func TestDocsSayOfEveryProblemWhatToDo(t *testing.T) {
	page := readPage(t, apiPage)
	for _, k := range problem.All() {
		row := "| `" + k.Slug() + "` | " + strconv.Itoa(k.Status) + " | " + k.About + " | "
		_, rest, there := strings.Cut(page, row)
		if !there {
			t.Errorf("%s has no row that begins with\n\t%s", apiPage, row)
			continue
		}
		line, _, _ := strings.Cut(rest, "\n")
		if todo := strings.Trim(line, " |"); todo == "" {
			t.Errorf("%s does not say what to do about %s", apiPage, k.Slug())
		}
	}
}

func TestDocsExplainEveryTypeOfEvent(t *testing.T) {
	page := readPage(t, apiPage)
	for _, kind := range append(api.EventTypes(), api.Lost) {
		if !strings.Contains(page, "| "+string(kind)+" | ") {
			t.Errorf("%s has no row about the event %q", apiPage, kind)
		}
	}
}
