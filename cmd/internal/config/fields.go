package config

import (
	"strings"
	"time"

	"github.com/dep2p/connmgr"
)

// This file is the one table of what can be set. The keys of the TOML file, the
// variables of the environment, the flags, their help, the sample file and what
// "connmgr config check" expects all come from it, so they cannot drift apart.

// field is one thing that can be set.
type field struct {
	key  string
	flag string // if it is not the key with dashes for dots; "-" is no flag
	// help is one clause, for the flag and the sample; more is further sentences for the
	// sample.
	help, more string
	// want says what values are valid: the end of "want ...".
	want string
	// ptr returns where the value is in a Config. Its type says what kind of value it is.
	ptr func(*Config) any
	// valid judges a value, or each item of a list. Nil takes any.
	valid func(any) bool
	// words are the values there are, if there are only some.
	words []string
	// rows is what a table is made of, for fields that are lists of tables.
	rows *rowKind
	// derived says what it follows from, if it is not set.
	derived string
	// raised says what holds in place of the default, if that cannot be.
	raised string
	// live says that it can be changed while the node runs.
	live bool
	// secret values are not shown, and neither in files nor in flags.
	secret bool
	// sample is values for the sample file in place of the default.
	sample string
}

// envPrefix is what the names of all variables of the environment begin with.
const envPrefix = "CONNMGR_"

// env returns the field's variable of the environment.
func (f *field) env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(f.key))
}

// derivedFlag is the name of the flag that follows from the key.
func (f *field) derivedFlag() string { return strings.ReplaceAll(f.key, ".", "-") }

// flagName returns the name of the field's flag, "" if it has none.
func (f *field) flagName() string {
	switch f.flag {
	case "":
		return f.derivedFlag()
	case "-":
		return ""
	}
	return f.flag
}

// section is a table of the TOML file.
type section struct{ name, help string }

// sections are in the order of the sample file. Keys without a section come first.
var sections = []section{
	{"watermarks", `When connections are closed. These limits, and those of [gate], are the ones that hold:
the node turns off go-libp2p's own limits of connections (of its resource manager: a
total that depends on the machine's memory, 8 connections for each IPv4 address, and
so on), since two sets of limits that know nothing of each other refuse what neither
alone would. Its limits of streams and memory stay.
Each connection needs a file descriptor; see LimitNOFILE in connmgr.service.`},
	{"memory", ""},
	{"gate", `Limits for those who dial this node. The hard limit holds in any case, and peers that
a rule allows pass all of them. In numbers, 0 is no limit.`},
	{"bans", "How reports of misbehaviour lead to bans that end."},
	{"rules", "Rules that deny or allow peers, address prefixes and ports."},
	{"api", `Where "connmgr status" and the other commands, a browser, and Prometheus (at /metrics)
reach the node.`},
	{"log", ""},
}

const (
	wantConns = "a number of connections, 1 or more"
	wantLimit = "a number of connections, 0 for no limit"
	wantBool  = "true or false"
	wantPeer  = "a peer ID such as 12D3KooW… or Qm…"
)

var fields = withWords([]*field{
	{
		key: "listen", ptr: func(c *Config) any { return &c.Listen }, valid: each(validListen),
		help: "multiaddrs to listen on, over TCP or QUIC", more: `An empty list means that the node only dials.
Addresses of this default that the machine cannot have, such as those of IPv6, are left out.`,
		want: "a multiaddr to listen on, such as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1",
	},
	{
		key: "identity", ptr: func(c *Config) any { return &c.Identity }, valid: each(notEmpty),
		help: "file of the private key, for its owner only (mode 0600)", more: "It is made if it is missing.",
		want: "the name of a file",
	},
	{
		key: "relay", ptr: func(c *Config) any { return &c.Relay },
		help: "relay connections for nodes that nobody can dial", more: "It takes the node for one that everybody can dial.",
		want: wantBool,
	},
	{
		key: "connect", ptr: func(c *Config) any { return &c.Connect }, valid: each(validConnect), live: true,
		help: "multiaddrs with /p2p/ of peers to keep connections with", more: "A connection that is lost is dialled again. These peers are protected.",
		want:   "a multiaddr of a peer, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
		sample: `["/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust"]`,
	},
	{
		key: "protect", ptr: func(c *Config) any { return &c.Protect }, valid: each(validPeer), live: true,
		help: "IDs of peers that no trim closes", want: wantPeer,
		sample: `["12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust"]`,
	},
	{
		key: "drain-timeout", ptr: func(c *Config) any { return &c.DrainTimeout }, valid: between(100*time.Millisecond, time.Hour), live: true,
		help: "how long the node may take to end when it is asked to", want: `a duration from "100ms" to "1h", such as "10s"`,
	},

	{
		key: "watermarks.low", flag: "low-water", ptr: func(c *Config) any { return &c.Watermarks.Low }, valid: between(1, maxConns), live: true,
		help: "connections at which a trim stops", want: wantConns, raised: "high if that is less",
	},
	{
		key: "watermarks.high", flag: "high-water", ptr: func(c *Config) any { return &c.Watermarks.High }, valid: between(1, maxConns), live: true,
		help: "connections above which a trim starts", want: wantConns, raised: "low if that is more",
	},
	{
		key: "watermarks.hard-limit", flag: "hard-limit", ptr: func(c *Config) any { return &c.Watermarks.HardLimit }, valid: between(0, maxConns), live: true,
		help: "connections that inbound ones never exceed; 0 is no limit", want: wantLimit,
		derived: "1.5 × watermarks.high",
	},
	{
		key: "watermarks.outbound-floor", flag: "outbound-floor", ptr: func(c *Config) any { return &c.Watermarks.OutboundFloor }, valid: between(0, maxConns), live: true,
		help: "outbound connections below which trims do not go", want: "a number of connections, 0 or more",
	},
	{
		key: "watermarks.grace", flag: "grace", ptr: func(c *Config) any { return &c.Watermarks.Grace }, valid: between(time.Duration(0), 24*time.Hour),
		help: "how long a new peer is left alone", want: `a duration from "0s" to "24h", such as "20s"`,
	},
	{
		key: "watermarks.silence", flag: "silence", ptr: func(c *Config) any { return &c.Watermarks.Silence }, valid: between(10*time.Millisecond, 24*time.Hour),
		help: "least time between two automatic trims", want: `a duration from "10ms" to "24h", such as "10s"`,
	},

	{
		key: "memory.high-water", ptr: func(c *Config) any { return &c.MemoryHighWater }, valid: between(0.0, 1.0),
		help: "share of the memory limit above which connections are closed by force; 0 is off",
		more: "The limit is GOMEMLIMIT, or else the container's. Protected peers go too if they must.",
		want: "a share from 0 to 1",
	},

	{
		key: "gate.preset", ptr: func(c *Config) any { return &c.Gate.Preset }, words: []string{"public", "private-cluster", "none"}, live: true,
		help: `limits that belong together: "public", "private-cluster" or "none"`, more: "What is set below takes the place of what the preset has.",
		want: `"public", "private-cluster" or "none"`,
	},
	{
		key: "gate.max-inbound", ptr: func(c *Config) any { return &c.Gate.MaxInbound }, valid: between(0, maxConns), live: true,
		help: "inbound connections", want: wantLimit, derived: "from gate.preset",
	},
	{
		key: "gate.max-per-peer", ptr: func(c *Config) any { return &c.Gate.MaxPerPeer }, valid: between(0, maxConns), live: true,
		help: "connections with one peer", want: wantLimit, derived: "from gate.preset",
	},
	{
		key: "gate.exempt-private", ptr: func(c *Config) any { return &c.Gate.ExemptPrivate }, live: true,
		help: "leave private addresses out of limits per prefix and of bans", want: wantBool, derived: "from gate.preset",
	},
	{
		key: "gate.per-prefix", ptr: func(c *Config) any { return &c.Gate.PerPrefix }, rows: prefixRows, live: true,
		help: "limits for each address prefix of a length", want: "tables such as {ipv4 = 32, ipv6 = 56, max = 8, rate = 5, burst = 10}",
		more: `ipv4 and ipv6 are lengths in bits (0 leaves such addresses out), max is connections at a
time, rate is new ones per second, burst is how many may come at once.`,
		derived: "from gate.preset",
	},

	{
		key: "bans.enabled", flag: "bans", ptr: func(c *Config) any { return &c.Bans.Enabled },
		help: "ban peers that are reported for misbehaviour", want: wantBool,
	},
	{
		key: "bans.disconnect-at", ptr: func(c *Config) any { return &c.Bans.DisconnectAt }, valid: between(0.0, 1e9),
		help: "score at which a peer is disconnected; 0 is never", want: "a score, 0 or more",
	},
	{
		key: "bans.ban-at", ptr: func(c *Config) any { return &c.Bans.BanAt }, valid: between(0.0, 1e9),
		help: "score at which a peer is banned; 0 is never", want: "a score, 0 or more",
	},
	{
		key: "bans.half-life", ptr: func(c *Config) any { return &c.Bans.HalfLife }, valid: between(time.Second, maxBan),
		help: "time in which a score halves", want: `a duration from "1s", such as "10m"`,
	},
	{
		key: "bans.first", ptr: func(c *Config) any { return &c.Bans.First }, valid: between(time.Second, maxBan),
		help: "length of the first ban; each further one is twice as long", want: `a duration from "1s", such as "10m"`,
	},
	{
		key: "bans.longest", ptr: func(c *Config) any { return &c.Bans.Longest }, valid: between(time.Second, maxBan),
		help: "length of the longest ban", want: `a duration from "1s", such as "10m"`,
	},
	{
		key: "bans.peers-per-address", ptr: func(c *Config) any { return &c.Bans.PeersPerAddress }, valid: between(0, maxConns),
		help: "banned peers of one address above which the address is banned", want: "a number of peers, 0 or more",
	},
	{
		key: "bans.peers", ptr: func(c *Config) any { return &c.Bans.Peers }, valid: between(1, maxConns),
		help: "peers that are remembered at most", want: "a number of peers, 1 or more",
	},

	{
		key: "rules.store", ptr: func(c *Config) any { return &c.Rules.Store },
		help: `file that keeps rules across restarts; "" is none`, want: "the name of a file",
	},
	{
		key: "rules.lists", flag: "rules", ptr: func(c *Config) any { return &c.Rules.Lists }, rows: listRows, live: true,
		help: "files of rules, each with the origin of its rules", want: `tables such as {origin = "firehol", file = "firehol.netset"}`,
		more: `They are read at the start and when the process gets SIGHUP. A list that cannot be read,
or has no rules in it, leaves those from before in force. With allow = true the rules
allow unless they say otherwise.`,
		sample: `[{origin = "firehol", file = "/etc/connmgr/firehol_level1.netset"}, {origin = "friends", file = "/etc/connmgr/friends.txt", allow = true}]`,
	},

	{
		key: "api.listen", flag: "api", ptr: func(c *Config) any { return &c.API.Listen }, valid: each(validAPI),
		help: "addresses of the API and its page, or unix:PATH", more: "An empty list turns it off. Other addresses than those of loopback need a token.",
		want: "HOST:PORT, such as 127.0.0.1:7654, or unix:PATH",
	},
	{
		key: "api.hosts", ptr: func(c *Config) any { return &c.API.Hosts }, valid: each(notEmpty),
		help: "further host names under which the API is asked for", more: "Others than these, localhost and addresses are refused: a page of another site may have sent them.",
		want: "a host name", sample: `["node.example.org"]`,
	},
	{
		key: "api.token", flag: "-", ptr: func(c *Config) any { return &c.API.Token }, secret: true,
		help: "bearer token that the API asks for",
		want: "a token in " + envPrefix + "API_TOKEN or in api.token-file: other files and command lines are read by others",
	},
	{
		key: "api.token-file", ptr: func(c *Config) any { return &c.API.TokenFile },
		help: "file of the bearer token that the API asks for", want: "the name of a file", sample: `"/etc/connmgr/token"`,
	},

	{
		key: "log.level", ptr: func(c *Config) any { return &c.Log.Level }, words: []string{"debug", "info", "warn", "error"}, live: true,
		help: `"debug", "info", "warn" or "error"`, want: `"debug", "info", "warn" or "error"`,
	},
	{
		key: "log.format", ptr: func(c *Config) any { return &c.Log.Format }, words: []string{"text", "json"},
		help: `"text" or "json"`, want: `"text" or "json"`,
	},
})

// withWords makes fields that have only some words take only those.
func withWords(list []*field) []*field {
	for _, f := range list {
		if f.words != nil {
			f.valid = oneOf(f.words...)
		}
	}
	return list
}

// find returns the field of a key.
func find(key string) *field {
	for _, f := range fields {
		if f.key == key {
			return f
		}
	}
	return nil
}

// rowKind is what the tables of a list are made of.
type rowKind struct {
	columns []column
	grow    func(list any) (row any) // adds a row and returns a pointer to it
	check   func(row any) (fault string)
}

// column is one key of such a table.
type column struct {
	name, want string
	ptr        func(row any) any
	valid      func(any) bool
	required   bool
}

var prefixRows = &rowKind{
	columns: []column{
		{name: "ipv4", want: "a length from 0 to 32", ptr: func(r any) any { return &r.(*connmgr.PrefixLimit).IPv4 }, valid: between(0, 32)},
		{name: "ipv6", want: "a length from 0 to 128", ptr: func(r any) any { return &r.(*connmgr.PrefixLimit).IPv6 }, valid: between(0, 128)},
		{name: "max", want: wantLimit, ptr: func(r any) any { return &r.(*connmgr.PrefixLimit).MaxConns }, valid: between(0, maxConns)},
		{name: "rate", want: "a number of connections per second, 0 for no limit", ptr: func(r any) any { return &r.(*connmgr.PrefixLimit).Rate }, valid: between(0.0, 1<<20)},
		{name: "burst", want: "a number of connections from 0 to 1048576", ptr: func(r any) any { return &r.(*connmgr.PrefixLimit).Burst }, valid: between(0, 1<<20)},
	},
	grow: func(list any) any {
		rows := list.(*[]connmgr.PrefixLimit)
		*rows = append(*rows, connmgr.PrefixLimit{})
		return &(*rows)[len(*rows)-1]
	},
	check: func(row any) string { return prefixFault(*row.(*connmgr.PrefixLimit)) },
}

var listRows = &rowKind{
	columns: []column{
		{name: "origin", want: "a name in one line", ptr: func(r any) any { return &r.(*RuleList).Origin }, valid: each(validOrigin), required: true},
		{name: "file", want: "the name of a file", ptr: func(r any) any { return &r.(*RuleList).File }, valid: each(notEmpty), required: true},
		{name: "allow", want: wantBool, ptr: func(r any) any { return &r.(*RuleList).Allow }},
	},
	grow: func(list any) any {
		rows := list.(*[]RuleList)
		*rows = append(*rows, RuleList{})
		return &(*rows)[len(*rows)-1]
	},
}
