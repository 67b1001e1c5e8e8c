package connmgr

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file turns lines of a list into rules, those of our own form and of others.

// listReader turns lines into rules.
type listReader struct {
	ListFormat
	origin string // of the lines that follow
	reason string // the last one read; lists repeat them
	rules  []Rule // the last part
	parts  [][]Rule
	count  int // of rules in all parts
	ranges int // of those that came from ranges
	err    error
	now    time.Time // when a list first asked
}

// The parts of a list double up to a size at which allocating no longer matters.
const (
	minListPart = 1 << 5
	maxListPart = 1 << 14
)

// add adds a rule about a target. What it returns, as everything here that returns a
// want, is what was expected and is not there, or "".
func (l *listReader) add(r *Rule, target Target) (want string) {
	r.Target = target
	if err := r.Validate(); err != nil {
		l.err = err
		return "a valid rule"
	}
	if l.count++; l.count > maxListRules {
		return "at most 16777216 rules in a list"
	}
	if l.MaxRules > 0 && l.count > l.MaxRules {
		return fmt.Sprintf("at most %d rules in a list", l.MaxRules)
	}
	if len(l.rules) == cap(l.rules) {
		if l.rules != nil {
			l.parts = append(l.parts, l.rules)
		}
		l.rules = make([]Rule, 0, max(minListPart, min(maxListPart, 2*cap(l.rules))))
	}
	l.rules = append(l.rules, *r)
	return ""
}

// addSpan adds rules for all addresses of a span.
func (l *listReader) addSpan(r *Rule, s span) (want string) {
	if !s.isRange() {
		return l.add(r, PrefixTarget(s.prefix))
	}
	for prefix := range s.prefixes() {
		if l.ranges++; l.ranges > maxListRanges {
			return "ranges that come to at most 4194304 prefixes in a list"
		}
		if want := l.add(r, PrefixTarget(prefix)); want != "" {
			return want
		}
	}
	return ""
}

// all returns the rules in one slice of the right size.
func (l *listReader) all() []Rule {
	if l.parts == nil {
		return slices.Clip(l.rules)
	}
	return slices.Concat(append(l.parts, l.rules)...)
}

const (
	wantTarget = `an address, a CIDR, a range of addresses, "peer NAME", "port NUMBER" or "NAME:FROM-TO"`
	wantAfter  = `one target a line, and nothing after it but "until TIME" and "# REASON"`
	wantUntil  = `"until" before the time at which the rule ends`
	wantTime   = `a time after "until", such as 2026-12-24T18:00:00Z, or "never"`
	wantYears  = "an end between the years 1970 and 2261"
	wantLower  = "deny, allow, peer, port and until in small letters"
	wantPort   = "one port from 0 to 65535"
	wantPeer   = `a name after "peer", or one in quotes`
	wantPeerID = "the name of a peer"
	wantQuotes = `the name in quotes if this is a peer, and no "peer" before it if it is a range with a name`
	wantOrigin = `a name after "#! origin", or one in quotes`
)

// line reads one line.
func (l *listReader) line(line string) (want string) {
	line = strings.Trim(line, listBlanks)
	if line == "" {
		return ""
	}
	if beginsComment(line) {
		return l.directive(line)
	}
	r := Rule{Effect: l.Effect, Expires: l.Expires, Reason: l.Reason, Origin: l.origin}
	word, rest := cutWord(line)
	switch word {
	case "deny":
		r.Effect, line = Deny, rest
	case "allow":
		r.Effect, line = Allow, rest
	case "add", "create", "ExitNode", "ExitAddress", "Published", "LastStatus", "Downloaded", "@type":
		if want, ok := l.foreign(&r, word, rest); ok {
			return want
		}
	}
	named := r
	want = l.rule(&r, line)
	if want == "" || want == wantQuotes {
		return want
	}
	// The name of a range can begin like anything.
	name, s, wantRange := parseNamedRange(line)
	if wantRange == "" {
		if name != "" {
			named.Reason = l.shared(name)
		}
		l.err = nil
		return l.addSpan(&named, s)
	}
	if wantRange != wantTarget {
		l.err = nil
		return wantRange
	}
	return want
}

// directive reads a comment that may be for us.
func (l *listReader) directive(line string) (want string) {
	text, ok := strings.CutPrefix(line, "#!")
	if !ok || l.Origin != "" {
		return ""
	}
	word, name := cutWord(strings.TrimLeft(text, listBlanks))
	if word != "origin" {
		return ""
	}
	name, ok = unquoteText(name)
	if !ok || name == "" && !strings.HasSuffix(line, `"`) || strings.ContainsAny(name, "\r\n") || len(name) > maxRuleText {
		return wantOrigin
	}
	if name != l.origin {
		l.origin = strings.Clone(name)
	}
	return ""
}

// rule reads what comes after the effect.
func (l *listReader) rule(r *Rule, line string) (want string) {
	switch word, rest := cutWord(line); word {
	case "peer":
		return l.peer(r, rest)
	case "port":
		number, rest := cutBare(rest)
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return wantPort
		}
		if want := l.after(r, rest); want != "" {
			return want
		}
		return l.add(r, PortTarget(uint16(port)))
	}
	s, rest, want := parseSpan(line)
	if want == wantTarget {
		return l.barePeer(r, line)
	}
	if want == "" {
		want = l.after(r, rest)
	}
	if want != "" {
		return want
	}
	return l.addSpan(r, s)
}

// peer reads what comes after the word peer.
func (l *listReader) peer(r *Rule, line string) (want string) {
	name, rest := cutWord(line)
	switch {
	case strings.HasPrefix(line, `"`):
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return wantPeer
		}
		rest = line[len(quoted):]
		if name, err = strconv.Unquote(quoted); err != nil || rest != "" && !isBlank(rest[0]) && !beginsComment(rest) {
			return wantPeer
		}
	case name == "" || beginsComment(name):
		return wantPeer
	default:
		if _, _, want := parseNamedRange(name); want == "" {
			return wantQuotes
		}
	}
	if want := l.after(r, rest); want != "" {
		return want
	}
	return l.addPeer(r, name)
}

// barePeer reads a line that does not begin with a word of ours or an address.
func (l *listReader) barePeer(r *Rule, line string) (want string) {
	name, rest := cutWord(line)
	for _, word := range []string{"deny", "allow", "peer", "port", "until"} {
		if name == word {
			return wantTarget
		}
		if strings.EqualFold(name, word) {
			return wantLower
		}
	}
	if name == "" || beginsComment(name) {
		return wantTarget
	}
	if looksLikeAddr(name) {
		return addrFault(name)
	}
	if l.ParsePeer == nil || !printable(name) {
		return wantTarget
	}
	// First what is cheap: many lists have ranges with names.
	if want := l.after(r, rest); want != "" {
		return want
	}
	if _, _, want := parseNamedRange(name); want == "" {
		return wantTarget
	}
	return l.addPeer(r, name)
}

func (l *listReader) addPeer(r *Rule, name string) (want string) {
	peer, err := l.parsePeer(strings.Clone(name))
	if err != nil {
		l.err = err
		return wantPeerID
	}
	return l.add(r, PeerTarget(peer))
}

// after reads what comes after the target.
func (l *listReader) after(r *Rule, text string) (want string) {
	text = strings.TrimLeft(text, listBlanks)
	if text == "" {
		return ""
	}
	if word, rest := cutBare(text); word == "until" {
		var end string
		end, text = cutBare(rest)
		if r.Expires, want = parseEnd(end); want != "" {
			return want
		}
	} else if word != "" && meansUntil(word, rest) {
		return wantUntil
	}
	switch {
	case text == "":
		return ""
	case !beginsComment(text):
		return wantAfter
	}
	reason := strings.Trim(text[1:], listBlanks)
	if reason == "" {
		return ""
	}
	if plain, ok := unquoteText(reason); ok {
		reason = plain
	}
	if strings.ContainsAny(reason, "\r\n") {
		return "a reason of one line"
	}
	r.Reason = l.shared(reason)
	return ""
}

// shared returns a reason, cut to what is valid, as the string of the rule before if
// it is the same, and otherwise as one that does not keep the block from being freed.
func (l *listReader) shared(reason string) string {
	reason = cutText(reason, maxRuleText)
	if reason != l.reason {
		l.reason = strings.Clone(reason)
	}
	return l.reason
}

// foreign reads lines of "ipset save" and of Tor's exit-addresses. It is not ok if the
// line only begins like one.
func (l *listReader) foreign(r *Rule, word, rest string) (want string, ok bool) {
	first, more := cutWord(rest)
	switch word {
	case "create": // create NAME TYPE and options
		kind, _ := cutWord(more)
		return "", strings.HasPrefix(kind, "hash:") || strings.HasPrefix(kind, "bitmap:") || strings.HasPrefix(kind, "list:")
	case "add": // add NAME ENTRY and options
		s, more, want := parseSpan(more)
		if want == "" {
			want = l.ipsetOptions(r, more)
		}
		if want == "" {
			want = l.addSpan(r, s)
		}
		return want, want != wantTarget
	case "ExitAddress": // ExitAddress ADDRESS DATE TIME
		s, more, want := parseSpan(rest)
		if want != "" || !isStamp(more) {
			return "", false
		}
		return l.addSpan(r, s), true
	case "ExitNode": // ExitNode FINGERPRINT
		return "", len(first) == 40 && more == ""
	case "@type": // @type tordnsel VERSION
		return "", first == "tordnsel"
	default: // Published DATE TIME and the like
		return "", isStamp(rest)
	}
}

// isStamp reports whether a text is a date and a time, and nothing else.
func isStamp(text string) bool {
	_, err := time.Parse(time.DateTime, text)
	return err == nil
}

// ipsetOptions reads what comes after an entry.
func (l *listReader) ipsetOptions(r *Rule, text string) (want string) {
	for text != "" {
		var option, value string
		option, text = cutWord(text)
		switch option {
		case "comment":
			quoted, begins := strings.CutPrefix(text, `"`)
			comment, rest, ends := strings.Cut(quoted, `"`)
			if !begins || !ends {
				return `a text in quotes after "comment"`
			}
			if comment != "" {
				r.Reason = l.shared(comment)
			}
			text = strings.TrimLeft(rest, listBlanks)
		case "timeout":
			value, text = cutWord(text)
			seconds, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return `seconds after "timeout"`
			}
			if seconds == 0 {
				continue
			}
			if l.now.IsZero() {
				l.now = time.Now().UTC().Round(0)
			}
			r.Expires = l.now.Add(time.Duration(seconds) * time.Second)
		case "packets", "bytes", "skbmark", "skbprio", "skbqueue":
			_, text = cutWord(text)
		case "nomatch":
			return `no "nomatch": write "allow" and the prefix if it may pass, limits included`
		default:
			return "an option that ipset prints: timeout, comment, packets or bytes"
		}
	}
	return ""
}
