package connmgrlibp2p_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
)

// This file runs go-libp2p's own tests of its gater against ours, all of them, in the
// way of upstream_test.go, and compares the names.

// gaterShim stands in for go-libp2p's own file.
const gaterShim = `package conngater

import dropin "github.com/dep2p/connmgr/connmgrlibp2p"

type BasicConnectionGater = dropin.BasicConnectionGater

var NewBasicConnectionGater = dropin.NewBasicConnectionGater
`

func TestGoLibp2psOwnGaterTestsPass(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs another package's tests")
	}
	source, err := os.ReadFile(filepath.Join(gaterDir(t), "conngater_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	binary := compileOverlay(t, "upstreamgatertests", map[string][]byte{
		"conngater_test.go": source,
		"shim.go":           []byte(gaterShim),
	})
	run := goCommand(t, "tool", "test2json", "-t", binary, "-test.v=test2json", "-test.count=1", "-test.timeout=5m")
	run.Dir = t.TempDir()
	out, err := run.CombinedOutput()
	passed, failed := testResults(out)
	if err != nil || len(failed) > 0 {
		t.Errorf("%v; these of go-libp2p's tests fail: %q\n%s", err, failed, plainOutput(out))
	}
	slices.Sort(passed)
	if want := testsIn(t, source); len(want) == 0 || !slices.Equal(passed, want) {
		t.Errorf("of go-libp2p's tests %q pass, want %q", passed, want)
	}
}

// testsIn returns the names of the tests in a source file, in order.
func testsIn(t *testing.T, source []byte) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
			names = append(names, f.Name.Name)
		}
	}
	slices.Sort(names)
	return names
}

// gaterDir is the folder of go-libp2p's gater in the module cache.
func gaterDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(filepath.Dir(upstreamDir(t)), "conngater")
}

func TestEveryExportedNameOfGoLibp2psGaterIsHere(t *testing.T) {
	ours, theirs := exportedNames(t, "."), exportedNames(t, gaterDir(t))
	if len(theirs) < 2 {
		t.Fatalf("found %q in go-libp2p's package, want the gater and what makes it", theirs)
	}
	for _, name := range theirs {
		if !slices.Contains(ours, name) {
			t.Errorf("go-libp2p's package conngater exports %s, the drop-in does not", name)
		}
	}
}

func TestEveryMethodOfBasicConnectionGaterIsHere(t *testing.T) {
	// These are the methods of the lock that go-libp2p's gater embeds.
	missing := []string{"Lock", "RLock", "RLocker", "RUnlock", "TryLock", "TryRLock", "Unlock"}

	ours, theirs := reflect.TypeFor[*connmgrlibp2p.BasicConnectionGater](), reflect.TypeFor[*conngater.BasicConnectionGater]()
	compared := 0
	for want := range theirs.Methods() {
		got, ok := ours.MethodByName(want.Name)
		switch {
		case slices.Contains(missing, want.Name):
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == want.Name })
		case !ok:
			t.Errorf("go-libp2p's gater has the method %s, ours has not", want.Name)
		case signature(got) != signature(want):
			t.Errorf("%s is %s, want %s as in go-libp2p", want.Name, signature(got), signature(want))
		default:
			compared++
		}
	}
	if compared != 14 {
		t.Errorf("%d methods are as in go-libp2p, want 14: 5 checkpoints, and 3 each for peers, addresses and subnets", compared)
	}
	if len(missing) > 0 {
		t.Errorf("go-libp2p's gater does not have %q any more; docs/migration.md speaks of it", missing)
	}
}
