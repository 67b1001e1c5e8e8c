//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/dep2p/connmgr/connmgrhttp"
)

// This file runs commands against a node on a terminal of 80 columns.

// terminalRun runs a command on a terminal, types an answer when it is asked something,
// and returns what stands there and the exit status.
func (n *testNode) terminalRun(columns uint16, typed string, args ...string) (screen string, status int) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), "connmgr", append(args, "--api", n.api)...)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: columns})
	if err != nil {
		n.t.Fatal(err)
	}
	defer terminal.Close()
	var raw []byte
	for piece := make([]byte, 4096); ; {
		got, err := terminal.Read(piece)
		if raw = append(raw, piece[:got]...); err != nil { // Linux ends a terminal with one
			break
		}
		if typed != "" && bytes.Contains(raw, []byte("? [y/N] ")) {
			if _, err := io.WriteString(terminal, typed); err != nil {
				n.t.Fatal(err)
			}
			typed = ""
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		n.t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "\r\n", "\n"), status
}

func TestAForcedTrimAsksOnATerminal(t *testing.T) {
	n := smallTown(t)
	for _, answer := range []string{"n\n", "\n", "yesterday\n", "\x04"} { // the last one ends the input
		screen, status := n.terminalRun(80, answer, "trim", "--force")
		if status != 1 || n.host.Len() != 6 || !strings.Contains(screen, "connmgr: nothing was closed") {
			t.Fatalf("after %q the exit status is %d and %d connections are left, want 1 and all six:\n%s", answer, status, n.host.Len(), screen)
		}
		if want := "A forced trim would close 4 peers of the node at " + n.api + ", and leave 2 connections. Go on? [y/N]"; !strings.Contains(screen, want) {
			t.Errorf("the question is\n%s\nwant %q", screen, want)
		}
	}
	if screen, status := n.terminalRun(80, "\x03", "trim", "--force"); status != 130 || n.host.Len() != 6 {
		t.Errorf("after Ctrl-C the exit status is %d and %d connections are left, want 130 and all six:\n%s", status, n.host.Len(), screen)
	}
	if screen, status := n.terminalRun(80, "Y\n", "trim", "--force"); status != 0 || n.host.Len() != 2 {
		t.Errorf("after a yes the exit status is %d and %d connections are left, want 0 and two:\n%s", status, n.host.Len(), screen)
	}
}

func TestTablesFitATerminalUnlessAskedOtherwise(t *testing.T) {
	n := smallTown(t)
	screen, _ := n.terminalRun(80, "", "peers")
	for line := range strings.Lines(screen) {
		if len([]rune(line)) > 81 { // with its end
			t.Errorf("the line %q has more than 80 columns", line)
		}
	}
	if !strings.Contains(screen, shortPeer(peerNamed(1))+"  ") || strings.Contains(screen, peerNamed(1)) {
		t.Errorf("peers are not shortened:\n%s", screen)
	}
	for columns, args := range map[uint16][]string{80: {"peers", "--full"}, 160: {"peers"}} {
		if screen, _ := n.terminalRun(columns, "", args...); !strings.Contains(screen, peerNamed(1)) {
			t.Errorf("%v on %d columns shortens peers:\n%s", args, columns, screen)
		}
	}
	// What was printed is taken.
	short, _, _ := strings.Cut(strings.Split(screen, "\n")[1], " ")
	n.run("explain", short).ok(peerNamed(1) + "\n")
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.store.FailSaves(errors.New("disk full"))
	n.run("block", "192.0.2.1").fails(1)
	t.Setenv("TERM", "xterm")
	if screen, _ := n.terminalRun(80, "", "status"); !strings.HasPrefix(screen, "\x1b[1;33mwarning:\x1b[0m 1 change of rules is not saved") {
		t.Errorf("on a terminal status begins with %q, want a warning in colour", screen)
	}
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if screen, _ := n.terminalRun(80, "", "status"); strings.Contains(screen, "\x1b") || !strings.HasPrefix(screen, "warning: ") {
				t.Errorf("with %s=%s status begins with %q, want no colours", name, value, screen)
			}
		})
	}
}

func TestAListOnATerminalHasNothingThatItObeys(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	n.handler = answerText("192.0.2.1 # \x1b[31mred\u202e\n192.0.2.2\n")
	n.listen("127.0.0.1:0")
	if screen, status := n.terminalRun(80, "", "rules", "export"); status != 0 || screen != `192.0.2.1 # \x1b[31mred\u202e`+"\n192.0.2.2\n" {
		t.Errorf("the exit status is %d, and the screen %q", status, screen)
	}
	if r := n.run("rules", "export").ok(); !strings.Contains(r.stdout, "\x1b[31mred") {
		t.Errorf("elsewhere the list is %q, want it as the node wrote it", r.stdout)
	}
}

func TestEventsFitATerminalUnlessAskedOtherwise(t *testing.T) {
	n := smallTown(t)
	for _, command := range []string{"events", "watch --since 0 --count 3"} {
		screen, status := n.terminalRun(60, "", strings.Fields(command)...)
		if status != 0 || !strings.Contains(screen, shortPeer(peerNamed(1))) || strings.Contains(screen, peerNamed(1)) {
			t.Errorf("%s: exit status %d, want short IDs on a terminal of 60 columns:\n%s", command, status, screen)
		}
		for line := range strings.Lines(screen) {
			if got := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); got > 60 {
				t.Errorf("%s: a line has %d columns, want at most 60: %s", command, got, line)
			}
		}
		if screen, _ := n.terminalRun(60, "", append(strings.Fields(command), "--full")...); !strings.Contains(screen, peerNamed(1)) {
			t.Errorf("%s --full: want whole IDs:\n%s", command, screen)
		}
	}
}
