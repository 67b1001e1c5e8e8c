package config

import (
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file says which values are valid, each by itself.

const (
	maxConns = math.MaxInt32
	maxBan   = 100 * 365 * 24 * time.Hour
)

func between[T int | float64 | time.Duration](lo, hi T) func(any) bool {
	return func(v any) bool { n := v.(T); return n >= lo && n <= hi } // NaN is not
}

// Words returns the words that a flag can have, of the flags that have only some, by the
// flags' names.
func Words() map[string][]string {
	words := make(map[string][]string)
	for _, f := range fields {
		if f.words != nil {
			words[f.flagName()] = f.words
		}
	}
	return words
}

func oneOf(words ...string) func(any) bool {
	return each(func(s string) bool { return slices.Contains(words, s) })
}

func each(valid func(string) bool) func(any) bool {
	return func(v any) bool { return valid(v.(string)) }
}

func notEmpty(s string) bool { return strings.TrimSpace(s) != "" }

func validPeer(text string) bool {
	_, err := peer.Decode(text)
	return err == nil
}

func validConnect(text string) bool {
	info, err := peer.AddrInfoFromString(text)
	return err == nil && len(info.Addrs) > 0
}

// validListen knows the two transports that the node has.
func validListen(text string) bool {
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return false
	}
	names := addr.Protocols()
	if len(names) < 2 || names[0].Code != ma.P_IP4 && names[0].Code != ma.P_IP6 {
		return false
	}
	switch names[1].Code {
	case ma.P_TCP:
		return len(names) == 2
	case ma.P_UDP:
		return len(names) == 3 && names[2].Code == ma.P_QUIC_V1
	}
	return false
}

// validAPI leaves it to the one who listens whether a name can be resolved.
func validAPI(text string) bool {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return path != ""
	}
	_, ok := hostOf(text)
	return ok
}

// validOrigin knows that the ban ladder has an origin of its own.
func validOrigin(name string) bool {
	rule := connmgr.Rule{Target: connmgr.PortTarget(1), Origin: name}
	return notEmpty(name) && name != connmgr.LadderOrigin && rule.Validate() == nil
}

// prefixFault returns the core's word on a limit.
func prefixFault(l connmgr.PrefixLimit) string {
	m, err := connmgr.New(connmgr.Config{
		ManualStart: true,
		Gate:        connmgr.GateConfig{Limits: connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{l}}},
	})
	if err != nil {
		return toKeys.Replace(strings.TrimPrefix(err.Error(), "connmgr: GateLimits.PerPrefix[0]: "))
	}
	_ = m.Close()
	return ""
}

// toKeys turns the core's names into ours.
var toKeys = strings.NewReplacer("MaxConns", "max", "Rate", "rate", "Burst", "burst", "IPv4", "ipv4", "IPv6", "ipv6")

// hostOf returns the host of HOST:PORT, and whether that is what a text is. The port is a
// number, not the name of a service.
func hostOf(text string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, "/ ") {
		return "", false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err == nil
}
