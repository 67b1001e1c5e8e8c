package connmgrlibp2p_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// This file keeps docs/migration.md true: what the page says is shown by tests,
// and the tests that it names exist.

func TestEveryTestNamedInTheMigrationGuideExists(t *testing.T) {
	page := migrationGuide(t)
	tests := testNames(t)
	named := regexp.MustCompile("`((?:Test|Example)[A-Za-z0-9_]*)`").FindAllStringSubmatch(page, -1)
	if len(named) < 30 {
		t.Errorf("the page names %d tests, want at least one for each of its rows", len(named))
	}
	for _, name := range named {
		if !tests[name[1]] {
			t.Errorf("the page names %s, but there is no such test", name[1])
		}
	}
}

func TestEveryRowOfTheMigrationGuideNamesATest(t *testing.T) {
	rows := 0
	for line := range strings.Lines(migrationGuide(t)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 || strings.HasPrefix(cells[1], "-") || strings.TrimSpace(cells[1]) == "behaviour" {
			continue
		}
		rows++
		if len(cells) != 6 {
			t.Errorf("a row has %d cells, want behaviour, BasicConnMgr, connmgrlibp2p and test:\n%s", len(cells)-2, line)
			continue
		}
		if !strings.Contains(cells[4], "`Test") && !strings.Contains(cells[4], "`Example") {
			t.Errorf("a row names no test that shows it:\n%s", line)
		}
	}
	if rows < 25 {
		t.Errorf("the page has %d rows, want those of a whole migration", rows)
	}
}

// migrationGuide returns the page's text. Whoever has only this module, without
// the repository around it, has no page to check.
func migrationGuide(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "migration.md"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join("..", "go.work")); errors.Is(err, fs.ErrNotExist) {
			t.Skip("the page belongs to the repository, and this module stands alone")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// testNames returns the names of this package's tests and examples.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}
