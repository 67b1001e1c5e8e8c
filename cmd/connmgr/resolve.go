package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrlibp2p"
)

// This file says which peer, or which target of a rule, somebody means: what stands in a
// table can be copied to the next command.

const peerHelp = `PEER is a peer ID, or of a peer that is or lately was connected the beginning or the end
of its ID if no other's is like it, with or without the "…" of the tables ("..." will do).
Connected peers come before those who have gone.`

const (
	ellipsis = "…"
	// leastAbbreviation is how many characters of a name must be given, so that a slip of
	// the finger does not happen to name somebody.
	leastAbbreviation = 4
	shortLength       = 8  // of an ID in a table on a narrow terminal
	maxCandidates     = 10 // that are listed
)

// shortPeer is the name of a peer for a narrow table: its end, for the beginnings of most
// peer IDs are the same.
func shortPeer(name string) string {
	name = plainLine(name)
	if n := utf8.RuneCountInString(name); n > 2*shortLength {
		runes := []rune(name)
		return ellipsis + string(runes[n-shortLength:])
	}
	return name
}

// abbreviation is a part of a name.
type abbreviation struct {
	begin, end string
	either     bool // begin is either of them
}

// abbreviated reads an abbreviation. It is not ok if there is none in the text.
func abbreviated(text string) (a abbreviation, ok bool) {
	for _, dots := range []string{ellipsis, "..."} {
		if begin, end, found := strings.Cut(text, dots); found {
			return abbreviation{begin: begin, end: end}, true
		}
	}
	return abbreviation{}, false
}

// longest is what to search for.
func (a abbreviation) longest() string {
	if len(a.end) > len(a.begin) {
		return a.end
	}
	return a.begin
}

func (a abbreviation) fits(name string) bool {
	if a.either {
		return strings.HasPrefix(name, a.begin) || strings.HasSuffix(name, a.begin)
	}
	return len(name) >= len(a.begin)+len(a.end) && strings.HasPrefix(name, a.begin) && strings.HasSuffix(name, a.end)
}

// findPeer returns the full name of the peer that somebody means.
func findPeer(ctx context.Context, c *client.Client, text string) (string, error) {
	if text == "" {
		return "", misused("PEER is empty")
	}
	if a, ok := abbreviated(text); ok && !c.IsLocal() {
		return findAbbreviated(ctx, c, text, a)
	}
	if _, err := connmgrlibp2p.ListFormat().ParsePeer(text); err == nil {
		return text, nil
	}
	if c.IsLocal() {
		return "", misused("PEER is %q, want a peer ID in full: a rule file knows nobody who is connected", text)
	}
	// It is no libp2p node's name, but the node may have names of its own. If it can be a
	// name there it is one, be the peer known or not: a guess could close somebody else.
	_, err := c.Peer(ctx, text, "")
	if e, ok := errors.AsType[*client.StatusError](err); ok && e.Problem.Status == http.StatusBadRequest && e.Problem.Field == "peer" {
		return findAbbreviated(ctx, c, text, abbreviation{begin: text, either: true})
	}
	if e, ok := errors.AsType[*client.StatusError](err); ok && e.NotFound() {
		return text, nil
	}
	return text, err
}

func findAbbreviated(ctx context.Context, c *client.Client, text string, a abbreviation) (string, error) {
	if utf8.RuneCountInString(a.longest()) < leastAbbreviation {
		return "", misused("PEER is %q: at least %d characters of a peer ID are needed", text, leastAbbreviation)
	}
	found, err := connectedLike(ctx, c, a)
	if err == nil && len(found) == 0 {
		found, err = recentlyLike(ctx, c, a)
	}
	switch {
	case err != nil:
		return "", err
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return "", &notFoundError{fmt.Sprintf("no peer that is or lately was connected to %s has an ID like %q; another one must be named in full", c.Address(), text)}
	}
	return "", ambiguous(text, found)
}

// connectedLike returns the connected peers with such a name.
func connectedLike(ctx context.Context, c *client.Client, a abbreviation) (found []string, err error) {
	answer, err := c.Peers(ctx, url.Values{"q": {a.longest()}}, 0, -1)
	if err != nil {
		return nil, err
	}
	list, err := answer.Document()
	if err != nil {
		return nil, err
	}
	for _, p := range list.Peers {
		if a.fits(p.Peer) {
			found = append(found, p.Peer)
		}
	}
	return found, nil
}

// mostRecent is in how many of the latest events a peer is looked for: as many as the API
// gives out.
const mostRecent = 1000

// recentlyLike returns the peers with such a name to whom something has happened lately,
// connected or not.
func recentlyLike(ctx context.Context, c *client.Client, a abbreviation) (found []string, err error) {
	answer, err := c.RecentEvents(ctx, nil, "", mostRecent)
	if err != nil {
		return nil, err
	}
	events, err := client.Events(answer)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Peer != "" && a.fits(e.Peer) && !slices.Contains(found, e.Peer) {
			found = append(found, e.Peer)
		}
	}
	return found, nil
}

// ambiguous says who could be meant, and in the last line what is wrong.
func ambiguous(text string, found []string) error {
	slices.Sort(found)
	var lines []string
	for _, name := range found[:min(len(found), maxCandidates)] {
		lines = append(lines, "  "+plainLine(name))
	}
	if more := len(found) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return errors.New(strings.Join(append(lines, fmt.Sprintf("%q is %d peers; say more of the one that is meant", text, len(found))), "\n"))
}

// target reads the target of a rule from the arguments of a command, such as "port 25"
// as one argument or two, and completes the names of peers.
func target(ctx context.Context, c *client.Client, args []string) (string, error) {
	text := strings.Join(args, " ")
	word, rest, _ := strings.Cut(text, " ")
	switch rest = strings.TrimSpace(rest); {
	case word == "port":
		if _, err := strconv.ParseUint(rest, 10, 16); err != nil {
			return "", misused("TARGET is %q, want a port from 0 to 65535", text)
		}
		return "port " + rest, nil
	case word == "peer":
		text = rest
	case strings.Contains(text, " "):
		return "", misused("TARGET is %q, want %s", text, wantTarget)
	}
	if word != "peer" && looksLikeAddress(text) {
		if _, err := netip.ParsePrefix(text); err == nil {
			return text, nil
		}
		if _, err := netip.ParseAddr(text); err == nil {
			return text, nil
		}
		return "", misused("TARGET is %q, which is neither an address, such as 192.0.2.1, nor a CIDR, such as 192.0.2.0/24", text)
	}
	if strings.HasPrefix(text, `"`) { // as lists quote names
		return "peer " + text, nil
	}
	name, err := findPeer(ctx, c, text)
	if err != nil {
		return "", err
	}
	if isPlain(name) && !strings.ContainsAny(name, " \"#;:") {
		return "peer " + name, nil
	}
	return "peer " + strconv.Quote(name), nil
}

const wantTarget = `an address, a CIDR, a peer ID, or "port" and a number`

// looksLikeAddress reports whether a text is meant to be an address or a prefix.
func looksLikeAddress(text string) bool {
	if strings.Contains(text, ellipsis) || strings.Contains(text, "...") {
		return false
	}
	if strings.ContainsAny(text, "/:") {
		return true
	}
	return strings.Contains(text, ".") && strings.Trim(text, "0123456789.") == ""
}
