package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// This file lets the scripts in testdata/script use the command as a shell does,
// and gives them words for what they check. Other tests of this package run the
// command with [exec.Command]: it is in the path.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"connmgr": main, "never-ending": neverEnding})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command of a race build ends with a nap
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":    cmdExits,
			"oneline":  cmdOneLine,
			"allkept":  cmdAllKept,
			"notrims":  cmdNoTrims,
			"samecast": cmdSameCast,
		},
	})
}

// cmdExits is "exits status command...": the command ends with that exit status.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("cannot run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%q exited with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdOneLine is "oneline file": there is exactly one line in it.
func cmdOneLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oneline file")
	}
	text := ts.ReadFile(args[0])
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") || strings.TrimSpace(text) == "" {
		ts.Fatalf("%s is %q, want exactly one line", args[0], text)
	}
}

// report is what a program that reads the JSON report can rely on.
type report struct {
	Peers     int               `json:"peers"`
	LowWater  int               `json:"low_water"`
	HighWater int               `json:"high_water"`
	Grace     string            `json:"grace"`
	Seed      *uint64           `json:"seed"`
	Transport string            `json:"transport"`
	Seconds   float64           `json:"seconds"`
	Connected int               `json:"connected"`
	Trims     []json.RawMessage `json:"trims"`
	Nodes     []struct {
		Node      string `json:"node"`
		Peer      string `json:"peer"`
		Role      string `json:"role"`
		Transport string `json:"transport"`
		Connected bool   `json:"connected"`
		Score     *int   `json:"score"`
		Reason    string `json:"reason"`
	} `json:"nodes"`
	Promises []struct {
		Promise string `json:"promise"`
		Kept    bool   `json:"kept"`
		Detail  string `json:"detail"`
	} `json:"promises"`
}

func readReport(ts *testscript.TestScript, file string) report {
	var r report
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	if err := dec.Decode(&r); err != nil {
		ts.Fatalf("%s is not a JSON report: %v", file, err)
	}
	if dec.More() {
		ts.Fatalf("%s has something behind the JSON report", file)
	}
	return r
}

// cmdAllKept is "allkept file": it is a complete JSON report of a demo that kept
// every promise.
func cmdAllKept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: allkept file")
	}
	r := readReport(ts, args[0])
	if r.Peers < 1 || r.LowWater < 1 || r.HighWater < r.LowWater || r.Grace == "" || r.Seed == nil || r.Transport == "" || r.Seconds <= 0 {
		ts.Fatalf("the report does not say what was played: %+v", r)
	}
	if len(r.Nodes) != r.Peers {
		ts.Fatalf("the report tells of %d nodes, want all %d", len(r.Nodes), r.Peers)
	}
	connected := 0
	for _, n := range r.Nodes {
		if n.Node == "" || n.Peer == "" || n.Role == "" || n.Transport == "" || n.Score == nil || n.Reason == "" {
			ts.Fatalf("the report on a node is incomplete: %+v", n)
		}
		if n.Connected {
			connected++
		}
	}
	if connected != r.Connected {
		ts.Fatalf("%d nodes are connected, but the report says %d", connected, r.Connected)
	}
	if len(r.Promises) < 4 {
		ts.Fatalf("the report judges %d promises, want at least 4", len(r.Promises))
	}
	for _, p := range r.Promises {
		if !p.Kept {
			ts.Fatalf("promise broken: %s (%s)", p.Promise, p.Detail)
		}
	}
}

// cmdNoTrims is "notrims file": the JSON report has an empty list of trims.
func cmdNoTrims(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notrims file")
	}
	var r struct {
		Trims json.RawMessage `json:"trims"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	if string(r.Trims) != "[]" {
		ts.Fatalf("trims are %s, want an empty list, so that a program can go over it", r.Trims)
	}
}

// cmdSameCast is "samecast file file": two JSON reports tell of the same nodes in
// the same roles. With "!" they do not.
func cmdSameCast(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: samecast file file")
	}
	casts := make([][]string, 2)
	for i, file := range args {
		for _, n := range readReport(ts, file).Nodes {
			casts[i] = append(casts[i], fmt.Sprintf("%s is %s by %s: %s", n.Node, n.Peer, n.Transport, n.Role))
		}
	}
	switch same := slices.Equal(casts[0], casts[1]); {
	case same && neg:
		ts.Fatalf("the cast is the same, want another one:\n%s", strings.Join(casts[0], "\n"))
	case !same && !neg:
		ts.Fatalf("the casts differ:\n%s\n\n%s", strings.Join(casts[0], "\n"), strings.Join(casts[1], "\n"))
	}
}

// brokenPipe is an output that takes nothing.
type brokenPipe struct{}

var errBrokenPipe = errors.New("nobody reads this")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBrokenPipe }

func TestFailureThatIsNotTheCommandLinesFaultExitsWithStatus1(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"--json=true", "--json=false"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			status := run(t.Context(), []string{"demo", "--peers", "1", "--grace", "0", format}, brokenPipe{}, &stderr)
			if status != 1 {
				t.Errorf("exit status is %d when the report cannot be written, want 1", status)
			}
			if want := "connmgr: " + errBrokenPipe.Error() + "\n"; stderr.String() != want {
				t.Errorf("stderr is %q, want %q and no word about the command line", stderr.String(), want)
			}
		})
	}
}

func TestInterruptBeforeTheStartExitsWithStatus130(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	status := run(ctx, []string{"demo", "--json"}, &stdout, &stderr)
	if status != 130 || stderr.String() != "connmgr: interrupted\n" || stdout.Len() > 0 {
		t.Errorf("exit status %d, stderr %q, stdout %q; want 130, one line and nothing", status, stderr.String(), stdout.String())
	}
}
