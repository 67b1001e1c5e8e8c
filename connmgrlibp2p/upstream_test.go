package connmgrlibp2p_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	// The tests of go-libp2p import these; ours do not.
	_ "github.com/libp2p/go-libp2p/p2p/net/swarm/testing"
	_ "github.com/stretchr/testify/require"
)

// This file runs go-libp2p's own tests against the drop-in. None of their code is
// kept here: the test takes it from the module cache, leaves out the functions
// that reach into their manager's private parts, and compiles the rest in a
// package that exists only for the compiler (an overlay), where the names of
// go-libp2p's package stand for ours.

// upstreamDropped is the functions that cannot be compiled against anything but
// go-libp2p's manager, since they read its private fields; and with each test,
// the one of ours that asks the same through public methods.
var upstreamDropped = map[string]string{
	"TestConnsToClose":                        "TestNothingIsClosedWithoutNeed",
	"TestDisconnected":                        "TestOnlyTheEndOfAKnownConnectionCounts",
	"TestDoubleConnection":                    "TestAConnectionToldTwiceCountsOnce",
	"TestPeerInfoSorting":                     "TestWhoGoesFirst",
	"TestPeerProtectionIdempotent":            "TestProtectionsAreSetsOfTags",
	"TestQuickBurstRespectsSilencePeriod":     "TestAQuickBurstSetsOffOneTrim",
	"TestSafeConcurrency":                     "TestPeersMayComeWhileATrimRuns",
	"TestTagPeerNonExistant":                  "TestAnEarlyTagIsKeptAside",
	"TestTemporaryEntryConvertedOnConnection": "TestAnEarlyTagStaysWithThePeerThatConnects",
	"TestTrimBlocks":                          "TestTrimOpenConnsBlocksAndJoinsARunningTrim",
	"TestTrimJoin":                            "TestTrimOpenConnsBlocksAndJoinsARunningTrim",
	"TestUntagPeer":                           "TestUntagPeerTakesOneTag",
	"TestUpsertTag":                           "TestUpsertTagBuildsOnTheValueBefore",
	"makeSegmentsWithPeerInfos":               "", // a helper
}

// upstreamKept is how many of go-libp2p's tests are run.
const upstreamKept = 20

// upstreamShim stands in for go-libp2p's own files. The budget is an option of
// ours; that of go-libp2p leaves protected connections out.
const upstreamShim = `package connmgr

import (
	core "github.com/dep2p/connmgr"
	dropin "github.com/dep2p/connmgr/connmgrlibp2p"
)

type (
	BasicConnMgr = dropin.BasicConnMgr
	DecayerCfg   = dropin.DecayerCfg
)

var (
	DecayerConfig     = dropin.DecayerConfig
	WithGracePeriod   = dropin.WithGracePeriod
	WithSilencePeriod = dropin.WithSilencePeriod
	WithClock         = dropin.WithClock
)

func NewConnManager(low, high int, opts ...dropin.Option) (*BasicConnMgr, error) {
	return dropin.NewConnManager(low, high, append(opts, dropin.WithBudget(core.BudgetTrimmable))...)
}
`

func TestGoLibp2psOwnTestsPass(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs another package's tests")
	}
	binary := compileUpstreamTests(t)

	run := goCommand(t, "tool", "test2json", "-t", binary, "-test.v=test2json", "-test.count=1", "-test.timeout=5m")
	run.Dir = t.TempDir()
	run.Env = append(os.Environ(), "CI=1") // their tests wait longer there
	out, err := run.CombinedOutput()
	passed, failed := testResults(out)
	if err != nil || len(failed) > 0 {
		t.Errorf("%v; these of go-libp2p's tests fail: %q\n%s", err, failed, plainOutput(out))
	}
	if len(passed) != upstreamKept {
		t.Errorf("%d of go-libp2p's tests pass, want %d: %q", len(passed), upstreamKept, passed)
	}
}

func TestEveryTestOfGoLibp2pThatIsLeftOutHasKin(t *testing.T) {
	ours := testNames(t)
	for theirs, kin := range upstreamDropped {
		if kin != "" && !ours[kin] {
			t.Errorf("%s is said to ask what go-libp2p's %s asks, but there is no such test", kin, theirs)
		}
	}
}

// compileUpstreamTests makes a test binary of what is left of go-libp2p's tests
// and benchmarks, and checks what was left out.
func compileUpstreamTests(t *testing.T) (binary string) {
	t.Helper()
	dir := upstreamDir(t)
	private := privateNames(t, dir)
	sources := make(map[string][]byte)
	var dropped []string
	for _, name := range []string{"connmgr_test.go", "decay_test.go", "bench_test.go"} {
		source, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		source, gone := withoutPrivateParts(t, name, source, private)
		dropped = append(dropped, gone...)
		sources[name] = source
	}
	sources["shim.go"] = []byte(upstreamShim)
	slices.Sort(dropped)
	if want := slices.Sorted(maps.Keys(upstreamDropped)); !slices.Equal(dropped, want) {
		t.Errorf("these of go-libp2p's test functions reach into private parts:\n%q\nwant:\n%q\ngo-libp2p's tests have changed: see what upstream_kin_test.go lacks now", dropped, want)
	}

	return compileOverlay(t, "upstreamtests", sources)
}

// compileOverlay makes a test binary of a package that exists only for the compiler.
func compileOverlay(t *testing.T, name string, sources map[string][]byte) (binary string) {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	replace := make(map[string]string)
	for file, source := range sources {
		copied := filepath.Join(tmp, file)
		if err := os.WriteFile(copied, source, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, "internal", name, file)] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(tmp, "upstream.test")
	// Vet would change into the folder, which is not there.
	args := []string{"test", "-c", "-vet=off", "-overlay", overlayFile, "-o", binary}
	if underRaceDetector() {
		args = append(args, "-race")
	}
	if out, err := goCommand(t, append(args, "./internal/"+name)...).CombinedOutput(); err != nil {
		t.Fatalf("compiling go-libp2p's tests against the drop-in: %v\n%s", err, out)
	}
	return binary
}

// privateNames returns the unexported names of a package: of its package level,
// and of its structs' fields and methods.
func privateNames(t *testing.T, dir string) (names upstreamNames) {
	t.Helper()
	names = upstreamNames{members: make(map[string]bool), packageLevel: make(map[string]bool)}
	for _, name := range []string{"connmgr.go", "decay.go", "options.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for id := range packageLevel(file) {
			names.packageLevel[id] = id != "_" && !ast.IsExported(id)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.StructType:
				for _, field := range n.Fields.List {
					for _, id := range field.Names {
						names.members[id.Name] = !id.IsExported()
					}
				}
			case *ast.FuncDecl:
				if n.Recv != nil {
					names.members[n.Name.Name] = !n.Name.IsExported()
				}
			}
			return true
		})
	}
	return names
}

type upstreamNames struct{ members, packageLevel map[string]bool }

// withoutPrivateParts cuts the functions that use private names out of a source
// file, and the imports that nobody needs then.
func withoutPrivateParts(t *testing.T, name string, source []byte, private upstreamNames) (left []byte, dropped []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	type span struct{ from, to token.Pos }
	var cut []span
	used := make(map[string]bool)
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if ok && f.Recv == nil && private.usedIn(f) {
			dropped = append(dropped, f.Name.Name)
			cut = append(cut, span{f.Pos(), f.End()})
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok {
					used[id.Name] = true
				}
			}
			return true
		})
	}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		known := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			known = spec.Name.Name
		}
		if !used[known] {
			cut = append(cut, span{spec.Pos(), spec.End()})
		}
	}
	slices.SortFunc(cut, func(a, b span) int { return int(b.from - a.from) })
	for _, s := range cut { // the last first, so that the others stay in place
		source = slices.Delete(source, files.Position(s.from).Offset, files.Position(s.to).Offset)
	}
	return source, dropped
}

// usedIn reports whether a function uses a private name. Fields and methods count
// where they are selected, other names anywhere.
func (names upstreamNames) usedIn(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			found = found || names.members[n.Sel.Name]
		case *ast.Ident:
			found = found || names.packageLevel[n.Name]
		}
		return !found
	})
	return found
}

// underRaceDetector reports whether this test runs under the race detector, so
// that go-libp2p's tests do as well.
func underRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// testEvent is a line that test2json writes.
type testEvent struct{ Action, Test, Output string }

func testEvents(out []byte) (events []testEvent) {
	for line := range bytes.Lines(out) {
		var e testEvent
		if json.Unmarshal(line, &e) != nil {
			e = testEvent{Output: string(line)}
		}
		events = append(events, e)
	}
	return events
}

// testResults returns the names of the tests that passed and of those that did
// not, subtests left out.
func testResults(out []byte) (passed, failed []string) {
	for _, e := range testEvents(out) {
		switch {
		case e.Test == "" || strings.Contains(e.Test, "/"):
		case e.Action == "pass":
			passed = append(passed, e.Test)
		case e.Action == "fail" || e.Action == "skip":
			failed = append(failed, fmt.Sprintf("%s (%s)", e.Test, e.Action))
		}
	}
	return passed, failed
}

// plainOutput returns what the tests printed.
func plainOutput(out []byte) string {
	var text strings.Builder
	for _, e := range testEvents(out) {
		text.WriteString(e.Output)
	}
	return text.String()
}
