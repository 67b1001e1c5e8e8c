package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file interrupts demos, as an impatient user does.

// promptly is how long an interrupted demo may take to end. On a machine with
// nothing else to do it takes a tenth of a second.
const promptly = 5 * time.Second

func TestInterruptEndsTheDemoCleanly(t *testing.T) {
	for _, c := range []struct {
		moment string // the line of output upon which it is interrupted
		signal os.Signal
	}{
		{"Starting", os.Interrupt},
		{"settle in", os.Interrupt},
		{"connections, low", os.Interrupt}, // waiting for a grace period to end
		{"connections, low", syscall.SIGTERM},
	} {
		t.Run(c.moment+" "+c.signal.String(), func(t *testing.T) {
			t.Parallel()
			interruptAt(t, c.moment, c.signal)
		})
	}
}

func interruptAt(t *testing.T, moment string, signal os.Signal) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "connmgr", "demo", "--peers", "20", "--grace", "1m")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	var interrupted time.Time
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		seen.WriteString(lines.Text() + "\n")
		if interrupted.IsZero() && strings.Contains(lines.Text(), moment) {
			interrupted = time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if interrupted.IsZero() {
		t.Fatalf("the demo ended without a line that says %q:\n%s", moment, seen.String())
	}
	if took := time.Since(interrupted); took > promptly {
		t.Errorf("the demo took %v to end, want less than %v", took, promptly)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("the demo ended with %v, want exit status 130", err)
	}
	if want := "connmgr: interrupted\n"; stderr.String() != want {
		t.Errorf("stderr is %q, want %q and nothing else", stderr.String(), want)
	}
	if text := seen.String(); strings.Contains(text, "Promises") || strings.Contains(text, "goroutine") {
		t.Errorf("the demo judged itself or dumped its goroutines after it was interrupted:\n%s", text)
	}
}
