//go:build unix

package main

import (
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
)

// This file runs the demo on a terminal of 80 columns and looks at what stands on
// the screen.

const columns = 80

func TestLiveLineOnATerminal(t *testing.T) {
	t.Parallel()
	raw := runOnTerminal(t, "demo", "--peers", "16", "--grace", "400ms")
	gauge := regexp.MustCompile(`\[[#.LH]+\]`)
	if painted := len(gauge.FindAllString(raw, -1)); painted < 3 {
		t.Errorf("the count was painted %d times, want at least 3", painted)
	}

	t.Run("fits the width", func(t *testing.T) {
		for paint := range strings.SplitSeq(raw, "\r\x1b[K") {
			line, _, _ := strings.Cut(paint, "\n")
			if width := utf8.RuneCountInString(line); gauge.MatchString(line) && width >= columns {
				t.Fatalf("it has %d columns, want less than %d, since a wrapped line cannot be taken back: %q", width, columns, line)
			}
		}
	})
	t.Run("leaves no trace", func(t *testing.T) {
		end := screenAfter(raw)
		for _, line := range end {
			if gauge.MatchString(line) {
				t.Fatalf("at the end it still stands on the screen: %q\n\n%s", line, strings.Join(end, "\n"))
			}
		}
	})
	t.Run("does not go back in time", func(t *testing.T) {
		last := ""
		for _, stamp := range regexp.MustCompile(` *\d+\.\ds  `).FindAllString(raw, -1) {
			if stamp < last { // they are padded to the same width
				t.Fatalf("%q is painted after %q:\n%q", stamp, last, raw)
			}
			last = stamp
		}
	})
}

// runOnTerminal runs the command on a terminal, wants it to succeed, and returns
// all that it wrote.
func runOnTerminal(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "connmgr", args...)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	raw, _ := io.ReadAll(terminal) // Linux ends a terminal with an error
	if err := cmd.Wait(); err != nil {
		t.Fatalf("connmgr %s: %v\n%s", strings.Join(args, " "), err, raw)
	}
	return string(raw)
}

// screenAfter returns the lines of a terminal, those scrolled out included, after
// it has been written to. It knows what the demo uses: carriage return, newline
// and erasing to the end of the line.
func screenAfter(raw string) []string {
	lines := [][]rune{nil}
	row, col := 0, 0
	down := func() {
		if row++; row == len(lines) {
			lines = append(lines, nil)
		}
	}
	for raw != "" {
		if rest, found := strings.CutPrefix(raw, "\x1b[K"); found {
			lines[row], raw = lines[row][:min(col, len(lines[row]))], rest
			continue
		}
		r, size := utf8.DecodeRuneInString(raw)
		raw = raw[size:]
		switch r {
		case '\r':
			col = 0
		case '\n':
			down()
		default:
			if col == columns {
				down()
				col = 0
			}
			for len(lines[row]) <= col {
				lines[row] = append(lines[row], ' ')
			}
			lines[row][col] = r
			col++
		}
	}
	text := make([]string, len(lines))
	for i, l := range lines {
		text[i] = string(l)
	}
	return text
}
