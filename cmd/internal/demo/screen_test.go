package demo

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// pass lets time pass in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// onTerminal returns a screen that takes a buffer for a terminal.
func onTerminal(out *bytes.Buffer, opts Options) *screen {
	s := newScreen(out, opts)
	s.terminal = true
	return s
}

var smallDemo = Options{Peers: 30, Low: 10, High: 20, Grace: time.Second}

func TestPlainLinesCountAtMostTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newScreen(&out, smallDemo)
		lines := func() int { return strings.Count(out.String(), "\n") }

		s.count(1)
		if lines() != 1 {
			t.Fatalf("the first count wrote %q, want one line", out.String())
		}
		pass(499 * time.Millisecond)
		s.count(2)
		if lines() != 1 {
			t.Errorf("a count less than 0.5 s after the last line wrote a line, want none: %q", out.String())
		}
		pass(time.Millisecond)
		s.count(2)
		if lines() != 2 || !strings.Contains(out.String(), " 2 connections") {
			t.Errorf("0.5 s after the last line the output is %q, want a second line with the new count", out.String())
		}
		pass(time.Hour)
		s.count(2)
		if lines() != 2 {
			t.Errorf("a count that has not changed wrote a line, want none: %q", out.String())
		}
		if strings.ContainsAny(out.String(), "\x1b\r") {
			t.Errorf("plain lines have control characters: %q", out.String())
		}
	})
}

func TestTerminalShowsEveryCountInPlace(t *testing.T) {
	var out bytes.Buffer
	s := onTerminal(&out, smallDemo)
	s.count(1)
	s.count(2)
	if text := out.String(); strings.Count(text, "\r\x1b[K") != 2 || strings.Contains(text, "\n") {
		t.Errorf("two counts wrote %q, want each to begin by clearing the line, and no newline", text)
	}
}

func TestLinesAppearAboveTheLiveLine(t *testing.T) {
	var out bytes.Buffer
	s := onTerminal(&out, smallDemo)
	s.count(12)
	out.Reset()
	s.say("hello")
	text, live, found := strings.Cut(out.String(), "hello\n")
	if !found || !strings.HasPrefix(text, "\r\x1b[K") || !strings.Contains(live, "12 connections") {
		t.Errorf("a line over a live one wrote %q, want the live line cleared, the line, and the live line again", out.String())
	}
}

func TestLiveLineIsTakenOffInTheEnd(t *testing.T) {
	var out bytes.Buffer
	s := onTerminal(&out, smallDemo)
	s.count(12)
	out.Reset()
	s.endLive()
	if out.String() != "\r\x1b[K" {
		t.Errorf("taking the live line off wrote %q, want the line cleared", out.String())
	}
	out.Reset()
	s.endLive()
	s.say("bye")
	if strings.Contains(out.String(), "connections") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("after that, a line wrote %q, want no trace of the live line", out.String())
	}
}

func TestJSONKeepsTheScreenSilent(t *testing.T) {
	var out bytes.Buffer
	opts := smallDemo
	opts.JSON = true
	for _, s := range []*screen{newScreen(&out, opts), onTerminal(&out, opts)} {
		s.say("hello")
		s.count(3)
		s.endLive()
	}
	if out.Len() > 0 {
		t.Errorf("with --json the screen shows %q, want nothing", out.String())
	}
}

// bar returns the bar of a gauge.
func bar(t *testing.T, conns int, opts Options) string {
	t.Helper()
	_, rest, ok := strings.Cut(gauge(conns, opts), "[")
	b, _, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		t.Fatalf("gauge(%d) is %q, want a bar in brackets", conns, gauge(conns, opts))
	}
	return b
}

func TestGaugeShowsTheCountAgainstTheWatermarks(t *testing.T) {
	for _, c := range []struct {
		conns int
		state string
	}{{0, ": within"}, {9, ": within"}, {20, ": within"}, {21, ": ABOVE high"}, {30, ": ABOVE high"}} {
		text := gauge(c.conns, smallDemo)
		for _, want := range []string{fmt.Sprintf("%d connections", c.conns), "low 10", "high 20", c.state} {
			if !strings.Contains(text, want) {
				t.Errorf("gauge(%d) is %q, want it to say %q", c.conns, text, want)
			}
		}
	}
	if text := gauge(1, smallDemo); !strings.Contains(text, "1 connection,") {
		t.Errorf("gauge(1) is %q, want it to speak of 1 connection", text)
	}
}

func TestGaugeGrowsWithTheCountAndKeepsItsWidth(t *testing.T) {
	empty := bar(t, 0, smallDemo)
	if strings.Contains(empty, "#") || strings.Count(empty, "L") != 1 || strings.Count(empty, "H") != 1 {
		t.Errorf("the bar of no connection is %q, want both marks and nothing filled", empty)
	}
	if low, high := strings.Index(empty, "L"), strings.Index(empty, "H"); high < low {
		t.Errorf("the bar is %q, want low water before high water", empty)
	}
	filled := 0
	for conns := range smallDemo.Peers + 1 {
		b := bar(t, conns, smallDemo)
		if len(b) != len(empty) {
			t.Errorf("the bar of %d is %d wide, want %d", conns, len(b), len(empty))
		}
		n := strings.Count(b, "#")
		if n < filled {
			t.Errorf("the bar of %d connections is %q, shorter than that of %d", conns, b, conns-1)
		}
		filled = n
		// The marks are where the bar ends when the count is there.
		if mark := strings.Index(b, "H"); conns < smallDemo.High && strings.Contains(b[mark:], "#") {
			t.Errorf("the bar of %d connections is %q, beyond the mark of high water %d", conns, b, smallDemo.High)
		}
	}
	if full := bar(t, smallDemo.Peers, smallDemo); strings.Contains(full, ".") {
		t.Errorf("the bar of all connections is %q, want it full", full)
	}
}

func TestGaugeIsDrawnForAnyWatermarks(t *testing.T) {
	for _, o := range []Options{
		{Peers: 1, Low: 1, High: 1},
		{Peers: 1000, Low: 1, High: 1},
		{Peers: 1000, Low: 1000, High: 1000},
		{Peers: 1, Low: 5000, High: 100_000},
	} {
		for _, conns := range []int{0, 1, o.Peers, o.High, o.Peers + 10} {
			if b := bar(t, conns, o); !regexp.MustCompile(`^[#.L]*H[#.]*$`).MatchString(b) {
				t.Errorf("%d connections, low %d, high %d: the bar is %q", conns, o.Low, o.High, b)
			}
		}
	}
}

func TestLiveLineFits80Columns(t *testing.T) {
	for _, o := range []Options{smallDemo, {Peers: 120, Low: 40, High: 80}, {Peers: maxPeers, Low: 1000, High: 1000}} {
		var out bytes.Buffer
		onTerminal(&out, o).count(o.Peers)
		if line := strings.TrimPrefix(out.String(), "\r\x1b[K"); len(line) >= 80 {
			t.Errorf("the live line has %d columns, want less than 80, since a wrapped line cannot be taken back: %q", len(line), line)
		}
	}
}

func TestTrimLineTellsWhoWentAndWhatIsLeft(t *testing.T) {
	r := connmgr.TrimResult{
		Trigger: connmgr.TriggerGrace,
		Figures: connmgr.Figures{Total: 10, InGrace: 3, Protected: 2, Counted: 7},
		Took:    1500 * time.Microsecond,
		Closed: []connmgr.Verdict{
			{Peer: "a", Score: -1000, Rank: 1, Conns: 1},
			{Peer: "b", Score: 0, Rank: 2, Conns: 2},
			{Peer: "c", Score: 5, Rank: 3, Conns: 1},
		},
	}
	line := newTrimLine(4, &r)
	if line.Left != 6 || line.Lowest != -1000 || line.Highest != 5 || line.Closed != 3 || line.Millis != 1.5 {
		t.Errorf("the trim is %+v, want 6 connections left of 10, 3 peers closed, scores -1000 to 5, 1.5 ms", line)
	}
	for _, want := range []string{"trim 4 (grace ended)", "closed 3 peers (scores -1000 to 5)", "2 protected", "3 in grace", "6 connections"} {
		if !strings.Contains(line.text(), want) {
			t.Errorf("the line is %q, want it to say %q", line.text(), want)
		}
	}
}

func TestTrimOfOneReadsAsEnglish(t *testing.T) {
	r := connmgr.TrimResult{Figures: connmgr.Figures{Total: 2}, Closed: []connmgr.Verdict{{Peer: "a", Score: -3, Conns: 1}}}
	line := newTrimLine(1, &r)
	text := line.text()
	if !strings.Contains(text, "closed 1 peer (score -3)") {
		t.Errorf("the line is %q, want it to say closed 1 peer (score -3)", text)
	}
	if regexp.MustCompile(`\b1 (peers|connections)`).MatchString(text) {
		t.Errorf("the line is %q, want the singular for one", text)
	}
}
