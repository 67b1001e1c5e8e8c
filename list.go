package connmgr

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// This file says what lists of rules are, text with one rule a line, and reads them:
// from the file to the line. list_line.go reads a line, list_words.go and list_addr.go
// have its words, and list_write.go writes lists.

const (
	// maxListLine bounds a line, in bytes. The longest lines that are published are
	// a hundredth of it.
	maxListLine = 64 << 10
	// maxListRules bounds a list: 2 GB of rules, and as much again while they are put
	// into one slice. All public lists together have some ten million lines.
	maxListRules = 16 << 20
	// maxListRanges bounds the prefixes that come from ranges: a line can give 254,
	// and a small file must not take 2 GB.
	maxListRanges = 4 << 20
	// maxListText bounds the line in an error, in bytes.
	maxListText = 80
)

// ListFormat reads and writes lists of rules, and says how lists name peers and what
// their rules are unless a line says otherwise. The zero value works: rules deny,
// never end, and peers are named by their IDs.
//
// A list is UTF-8 text. Each line is empty, or a comment that begins with # or ;, or
// a rule:
//
//	[deny|allow] TARGET [until TIME] [# REASON]
//
// TARGET is one of
//
//	10.0.0.0/8                   a CIDR; bits behind the prefix are dropped
//	10.0.0.0/255.0.0.0           the same, also with a blank in place of the slash
//	192.0.2.1 or 2001:db8::1     an address; IPv4-mapped IPv6 is IPv4
//	192.0.2.7 - 192.0.2.19       a range, as the fewest prefixes that make it up
//	peer NAME                    a peer; see ParsePeer
//	NAME                         a peer, if ParsePeer is set and accepts the name
//	port 25                      a port of those whom we dial
//	Some Net:192.0.2.7-192.0.2.9 a range with a name, which becomes the reason: what
//	                             PeerGuardian and its kin use ("P2P"). It ends the line
//
// TIME is a time of RFC 3339, such as 2026-12-24T18:00:00Z, or "never". A REASON
// begins with # or ; and is the rest of the line; after the name of a peer a blank comes
// before it. A name or reason that blanks, quotes or line breaks would spoil stands in
// quotes, as a string does in Go.
//
// So the lists of FireHOL (.ipset and .netset), Spamhaus (DROP, EDROP, DROPv6 in text
// form), Emerging Threats, blocklist.de, Tor (bulk exit list and exit-addresses),
// PeerGuardian and plain lists of addresses can be read as they are, and what "ipset
// save" prints: a timeout there counts from the moment of reading, as in "ipset
// restore".
//
// A line that begins like an address is never taken for a peer: if it is none, that is
// an error. So is everything else that is not understood, and then nothing of the list
// is returned.
//
// A ListFormat is a plain value. Its methods can be called from several goroutines at
// once if its functions can.
type ListFormat struct {
	// ParsePeer returns the ID of the peer that has a name. The name comes from the
	// list: any text of up to 64 KiB. Nil means that the name is the ID, or its bytes
	// in hexadecimal behind "0x".
	ParsePeer func(name string) (NodeID, error)
	// FormatPeer is the inverse: the name that ParsePeer turns into the ID. Nil means
	// the ID if it is printable ASCII, and hexadecimal behind "0x" otherwise.
	FormatPeer func(peer NodeID) string
	// Effect is what rules do that do not say it.
	Effect Effect
	// Expires is when rules end that do not say it; zero means never.
	Expires time.Time
	// Reason is that of rules without one.
	Reason string
	// Origin is that of every rule read. If it is empty, origins are what the lines
	// "#! origin NAME" say that Write puts into a list; otherwise these lines are
	// comments like any other.
	Origin string
	// MaxRules is how many rules a list may have, a range being as many as the prefixes
	// that it comes to: a small list can be of many ranges, and those of many prefixes. 0
	// means no limit but that of memory that is far too much.
	MaxRules int
}

// ListError says which line of a list cannot be read, and why.
type ListError struct {
	// File is the name that [ListFormat.Read] was given.
	File string
	// Line is the number of the line, from 1. Lines end with LF, CR LF or CR.
	Line int
	// Text is the line, or its beginning with "…" behind it. It can be any bytes.
	Text string
	// Want is what was expected.
	Want string
	// Err says more, or is nil. It is the error of ParsePeer, if that is what failed.
	Err error
}

// Error returns, for example, `connmgr: drop.txt:17: "10.0.0.300/8": want an IPv4
// address: four numbers from 0 to 255`.
func (e *ListError) Error() string {
	where := fmt.Sprintf("%s:%d", e.File, e.Line)
	if e.File == "" {
		where = fmt.Sprintf("line %d", e.Line)
	}
	if e.Err != nil {
		return fmt.Sprintf("connmgr: %s: %q: want %s: %v", where, e.Text, e.Want, e.Err)
	}
	return fmt.Sprintf("connmgr: %s: %q: want %s", where, e.Text, e.Want)
}

// Unwrap returns Err.
func (e *ListError) Unwrap() error { return e.Err }

// Read returns the rules of a list, in its order. The name of the file is for errors
// only, and may be empty. Rules that have expired are returned too. Of two rules that
// are the same one both are returned; the last counts when they are added.
//
// Every rule is valid: a reason that is too long is cut. Times are in UTC. A line that
// cannot be read gives a [*ListError] and no rules at all. A list without rules is no
// error, so whoever replaces rules by those of a list may want to look at their number.
func (f ListFormat) Read(r io.Reader, file string) ([]Rule, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	list := listReader{ListFormat: f, origin: f.Origin}
	lines := listLines{r: r}
	for {
		line, want := lines.next()
		if want == "" {
			if lines.done {
				break
			}
			want = list.line(line)
		}
		if want != "" {
			return nil, &ListError{File: file, Line: lines.number, Text: shortListText(line), Want: want, Err: list.err}
		}
	}
	if lines.err != nil {
		return nil, fmt.Errorf("connmgr: reading list %q after line %d: %w", file, lines.number, lines.err)
	}
	return list.all(), nil
}

// check returns an error if the rules that a format makes would not be valid.
func (f ListFormat) check() error {
	r := Rule{Effect: f.Effect, Target: PortTarget(0), Expires: f.Expires, Reason: f.Reason, Origin: f.Origin}
	if err := r.Validate(); err != nil {
		return fmt.Errorf("connmgr: what ListFormat gives to rules is not valid: %w", err)
	}
	return nil
}

// shortListText is a line as errors show it.
func shortListText(line string) string {
	line = strings.Trim(line, listBlanks)
	if len(line) <= maxListText {
		return line
	}
	return cutText(line, maxListText) + "…"
}

// listLines cuts text into lines. It reads large blocks, so that a line is a piece of
// a string and costs nothing.
type listLines struct {
	r       io.Reader
	buf     []byte
	text    string // what was read last
	at      int    // where in text the next line begins
	number  int    // of the last line given out
	afterCR bool   // an LF that follows belongs to the line before
	eof     bool
	done    bool // there are no more lines
	err     error
}

const (
	wantShortLine = "a line of at most 65536 bytes"
	wantNoNUL     = "text: it has a NUL byte"
	wantNoUTF16   = "text in UTF-8: this is UTF-16"
	wantNoGzip    = "text in UTF-8: this is packed with gzip"
	wantUTF8      = "text in UTF-8: convert it, it may be ISO-8859-1"
)

// next returns a line without its end, or what is wrong with it, or sets done.
func (l *listLines) next() (line, want string) {
	for {
		if l.afterCR && l.at < len(l.text) {
			if l.text[l.at] == '\n' {
				l.at++
			}
			l.afterCR = false
		}
		plain := true
		for i := l.at; i < len(l.text); i++ {
			c := l.text[i]
			if c >= ' ' && c < utf8.RuneSelf || c == '\t' {
				continue
			}
			if c == '\n' || c == '\r' {
				line, l.at, l.afterCR = l.text[l.at:i], i+1, c == '\r'
				return line, l.judge(line, plain)
			}
			plain = false
		}
		line = l.text[l.at:]
		if len(line) > maxListLine || l.eof && line != "" && l.err == nil {
			l.at = len(l.text)
			return line, l.judge(line, plain)
		}
		if l.eof {
			l.done = true
			return "", ""
		}
		l.fill()
	}
}

// judge counts a line and says what is wrong with it. A plain line has nothing but
// ASCII without control characters.
func (l *listLines) judge(line string, plain bool) (want string) {
	l.number++
	switch {
	case len(line) > maxListLine:
		return wantShortLine
	case plain:
		return ""
	case l.number == 1 && (strings.HasPrefix(line, "\xff\xfe") || strings.HasPrefix(line, "\xfe\xff")):
		return wantNoUTF16
	case l.number == 1 && strings.HasPrefix(line, "\x1f\x8b"):
		return wantNoGzip
	case strings.IndexByte(line, 0) >= 0:
		return wantNoNUL
	case !utf8.ValidString(line):
		return wantUTF8
	}
	return ""
}

// fill reads the next block. What is left of the last one goes before it.
func (l *listLines) fill() {
	first := l.buf == nil
	switch {
	case first:
		l.buf = make([]byte, maxListLine/16) // all of a short list
	case len(l.buf) < maxListLine:
		l.buf = make([]byte, 4*maxListLine)
	}
	n := copy(l.buf, l.text[l.at:])
	for idle := 0; n < len(l.buf) && !l.eof; idle++ {
		more, err := l.r.Read(l.buf[n:])
		n += more
		switch {
		case errors.Is(err, io.EOF):
			l.eof = true
		case err != nil:
			l.eof, l.err = true, err
		case more > 0:
			idle = 0
		case idle == 100:
			l.eof, l.err = true, io.ErrNoProgress
		}
	}
	l.text, l.at = string(l.buf[:n]), 0
	if first {
		l.text = strings.TrimPrefix(l.text, "\ufeff")
	}
}
