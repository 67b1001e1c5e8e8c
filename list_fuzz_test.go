package connmgr

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file reads lists that nobody would write, and writes rules that nobody would
// make. Whatever is read from bytes is valid and can be written and read again; what
// cannot be read is an error about the first line that is to blame.

// fuzzFormats are the formats that a byte can choose from.
var fuzzFormats = []ListFormat{
	{},
	{
		// Every text is a name, so only the grammar keeps addresses from being peers.
		ParsePeer:  func(name string) (NodeID, error) { return NodeID(name), nil },
		FormatPeer: func(peer NodeID) string { return string(peer) },
	},
	{
		ParsePeer: func(name string) (NodeID, error) {
			if id, ok := strings.CutPrefix(name, "Qm"); ok {
				return NodeID(id), nil
			}
			return "", errors.New("no Qm")
		},
		FormatPeer: func(peer NodeID) string { return "Qm" + string(peer) },
		Effect:     Allow,
		Expires:    time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC),
		Reason:     "because",
	},
	{Origin: "drop", Reason: " # "},
}

func FuzzReadRules(f *testing.F) {
	for _, sample := range listSamples(f) {
		for mode := range fuzzFormats {
			f.Add([]byte(sample), byte(mode))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, mode byte) {
		checkList(t, fuzzFormats[int(mode)%len(fuzzFormats)], data)
	})
}

// listSamples are the lists in testdata.
func listSamples(t testing.TB) (samples []string) {
	t.Helper()
	files, _ := filepath.Glob("testdata/lists/*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, string(text))
	}
	if len(samples) == 0 {
		t.Fatal("there are no lists in testdata/lists")
	}
	return samples
}

// checkList reads bytes and checks what must be true of any. It returns the rules.
func checkList(t *testing.T, format ListFormat, data []byte) []Rule {
	t.Helper()
	rules, err := format.Read(bytes.NewReader(data), "list.txt")
	if err != nil {
		checkListError(t, format, data, rules, err)
		return nil
	}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			t.Fatalf("a rule that was read is not valid: %v", err)
		}
		if format.Origin != "" && r.Origin != format.Origin {
			t.Fatalf("%v has an origin from the list, want the one of the format", r)
		}
	}
	checkWriteRead(t, format, rules)
	return rules
}

// checkWriteRead writes valid rules and reads them again.
func checkWriteRead(t *testing.T, format ListFormat, rules []Rule) {
	t.Helper()
	format.Origin = ""
	var text bytes.Buffer
	if err := format.Write(&text, slices.Values(rules)); err != nil {
		t.Fatalf("writing valid rules: %v", err)
	}
	again, err := format.Read(&text, "written.txt")
	if err != nil {
		t.Fatalf("reading what was written: %v", err)
	}
	if len(again) != len(rules) {
		t.Fatalf("%d rules were written and %d read", len(rules), len(again))
	}
	for i, want := range rules {
		got := again[i]
		if !got.Expires.Equal(want.Expires) {
			t.Fatalf("%v was written to end at %v and read to end at %v", want, want.Expires, got.Expires)
		}
		got.Expires, want.Expires = time.Time{}, time.Time{}
		if got != want {
			t.Fatalf("%#v was written, and read as %#v", want, got)
		}
	}
}

// checkListError checks that the line in an error is the first that cannot be read.
func checkListError(t *testing.T, format ListFormat, data []byte, rules []Rule, err error) {
	t.Helper()
	var bad *ListError
	if rules != nil || !errors.As(err, &bad) {
		t.Fatalf("got %d rules and the error %v (%T), want none and a *ListError", len(rules), err, err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "connmgr: list.txt:") || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
		t.Fatalf("the error %q is not one line that begins with the place", text)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	if bad.Line < 1 || bad.Line > len(lines) {
		t.Fatalf("%v: there are only %d lines", err, len(lines))
	}
	line := lines[bad.Line-1]
	if bad.Line == 1 {
		line = strings.TrimPrefix(line, "\ufeff")
	}
	if shown, cut := strings.CutSuffix(bad.Text, "…"); !strings.HasPrefix(strings.Trim(line, " \t"), shown) || !cut && len(bad.Text) > 80 {
		t.Fatalf("%v: line %d is %.100q", err, bad.Line, line)
	}
	before := strings.Join(lines[:bad.Line-1], "\n")
	if _, err := format.Read(strings.NewReader(before), "list.txt"); err != nil {
		t.Fatalf("%v, but the lines before that have the error %v", bad, err)
	}
	_, err = format.Read(strings.NewReader(strings.Join(lines[:bad.Line], "\n")), "list.txt")
	if err == nil || err.Error() != bad.Error() {
		t.Fatalf("%v, but up to that line the error is %v", bad, err)
	}
}

func TestHostileListsAreRefusedOrMakeValidRules(t *testing.T) {
	samples := listSamples(t)
	random := rand.New(rand.NewPCG(7, 8))
	read, refused := 0, 0
	for range 10_000 {
		data := hostileList(random, samples)
		if rules := checkList(t, fuzzFormats[random.IntN(len(fuzzFormats))], data); rules != nil {
			read++
		} else {
			refused++
		}
	}
	if read < 1000 || refused < 1000 {
		t.Errorf("%d of the lists gave rules and %d none, want thousands of both", read, refused)
	}
}

// hostileWords are what the grammar has, and what breaks parsers.
var hostileWords = []string{
	"deny ", "allow ", "peer ", "port ", "until ", "never", "#! origin ", "#", ";", " # ", `"`, `\`, `\"`, `""`, "'", "`",
	"\n", "\r", "\r\n", "\t", " ", "\x00", "\x0b", "\x1b[2J", "\x7f", "\xff", "\xc3", "\u0085", "\u2028", "\u00a0", "\ufeff", "…",
	"-", " - ", "/", ":", "::", ".", ",", "%eth0", "[", "]", "*", "!", "0x", "0x00", "+", "1e9", "99999999999999999999",
	"/0", "/33", "/129", "/-1", "/255.255.0.0", " 255.255.255.0", " 0.0.0.255", "0.0.0.0", "255.255.255.255", "0.0.0.1-255.255.255.254",
	"::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "::ffff:0:0/96", "::ffff:1.2.3.4", "fe80::1", "bad:2001:db8::-2001:db8::ff",
	"2026-12-24T18:00:00Z", "2026-12-24T18:00:00.123456789+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "timeout 9 ", "add x ", "create x hash:net",
	"Qm", "Net:", "ExitAddress ", "nomatch", "comment ",
}

// hostileList changes one or two samples in a few places.
func hostileList(random *rand.Rand, samples []string) []byte {
	pick := func() []byte { return []byte(samples[random.IntN(len(samples))]) }
	data := pick()
	if random.IntN(4) == 0 {
		other := pick()
		data = append(data[:random.IntN(len(data)+1)], other[random.IntN(len(other)+1):]...)
	}
	// Most changes spoil a line, so a short list has better chances to be read.
	if lines := bytes.SplitAfter(data, []byte("\n")); random.IntN(2) == 0 {
		random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		data = bytes.Join(lines[:random.IntN(min(4, len(lines)))+1], nil)
	}
	for range random.IntN(4) {
		at := random.IntN(len(data) + 1)
		switch random.IntN(6) {
		case 0:
			data = slices.Delete(data, at, min(len(data), at+1+random.IntN(8)))
		case 1:
			if at < len(data) {
				data[at] ^= 1 << random.IntN(8)
			}
		case 2:
			data = slices.Insert(data, at, bytes.Repeat([]byte(hostileWords[random.IntN(len(hostileWords))]), 1+random.IntN(300))...)
		default:
			data = slices.Insert(data, at, []byte(hostileWords[random.IntN(len(hostileWords))])...)
		}
	}
	return data
}

func TestWrittenRulesAreReadAsTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		rules := make([]Rule, random.IntN(12))
		for i := range rules {
			rules[i] = randomRule(random)
		}
		for _, format := range fuzzFormats {
			checkWriteRead(t, format, rules)
		}
	}
}

// randomRule returns a valid rule, a strange one as a rule.
func randomRule(random *rand.Rand) Rule {
	r := Rule{Effect: Effect(random.IntN(2)), Reason: randomText(random), Origin: []string{"", "drop", randomText(random)}[random.IntN(3)]}
	if random.IntN(2) == 0 {
		r.Expires = time.Unix(random.Int64N(9_000_000_000), random.Int64N(1e9)).In(time.FixedZone("", random.IntN(86400)-43200))
	}
	addr := make([]byte, []int{4, 16}[random.IntN(2)])
	for i := range addr {
		addr[i] = byte(random.IntN(1 + random.IntN(256)))
	}
	ip, _ := netip.AddrFromSlice(addr)
	switch random.IntN(4) {
	case 0:
		r.Target = PeerTarget(NodeID(randomText(random)))
	case 1:
		r.Target = PortTarget(uint16(random.Uint32()))
	case 2:
		r.Target = AddrTarget(ip)
	case 3:
		r.Target = PrefixTarget(netip.PrefixFrom(ip, random.IntN(ip.BitLen()+1)))
	}
	return r
}

// randomText returns a text that a rule can have, made of what means something in a
// list.
func randomText(random *rand.Rand) string {
	var text strings.Builder
	for range random.IntN(5) {
		if random.IntN(3) == 0 {
			text.WriteByte(byte(random.Uint32()))
		} else {
			text.WriteString(hostileWords[random.IntN(len(hostileWords))])
		}
	}
	return strings.NewReplacer("\n", "", "\r", "").Replace(text.String())
}

func TestAListIsBounded(t *testing.T) {
	full := listReader{count: maxListRules - 1}
	if want := full.line("192.0.2.1"); want != "" {
		t.Errorf("the last rule that a list may have is refused: want %s", want)
	}
	if got, want := full.line("192.0.2.2"), "at most 16777216 rules in a list"; got != want {
		t.Errorf("one rule more: wanted %q, want %q", got, want)
	}
	full = listReader{ranges: maxListRanges - 62}
	if want := full.line("0.0.0.1-255.255.255.254"); want != "" {
		t.Errorf("the last prefixes that the ranges of a list may give are refused: want %s", want)
	}
	if got, want := full.line("net:192.0.2.0-192.0.2.1"), "ranges that come to at most 4194304 prefixes in a list"; got != want {
		t.Errorf("one prefix more: wanted %q, want %q", got, want)
	}
}
