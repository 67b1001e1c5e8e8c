// Package config is the configuration of "connmgr run": what can be set, where it is
// set (defaults, a TOML file, the environment, flags; the later wins), and what is wrong
// with it, with the place of each mistake.
package config

import (
	"math"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file says what can be set. fields.go says how each of it is called, and what
// values it takes.

// Config is how a node behaves. Make one with [Default] or [Load]: then all of it is
// valid, and nothing in it is left to a default. It is a plain value; its slices must
// not be changed.
type Config struct {
	// Listen is the multiaddrs to listen on. None means that the node only dials.
	Listen []string
	// Identity is the file of the private key.
	Identity string
	// Relay says whether the node relays connections for others.
	Relay bool
	// Connect is multiaddrs with /p2p/ of peers to keep connections with.
	Connect []string
	// Protect is the IDs of peers that no trim closes.
	Protect []string
	// DrainTimeout is how long an orderly end may take.
	DrainTimeout time.Duration

	Watermarks Watermarks
	// MemoryHighWater is as in [connmgr.Config].
	MemoryHighWater float64
	Gate            Gate
	Bans            Bans
	Rules           Rules
	API             API
	Log             Log

	from map[string]origin // by key; what is not in it is a default
}

// Watermarks are when connections are closed. Numbers are of connections.
type Watermarks struct {
	Low, High int
	// HardLimit is the number that inbound connections never exceed; 0 is no limit.
	HardLimit      int
	OutboundFloor  int
	Grace, Silence time.Duration
}

// Gate is limits for those who dial us. In numbers, 0 is no limit.
type Gate struct {
	// Preset is "public", "private-cluster" or "none": where the others are from that
	// are not set by themselves.
	Preset        string
	MaxInbound    int
	MaxPerPeer    int
	ExemptPrivate bool
	PerPrefix     []connmgr.PrefixLimit
}

// Bans is how reports of misbehaviour lead to bans; see [connmgr.LadderConfig].
type Bans struct {
	Enabled         bool
	DisconnectAt    float64
	BanAt           float64
	HalfLife        time.Duration
	First, Longest  time.Duration
	PeersPerAddress int
	Peers           int
}

// Rules is where rules come from.
type Rules struct {
	// Store is the file that keeps rules across restarts; empty is none.
	Store string
	Lists []RuleList
}

// RuleList is a file of rules, kept under an origin of its own.
type RuleList struct {
	Origin, File string
	// Allow says that the rules allow unless they say otherwise.
	Allow bool
}

// API is where the node can be asked.
type API struct {
	// Listen is addresses such as 127.0.0.1:7654 or unix:/run/connmgr/api.sock. None
	// means that there is no API.
	Listen []string
	// Hosts is further names under which the API is asked for.
	Hosts []string
	// Token is the bearer token, read from TokenFile if it is not set by itself. Empty
	// is none.
	Token     string
	TokenFile string
}

// Log is what is logged, and how.
type Log struct {
	Level  string // "debug", "info", "warn" or "error"
	Format string // "text" or "json"
}

// Default returns the configuration of a node for which nothing is set.
func Default() Config {
	c := zero()
	c.derive()
	return c
}

// zero returns the defaults that do not depend on other fields.
func zero() Config {
	ladder := connmgr.DefaultLadder()
	return Config{
		Listen: []string{
			"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1",
			"/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1",
		},
		Identity:     "identity.key",
		DrainTimeout: 10 * time.Second,
		Watermarks: Watermarks{
			Low: connmgr.DefaultLowWater, High: connmgr.DefaultHighWater,
			Grace: connmgr.DefaultGracePeriod, Silence: connmgr.DefaultSilencePeriod,
		},
		Gate: Gate{Preset: "public"},
		Bans: Bans{
			Enabled: true, DisconnectAt: ladder.DisconnectAt, BanAt: ladder.BanAt, HalfLife: ladder.HalfLife,
			First: ladder.FirstBan, Longest: ladder.MaxBan, PeersPerAddress: ladder.MaxPeersPerAddr, Peers: ladder.MaxPeers,
		},
		Rules: Rules{Store: "rules.db"},
		API:   API{Listen: []string{"127.0.0.1:7654"}},
		Log:   Log{Level: "info", Format: "text"},
		from:  map[string]origin{},
	}
}

// derive fills what follows from other fields and is not set by itself.
func (c *Config) derive() {
	derived := func(key, why string) bool {
		if from := c.from[key].Kind; from != KindDefault && from != kindDerived {
			return false
		}
		c.from[key] = origin{Source: Source{Kind: kindDerived, Name: why}}
		return true
	}
	w := &c.Watermarks
	if !c.Given("watermarks.low") && w.High < w.Low && derived("watermarks.low", "no more than watermarks.high") {
		w.Low = w.High
	}
	if !c.Given("watermarks.high") && w.High < w.Low && derived("watermarks.high", "no less than watermarks.low") {
		w.High = w.Low
	}
	if derived("watermarks.hard-limit", "1.5 × watermarks.high") {
		w.HardLimit = w.High + w.High/2
		if w.HardLimit < 0 { // it wrapped around
			w.HardLimit = math.MaxInt
		}
	}
	limits, preset := presets[c.Gate.Preset](), "preset "+c.Gate.Preset
	if derived("gate.max-inbound", preset) {
		c.Gate.MaxInbound = limits.MaxInbound
	}
	if derived("gate.max-per-peer", preset) {
		c.Gate.MaxPerPeer = limits.MaxPerPeer
	}
	if derived("gate.exempt-private", preset) {
		c.Gate.ExemptPrivate = limits.ExemptPrivate
	}
	if derived("gate.per-prefix", preset) {
		c.Gate.PerPrefix = limits.PerPrefix
	}
}

// presets are the sets of limits that have a name.
var presets = map[string]func() connmgr.GateLimits{
	"public":          connmgr.PublicNodeLimits,
	"private-cluster": connmgr.PrivateClusterLimits,
	"none":            connmgr.TestLimits,
}

// Given reports whether a field was set, by whatever source.
func (c *Config) Given(key string) bool { return c.from[key].Kind > kindDerived }

// Limit returns the hard limit as the core knows it.
func (w Watermarks) Limit() int {
	if w.HardLimit == 0 {
		return math.MaxInt
	}
	return w.HardLimit
}

// Limits returns the limits that can be changed while the manager runs.
func (w Watermarks) Limits() connmgr.Limits {
	return connmgr.Limits{LowWater: w.Low, HighWater: w.High, HardLimit: w.Limit(), OutboundFloor: w.OutboundFloor}
}

// Limits returns the limits at the door.
func (g Gate) Limits() connmgr.GateLimits {
	return connmgr.GateLimits{
		MaxInbound: g.MaxInbound, MaxPerPeer: g.MaxPerPeer,
		PerPrefix: g.PerPrefix, ExemptPrivate: g.ExemptPrivate,
	}
}

// Ladder returns the ban ladder.
func (b Bans) Ladder() connmgr.LadderConfig {
	if !b.Enabled {
		return connmgr.LadderConfig{}
	}
	perAddr := b.PeersPerAddress
	if perAddr == 0 {
		perAddr = connmgr.Zero
	}
	return connmgr.LadderConfig{
		DisconnectAt: b.DisconnectAt, BanAt: b.BanAt, HalfLife: b.HalfLife,
		FirstBan: b.First, MaxBan: b.Longest, MaxPeersPerAddr: perAddr, MaxPeers: b.Peers,
	}
}

// ListenAddrs returns the multiaddrs to listen on. A text that is none is left out; Load
// lets none through.
func (c *Config) ListenAddrs() []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, text := range c.Listen {
		if addr, err := ma.NewMultiaddr(text); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// PeersToConnect returns the peers to keep connections with, each once with all of its
// addresses.
func (c *Config) PeersToConnect() []peer.AddrInfo {
	var addrs []ma.Multiaddr
	for _, text := range c.Connect {
		if addr, err := ma.NewMultiaddr(text); err == nil {
			addrs = append(addrs, addr)
		}
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil
	}
	return infos
}

// PeersToProtect returns the peers that are protected.
func (c *Config) PeersToProtect() []peer.ID {
	var ids []peer.ID
	for _, text := range c.Protect {
		if id, err := peer.Decode(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
