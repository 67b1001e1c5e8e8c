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
	live      string // the live line as it stands on the terminal
	lastCount int
	lastLine  time.Time // when a count was last written as a plain line
}

func newScreen(out io.Writer, opts Options) *screen {
	s := &screen{opts: opts, started: time.Now(), out: out, lastCount: -1}
	if f, ok := out.(*os.File); ok {
		s.terminal = term.IsTerminal(int(f.Fd()))
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
	fmt.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
	fmt.Fprint(s.out, s.live)
}

// count shows the number of connections against the watermarks.
func (s *screen) count(conns int) {
	if s.opts.JSON {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if conns == s.lastCount {
		return
	}
	if s.terminal {
		s.lastCount = conns
		s.live = fmt.Sprintf("%5.1fs  %s", time.Since(s.started).Seconds(), gauge(conns, s.opts))
		fmt.Fprint(s.out, "\r\x1b[K"+s.live)
		return
	}
	if time.Since(s.lastLine) >= 500*time.Millisecond {
		s.lastCount, s.lastLine = conns, time.Now()
		fmt.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.started).Seconds(), gauge(conns, s.opts))
	}
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
	const width = 40
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
	return fmt.Sprintf("[%s] %3d connections, low %d, high %d: %s", bar, conns, opts.Low, opts.High, state)
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

	closed []connmgr.Verdict
}

func newTrimLine(number int, r *connmgr.TrimResult) trimLine {
	t := trimLine{
		Number: number, Trigger: r.Trigger.String(), Closed: len(r.Closed), Counted: r.Counted,
		InGrace: r.InGrace, Protected: r.Protected, Left: r.Total,
		Millis: float64(r.Took.Microseconds()) / 1000, closed: r.Closed,
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
	return fmt.Sprintf("trim %d (%s): closed %s (%s), kept %d protected, left %d in grace alone; %d connections remain",
		t.Number, t.Trigger, plural(t.Closed, "peer"), scores, t.Protected, t.InGrace, t.Left)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
