package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// This file checks which source wins, and what is said about mistakes, word for word.

// inFile writes a file of configuration and goes to its folder, so that messages name it
// without a path.
func inFile(t *testing.T, text string) Inputs {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("connmgr.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Inputs{File: "connmgr.toml"}
}

func mustLoad(t *testing.T, in Inputs) Config {
	t.Helper()
	c, err := Load(in)
	if err != nil {
		t.Fatalf("there is nothing wrong with the configuration, but Load says:\n%v", err)
	}
	return c
}

// givenFlags is flags as the command line has them.
func givenFlags(t *testing.T, args ...string) *Flags {
	t.Helper()
	set, flags := newFlagSet()
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestTheLaterSourceWins(t *testing.T) {
	in := inFile(t, "[watermarks]\nlow = 11\nhigh = 22\nhard-limit = 33\n")
	in.Env = []string{"CONNMGR_WATERMARKS_HIGH=222", "CONNMGR_WATERMARKS_HARD_LIMIT=333", "HOME=/"}
	in.Flags = givenFlags(t, "--hard-limit", "3333")
	c := mustLoad(t, in)
	if got, want := c.Watermarks.Limits(), (connmgr.Limits{LowWater: 11, HighWater: 222, HardLimit: 3333}); got != want {
		t.Errorf("limits are %+v, want %+v: low from the file, high from the environment, the hard limit from the flag", got, want)
	}
	if c.Watermarks.Grace != connmgr.DefaultGracePeriod {
		t.Errorf("grace is %v, want the default %v", c.Watermarks.Grace, connmgr.DefaultGracePeriod)
	}
}

func TestTheFileIsNamedByArgumentThenFlagThenEnvironment(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, low := range map[string]string{"argument": "1", "flag": "2", "environment": "3"} {
		if err := os.WriteFile(name, []byte("[watermarks]\nlow = "+low+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := Inputs{Env: []string{"CONNMGR_CONFIG=environment"}}
	if low := mustLoad(t, in).Watermarks.Low; low != 3 {
		t.Errorf("low water is %d, want 3 from the file that the environment names", low)
	}
	in.Flags = givenFlags(t, "--config", "flag")
	if low := mustLoad(t, in).Watermarks.Low; low != 2 {
		t.Errorf("low water is %d, want 2 from the file that --config names", low)
	}
	in.File = "argument"
	if low := mustLoad(t, in).Watermarks.Low; low != 1 {
		t.Errorf("low water is %d, want 1 from the file that is named", low)
	}
}

func TestEveryKindOfValueCanComeFromEverySource(t *testing.T) {
	const peer = "12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust"
	want := Default()
	want.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	want.Relay = true
	want.Protect = []string{peer}
	want.DrainTimeout = 90 * time.Second
	want.Watermarks.Low = 1000
	want.Watermarks.High = 2000
	want.Watermarks.HardLimit = 3000
	want.MemoryHighWater = 0.5
	want.Gate.PerPrefix = []connmgr.PrefixLimit{{IPv4: 24, IPv6: 48, MaxConns: 3}, {IPv4: 32, Rate: 0.5, Burst: 2}}
	want.Rules.Lists = []RuleList{{Origin: "firehol", File: "a b.netset"}, {Origin: "friends", File: "friends.txt", Allow: true}}
	want.API.Listen = []string{}

	file := inFile(t, `
listen = ["/ip4/127.0.0.1/tcp/0", '/ip4/127.0.0.1/udp/0/quic-v1']
relay = true
protect = [ # friends
  "`+peer+`", # one
]
drain-timeout = "1m30s"
memory.high-water = 0.5
watermarks = {low = 1_000, high = 0x7d0}
[gate]
per-prefix = [{ipv4 = 24, ipv6 = 48, max = 3}, {ipv4 = 32, rate = 0.5, burst = 2}]
[[rules.lists]]
origin = "firehol"
file = "a b.netset"
[api]
listen = []
[[rules.lists]]
origin = "friends"
file = "friends.txt"
allow = true
`)
	env := Inputs{Env: []string{
		"CONNMGR_LISTEN=/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1",
		"CONNMGR_RELAY=true", "CONNMGR_PROTECT=" + peer, "CONNMGR_DRAIN_TIMEOUT=1m30s",
		"CONNMGR_MEMORY_HIGH_WATER=0.5", "CONNMGR_WATERMARKS_LOW=1000", "CONNMGR_WATERMARKS_HIGH=2000",
		"CONNMGR_GATE_PER_PREFIX=ipv4=24,ipv6=48,max=3; ipv4=32,rate=0.5,burst=2",
		"CONNMGR_RULES_LISTS=origin=firehol,file=a b.netset;origin=friends,file=friends.txt,allow=true",
		"CONNMGR_API_LISTEN=",
	}}
	flags := Inputs{Flags: givenFlags(
		t, "--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
		"--relay", "--protect", peer, "--drain-timeout", "90s",
		"--memory-high-water", "0.5", "--low-water", "1000", "--watermarks-high", "2000",
		"--gate-per-prefix", "ipv4=24,ipv6=48,max=3", "--gate-per-prefix", "ipv4=32,rate=0.5,burst=2",
		"--rules", "origin=firehol,file=a b.netset", "--rules", "origin=friends,file=friends.txt,allow=true",
		"--api", "",
	)}
	for source, in := range map[string]Inputs{"file": file, "environment": env, "flags": flags} {
		got := mustLoad(t, in)
		for _, change := range Changes(&want, &got) {
			t.Errorf("from %s: %s is %s, want %s", source, change.Key, change.New, change.Old)
		}
	}
}

func TestWhatIsNotSetFollowsFromWhatIs(t *testing.T) {
	for _, c := range []struct {
		file string
		want connmgr.Limits
	}{
		{"", connmgr.Limits{LowWater: 100, HighWater: 400, HardLimit: 600}},
		{"high = 50", connmgr.Limits{LowWater: 50, HighWater: 50, HardLimit: 75}},
		{"low = 900", connmgr.Limits{LowWater: 900, HighWater: 900, HardLimit: 1350}},
		{"hard-limit = 0", connmgr.Limits{LowWater: 100, HighWater: 400, HardLimit: int(^uint(0) >> 1)}},
	} {
		got := mustLoad(t, inFile(t, "[watermarks]\n"+c.file+"\n"))
		if l := got.Watermarks.Limits(); l != c.want {
			t.Errorf("with %q limits are %+v, want %+v", c.file, l, c.want)
		}
	}
	cluster := mustLoad(t, inFile(t, "[gate]\npreset = \"private-cluster\"\nmax-inbound = 7\n"))
	want := connmgr.PrivateClusterLimits()
	if g := cluster.Gate.Limits(); g.MaxInbound != 7 || g.MaxPerPeer != want.MaxPerPeer || len(g.PerPrefix) != 0 {
		t.Errorf("limits of the gate are %+v, want those of the preset but for max-inbound 7", g)
	}
}

// mistakes is a file with every kind of mistake.
const mistakes = `listen = ["/ip4/0.0.0.0/tcp/4001", "/dns/é/tcp/1", 3]
identty = "x"
drain-timeout = 20
[watermarks]
low = "100"
hihg = 3
high = 0
garbage
[watermark]
low = 3
[gate]
preset = "pubic"
per-prefix = [{ipv4 = 33, max = 8}, {ipv4 = 24, mx = 3}, {ipv4=24}, 7]
[[rules.lists]]
origin = "a"
[api]
token = "a secret that nobody must see"
listen = ["nonsense"]
low = 4
hosts = "node"
[log]
level = 'loud'
level = "info"
[memory]
high-water = nan
`

func TestEachMistakeIsNamedWithItsPlaceAndWhatWasExpected(t *testing.T) {
	in := inFile(t, mistakes)
	in.Env = []string{"CONNMGR_RELAY=maybe", "CONNMGR_WATERMARKS_HIHG=3", "CONNMGR_BANS_FIRST=\x1b[31m", "CONNMGR_API=http://other"}
	_, err := Load(in)
	const listen = ", want a multiaddr to listen on, such as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1"
	want := []string{
		`connmgr.toml:1:36: listen is "/dns/é/tcp/1"` + listen,
		`connmgr.toml:1:52: listen is 3` + listen,
		`connmgr.toml:2:1: unknown key identty; did you mean identity?`,
		`connmgr.toml:3:17: drain-timeout is 20, want a duration from "100ms" to "1h", such as "10s"`,
		`connmgr.toml:5:7: watermarks.low is "100", want a number of connections, 1 or more, without quotes`,
		`connmgr.toml:6:1: unknown key watermarks.hihg; did you mean watermarks.high?`,
		`connmgr.toml:7:8: watermarks.high is 0, want a number of connections, 1 or more`,
		`connmgr.toml:8:8: expected '=' after key`,
		`connmgr.toml:9:2: unknown section [watermark]; did you mean watermarks?`,
		`connmgr.toml:12:10: gate.preset is "pubic", want "public", "private-cluster" or "none"`,
		`connmgr.toml:13:23: gate.per-prefix: ipv4 is 33, want a length from 0 to 32`,
		`connmgr.toml:13:49: gate.per-prefix: unknown key mx; did you mean max?`,
		`connmgr.toml:13:58: gate.per-prefix: max and rate are both 0: the limit limits nothing`,
		`connmgr.toml:13:69: gate.per-prefix is 7, want tables such as {ipv4 = 32, ipv6 = 56, max = 8, rate = 5, burst = 10}`,
		`connmgr.toml:14:3: rules.lists: file is missing, want the name of a file`,
		`connmgr.toml:17:1: api.token is set here, want a token in CONNMGR_API_TOKEN or in api.token-file: other files and command lines are read by others`,
		`connmgr.toml:18:11: api.listen is "nonsense", want HOST:PORT, such as 127.0.0.1:7654, or unix:PATH`,
		`connmgr.toml:19:1: unknown key api.low; did you mean watermarks.low?`,
		`connmgr.toml:20:9: api.hosts is "node", want a list in brackets, each a host name`,
		`connmgr.toml:22:9: log.level is 'loud', want "debug", "info", "warn" or "error"`,
		`connmgr.toml:23:1: key level is already defined`,
		`connmgr.toml:25:14: memory.high-water is nan, want a share from 0 to 1`,
		`environment CONNMGR_BANS_FIRST: bans.first is "\x1b[31m", want a duration from "1s", such as "10m"`,
		`environment CONNMGR_RELAY: relay is "maybe", want true or false`,
		`environment CONNMGR_WATERMARKS_HIHG: no such setting; did you mean CONNMGR_WATERMARKS_HIGH?`,
	}
	sameLines(t, err, want)
	if strings.Contains(err.Error(), "nobody must see") {
		t.Error("a message shows the token")
	}
	var first *Problem
	if !errors.As(err, &first) || first.Field != "listen" || first.Source != (Source{KindFile, "connmgr.toml", 1, 36}) {
		t.Errorf("errors.As finds %+v, want the first problem with its field and place", first)
	}
}

// sameLines compares an error, line by line, with what it is to say.
func sameLines(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatalf("there is no error, want:\n%s", strings.Join(want, "\n"))
	}
	got := strings.Split(strings.ReplaceAll("\n"+err.Error(), "\nconnmgr: ", "\n")[1:], "\n")
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d is\n\t%s\nwant\n\t%s", i+1, g, w)
		}
	}
}

func TestBehindAnOpenBracketNothingIsGuessed(t *testing.T) {
	for _, rest := range []string{"identity = 3\nrelay = 3\n", "[watermarks]\nlow = 500\nhigh = 400\n"} {
		_, err := Load(inFile(t, "identty = 1\nlisten = [\n\"/ip4/0.0.0.0/tcp/1\",\n"+rest))
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != 2 || problems[0].Field != "identty" || problems[1].Source.Line != 4 {
			t.Errorf("Load says\n%v\nwant the key that nothing has, and line 4, where the list should have ended, and no more", err)
		}
	}
}

func TestAMistakeOfSyntaxIsPlacedInCharacters(t *testing.T) {
	_, err := Load(inFile(t, "identity = \"é\" x\n"))
	sameLines(t, err, []string{`connmgr.toml:1:16: expected newline but got U+0078 'x'`})
}

func TestAListOfAStrongerSourceReplacesTheWeakerOne(t *testing.T) {
	in := inFile(t, "connect = []\nlisten = [\"/ip4/127.0.0.1/tcp/1\"]\n[gate]\nper-prefix = [{ipv4 = 24, max = 3}]\n")
	in.Env = []string{"CONNMGR_LISTEN=/ip4/127.0.0.1/tcp/2", "CONNMGR_GATE_PER_PREFIX=ipv4=32,max=1"}
	c := mustLoad(t, in)
	if !slices.Equal(c.Listen, []string{"/ip4/127.0.0.1/tcp/2"}) || len(c.Gate.PerPrefix) != 1 || c.Gate.PerPrefix[0].IPv4 != 32 {
		t.Errorf("listen is %q and per-prefix %+v, want those of the environment alone", c.Listen, c.Gate.PerPrefix)
	}
}

func TestAddressesThatTheNodeCannotServeAreMistakes(t *testing.T) {
	for addr, valid := range map[string]bool{
		"/ip4/0.0.0.0/tcp/4001": true, "/ip6/::1/tcp/0": true, "/ip4/127.0.0.1/udp/0/quic-v1": true,
		"/ip4/0.0.0.0/tcp/4001/ws": false, "/ip4/0.0.0.0/udp/4001": false, "/ip4/0.0.0.0": false, "/dns4/a.example/tcp/1": false,
		"/ip4/0.0.0.0/udp/1/quic-v1/webtransport": false, "/unix/s": false, "127.0.0.1:4001": false, "": false,
	} {
		if got := validListen(addr); got != valid {
			t.Errorf("that %q can be listened on is said to be %v, want %v", addr, got, valid)
		}
	}
	for addr, local := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "localhost:1": true, "unix:/s": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "node.example:80": false, "[::ffff:192.0.2.1]:80": false,
	} {
		if !validAPI(addr) || isLocal(addr) != local {
			t.Errorf("that nobody else reaches %q is said to be %v, want %v", addr, isLocal(addr), local)
		}
	}
}

func TestAFileThatCannotBeReadIsAProblem(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("large", make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing.toml": "missing.toml: no such file or directory",
		".":            ".: is a folder, want a file",
		"large":        "large: has 1048577 bytes, want 1048576 at most",
	} {
		_, err := Load(Inputs{File: name})
		sameLines(t, err, []string{want})
	}
}

func TestWhatIsLiveIsAppliedAndTheRestWaitsForARestart(t *testing.T) {
	before := Default()
	after := mustLoad(t, inFile(t, "relay = true\n[watermarks]\nlow = 7\n"))
	changes := Changes(&before, &after)
	want := []Change{
		{Key: "relay", Old: "false", New: "true"},
		{Key: "watermarks.low", Old: "100", New: "7", Live: true},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("changes are %+v, want %+v", changes, want)
	}
	applied := Apply(before, after)
	if applied.Relay || applied.Watermarks.Low != 7 {
		t.Errorf("applied are relay %v and low water %d, want false, which takes a restart, and 7", applied.Relay, applied.Watermarks.Low)
	}
}

func TestASecretThatChangesIsNotShown(t *testing.T) {
	before, after := Default(), Default()
	after.API.Token = "a-token-of-some-length"
	changes := Changes(&before, &after)
	if len(changes) != 1 || strings.Contains(changes[0].New+changes[0].Old, "token-of") {
		t.Errorf("changes are %+v, want one of api.token that does not show it", changes)
	}
	after.from = map[string]origin{}
	if text := after.TOML(); strings.Contains(text, "token-of") || !strings.Contains(text, "# token is set, and not shown") {
		t.Errorf("the configuration is shown as\n%s\nwant it to say that a token is set, and not which", text)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(mistakes))
	f.Add([]byte("listen = [\n"))
	f.Add([]byte("[[rules.lists]]\n[[rules.lists]]\nallow = \"\"\"\n\"\"\""))
	f.Add([]byte("a = {b = [{}], 'c' = 1979-05-27}\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Inputs{File: name})
		var problems Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("the error is a %T, want Problems", err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Source.Kind == KindFile && (p.Source.Line > lines || p.Source.Line > 0 && p.Source.Column < 1) {
				t.Errorf("a problem is at %v, in a file of %d lines", p.Source, lines)
			}
		}
		if err == nil { // what is valid says so when it is written and read again
			if err := os.WriteFile(name, []byte(c.TOML()), 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := Load(Inputs{File: name})
			if err != nil {
				t.Fatalf("the configuration is shown with mistakes:\n%v\n%s", err, c.TOML())
			}
			if changes := Changes(&c, &again); len(changes) > 0 {
				t.Errorf("the configuration is shown as another one: %+v", changes)
			}
		}
	})
}

func TestAVariableWithTheWordsOfASettingIsThatSettingMistyped(t *testing.T) {
	for name, want := range map[string]string{
		"CONNMGR_LOW_WATER":       "CONNMGR_WATERMARKS_LOW",
		"CONNMGR_HARD_LIMIT":      "CONNMGR_WATERMARKS_HARD_LIMIT",
		"CONNMGR_LEVEL_LOG":       "CONNMGR_LOG_LEVEL",
		"CONNMGR_WATERMARKS_HIHG": "CONNMGR_WATERMARKS_HIGH",
		"CONNMGR_MAX_INBOUND":     "CONNMGR_GATE_MAX_INBOUND",
	} {
		_, err := Load(Inputs{Env: []string{name + "=1"}})
		if err == nil || !strings.Contains(err.Error(), "no such setting; did you mean "+want+"?") {
			t.Errorf("%s: the error is %v, want it to suggest %s", name, err, want)
		}
	}
}
