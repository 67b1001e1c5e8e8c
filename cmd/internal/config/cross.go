package config

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/dep2p/connmgr"
)

// This file looks at what fits each by itself, but not together, and at files that the
// configuration names.

// minToken is the length that a token must have, in bytes.
const minToken = 16

// cross looks for fields that contradict one another.
func (l *loader) cross() {
	if l.broken { // what is missing in the file would be taken for a default
		return
	}
	w := l.Watermarks
	l.atMost("watermarks.low", w.Low, "watermarks.high", w.High)
	if w.HardLimit > 0 {
		l.atMost("watermarks.high", w.High, "watermarks.hard-limit", w.HardLimit)
	}
	l.atMost("watermarks.outbound-floor", w.OutboundFloor, "watermarks.high", w.High)
	if b := l.Bans; b.Enabled {
		if b.BanAt > 0 && b.DisconnectAt > b.BanAt {
			l.contradiction("bans.disconnect-at", "bans.ban-at", "must not be above")
		}
		if b.Longest < b.First {
			l.contradiction("bans.longest", "bans.first", "must not be below")
		}
		if b.BanAt == 0 && b.DisconnectAt == 0 {
			l.problem(l.from["bans.enabled"].Source, "bans.enabled",
				"bans.enabled is true, but bans.disconnect-at and bans.ban-at are both 0, want one of them above 0")
		}
	}
	l.api()
	l.twice("api.listen", l.API.Listen)
	origins := make([]string, len(l.Rules.Lists))
	for i, list := range l.Rules.Lists {
		origins[i] = list.Origin
	}
	l.twice("rules.lists", origins)
	if len(l.problems) == 0 {
		l.core()
	}
}

func (l *loader) atMost(low string, lowValue int, high string, highValue int) {
	if lowValue > highValue {
		l.contradiction(low, high, "must not be above")
	}
}

// contradiction is about the field that was set more to the point, and names the other.
func (l *loader) contradiction(key, other, text string) {
	if l.bad[key] || l.bad[other] {
		return // that is the mistake
	}
	src := l.from[key].Source
	if from := l.from[other].Source; from.Kind > src.Kind {
		src = from
	}
	f, g := find(key), find(other)
	l.problem(src, key, fmt.Sprintf("%s is %s%s, %s %s, which is %s%s",
		key, literal(deref(f.ptr(&l.Config))), l.whence(key, src), text, other, literal(deref(g.ptr(&l.Config))), l.whence(other, src)))
}

// whence says where a value is from, unless the message has said so.
func (l *loader) whence(key string, said Source) string {
	from := l.from[key].Source
	if from == said {
		return ""
	}
	return " (" + from.String() + ")"
}

// twice finds items that are in a list two times.
func (l *loader) twice(key string, items []string) {
	seen := map[string]bool{}
	for i, item := range items {
		if seen[item] && !l.bad[key] {
			l.problem(l.from[key].item(i), "", fmt.Sprintf("%s has %s twice", key, quoted(item)))
		}
		seen[item] = true
	}
}

// api looks at who can reach the API.
func (l *loader) api() {
	token := l.API.Token
	if token != "" && len(token) < minToken && !l.bad["api.token"] {
		from := l.from["api.token"]
		l.problem(from.Source, "api.token", fmt.Sprintf("api.token has %d characters, want %d or more, such as from 'openssl rand -hex 32'", len(token), minToken))
	}
	if i := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		l.problem(l.from["api.token"].Source, "api.token", fmt.Sprintf("api.token has a character at %d that a header cannot have, want printable ASCII without spaces", i+1))
	}
	if token != "" || l.bad["api.token"] || l.bad["api.token-file"] || l.bad["api.listen"] {
		return
	}
	for i, address := range l.API.Listen {
		if !isLocal(address) {
			l.problem(l.from["api.listen"].item(i), "api.listen", fmt.Sprintf(
				"api.listen is %s, which others can reach, want a token in api.token-file or %sAPI_TOKEN, or an address of loopback such as 127.0.0.1:7654", quoted(address), envPrefix))
		}
	}
}

// isLocal reports whether only this machine reaches an address of the API.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _ := hostOf(address)
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// token reads the token's file.
func (l *loader) token() {
	file := l.API.TokenFile
	if file == "" || l.API.Token != "" { // the environment is stronger
		return
	}
	src := l.from["api.token-file"].Source
	text, err := ReadToken(file)
	if err != nil {
		l.problem(src, "api.token-file", fmt.Sprintf("api.token-file is %s: %s", quoted(file), err))
		return
	}
	l.API.Token = text
	l.from["api.token"] = origin{Source: Source{Kind: KindFile, Name: file}}
}

// ReadToken returns the token in a file, which not everybody may read. An error does not
// name the file.
func ReadToken(file string) (string, error) {
	data, err := readSmall(file, 4096)
	if err != nil {
		return "", fmt.Errorf("%s", reasonOf(err))
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("%s", reasonOf(err))
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("everybody can read it (mode %#o), want 0600 or 0640", mode)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("it is empty, want a token of %d characters or more", minToken)
	}
	return text, nil
}

// core asks the core itself, should it know a rule that this file does not.
func (l *loader) core() {
	w := l.Watermarks
	m, err := connmgr.New(connmgr.Config{
		LowWater: w.Low, HighWater: w.High, HardLimit: w.Limit(), OutboundFloor: w.OutboundFloor,
		Gate:        connmgr.GateConfig{Limits: l.Gate.Limits(), Ladder: l.Bans.Ladder()},
		ManualStart: true,
	})
	if err != nil {
		l.problem(Source{}, "", strings.TrimPrefix(err.Error(), "connmgr: "))
		return
	}
	_ = m.Close()
}
