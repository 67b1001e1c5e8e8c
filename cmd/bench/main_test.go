package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/cmd/internal/command"
)

// outcome is what a command line came to.
type outcome struct {
	status         int
	stdout, stderr string
}

func runWith(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	status := run(ctx, args, &stdout, &stderr)
	return outcome{status, stdout.String(), stderr.String()}
}

func TestHelpSaysWhatThereIs(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		got := runWith(t.Context(), arg)
		if got.status != command.OK {
			t.Errorf("%s ends with status %d, want %d", arg, got.status, command.OK)
		}
		for _, flag := range []string{"-quick", "-check", "-out", "-profile", "-seconds"} {
			if !strings.Contains(got.stderr, "  "+flag) {
				t.Errorf("%s does not tell of %s:\n%s", arg, flag, got.stderr)
			}
		}
	}
}

func TestWrongCommandLinesMeasureNothing(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"now"}, `"now"`},
		{[]string{"-fast"}, "-fast"},
		{[]string{"-quick", "-check"}, "-quick and -check"},
		{[]string{"-check", "-out", "x.md"}, "-out"},
		{[]string{"-profile", "nothing"}, "-profile list"},
		{[]string{"-profile", ""}, "-profile list"},
		{[]string{"-profile", "tag", "-quick"}, "-profile"},
		{[]string{"-profile", "tag", "-seconds", "0"}, "-seconds"},
		{[]string{"-profile", "tag", "-seconds", "NaN"}, "-seconds"},
		{[]string{"-profile", "tag", "-seconds", "x"}, "-seconds"},
		{[]string{"-profile", "tag", "-out", "-"}, "-out"},
		{[]string{"-seconds", "3"}, "-seconds"},
	} {
		got := runWith(t.Context(), c.args...)
		if got.status != command.Usage || !strings.Contains(got.stderr, c.want) || got.stdout != "" {
			t.Errorf("%q ends with status %d and says %q, want %d and something about %q", c.args, got.status, got.stderr, command.Usage, c.want)
		}
	}
}

func TestProfileListNamesWhatCanBeProfiled(t *testing.T) {
	got := runWith(t.Context(), "-profile", "list")
	if got.status != command.OK {
		t.Fatalf("it ends with status %d, want %d: %s", got.status, command.OK, got.stderr)
	}
	for _, name := range []string{"trim-equal", "trim-spread", "tag", "connect", "gate"} {
		if !strings.Contains(got.stdout, name+" ") {
			t.Errorf("%s is not in the list:\n%s", name, got.stdout)
		}
	}
}

func TestProfileIsWrittenWhereItIsWanted(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args []string
		file string
	}{
		{[]string{"-profile", "gate-empty", "-seconds", "0.02"}, "gate-empty.pprof"},
		{[]string{"-profile", "gate-empty", "-seconds", "0.02", "-out", "mine"}, "mine"},
	} {
		got := runWith(t.Context(), c.args...)
		if got.status != command.OK || !strings.Contains(got.stdout, "go tool pprof -top "+c.file) {
			t.Errorf("%q ends with status %d and prints %q, want %d and how to read %s", c.args, got.status, got.stdout, command.OK, c.file)
		}
		if _, err := os.Stat(c.file); err != nil {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestNoPageIsAnErrorAtOnce(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "performance.md")
	got := runWith(t.Context(), "-quick", "-out", missing)
	if got.status != command.Failed || !strings.HasPrefix(got.stderr, "bench: no page to write to") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("it ends with status %d and says %q, want %d and one line about the page", got.status, got.stderr, command.Failed)
	}
}

func TestInterruptEndsItCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{{"-quick", "-out", "-"}, {"-check"}, {"-profile", "gate-empty", "-out", filepath.Join(t.TempDir(), "p")}} {
		got := runWith(ctx, args...)
		if got.status != command.Interrupted || !strings.HasSuffix(got.stderr, "bench: interrupted\n") || strings.Contains(got.stdout, "|") {
			t.Errorf("%q, interrupted, ends with status %d and says %q, want %d", args, got.status, got.stderr, command.Interrupted)
		}
	}
}
