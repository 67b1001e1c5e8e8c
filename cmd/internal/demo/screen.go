package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"golang.org/x/term"
)

// This file writes what happens while it happens: a live line with the count on a
// terminal, plain lines elsewhere, nothing with --json.

type screen struct {
	opts    Options
	started time.Time

	mu        sync.Mutex // guards all following fields
	out       io.Writer
	terminal  bool
	live      string // what the live line on the terminal says
	lastCount int
	lastLine  time.Time // when a count was last written as a plain line
	resting   bool      // counts are of no interest any more
	columns   int       // of the terminal; 0 if unknown
}

func newScreen(out io.Writer, opts Options) *screen {
	s := &screen{opts: opts, started: time.Now(), out: out, lastCount: -1}
	if f, ok := out.(*os.File); ok {
		s.terminal = term.IsTerminal(int(f.Fd()))
		s.columns, _, _ = term.GetSize(int(f.Fd()))
	}
	return s
}

// say writes one line with the time since the start.
func (s *screen) say(format string, args ...any) {
	if s.opts.JSON {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != "" {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
	fmt.Fprintln(s.out, s.stamp(fmt.Sprintf(format, args...)))
	s.paintLocked()
}

// count shows the number of connections against the watermarks.
func (s *screen) count(conns int) {
	if s.opts.JSON {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return
	}
	if s.terminal {
		s.live = gauge(conns, s.opts)
		fmt.Fprint(s.out, "\r\x1b[K")
		s.paintLocked()
		return
	}
	if conns != s.lastCount && time.Since(s.lastLine) >= 500*time.Millisecond {
		s.lastCount, s.lastLine = conns, time.Now()
		fmt.Fprintln(s.out, s.stamp(gauge(conns, s.opts)))
	}
}

// stamp puts the time since the start before a text.
func (s *screen) stamp(text string) string {
	return fmt.Sprintf("%5.1fs  %s", time.Since(s.started).Seconds(), text)
}

// paintLocked writes the live line, if there is one, at the beginning of an empty
// line.
func (s *screen) paintLocked() {
	if s.live == "" {
		return
	}
	line := s.stamp(s.live)
	if s.columns > 0 {
		line = line[:min(len(line), s.columns-1)] // a wrapped line cannot be taken back
	}
	fmt.Fprint(s.out, line)
}

// rest ends the counting.
func (s *screen) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = true
}

// endLive takes the live line off the terminal.
func (s *screen) endLive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != "" {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.live = ""
	}
}

// gauge draws a count against the watermarks.
func gauge(conns int, opts Options) string {
	const width = 20 // so that the line fits 80 columns with counts of four digits
	full := max(opts.Peers, opts.High)
	at := func(n int) int { return min(n*width/full, width-1) }
	bar := []byte(strings.Repeat(".", width))
	for i := range min(conns*width/full, width) {
		bar[i] = '#'
	}
	bar[at(opts.Low)], bar[at(opts.High)] = 'L', 'H'
	state := "within"
	if conns > opts.High {
		state = "ABOVE high"
	}
	return fmt.Sprintf("[%s] %s, low %d, high %d: %s", bar, plural(conns, "connection"), opts.Low, opts.High, state)
}

// trimLine is what the demo tells of a trim.
type trimLine struct {
	Number    int     `json:"number"`
	Trigger   string  `json:"trigger"`
	Closed    int     `json:"closed_peers"`
	Lowest    int     `json:"lowest_score"`
	Highest   int     `json:"highest_score"`
	Counted   int     `json:"counted"`
	InGrace   int     `json:"in_grace"`
	Protected int     `json:"protected"`
	Left      int     `json:"left"`
	Millis    float64 `json:"took_ms"`

	closed  []connmgr.Verdict
	started time.Time
}

func newTrimLine(number int, r *connmgr.TrimResult) trimLine {
	t := trimLine{
		Number: number, Trigger: r.Trigger.String(), Closed: len(r.Closed), Counted: r.Counted,
		InGrace: r.InGrace, Protected: r.Protected, Left: r.Total,
		Millis: float64(r.Took.Microseconds()) / 1000, closed: r.Closed,
		started: r.Started,
	}
	for i, v := range r.Closed {
		if t.Left -= v.Conns; i == 0 {
			t.Lowest, t.Highest = v.Score, v.Score
		}
		t.Lowest, t.Highest = min(t.Lowest, v.Score), max(t.Highest, v.Score)
	}
	return t
}

func (t *trimLine) text() string {
	scores := fmt.Sprintf("score %d", t.Lowest)
	if t.Lowest != t.Highest {
		scores = fmt.Sprintf("scores %d to %d", t.Lowest, t.Highest)
	}
	return fmt.Sprintf("trim %d (%s): closed %s (%s), kept %d protected, left alone %d in grace; %s left",
		t.Number, t.Trigger, plural(t.Closed, "peer"), scores, t.Protected, t.InGrace, plural(t.Left, "connection"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// pluralVerb is a subject and what it does: "1 node connects", "2 nodes connect".
func pluralVerb(n int, noun, verb string) string {
	if n == 1 {
		verb += "s"
	}
	return plural(n, noun) + " " + verb
}
