package connmgr_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// This file says what can stand in a list of rules and what becomes of it: lines and
// their rules, lines and their errors, and one small list in each form that is
// published. list_fuzz_test.go reads what nobody would write.

// peersBegin is a format whose peers have names that begin with a "Q".
var peersBegin = connmgr.ListFormat{
	ParsePeer: func(name string) (connmgr.NodeID, error) {
		if !strings.HasPrefix(name, "Q") {
			return "", errors.New("no Q")
		}
		return connmgr.NodeID(name[1:]), nil
	},
	FormatPeer: func(peer connmgr.NodeID) string { return "Q" + string(peer) },
}

// anyPeer is one in which every text is a name.
var anyPeer = connmgr.ListFormat{
	ParsePeer: func(name string) (connmgr.NodeID, error) { return connmgr.NodeID(name), nil },
}

func TestALineIsARule(t *testing.T) {
	for _, c := range []struct {
		format connmgr.ListFormat
		line   string
		want   []string // the rules, as Rule.String prints them
	}{
		{line: "10.0.0.0/8", want: []string{"deny 10.0.0.0/8"}},
		{line: "10.1.2.3/8", want: []string{"deny 10.0.0.0/8"}},
		{line: "192.0.2.1", want: []string{"deny 192.0.2.1"}},
		{line: "192.0.2.1/32", want: []string{"deny 192.0.2.1"}},
		{line: "0.0.0.0/0", want: []string{"deny 0.0.0.0/0"}},
		{line: "2001:db8::/32", want: []string{"deny 2001:db8::/32"}},
		{line: "2001:DB8:0:0:0:0:0:1", want: []string{"deny 2001:db8::1"}},
		{line: "2001:db8::1/128", want: []string{"deny 2001:db8::1"}},
		{line: "::/0", want: []string{"deny ::/0"}},
		{line: "::ffff:192.0.2.1", want: []string{"deny 192.0.2.1"}},
		{line: "::ffff:192.0.2.0/120", want: []string{"deny 192.0.2.0/24"}},

		{line: "deny 10.0.0.0/8", want: []string{"deny 10.0.0.0/8"}},
		{line: "allow\t10.0.0.0/8", want: []string{"allow 10.0.0.0/8"}},
		{line: " \t 10.0.0.0/8 \t ", want: []string{"deny 10.0.0.0/8"}},

		{line: "10.0.0.0/8 # scans", want: []string{"deny 10.0.0.0/8 (scans)"}},
		{line: "10.0.0.0/8 ; SBL256894", want: []string{"deny 10.0.0.0/8 (SBL256894)"}},
		{line: "10.0.0.0/8;SBL1 ; more # and more", want: []string{"deny 10.0.0.0/8 (SBL1 ; more # and more)"}},
		{line: "192.0.2.1#x", want: []string{"deny 192.0.2.1 (x)"}},
		{line: "10.0.0.0/8 #", want: []string{"deny 10.0.0.0/8"}},
		{line: "10.0.0.0/8 ## x", want: []string{"deny 10.0.0.0/8 (# x)"}},
		{line: `10.0.0.0/8 # " x "`, want: []string{"deny 10.0.0.0/8 ( x )"}},
		{line: `10.0.0.0/8 # "This" network`, want: []string{`deny 10.0.0.0/8 ("This" network)`}},
		{line: `10.0.0.0/8 # "a\tb\xff"`, want: []string{`deny 10.0.0.0/8 ("a\tb\xff")`}},
		{line: "10.0.0.0/8 # see net:192.0.2.0-192.0.2.9", want: []string{"deny 10.0.0.0/8 (see net:192.0.2.0-192.0.2.9)"}},

		{line: "10.0.0.0/8 until 2026-12-24T18:00:00Z", want: []string{"deny 10.0.0.0/8 until 2026-12-24T18:00:00Z"}},
		{line: "10.0.0.0/8 until 2026-12-24T18:00:00+02:00 # x", want: []string{"deny 10.0.0.0/8 until 2026-12-24T16:00:00Z (x)"}},
		{line: "10.0.0.0/8 until 1970-01-01T00:00:00Z#x", want: []string{"deny 10.0.0.0/8 until 1970-01-01T00:00:00Z (x)"}},
		{line: "10.0.0.0/8 until never", want: []string{"deny 10.0.0.0/8"}},
		{line: "allow port 443 until 2026-12-24T18:00:00Z ; x", want: []string{"allow port 443 until 2026-12-24T18:00:00Z (x)"}},

		{line: "10.0.0.0 255.0.0.0", want: []string{"deny 10.0.0.0/8"}},
		{line: "10.0.0.9\t255.255.255.252 # x", want: []string{"deny 10.0.0.8/30 (x)"}},
		{line: "10.0.0.0/255.240.0.0 until never", want: []string{"deny 10.0.0.0/12"}},
		{line: "10.0.0.0/0.0.0.0", want: []string{"deny 0.0.0.0/0"}},

		{line: "192.0.2.0-192.0.2.255", want: []string{"deny 192.0.2.0/24"}},
		{line: "192.0.2.7 - 192.0.2.9 # x", want: []string{"deny 192.0.2.7 (x)", "deny 192.0.2.8/31 (x)"}},
		{line: "allow 192.0.2.7\t-192.0.2.7 until never", want: []string{"allow 192.0.2.7"}},
		{line: "::ffff:192.0.2.0 - 192.0.2.1", want: []string{"deny 192.0.2.0/31"}},
		{line: "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", want: []string{"deny 2001:db8::/32"}},
		{line: "0.0.0.0-255.255.255.255", want: []string{"deny 0.0.0.0/0"}},
		{line: "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", want: []string{"deny ::/0"}},
		// All of IPv4 lies within; a range of IPv6 does not deny it.
		{line: "::fffe:8000:0-::1:0:0:0", want: []string{"deny ::fffe:8000:0/97", "deny ::1:0:0:0"}},

		{line: "peer alice", want: []string{"deny peer alice"}},
		{line: "allow peer alice # a friend", want: []string{"allow peer alice (a friend)"}},
		{line: "peer a#b;c # x", want: []string{"deny peer a#b;c (x)"}},
		{line: "peer until until 2026-12-24T18:00:00Z", want: []string{"deny peer until until 2026-12-24T18:00:00Z"}},
		{line: "peer 192.0.2.1", want: []string{"deny peer 192.0.2.1"}},
		{line: "peer 0x00Ff", want: []string{"deny peer 0x00ff"}},
		{line: `peer "two words" # x`, want: []string{"deny peer 0x74776f20776f726473 (x)"}},
		{line: `peer "net:192.0.2.0-192.0.2.9"#x`, want: []string{"deny peer net:192.0.2.0-192.0.2.9 (x)"}},
		{line: "port 25", want: []string{"deny port 25"}},
		{line: "port 0#x", want: []string{"deny port 0 (x)"}},
		{line: "port 65535", want: []string{"deny port 65535"}},

		{format: peersBegin, line: "Qalice", want: []string{"deny peer alice"}},
		{format: peersBegin, line: "allow Qalice until never # x", want: []string{"allow peer alice (x)"}},
		{format: peersBegin, line: "peer Qalice", want: []string{"deny peer alice"}},
		{format: peersBegin, line: "Quick Net:192.0.2.0-192.0.2.255", want: []string{"deny 192.0.2.0/24 (Quick Net)"}},
		{format: anyPeer, line: "Quick:192.0.2.0-192.0.2.255", want: []string{"deny 192.0.2.0/24 (Quick)"}},
		{format: anyPeer, line: "peer until", want: []string{"deny peer until"}},
		{format: anyPeer, line: "face", want: []string{"deny peer face"}},
		{format: anyPeer, line: "create", want: []string{"deny peer create"}},

		{line: "Some Net:192.0.2.0-192.0.2.255", want: []string{"deny 192.0.2.0/24 (Some Net)"}},
		{line: "allow Some Net:192.0.2.0-192.0.2.255", want: []string{"allow 192.0.2.0/24 (Some Net)"}},
		{line: "a - b: c-d # e : 192.0.2.0 - 192.0.2.1", want: []string{"deny 192.0.2.0/31 (a - b: c-d # e)"}},
		{line: ":192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31"}},
		{line: "ad:192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (ad)"}},
		{line: "192.0.2.9 again:192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (192.0.2.9 again)"}},
		{line: "ExitNode corp:192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (ExitNode corp)"}},
		{line: "add up:192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (add up)"}},
		{line: "Published Media:192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (Published Media)"}},
		{line: "net: face:2001:db8::-2001:db8::1", want: []string{"deny 2001:db8::/127 (net: face)"}},
		{line: "net:2001:db8:0:0:0:0:0:0-2001:db8::1", want: []string{"deny 2001:db8::/127 (net)"}},

		{line: "add x 192.0.2.0/24", want: []string{"deny 192.0.2.0/24"}},
		{line: `add x 192.0.2.4-192.0.2.5 timeout 0 comment "a # b" packets 1 bytes 60`, want: []string{"deny 192.0.2.4/31 (a # b)"}},
		{line: "create x hash:ip family inet"},
		{line: "ExitAddress 192.0.2.4 2026-01-30 10:21:54", want: []string{"deny 192.0.2.4"}},

		{line: ""},
		{line: " \t"},
		{line: "# a comment"},
		{line: "; a comment"},
		{line: "#!/bin/sh"},
		{line: "#! originals"},

		{format: connmgr.ListFormat{Effect: connmgr.Allow}, line: "192.0.2.1", want: []string{"allow 192.0.2.1"}},
		{format: connmgr.ListFormat{Effect: connmgr.Allow}, line: "deny 192.0.2.1", want: []string{"deny 192.0.2.1"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: "192.0.2.1", want: []string{"deny 192.0.2.1 (drop)"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: "192.0.2.1 #", want: []string{"deny 192.0.2.1 (drop)"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: `add x 192.0.2.1 comment ""`, want: []string{"deny 192.0.2.1 (drop)"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: "192.0.2.1 # x", want: []string{"deny 192.0.2.1 (x)"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: `192.0.2.1 # ""`, want: []string{"deny 192.0.2.1"}},
		{format: connmgr.ListFormat{Reason: "drop"}, line: ":192.0.2.0-192.0.2.1", want: []string{"deny 192.0.2.0/31 (drop)"}},
		{format: connmgr.ListFormat{Origin: "drop"}, line: "192.0.2.1", want: []string{"deny 192.0.2.1 (from drop)"}},
		{format: connmgr.ListFormat{Expires: christmas}, line: "192.0.2.1", want: []string{"deny 192.0.2.1 until 2026-12-24T18:00:00Z"}},
		{format: connmgr.ListFormat{Expires: christmas}, line: "192.0.2.1 until never", want: []string{"deny 192.0.2.1"}},
	} {
		rules, err := c.format.Read(strings.NewReader(c.line), "")
		if err != nil {
			t.Errorf("%q: got the error %v, want the rules %q", c.line, err, c.want)
			continue
		}
		if got := ruleStrings(rules); !slices.Equal(got, c.want) {
			t.Errorf("%q: got the rules %q, want %q", c.line, got, c.want)
		}
	}
}

var christmas = time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)

func ruleStrings(rules []connmgr.Rule) []string {
	var lines []string
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	return lines
}

func TestABadLineIsAnErrorThatSaysWhatWasExpected(t *testing.T) {
	const (
		target = `want an address, a CIDR, a range of addresses, "peer NAME", "port NUMBER" or "NAME:FROM-TO"`
		after  = `want one target a line, and nothing after it but "until TIME" and "# REASON"`
		addr4  = "want an IPv4 address: four numbers from 0 to 255"
		addr6  = "want an IPv6 address, such as 2001:db8::1"
		bits4  = "want a prefix length from 0 to 32"
		when   = `want a time after "until", such as 2026-12-24T18:00:00Z, or "never"`
		until  = `want "until" before the time at which the rule ends`
		years  = "want an end between the years 1970 and 2261"
		port   = "want one port from 0 to 65535"
		peer   = `want a name after "peer", or one in quotes`
		origin = `want a name after "#! origin", or one in quotes`
		small  = "want deny, allow, peer, port and until in small letters"
		two    = `want two addresses with "-" between them`
	)
	for _, c := range []struct{ line, want string }{
		{"example.org", target},
		{"alice", target},
		{"<html>", target},
		{"deny", target},
		{"deny # x", target},
		{"deny allow 10.0.0.0/8", target},
		{"until 2026-12-24T18:00:00Z", target},
		{"10", target},
		{"Some Net:192.0.2.0", target},
		{"Some Net:192.0.2.0-192.0.2.256", target},
		{"DENY 10.0.0.0/8", small},
		{"Peer alice", small},

		{"10.0.0.300/8", addr4},
		{"10.0.0", addr4},
		{"10.0.0.0.0", addr4},
		{"10.0.0.*", addr4},
		{"1O.0.0.0/8", addr4},
		{"192.0.2.1x", addr4},
		{"010.0.0.1", "want an IPv4 address without leading zeros: programs differ in how they read them"},
		{"001.002.003.000 - 001.002.003.255 , 000 , Some Net", "want an IPv4 address without leading zeros: programs differ in how they read them"},
		{"192.0.2.1:80", "want an address without a port"},
		{"[2001:db8::1]:80", "want an address without brackets or port"},
		{"2001:db8:::1", addr6},
		{"2001:dg8::1", addr6},
		{"2001:db8:1:2:3:4:5:6:7", addr6},
		{"fe80::1%eth0", "want an address without a zone: rules are for all interfaces"},
		{"fe80::1%eth0/64", "want an address without a zone: rules are for all interfaces"},
		{"fe80::g%eth0", "want an address without a zone: rules are for all interfaces"},

		{"10.0.0.0/33", bits4},
		{"10.0.0.0/-1", bits4},
		{"10.0.0.0/", bits4},
		{"10.0.0.0/08", bits4},
		{"10.0.0.0/8x", bits4},
		{"10.0.0.0/18446744073709551624", bits4}, // 8 more than 64 bits can count
		{"10.0.0.0/8/8", bits4},
		{"2001:db8::/129", "want a prefix length from 0 to 128"},
		{"10.0.0.0/255.0.255.0", "want a netmask with all its ones in front, such as 255.255.240.0"},
		{"10.0.0.0/0.255.255.255", "want a netmask with all its ones in front, such as 255.255.240.0"},
		{"2001:db8::/255.0.0.0", "want a netmask with all its ones in front, such as 255.255.240.0"},

		{"10.0.0.0/8 10.1.0.0/16", after},
		{"10.0.0.0/8, 10.1.0.0/16", after},
		{"192.0.2.1,192.0.2.2", after},
		{"192.0.2.1 192.0.2.2", after},
		{"192.0.2.1 0.0.0.255", after},
		{"192.0.2.1 240.0.0.0", after},
		{"192.0.2.1 24", after},
		{"192.0.2.1 255.0.255.0", after},
		{"192.0.2.0\t192.0.2.255\t24", after},
		{"192.0.2.1\t5", after},
		{"192.0.2.1 // scans", after},
		{"peer a b", after},
		{"10.0.0.0/8 until never until never", after},
		{"192.0.2.1 - 192.0.2.9 , 000 , Some Net", after},

		{"10.0.0.0/8 until", when},
		{"10.0.0.0/8 until # x", when},
		{"10.0.0.0/8 until tomorrow", when},
		{"10.0.0.0/8 until 2026-12-24", when},
		{"10.0.0.0/8 until 2026-12-24 18:00:00Z", when},
		{"10.0.0.0/8 until 2026-12-24T18:00:00", when},
		{"10.0.0.0/8 until 2026-02-30T18:00:00Z", when},
		{"10.0.0.0/8 untill 2026-12-24T18:00:00Z", until},
		{"10.0.0.0/8 Until 2026-12-24T18:00:00Z", until},
		{"10.0.0.0/8 till 2026-12-24T18:00:00Z", until},
		{"10.0.0.0/8 ends 2026-12-24T18:00:00Z", until},
		{"10.0.0.0/8 2026-12-24T18:00:00Z", until},
		{"10.0.0.0/8 until 1969-12-31T23:59:59Z", years},
		{"10.0.0.0/8 until 0001-01-01T00:00:00Z", years},
		{"10.0.0.0/8 until 2262-01-01T00:00:00Z", years},
		{"10.0.0.0/8 until 2261-12-31T23:59:59-01:00", years},
		{`10.0.0.0/8 # "a\nb"`, "want a reason of one line"},

		{"192.0.2.9-192.0.2.1", "want the lower address of a range first"},
		{"Some Net:192.0.2.9-192.0.2.1", "want the lower address of a range first"},
		{"192.0.2.1-2001:db8::1", "want a range of either IPv4 or IPv6"},
		{"2001:db8::192.0.2.1-192.0.2.9", "want a range of either IPv4 or IPv6"},
		{"192.0.2.1-", two},
		{"192.0.2.1 - 9", two},
		{"192.0.2.1-192.0.2.300", two},
		{"192.0.2.1-192.0.2.9/24", two},
		{"192.0.2.0/24-192.0.3.0/24", two},
		{"20001:db8::1-2001:db8::5", addr6},
		{"2001:db8:x:1::-2001:db8::5", addr6},
		{"2001:db8::1::-2001:db8::5", addr6},
		{"bad:2001:db8::-2001:db8::ff", "want CIDRs: this range is as wide as if a name stood before its first address"},

		{"peer", peer},
		{"peer # x", peer},
		{`peer "a`, peer},
		{`peer "a"b`, peer},
		{`peer ""a`, peer},
		{"peer 0xabc", "want the name of a peer: encoding/hex: odd length hex string"},
		{"peer net:192.0.2.0-192.0.2.9", `want the name in quotes if this is a peer, and no "peer" before it if it is a range with a name`},
		{"port", port},
		{"port http", port},
		{"port -1", port},
		{"port +1", port},
		{"port 65536", port},
		{"port 80-90", port},
		{"port 80,90", port},

		{"#! origin", origin},
		{`#! origin "a`, origin},
		{`#! origin "a\nb"`, origin},
		{"#! origin " + strings.Repeat("x", 1025), origin},

		{"add x 192.0.2.1,tcp:80", "want an option that ipset prints: timeout, comment, packets or bytes"},
		{"add x 192.0.2.300", addr4},
		{"add x 192.0.2.0/24 nomatch", `want no "nomatch": write "allow" and the prefix if it may pass, limits included`},
		{"add x 192.0.2.0/24 timeout", `want seconds after "timeout"`},
		{"add x 192.0.2.0/24 comment x", `want a text in quotes after "comment"`},
		{"add x y", target},
		{"ExitAddress 192.0.2.4 today", target},

		{"192.0.2.1\x00", "want text: it has a NUL byte"},
		{"# caf\xe9", "want text in UTF-8: convert it, it may be ISO-8859-1"},
		{"192.0.2.1\u00a0", addr4},
		{"192.0.2.1\u2028192.0.2.2", addr4},
		{"# " + strings.Repeat("x", 64<<10-1), "want a line of at most 65536 bytes"},
	} {
		text := "192.0.2.1\n# fine\n" + c.line + "\n192.0.2.2\n"
		rules, err := connmgr.ListFormat{}.Read(strings.NewReader(text), "list.txt")
		shown := strings.TrimSpace(c.line)
		if strings.HasSuffix(c.line, "\u00a0") {
			shown = c.line
		}
		if len(shown) > 80 {
			shown = shown[:80] + "…"
		}
		if want := fmt.Sprintf("connmgr: list.txt:3: %q: %s", shown, c.want); err == nil || err.Error() != want {
			t.Errorf("%.100q:\n got the error %v\nwant the error %s", c.line, err, want)
		}
		if rules != nil {
			t.Errorf("%.100q: got the rules %v with an error, want none", c.line, rules)
		}
	}
}

func TestPublishedListsAreReadAsTheyAre(t *testing.T) {
	lists := map[string][]string{
		"firehol.netset": {
			"deny 0.0.0.0/8", "deny 192.0.2.0/25", "deny 198.51.100.42", "deny 203.0.113.0/24",
		},
		"spamhaus_drop.txt": {
			"deny 192.0.2.0/24 (SBL100001)", "deny 198.51.100.0/25 (SBL100002)", "deny 203.0.113.0/24 (SBL100002)",
		},
		"spamhaus_edrop.txt":     {"deny 198.51.100.128/26 (SBL100003)"},
		"spamhaus_dropv6.txt":    {"deny 2001:db8:bad::/48 (SBL100004)", "deny 2001:db8:8000::/33 (SBL100005)"},
		"emerging_block_ips.txt": {"deny 192.0.2.0/24", "deny 198.51.100.0/24", "deny 203.0.113.0/24"},
		"bruteforceblocker.txt": {
			`deny 192.0.2.7 ("2026-09-29 12:02:10\t\t26\t2855073")`, `deny 192.0.2.9 ("2026-09-29 12:02:10\t\t26\t2855073")`,
		},
		"tor_bulk_exit.txt":      {"deny 192.0.2.4", "deny 198.51.100.200", "deny 203.0.113.77"},
		"tor_exit_addresses.txt": {"deny 192.0.2.231", "deny 192.0.2.232", "deny 198.51.100.64"},
		"peerguardian.p2p": {
			"deny 192.0.2.0/24 (Some organization)",
			"deny 198.51.100.7 (Some, Inc. - east: coast; #1)",
			"deny 198.51.100.8/31 (Some, Inc. - east: coast; #1)",
			"deny 198.51.100.64 (24/7 Media)",
			"deny 203.0.113.0/25 (peer 1 network)",
			"deny 2001:db8::/48 (Six: net-work)",
			"deny 203.0.113.200/31",
		},
		"plain.txt": {
			"deny 192.0.2.1", "deny 192.0.2.15", "deny 2001:db8::1", "deny 2001:db8:85a3::8a2e:370:7334", "deny 198.51.100.5",
		},
		"ipset_save.txt": {"deny 192.0.2.4 (BanMalware: Feed 1)", "deny 198.51.100.0/24", "deny 2001:db8::7"},
		"netmasks.txt":   {"deny 192.0.2.0/25", "deny 198.51.100.0/24", "deny 203.0.113.9 (one host)"},
		"windows.txt":    {"deny 192.0.2.0/24 (tabs and blanks)", "deny 198.51.100.0/24", "deny 203.0.113.1"},
		"own.txt": {
			"deny 192.0.2.0/24", "allow 192.0.2.7 (the office)",
			"deny 198.51.100.0/24 until 2026-12-24T18:00:00Z (scans; see #12)", "deny peer alice (spam)",
			`deny peer 0x00ff until 2026-12-24T18:00:00Z ( score -50, "twice", from ladder)`, "deny port 25 (from ladder)",
			"allow peer 0x74776f20776f726473 (friends)",
		},
	}
	files, err := os.ReadDir("testdata/lists")
	if err != nil || len(files) != len(lists) {
		t.Fatalf("testdata/lists has %d files (error %v), want the %d that have rules here", len(files), err, len(lists))
	}
	for file, want := range lists {
		if got := ruleStrings(readList(t, connmgr.ListFormat{}, listFile(t, file))); !slices.Equal(got, want) {
			t.Errorf("%s: got the rules\n%s\nwant\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func listFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/lists", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readList(t testing.TB, format connmgr.ListFormat, text string) []connmgr.Rule {
	t.Helper()
	rules, err := format.Read(strings.NewReader(text), "list.txt")
	if err != nil {
		t.Fatal(err)
	}
	return rules
}
