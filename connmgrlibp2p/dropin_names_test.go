package connmgrlibp2p_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file shows that a changed import compiles: the names of go-libp2p's
// package connmgr are here, with the same signatures.

// A program that constructs its manager in any of these ways goes on compiling.
var (
	_ func(int, int, ...connmgrlibp2p.Option) (*connmgrlibp2p.BasicConnMgr, error) = connmgrlibp2p.NewConnManager
	_ func(time.Duration) connmgrlibp2p.Option                                     = connmgrlibp2p.WithGracePeriod
	_ func(time.Duration) connmgrlibp2p.Option                                     = connmgrlibp2p.WithSilencePeriod
	_ func(clock.Clock) connmgrlibp2p.Option                                       = connmgrlibp2p.WithClock
	_ func(*connmgrlibp2p.DecayerCfg) connmgrlibp2p.Option                         = connmgrlibp2p.DecayerConfig
	_ *connmgrlibp2p.DecayerCfg                                                    = (&connmgrlibp2p.DecayerCfg{}).WithDefaults()
	_ time.Duration                                                                = connmgrlibp2p.DefaultResolution

	// These conversions compile only between structs with the same fields.
	_ = basic.CMInfo(connmgrlibp2p.CMInfo{})
	_ = basic.DecayerCfg(connmgrlibp2p.DecayerCfg{})
)

func TestEveryExportedNameOfGoLibp2pIsHere(t *testing.T) {
	// NewDecayer returns a type that go-libp2p does not export and needs its
	// manager's insides; the manager itself is the decayer.
	const missing = "NewDecayer"

	ours, theirs := exportedNames(t, "."), exportedNames(t, upstreamDir(t))
	if len(theirs) < 10 {
		t.Fatalf("found %q in go-libp2p's package, want the names of a whole package", theirs)
	}
	if !slices.Contains(theirs, missing) {
		t.Errorf("go-libp2p does not have %s any more; docs/migration.md speaks of it", missing)
	}
	for _, name := range theirs {
		if name != missing && !slices.Contains(ours, name) {
			t.Errorf("go-libp2p's package exports %s, the drop-in does not", name)
		}
	}
}

func TestEveryMethodOfBasicConnMgrIsHere(t *testing.T) {
	ours, theirs := reflect.TypeFor[*connmgrlibp2p.ConnManager](), reflect.TypeFor[*basic.BasicConnMgr]()
	if theirs.NumMethod() < 14 {
		t.Fatalf("go-libp2p's manager has %d methods, want all of ConnManager and Decayer", theirs.NumMethod())
	}
	for want := range theirs.Methods() {
		got, ok := ours.MethodByName(want.Name)
		if !ok {
			t.Errorf("go-libp2p's manager has the method %s, the drop-in has not", want.Name)
			continue
		}
		if g, w := signature(got), signature(want); g != w {
			t.Errorf("%s is %s, want %s as in go-libp2p", want.Name, g, w)
		}
	}
}

func TestManagerIsTheDecayerToo(t *testing.T) {
	cm := newManager(t, 10, 20)
	decayer, ok := libp2p.SupportsDecay(cm)
	if !ok {
		t.Fatal("SupportsDecay is false, want the manager to be a Decayer as well")
	}
	if decayer != libp2p.Decayer(cm) {
		t.Error("SupportsDecay returned something else, want the manager itself")
	}
}

// signature returns a method's signature without its receiver, and with this
// package's CMInfo under the same name as go-libp2p's.
func signature(m reflect.Method) string {
	var in, out []string
	for i := 1; i < m.Type.NumIn(); i++ {
		in = append(in, m.Type.In(i).String())
	}
	for t := range m.Type.Outs() {
		out = append(out, strings.ReplaceAll(t.String(), "connmgrlibp2p.", "connmgr."))
	}
	return "func(" + strings.Join(in, ", ") + ") (" + strings.Join(out, ", ") + ")"
}

// exportedNames returns the exported package-level names of a folder.
func exportedNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for id := range packageLevel(file) {
			if ast.IsExported(id) {
				names = append(names, id)
			}
		}
	}
	return names
}

// packageLevel yields the names that a file declares for its package.
func packageLevel(file *ast.File) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && !yield(d.Name.Name) {
					return
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					var ids []*ast.Ident
					switch s := spec.(type) {
					case *ast.TypeSpec:
						ids = []*ast.Ident{s.Name}
					case *ast.ValueSpec:
						ids = s.Names
					}
					for _, id := range ids {
						if !yield(id.Name) {
							return
						}
					}
				}
			}
		}
	}
}

// upstreamDir returns the folder with the source of go-libp2p's manager. It skips
// the test where there is no Go command to ask, as for a test binary that was
// copied to another machine.
func upstreamDir(t *testing.T) string {
	t.Helper()
	out, err := goCommand(t, "list", "-m", "-f", "{{.Dir}}", "github.com/libp2p/go-libp2p").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "p2p", "net", "connmgr")
}

// goCommand returns a call of the Go command.
func goCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("the Go command is needed to find and compile go-libp2p's tests: %v", err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}
