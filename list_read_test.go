package connmgr_test

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// This file reads and writes whole lists: how lines end, what readers and writers do,
// and what is left in memory.

func TestLinesEndInAnyOfThreeWays(t *testing.T) {
	want := []string{"deny 192.0.2.1 (x)", "deny 192.0.2.2", "deny 192.0.2.3"}
	for _, end := range []string{"\n", "\r\n", "\r"} {
		text := strings.Join([]string{"192.0.2.1 # x", "192.0.2.2", "", "192.0.2.3", "alice"}, end)
		rules := readList(t, connmgr.ListFormat{}, strings.TrimSuffix(text, "alice"))
		if got := ruleStrings(rules); !slices.Equal(got, want) {
			t.Errorf("lines end with %q: got the rules %q, want %q", end, got, want)
		}
		_, err := connmgr.ListFormat{}.Read(strings.NewReader(text), "list.txt")
		var bad *connmgr.ListError
		if !errors.As(err, &bad) || bad.Line != 5 {
			t.Errorf("lines end with %q: got the error %v, want one about line 5", end, err)
		}
	}
}

func TestALongListIsReadLikeAShortOne(t *testing.T) {
	// Lines of all lengths, so that they and their ends lie across the borders of
	// whatever is read at once.
	var text strings.Builder
	var want []string
	for i := range 3000 {
		fmt.Fprintf(&text, "192.0.2.%d # %s\r\n", i%256, strings.Repeat("x", i%900))
		want = append(want, strings.Replace(fmt.Sprintf("deny 192.0.2.%d (%s)", i%256, strings.Repeat("x", i%900)), " ()", "", 1))
	}
	for name, reader := range map[string]func(string) io.Reader{
		"whole":           func(s string) io.Reader { return strings.NewReader(s) },
		"byte by byte":    func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		"end with data":   func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) },
		"without its end": func(s string) io.Reader { return strings.NewReader(strings.TrimSuffix(s, "\r\n")) },
	} {
		rules, err := connmgr.ListFormat{}.Read(reader(text.String()), "")
		if err != nil || !slices.Equal(ruleStrings(rules), want) {
			t.Errorf("%s: got %d rules and the error %v, want the %d that were written", name, len(rules), err, len(want))
		}
		_, err = connmgr.ListFormat{}.Read(reader(text.String()+"alice\r\n"), "long.txt")
		var bad *connmgr.ListError
		if !errors.As(err, &bad) || bad.Line != 3001 || bad.Text != "alice" || bad.File != "long.txt" {
			t.Errorf("%s: got the error %v, want one about line 3001 of long.txt", name, err)
		}
	}
}

func TestLinesAreCountedWhereverABlockEnds(t *testing.T) {
	// What is read at once is a power of two, or all of what is left.
	for n := 4080; n < 4100; n++ {
		_, err := connmgr.ListFormat{}.Read(strings.NewReader(strings.Repeat("#", n)+"\r\n\r\n\n\r\ralice"), "")
		var bad *connmgr.ListError
		if !errors.As(err, &bad) || bad.Line != 6 || bad.Text != "alice" {
			t.Errorf("behind a line of %d bytes: got the error %v, want one about line 6", n, err)
		}
	}
	longest := strings.Repeat("#", 64<<10)
	_, err := connmgr.ListFormat{}.Read(strings.NewReader(strings.Repeat(longest[1:]+"\n", 3)+longest+"\nalice"), "")
	var bad *connmgr.ListError
	if !errors.As(err, &bad) || bad.Line != 5 || bad.Text != "alice" {
		t.Errorf("behind four of the longest lines: got the error %v, want one about line 5", err)
	}
}

func TestALineMayHave64KiB(t *testing.T) {
	longest := "192.0.2.1 # " + strings.Repeat("x", 64<<10-len("192.0.2.1 # "))
	for _, end := range []string{"", "\n", "\r\n"} {
		rules := readList(t, connmgr.ListFormat{}, longest+end)
		if len(rules) != 1 || rules[0].Reason != strings.Repeat("x", 1024) {
			t.Errorf("the longest line, ended by %q: got %d rules, want one, with a reason cut to 1024 bytes", end, len(rules))
		}
		_, err := connmgr.ListFormat{}.Read(strings.NewReader(longest+"x"+end+"alice"), "")
		var bad *connmgr.ListError
		if !errors.As(err, &bad) || bad.Line != 1 || bad.Want != "a line of at most 65536 bytes" {
			t.Errorf("a line that is a byte longer, ended by %q: got the error %.200v, want one that says so", end, err)
		}
	}
}

func TestAReasonIsCutBetweenRunes(t *testing.T) {
	rules := readList(t, connmgr.ListFormat{}, "192.0.2.1 # "+strings.Repeat("ä", 500)+"x"+strings.Repeat("ä", 500))
	if want := strings.Repeat("ä", 500) + "x" + strings.Repeat("ä", 11); rules[0].Reason != want {
		t.Errorf("a reason of 2001 bytes is cut to %q, want the 1023 bytes before a rune of two", rules[0].Reason)
	}
}

func TestAListThatIsNotUTF8SaysWhatItMayBe(t *testing.T) {
	for text, want := range map[string]string{
		"\xff\xfe1\x009\x002\x00": `connmgr: line 1: "\xff\xfe1\x009\x002\x00": want text in UTF-8: this is UTF-16`,
		"\x1f\x8b\x08\x00\x00":    `connmgr: line 1: "\x1f\x8b\b\x00\x00": want text in UTF-8: this is packed with gzip`,
		"192.0.2.1\n\xff\xfe":     `connmgr: line 2: "\xff\xfe": want text in UTF-8: convert it, it may be ISO-8859-1`,
	} {
		if _, err := (connmgr.ListFormat{}).Read(strings.NewReader(text), ""); err == nil || err.Error() != want {
			t.Errorf("%q:\n got the error %v\nwant the error %s", text, err, want)
		}
	}
}

func TestOriginsOfAListCountUnlessTheFormatHasOne(t *testing.T) {
	const text = "192.0.2.1\n#! origin ladder\n192.0.2.2\n#!origin  \" two words\" \n192.0.2.3\n#! origin \"\"\n192.0.2.4\n"
	want := []string{"deny 192.0.2.1", "deny 192.0.2.2 (from ladder)", "deny 192.0.2.3 (from  two words)", "deny 192.0.2.4"}
	if got := ruleStrings(readList(t, connmgr.ListFormat{}, text)); !slices.Equal(got, want) {
		t.Errorf("without an origin of the format: got %q, want %q", got, want)
	}
	want = []string{"deny 192.0.2.1 (from drop)", "deny 192.0.2.2 (from drop)", "deny 192.0.2.3 (from drop)", "deny 192.0.2.4 (from drop)"}
	if got := ruleStrings(readList(t, connmgr.ListFormat{Origin: "drop"}, text+"#! origin\n")); !slices.Equal(got, want) {
		t.Errorf("with one: got %q, want %q", got, want)
	}
}

func TestATimeoutOfIpsetCountsFromTheMomentOfReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := readList(t, connmgr.ListFormat{}, "add x 192.0.2.1 timeout 60\nadd x 192.0.2.2 timeout 0\n")
		if want := time.Now().Add(time.Minute); !rules[0].Expires.Equal(want) || !rules[1].Expires.IsZero() {
			t.Errorf("timeouts of 60 and 0 end at %v and %v, want %v and never", rules[0].Expires, rules[1].Expires, want)
		}
	})
}

func TestARangeIsTheFewestPrefixesThatMakeItUp(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		from, to := randomAddr(random, 4), randomAddr(random, 4)
		if random.IntN(2) == 0 {
			from, to = randomAddr(random, 16), randomAddr(random, 16)
		}
		if to.Less(from) {
			from, to = to, from
		}
		line := fmt.Sprintf("x:%v-%v", from, to)
		var want []string
		for _, prefix := range greedyPrefixes(from, to) {
			want = append(want, connmgr.PrefixTarget(prefix).String())
		}
		var got []string
		for _, r := range readList(t, connmgr.ListFormat{}, line) {
			got = append(got, r.Target.String())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s:\n got %v\nwant %v", line, got, want)
		}
	}
	for line, want := range map[string]int{
		"0.0.0.1-255.255.255.254":                     62,
		"::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe": 254,
	} {
		if got := len(readList(t, connmgr.ListFormat{}, line)); got != want {
			t.Errorf("%s: got %d rules, want %d, which is the most that a range can give", line, got, want)
		}
	}
}

// randomAddr returns an address with many equal bits in a row, of a number of bytes.
func randomAddr(random *rand.Rand, bytes int) netip.Addr {
	b := make([]byte, bytes)
	for i := range b {
		b[i] = []byte{0, 0xff, byte(random.Uint32())}[random.IntN(3)]
	}
	b[0] = 0x20 // so that no letter before it can be meant
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// greedyPrefixes takes, again and again, the largest prefix that begins where the one
// before it ended.
func greedyPrefixes(from, to netip.Addr) (prefixes []netip.Prefix) {
	next, end := new(big.Int).SetBytes(from.AsSlice()), new(big.Int).SetBytes(to.AsSlice())
	one := big.NewInt(1)
	for next.Cmp(end) <= 0 {
		host := 0
		for ; host < from.BitLen() && next.Bit(host) == 0; host++ {
			size := new(big.Int).Lsh(one, uint(host+1))
			if last := size.Add(size, next); last.Sub(last, one).Cmp(end) > 0 {
				break
			}
		}
		addr, _ := netip.AddrFromSlice(next.FillBytes(make([]byte, from.BitLen()/8)))
		prefixes = append(prefixes, netip.PrefixFrom(addr, from.BitLen()-host))
		next.Add(next, new(big.Int).Lsh(one, uint(host)))
	}
	return prefixes
}

func TestAReaderThatFailsIsNoShortList(t *testing.T) {
	broken := errors.New("the cable was pulled")
	for name, c := range map[string]struct {
		reader io.Reader
		want   error
	}{
		"fails":        {io.MultiReader(strings.NewReader("192.0.2.1\n192.0.2.2"), iotest.ErrReader(broken)), broken},
		"gives naught": {io.MultiReader(strings.NewReader("192.0.2.1\n"), idleReader{}), io.ErrNoProgress},
	} {
		rules, err := connmgr.ListFormat{}.Read(c.reader, "list.txt")
		if rules != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), `connmgr: reading list "list.txt" after line 1: `) {
			t.Errorf("a reader that %s: got %d rules and the error %v, want none and an error that wraps %v", name, len(rules), err, c.want)
		}
	}
}

// idleReader gives nothing and never ends.
type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestTheErrorOfParsePeerIsKept(t *testing.T) {
	refused := errors.New("not one of ours")
	format := connmgr.ListFormat{ParsePeer: func(string) (connmgr.NodeID, error) { return "", refused }}
	for _, line := range []string{"peer alice", "alice"} {
		_, err := format.Read(strings.NewReader(line), "list.txt")
		want := fmt.Sprintf("connmgr: list.txt:1: %q: want the name of a peer: not one of ours", line)
		if !errors.Is(err, refused) || err.Error() != want {
			t.Errorf("%q: got the error %v, want %s", line, err, want)
		}
	}
}

func TestWhatIsNotANameIsNeverAPeer(t *testing.T) {
	for _, line := range []string{
		"10.0.0.300/8", "10.0.0", "10.0.0.0/33", "10.0.0.*", "10.0.0.O", "1O.0.0.0/8", "O.0.0.0/8", "10.0.0.0\\8", "10/8",
		"2001:db8::g", "2001:db8:::1", "2001:dg8::1", "::ffff:1.2.3.4.5", "fe80::1%eth0", "[2001:db8::1]", "192.0.2.1:80",
		"192.0.2.1-", "192.0.2.1-9", "192.0.2.1,192.0.2.2", "2001:db8::/129", "2001:db8::1-", ":", ".", "/8",
		"\ufeff192.0.2.1", "\u200b192.0.2.1", "\x1b192.0.2.1",
		"deny", "allow #", "deny ;", "allow # x", "until", "#! origin", "port",
	} {
		if rules, err := anyPeer.Read(strings.NewReader("\n"+line), ""); err == nil {
			t.Errorf("%q: got %v where every name is one of a peer, want an error", line, rules)
		}
	}
}

func TestAFormatThatGivesBadRulesIsRefused(t *testing.T) {
	for _, format := range []connmgr.ListFormat{
		{Effect: 2},
		{Origin: "a\nb"},
		{Reason: strings.Repeat("x", 1025)},
		{Expires: time.Unix(-1, 0)},
	} {
		if _, err := format.Read(strings.NewReader(""), ""); err == nil {
			t.Errorf("reading with %+v: got no error, want one", format)
		}
		if err := format.Write(io.Discard, slices.Values([]connmgr.Rule(nil))); err == nil {
			t.Errorf("writing with %+v: got no error, want one", format)
		}
	}
}

func TestRulesDoNotKeepTheTextTheyWereReadFrom(t *testing.T) {
	filler := strings.Repeat("# "+strings.Repeat("x", 1000)+"\n", 300)
	var kept []connmgr.Rule
	before := heapInUse()
	for i := range 100 {
		text := fmt.Sprintf("%s192.0.2.1 # scan %d\npeer alice%d\n#! origin list%d\n192.0.2.1\nnet%d:192.0.2.1-192.0.2.1\n%s", filler, i, i, i, i, filler)
		kept = append(kept, readList(t, connmgr.ListFormat{}, text)...)
	}
	grown := int64(heapInUse()) - int64(before)
	if grown > 5<<20 {
		t.Errorf("%d rules from 60 MB of text keep %d MB, want next to nothing", len(kept), grown>>20)
	}
	runtime.KeepAlive(kept)
}

func TestWriteGivesTheSimplestForm(t *testing.T) {
	prefix := connmgr.PrefixTarget(netip.MustParsePrefix("10.0.0.0/8"))
	rules := []connmgr.Rule{
		{Target: prefix},
		{Effect: connmgr.Allow, Target: connmgr.AddrTarget(netip.MustParseAddr("192.0.2.7")), Reason: "the office"},
		{Target: prefix, Expires: christmas.Add(time.Nanosecond).In(time.FixedZone("", 3600)), Reason: "scans; see #12"},
		{Target: connmgr.PeerTarget("alice"), Origin: "ladder"},
		{Target: connmgr.PeerTarget("a#b"), Origin: "ladder", Reason: " score"},
		{Target: connmgr.PeerTarget("\x00\xff"), Origin: "a b ", Reason: `"quoted"`},
		{Target: connmgr.PeerTarget("0xyz"), Origin: "a b", Reason: "a\tb"},
		{Target: connmgr.PeerTarget("")},
		{Target: connmgr.PortTarget(25), Expires: christmas},
	}
	for _, c := range []struct {
		format connmgr.ListFormat
		want   string
	}{
		{want: `10.0.0.0/8
allow 192.0.2.7 # the office
10.0.0.0/8 until 2026-12-24T18:00:00.000000001Z # scans; see #12
#! origin ladder
peer alice
peer "a#b" # " score"
#! origin "a b "
peer 0x00ff # "\"quoted\""
#! origin a b
peer 0x3078797a # "a\tb"
#! origin ""
peer 0x
port 25 until 2026-12-24T18:00:00Z
`},
		// What the format gives to rules has to be taken back.
		{format: connmgr.ListFormat{Effect: connmgr.Allow, Expires: christmas, Reason: "x"}, want: `deny 10.0.0.0/8 until never # ""
allow 192.0.2.7 until never # the office
deny 10.0.0.0/8 until 2026-12-24T18:00:00.000000001Z # scans; see #12
#! origin ladder
deny peer alice until never # ""
deny peer "a#b" until never # " score"
#! origin "a b "
deny peer 0x00ff until never # "\"quoted\""
#! origin a b
deny peer 0x3078797a until never # "a\tb"
#! origin ""
deny peer 0x until never # ""
deny port 25 until 2026-12-24T18:00:00Z # ""
`},
	} {
		var text strings.Builder
		if err := c.format.Write(&text, slices.Values(rules)); err != nil {
			t.Fatal(err)
		}
		header, got, _ := strings.Cut(text.String(), "\n")
		if !strings.HasPrefix(header, "# ") || got != c.want {
			t.Errorf("got the list\n%s\nwant, behind a comment,\n%s", text.String(), c.want)
		}
	}
}

func TestWriteRefusesWhatCouldNotBeReadAgain(t *testing.T) {
	alice := connmgr.Rule{Target: connmgr.PeerTarget("alice")}
	forgetful := connmgr.ListFormat{FormatPeer: func(connmgr.NodeID) string { return "bob" }}
	full := errors.New("the disk is full")
	for name, c := range map[string]struct {
		format connmgr.ListFormat
		rule   connmgr.Rule
		to     io.Writer
		want   string
	}{
		"a rule that is not valid": {rule: connmgr.Rule{}, want: "connmgr: rule to deny has no valid peer, prefix or port"},
		"another peer":             {format: forgetful, rule: alice, want: `connmgr: rule about peer alice: its name "bob" would be read as another peer, bob`},
		"a name of no peer":        {format: connmgr.ListFormat{ParsePeer: peersBegin.ParsePeer}, rule: alice, want: `connmgr: rule about peer alice: its name "alice" cannot be read again: no Q`},
		"a long line": {
			format: connmgr.ListFormat{FormatPeer: func(connmgr.NodeID) string { return strings.Repeat("x", 64<<10) }, ParsePeer: func(string) (connmgr.NodeID, error) { return "alice", nil }},
			rule:   alice,
			want:   "connmgr: rule about a peer with an ID of 5 bytes: its line would have 65541 bytes, must have at most 65536",
		},
		"a writer that fails": {rule: alice, to: failingWriter{full}, want: "connmgr: writing a list: the disk is full"},
	} {
		if c.to == nil {
			c.to = io.Discard
		}
		if err := c.format.Write(c.to, slices.Values([]connmgr.Rule{c.rule})); err == nil || err.Error() != c.want {
			t.Errorf("%s: got the error %v, want %s", name, err, c.want)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func ExampleListFormat_Read() {
	const list = `; A list as it is published.
192.0.2.0/24 ; SBL100001
198.51.100.7 - 198.51.100.9 # port scans
203.0.113.0/24 until 2026-12-24T18:00:00Z
`
	format := connmgr.ListFormat{Origin: "drop"}
	rules, err := format.Read(strings.NewReader(list), "drop.txt")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rules {
		fmt.Println(r)
	}

	// One bad line, and nothing is read.
	_, err = format.Read(strings.NewReader(list+"10.0.0.300/8\n"), "drop.txt")
	fmt.Println(err)
	// Output:
	// deny 192.0.2.0/24 (SBL100001, from drop)
	// deny 198.51.100.7 (port scans, from drop)
	// deny 198.51.100.8/31 (port scans, from drop)
	// deny 203.0.113.0/24 until 2026-12-24T18:00:00Z (from drop)
	// connmgr: drop.txt:5: "10.0.0.300/8": want an IPv4 address: four numbers from 0 to 255
}

func ExampleListFormat_Write() {
	rules := []connmgr.Rule{
		{Target: connmgr.PrefixTarget(netip.MustParsePrefix("192.0.2.0/24")), Reason: "port scans"},
		{Effect: connmgr.Allow, Target: connmgr.AddrTarget(netip.MustParseAddr("192.0.2.7"))},
		{Target: connmgr.PeerTarget("mallory"), Expires: time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC), Origin: "ladder"},
	}
	if err := (connmgr.ListFormat{}).Write(os.Stdout, slices.Values(rules)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// # Rules of a gate, one a line: [deny|allow] TARGET [until TIME] [# REASON]
	// 192.0.2.0/24 # port scans
	// allow 192.0.2.7
	// #! origin ladder
	// peer mallory until 2026-12-24T18:00:00Z
}

func TestAListHasAsManyRulesAsItMay(t *testing.T) {
	format := connmgr.ListFormat{MaxRules: 3}
	if rules, err := format.Read(strings.NewReader("10.0.0.0/8\n11.0.0.0/8\nport 25\n"), ""); err != nil || len(rules) != 3 {
		t.Errorf("a list of 3 rules gives %d rules and %v, want all of them", len(rules), err)
	}
	for _, list := range []string{"10.0.0.0/8\n11.0.0.0/8\nport 25\nport 26\n", "10.0.0.0/8\n192.0.2.1 - 192.0.2.5\n"} {
		rules, err := format.Read(strings.NewReader(list), "")
		var bad *connmgr.ListError
		if !errors.As(err, &bad) || bad.Want != "at most 3 rules in a list" || rules != nil {
			t.Errorf("%q gives %d rules and %v, want an error that says how many there may be", list, len(rules), err)
		}
	}
}
