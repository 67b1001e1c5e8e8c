package demo

import (
	"fmt"
	"time"
)

// Options are the demo's flags.
type Options struct {
	// Peers is the number of nodes that connect.
	Peers int
	// Low and High are the watermarks in connections. Unless LowSet and HighSet
	// say that the user chose them, they follow from Peers.
	Low, High       int
	LowSet, HighSet bool
	// Grace is the grace period.
	Grace time.Duration
	// Seed decides identities and roles.
	Seed uint64
	// Transport is "tcp", "quic" or "both".
	Transport string
	// JSON asks for one JSON report instead of text.
	JSON bool
}

const (
	maxPeers = 1000
	maxGrace = time.Minute
)

// Defaults returns the options of a demo without flags.
func Defaults() Options {
	return Options{Peers: 120, Grace: 2 * time.Second, Seed: 1, Transport: "both"}
}

// Validate fills in the watermarks that the user left open, and returns an error
// that names the flag if the options make no sense.
func (o *Options) Validate() error {
	if o.Peers < 1 || o.Peers > maxPeers {
		return fmt.Errorf("--peers is %d, must be between 1 and %d", o.Peers, maxPeers)
	}
	// A watermark of 0 turns trimming off in go-libp2p, and so in the drop-in.
	if o.LowSet && o.Low < 1 {
		return fmt.Errorf("--low is %d, must be at least 1", o.Low)
	}
	if o.HighSet && o.High < 1 {
		return fmt.Errorf("--high is %d, must be at least 1", o.High)
	}
	if !o.LowSet {
		o.Low = max(1, o.Peers/3)
		if o.HighSet {
			o.Low = min(o.Low, o.High)
		}
	}
	if !o.HighSet {
		o.High = max(o.Low, 2*o.Peers/3)
	}
	if o.Low > o.High {
		return fmt.Errorf("--low %d is above --high %d", o.Low, o.High)
	}
	if o.Grace < 0 || o.Grace > maxGrace {
		return fmt.Errorf("--grace is %v, must be between 0 and %v", o.Grace, maxGrace)
	}
	switch o.Transport {
	case "tcp", "quic", "both":
	default:
		return fmt.Errorf("--transport is %q, must be tcp, quic or both", o.Transport)
	}
	return nil
}
