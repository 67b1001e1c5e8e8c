package connmgrlibp2p

import (
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file translates go-libp2p's Decayer into the core's decaying tags.

// RegisterDecayingTag makes a decaying tag. The interval is raised to the
// resolution if it is below. It fails if a tag of that name exists, if a function
// is nil, and after Close.
//
// In the DecayingValue that the functions get, LastVisit is when the value was
// last bumped; decay does not change it. go-libp2p's manager overwrites it with
// each decay, so that no function can tell how long a tag has been inactive.
func (cm *ConnManager) RegisterDecayingTag(name string, interval time.Duration, decayFn libp2p.DecayFn, bumpFn libp2p.BumpFn) (libp2p.DecayingTag, error) {
	t := new(decayingTag)
	var decay connmgr.DecayFunc
	switch {
	case decayFn == nil: // the core says so
	case isBrokenExpiry(decayFn):
		decay = mendExpiry(decayFn, t)
	default:
		decay = func(v connmgr.DecayingValue) (int, bool) { return decayFn(t.value(v)) }
	}
	var bump connmgr.BumpFunc
	if bumpFn != nil {
		bump = func(v connmgr.DecayingValue, delta int) int { return bumpFn(t.value(v), delta) }
	}
	core, err := cm.core.RegisterDecayingTag(name, interval, decay, bump)
	if err != nil {
		return nil, err
	}
	t.core.Store(core)
	return t, nil
}

// decayingTag is a decaying tag of the core under go-libp2p's interface.
type decayingTag struct {
	// core is set right after registration. A decay or bump can only run earlier
	// than that if it finds the tag without it, so value sets it as well.
	core atomic.Pointer[connmgr.DecayingTag]
}

func (t *decayingTag) Name() string            { return t.core.Load().Name() }
func (t *decayingTag) Interval() time.Duration { return t.core.Load().Interval() }

// Bump changes the tag's value for a peer before it returns.
func (t *decayingTag) Bump(p peer.ID, delta int) error {
	return t.core.Load().Bump(connmgr.NodeID(p), delta)
}

// Remove takes the tag from a peer before it returns.
func (t *decayingTag) Remove(p peer.ID) error {
	return t.core.Load().Remove(connmgr.NodeID(p))
}

// Close takes the tag from all peers and gives its name free before it returns.
func (t *decayingTag) Close() error { return t.core.Load().Close() }

// value translates a value for go-libp2p's functions.
func (t *decayingTag) value(v connmgr.DecayingValue) libp2p.DecayingValue {
	if t.core.Load() == nil {
		t.core.Store(v.Tag)
	}
	return libp2p.DecayingValue{
		Tag:       t,
		Peer:      peer.ID(v.Peer),
		Added:     v.Added,
		LastVisit: v.LastBump,
		Value:     v.Value,
	}
}
