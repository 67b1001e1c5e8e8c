package connmgrhttp

import (
	"encoding"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file reads queries. What is not understood is refused, so that a filter that is
// misspelt is not one that matches everybody.

// query is the parameters of a request. After all have been asked for, finish says what
// was wrong.
type query struct {
	values url.Values
	known  []string
	err    error // the first one
}

func readQuery(r *http.Request) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.err = refuse(problem.BadRequest, "", "the query is malformed: %v", err)
	}
	for name := range values {
		if !utf8.ValidString(name) || !utf8.ValidString(values.Get(name)) {
			q.refuse(strings.ToValidUTF8(name, "\uFFFD"), "the query is not UTF-8")
		}
	}
	return q
}

// noQuery is for paths that take no parameters.
func noQuery(r *http.Request) error { return readQuery(r).finish() }

// finish returns the first mistake, a parameter that is not known among them.
func (q *query) finish() error {
	if q.err != nil {
		return q.err
	}
	for name, values := range q.values {
		switch {
		case !slices.Contains(q.known, name) && len(q.known) == 0:
			return refuse(problem.BadRequest, name, "there is no parameter %.100q here; there are none", name)
		case !slices.Contains(q.known, name):
			return refuse(problem.BadRequest, name, "there is no parameter %.100q here; there are %s", name, strings.Join(q.known, ", "))
		case len(values) > 1:
			return refuse(problem.BadRequest, name, "the parameter %s is given %d times, want it once", name, len(values))
		}
	}
	return nil
}

func (q *query) refuse(name, format string, args ...any) {
	if q.err == nil {
		q.err = refuse(problem.BadRequest, name, format, args...)
	}
}

// text returns a parameter, and whether it is given.
func (q *query) text(name string) (value string, given bool) {
	q.known = append(q.known, name)
	if !q.values.Has(name) {
		return "", false
	}
	return q.values.Get(name), true
}

// number returns a parameter between two bounds, or what it is if it is not given.
func (q *query) number(name string, otherwise, least, most int) int {
	text, given := q.text(name)
	if !given {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		q.refuse(name, "%s is %.100q, want a number from %d to %d", name, text, least, most)
		return otherwise
	}
	return n
}

// optional is number without bounds; nil if it is not given.
func (q *query) optional(name string) *int {
	text, given := q.text(name)
	if !given {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		q.refuse(name, "%s is %.100q, want a number", name, text)
		return nil
	}
	return &n
}

// flag returns a parameter that is true or false; nil if it is not given.
func (q *query) flag(name string) *bool {
	text, given := q.text(name)
	switch {
	case !given:
		return nil
	case text == "true" || text == "false":
		return new(text == "true")
	}
	q.refuse(name, `%s is %.100q, want "true" or "false"`, name, text)
	return nil
}

// choice returns a parameter that is one of some words, the first one if it is not given.
func (q *query) choice(name string, words ...string) string {
	text, given := q.text(name)
	if !given {
		return words[0]
	}
	if text == "" || !slices.Contains(words, text) { // "" among the words is for not given
		q.refuse(name, "%s is %.100q, want one of %s", name, text, strings.Join(words, ", "))
		return words[0]
	}
	return text
}

// word reads a parameter that is the word of a constant, and reports whether it is given.
func (q *query) word(name string, into encoding.TextUnmarshaler) (given bool) {
	text, given := q.text(name)
	if !given {
		return false
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		q.refuse(name, "%s: %v", name, strings.TrimPrefix(err.Error(), "connmgr: "))
		return false
	}
	return true
}

// prefix returns a parameter that is an address prefix or an address.
func (q *query) prefix(name string) (p netip.Prefix, given bool) {
	text, given := q.text(name)
	if !given {
		return p, false
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			q.refuse(name, "%s is %.100q, want an address or a CIDR", name, text)
			return p, false
		}
		addr = addr.Unmap()
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	return p.Masked(), true
}

// seconds returns a parameter that is a duration in seconds, 0 if it is not given.
func (q *query) seconds(name string) time.Duration {
	text, given := q.text(name)
	if !given {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		n = math.NaN()
	}
	d, ok := seconds(n)
	if !ok {
		q.refuse(name, "%s is %.100q, want seconds from 0 to %.0f", name, text, maxSeconds)
	}
	return d
}

// maxSeconds is the longest time that a request may name: a hundred years.
const maxSeconds = 100 * 365.25 * 24 * 3600

// seconds turns seconds into a duration, and reports whether they can be one.
func seconds(n float64) (time.Duration, bool) {
	if !(n >= 0 && n <= maxSeconds) {
		return 0, false
	}
	d := time.Duration(n * float64(time.Second))
	if n > 0 {
		d = max(d, 1) // 0 is for good, which nobody means who gives a time
	}
	return d, true
}

// id returns a parameter that is the ID of an event.
func (q *query) id(name string) (id uint64, given bool) {
	text, given := q.text(name)
	if !given {
		return 0, false
	}
	id, ok := parseID(text)
	if !ok {
		q.refuse(name, "%s is %.100q, want the ID of an event", name, text)
	}
	return id, ok
}

func parseID(text string) (id uint64, ok bool) {
	id, err := strconv.ParseUint(text, 10, 64)
	return id, err == nil
}
