package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dep2p/connmgr"
)

// This file is the targets of rules as text: what a line of a list has there, and
// nothing else that a line can have.

// TargetError says that a text is not a target.
type TargetError struct {
	// Text is the text, or its beginning with "…" behind it. It can be any bytes.
	Text string
	// Want is what was expected.
	Want string
	// Err says more, or is nil.
	Err error
}

// Error returns, for example, `connmgr: target "10.0.0.300": want an IPv4 address: four
// numbers from 0 to 255`.
func (e *TargetError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("connmgr: target %q: want %s: %v", e.Text, e.Want, e.Err)
	}
	return fmt.Sprintf("connmgr: target %q: want %s", e.Text, e.Want)
}

// Unwrap returns Err.
func (e *TargetError) Unwrap() error { return e.Err }

// Target returns a target as lists write it: "peer NAME", "port 25", an address, or a
// prefix. A name that blanks, quotes, comment signs or the form of a range would spoil
// stands in quotes, as a string does in Go.
func (n Names) Target(t connmgr.Target) string {
	id, ok := t.Peer()
	if !ok {
		return t.String()
	}
	name := n.Peer(id)
	if isBare(name) {
		return "peer " + name
	}
	return "peer " + strconv.Quote(name)
}

// isBare reports whether a name can stand without quotes. "a:1.2.3.4-1.2.3.9" cannot: it
// is a range with a name.
func isBare(name string) bool {
	return name != "" && isPrintable(name) && !strings.ContainsAny(name, ` "#;`) &&
		(!strings.Contains(name, ":") || !strings.Contains(name, "-"))
}

// isPrintable reports whether a text has nothing that a terminal would obey or not show.
func isPrintable(text string) bool {
	for _, c := range text {
		if c == utf8.RuneError || !strconv.IsPrint(c) {
			return false
		}
	}
	return true
}

const (
	wantTarget    = `an address, a CIDR, "peer NAME" or "port NUMBER"`
	wantAlone     = "a target alone: effect, end, reason and origin have fields of their own"
	wantPrintable = "printable text; other names stand in quotes, as strings do in Go"
)

// ParseTarget returns the target that a text says, as a line of a list says it (see
// [connmgr.ListFormat]). A range is one if it is a single prefix. Everything else that a
// line can have beside its target, and everything that could pass for a second line, is
// refused with a [*TargetError].
func (n Names) ParseTarget(text string) (connmgr.Target, error) {
	fail := func(want string, err error) (connmgr.Target, error) {
		return connmgr.Target{}, &TargetError{Text: short(text), Want: want, Err: err}
	}
	line := strings.Trim(text, " \t")
	if !isPrintable(strings.ReplaceAll(line, "\t", " ")) {
		return fail(wantPrintable, nil)
	}
	// What the line says beside its target would be in the rule, in place of these.
	format := connmgr.ListFormat{
		ParsePeer: n.Format.ParsePeer, FormatPeer: n.Format.FormatPeer,
		Effect: connmgr.Deny, Expires: time.Unix(1, 0).UTC(), Origin: "origin",
	}
	const reason = "reason"
	rules, err := format.Read(strings.NewReader(line+" # "+reason), "")
	if fault := (*connmgr.ListError)(nil); errors.As(err, &fault) {
		switch want := fault.Want; {
		case strings.Contains(want, `"until`): // it wants that, if anything, behind the target
			return fail(wantAlone, nil)
		case strings.Contains(want, "NAME:FROM-TO"):
			return fail(wantTarget, nil)
		default:
			return fail(want, fault.Err)
		}
	}
	switch {
	case err != nil:
		return fail("a target", err)
	case len(rules) == 0:
		return fail(wantTarget, nil)
	case len(rules) > 1:
		return fail(fmt.Sprintf("one CIDR: this range takes %d, such as %v; a list can be imported", len(rules), rules[0].Target), nil)
	}
	r := rules[0]
	if !r.Expires.Equal(format.Expires) || r.Reason != reason || !beginsAs(line, r.Target) {
		return fail(wantAlone, nil)
	}
	return r.Target, nil
}

// beginsAs reports whether a line begins with its target, and not with an effect or a
// word of some program's format.
func beginsAs(line string, t connmgr.Target) bool {
	word, _, more := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	if _, ok := t.Peer(); ok {
		return word == "peer" || !more
	}
	if _, ok := t.Port(); ok {
		return word == "port"
	}
	return strings.ContainsAny(word, ".:")
}
