package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// This file is how commands write what a node says: tables, ages, JSON. Names, tags,
// reasons and origins come from strangers, so nothing of them reaches a terminal that it
// would obey.

// table is rows with aligned columns, each line behind the same indent.
type table struct {
	w      *tabwriter.Writer
	indent string
}

func newTable(out io.Writer, columns ...string) table { return indentedTable(out, "", columns...) }

func indentedTable(out io.Writer, indent string, columns ...string) table {
	t := table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), indent}
	if len(columns) > 0 {
		t.row(columns...)
	}
	return t
}

func (t table) row(cells ...string) { fmt.Fprintln(t.w, t.indent+strings.Join(cells, "\t")) }

func (t table) flush() error { return t.w.Flush() }

// cutLines passes on lines, of those that are too long the beginning and "…". A line may
// come in pieces.
type cutLines struct {
	out     io.Writer
	columns int
	at      int    // how many columns of the line have come
	held    []rune // the one in the last column, until it is known that no more come
}

func (c *cutLines) Write(p []byte) (int, error) {
	var b strings.Builder
	for _, r := range string(p) {
		switch {
		case r == '\n':
			b.WriteString(string(c.held) + "\n")
			c.at, c.held = 0, nil
			continue
		case c.at < c.columns-1:
			b.WriteRune(r)
		case c.at == c.columns-1:
			c.held = []rune{r}
		default:
			c.held = []rune(ellipsis)
		}
		c.at++
	}
	_, err := io.WriteString(c.out, b.String())
	return len(p), err
}

// plainText makes a text safe for a terminal and a table. Nothing is "-".
func plainText(text string) string {
	if text == "" {
		return "-"
	}
	return plainLine(text)
}

// plainLine is a text with escapes, as strings have them in Go, in place of what a
// terminal would obey or not show: control characters, line breaks, marks that turn the
// direction of writing, bytes that are no UTF-8.
func plainLine(text string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

func isPlain(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) < 0
}

// writeJSON writes a document as it came, indented. In its strings, what a terminal would
// obey is escaped; to programs that is the same.
func writeJSON(out io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := out.Write(plainJSON(b.Bytes()))
	return err
}

// writeJSONLine writes a document in one line.
func writeJSONLine(out io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := out.Write(plainJSON(b.Bytes()))
	return err
}

// plainJSON escapes characters that are not printable. Outside of strings, JSON has none
// but blanks and line feeds; inside, it has escapes for those below 32 already.
func plainJSON(raw []byte) []byte {
	plain := true
	for _, c := range raw {
		plain = plain && c < 0x7f
	}
	if plain {
		return raw
	}
	b := make([]byte, 0, len(raw)+len(raw)/8)
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		switch {
		case r < 0x7f || r != utf8.RuneError && strconv.IsPrint(r):
			b = append(b, raw[:size]...)
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		raw = raw[size:]
	}
	return b
}

// seconds is a time span of a document.
func seconds(n float64) time.Duration {
	const most = 1e9 // some thirty years
	return time.Duration(min(max(n, 0), most) * float64(time.Second))
}

// moment is a time as all commands write it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// count is a number of things: "1 peer", "2 peers".
func count[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// yesNo is a bool in a table.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// terminal says whether something is a terminal, and how many columns it has; 0 if it
// does not say.
func terminal(v any) (is bool, columns int) {
	f, ok := v.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		columns = 0
	}
	return true, columns
}

// loud returns a text in bold yellow if out is a terminal and nobody asked for no colours.
func loud(out io.Writer, text string) string {
	is, _ := terminal(out)
	if _, no := os.LookupEnv("NO_COLOR"); !is || no && os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[1;33m" + text + "\x1b[0m"
}

// buffered calls write with a buffer before out, and returns the first error of both.
func buffered(out io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriter(out)
	if err := write(b); err != nil {
		return err
	}
	return b.Flush()
}
