package config

import (
	"fmt"
	"strings"
)

// This file says where values are from, and what is wrong with them.

// Kind is a kind of source, from the weakest to the strongest.
type Kind uint8

const (
	// KindDefault is what holds if nothing is set.
	KindDefault Kind = iota
	kindDerived      // from the value of another field
	// KindFile is a TOML file.
	KindFile
	// KindEnv is a variable of the environment.
	KindEnv
	// KindFlag is a flag of the command line.
	KindFlag
)

// Source is where a value is from.
type Source struct {
	Kind Kind
	// Name is the file, the variable, or the flag without dashes.
	Name string
	// Line and Column are the place in the file, from 1, in characters. They are 0 where
	// there is no such place.
	Line, Column int
}

// String returns, for example, "connmgr.toml:3:8", "environment CONNMGR_LISTEN", "flag
// --listen" or "default".
func (s Source) String() string {
	switch s.Kind {
	case KindDefault:
		return "default"
	case kindDerived:
		return s.Name
	case KindFile:
		if s.Line == 0 {
			return s.Name
		}
		return fmt.Sprintf("%s:%d:%d", s.Name, s.Line, s.Column)
	case KindEnv:
		return "environment " + s.Name
	case KindFlag:
		return "flag --" + s.Name
	}
	return fmt.Sprintf("source %d", s.Kind)
}

// origin is where a value is from, and each of its items if it is a list.
type origin struct {
	Source
	items []Source
}

// item returns where an item of a list is from.
func (o origin) item(i int) Source {
	if i < len(o.items) {
		return o.items[i]
	}
	return o.Source
}

// Problem is a mistake in a configuration.
type Problem struct {
	// Source is where it is.
	Source Source
	// Field is the key that it is about, such as "watermarks.low"; empty if it is about
	// none.
	Field string
	// Text says what is wrong and what was expected.
	Text string
}

// Error says it in one line, such as `connmgr: connmgr.toml:3:8: watermarks.low is "few",
// want a number of connections, 1 or more`.
func (p *Problem) Error() string {
	return fmt.Sprintf("connmgr: %s: %s", p.Source, p.Text)
}

// Problems is all mistakes of a configuration.
type Problems []*Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// err returns nil if there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// maxShown bounds a value in a message, in bytes.
const maxShown = 80

// shown is a value as messages show it: cut, and harmless to a terminal.
func shown(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	quoted := fmt.Sprintf("%q", text)
	if inner := quoted[1 : len(quoted)-1]; strings.ReplaceAll(inner, `\"`, `"`) == text {
		return text
	}
	return quoted
}
