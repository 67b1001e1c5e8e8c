package embedding_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// This file holds docs/embedding.md against the examples: all Go code on the page is code
// of theirs, line by line, so all of it compiles and runs.

const (
	page        = "../../../docs/embedding.md"
	rootExample = "../../../connmgrhttp/example_test.go"
)

func TestTheCodeOfThePageIsThatOfTheExamples(t *testing.T) {
	text, err := os.ReadFile(page)
	if os.IsNotExist(err) {
		t.Skip("the page belongs to the repository, and this module stands alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	sources := make(map[string][]string)
	for _, name := range append(files, rootExample) {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = strings.Split(string(source), "\n")
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 6 {
		t.Errorf("the page has %d blocks of Go, want one for each way to embed", len(blocks))
	}
	for _, b := range blocks {
		code := strings.Split(strings.TrimSuffix(b[1], "\n"), "\n")
		found := false
		for _, source := range sources {
			found = found || contains(source, code)
		}
		if !found {
			t.Errorf("no example has this code of %s; copy it from there as it is:\n%s", page, b[1])
		}
	}
}

// contains reports whether the lines of code follow one another in a source, all behind
// the same indent.
func contains(source, code []string) bool {
	for i := range source {
		indent, ok := strings.CutSuffix(source[i], code[0])
		if !ok || strings.Trim(indent, "\t") != "" || i+len(code) > len(source) {
			continue
		}
		same := func(at, want string) bool { return want == "" && at == "" || at == indent+want }
		if slices.EqualFunc(source[i:i+len(code)], code, same) {
			return true
		}
	}
	return false
}

func TestCodeIsFoundBehindAnIndentAndOnlyWhole(t *testing.T) {
	source := []string{"func f() {", "\ta := 1", "", "\tif a > 0 {", "\t\tg()", "\t}", "}"}
	for code, want := range map[string]bool{
		"a := 1\n\nif a > 0 {\n\tg()\n}":    true,
		"func f() {\n\ta := 1":              true,
		"a := 1\nif a > 0 {":                false,
		"a := 1\n\nif a > 0 {\ng()\n}":      false,
		"a := 1\n\nif a > 0 {\n\tg()\n}\n}": false,
		"b := 1":                            false,
	} {
		if got := contains(source, strings.Split(code, "\n")); got != want {
			t.Errorf("found: %v, want %v:\n%s", got, want, code)
		}
	}
}
