package connmgrlibp2p

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dep2p/connmgr"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file translates go-libp2p's ConnManager into the core's Manager.

// ConnManager is a go-libp2p connection manager and Decayer on top of
// [connmgr.Manager]. Make one with [NewConnManager]. All methods may be called
// from several goroutines, and after Close.
type ConnManager struct {
	core    *connmgr.Manager
	notifee *notifee
	gater   *Gater

	// What the user asked for, and what the core was given for it. They differ
	// where go-libp2p accepts what the core does not.
	low, high   int
	limits      connmgr.Limits
	gracePeriod time.Duration
}

// BasicConnMgr is the name that go-libp2p gives to its manager, for programs
// that mention it.
type BasicConnMgr = ConnManager

var (
	_ libp2p.ConnManager = (*ConnManager)(nil)
	_ libp2p.Decayer     = (*ConnManager)(nil)
)

// NewConnManager makes a connection manager that trims down to low connections
// when there are more than high.
//
// As in go-libp2p, a low of 0 or a high of 0 turns trimming off, and a low above
// high means that trimming starts and ends at low. A negative number is an
// error.
func NewConnManager(low, high int, opts ...Option) (*ConnManager, error) {
	if low < 0 || high < 0 {
		return nil, fmt.Errorf("connmgr: low watermark %d and high watermark %d must not be negative", low, high)
	}
	cfg := defaultConfig()
	for _, opt := range opts {
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	limits, err := cfg.limits(low, high)
	if err != nil {
		return nil, err
	}
	if cfg.memory > 0 && low == 0 {
		return nil, fmt.Errorf("connmgr: memory high water %v with low watermark 0: under pressure every peer would be closed", cfg.memory)
	}
	core, err := cfg.newCore(limits)
	if err != nil {
		return nil, err
	}
	cm := &ConnManager{core: core, low: low, high: high, limits: core.Limits(), gracePeriod: cfg.gracePeriod}
	cm.notifee = &notifee{core: core}
	cm.gater = &Gater{core: core.Gater()}
	return cm, nil
}

// limits returns the core's limits for go-libp2p's watermarks.
func (cfg *config) limits(low, high int) (connmgr.Limits, error) {
	hard := cfg.hardLimit
	if low == 0 || high == 0 {
		if hard != 0 && hard != math.MaxInt {
			return connmgr.Limits{}, fmt.Errorf("connmgr: hard limit %d, but low watermark %d and high watermark %d turn trimming off", hard, low, high)
		}
		// Off: no count is above high water. ForceTrim still goes down to low.
		return connmgr.Limits{LowWater: low, HighWater: math.MaxInt, HardLimit: math.MaxInt}, nil
	}
	high = max(low, high)
	switch { // a hard limit of 0 leaves it to the core, which has one by default
	case hard == 0 && cfg.budget == connmgr.BudgetTrimmable:
		hard = math.MaxInt
	case hard != 0 && hard < high:
		return connmgr.Limits{}, fmt.Errorf("connmgr: hard limit %d is below the watermark %d", hard, high)
	}
	return connmgr.Limits{LowWater: low, HighWater: high, HardLimit: hard}, nil
}

// Core returns the manager underneath, with all that go-libp2p's interface has no
// room for: dry runs, explanations, events, limits that change while it runs. Its
// node IDs are the bytes of peer IDs: connmgr.NodeID(p) and peer.ID(id). In its
// SetLimits, 0 is no connections at all; HighWater and HardLimit of math.MaxInt turn
// trimming off. A trim asked of Core goes down to low even if trimming is off.
func (cm *ConnManager) Core() *connmgr.Manager { return cm.core }

// off reports whether trimming is turned off by a watermark of 0.
func (cm *ConnManager) off() bool {
	return (cm.low == 0 || cm.high == 0) && cm.core.Limits() == cm.limits
}

// TagPeer gives a peer a tag with a value.
func (cm *ConnManager) TagPeer(p peer.ID, tag string, value int) {
	cm.core.TagPeer(connmgr.NodeID(p), tag, value)
}

// UntagPeer takes a tag from a peer.
func (cm *ConnManager) UntagPeer(p peer.ID, tag string) {
	cm.core.UntagPeer(connmgr.NodeID(p), tag)
}

// UpsertTag sets a tag to what upsert makes of its value. See
// [connmgr.Manager.UpsertTag]: upsert may run more than once, and may call back
// into the manager.
func (cm *ConnManager) UpsertTag(p peer.ID, tag string, upsert func(int) int) {
	cm.core.UpsertTag(connmgr.NodeID(p), tag, upsert)
}

// GetTagInfo returns what is known about a peer, nil if that is nothing. Conns is
// keyed by remote multiaddr; a second connection from the same address has " #2"
// behind it, a third " #3", the oldest first.
func (cm *ConnManager) GetTagInfo(p peer.ID) *libp2p.TagInfo {
	info, known := cm.core.PeerInfo(connmgr.NodeID(p))
	if !known || len(info.Tags) == 0 && len(info.Conns) == 0 && len(info.Protections) > 0 {
		return nil // go-libp2p keeps protections apart
	}
	out := &libp2p.TagInfo{
		FirstSeen: info.FirstSeen,
		Value:     info.Value,
		Tags:      info.Tags,
		Conns:     make(map[string]time.Time, len(info.Conns)),
	}
	for _, c := range info.Conns {
		lc, ok := c.Conn.(conn)
		if !ok {
			continue // told to Core directly, by somebody else
		}
		addr := lc.c.RemoteMultiaddr().String()
		key := addr
		for n := 2; ; n++ {
			if _, taken := out.Conns[key]; !taken {
				break
			}
			key = addr + " #" + strconv.Itoa(n)
		}
		out.Conns[key] = c.Opened
	}
	return out
}

// TrimOpenConns closes the lowest-ranked peers until low connections are left,
// and returns when that is done; see [connmgr.Manager.TrimOpenConns]. It does
// nothing if trimming is off.
func (cm *ConnManager) TrimOpenConns(ctx context.Context) {
	if !cm.off() {
		cm.core.TrimOpenConns(ctx)
	}
}

// ForceTrim closes peers until low connections are left, in grace or not, and
// protected ones too if that does not suffice. It works with trimming off as well.
func (cm *ConnManager) ForceTrim() {
	_, _ = cm.core.ForceTrim(context.Background())
}

// Protect protects a peer from being closed, under a tag.
func (cm *ConnManager) Protect(id peer.ID, tag string) {
	cm.core.Protect(connmgr.NodeID(id), tag)
}

// Unprotect takes back a protection and reports whether the peer is still
// protected under another tag.
func (cm *ConnManager) Unprotect(id peer.ID, tag string) (protected bool) {
	return cm.core.Unprotect(connmgr.NodeID(id), tag)
}

// IsProtected reports whether a peer is protected under a tag; the empty tag
// stands for any.
func (cm *ConnManager) IsProtected(id peer.ID, tag string) (protected bool) {
	return cm.core.IsProtected(connmgr.NodeID(id), tag)
}

// CheckLimit returns an error if the high watermark exceeds the system's limit.
func (cm *ConnManager) CheckLimit(system libp2p.GetConnLimiter) error {
	if high, limit := cm.GetInfo().HighWater, system.GetConnLimit(); high > limit {
		return fmt.Errorf("connmgr: high watermark %d exceeds the system's connection limit %d", high, limit)
	}
	return nil
}

// CMInfo is the configuration and the state of a [ConnManager].
type CMInfo struct {
	// LowWater is the low watermark, in connections.
	LowWater int
	// HighWater is the high watermark, in connections.
	HighWater int
	// LastTrim is when the last trim ended, asked for or not; zero if there was
	// none.
	LastTrim time.Time
	// GracePeriod is the grace period.
	GracePeriod time.Duration
	// ConnCount is the number of open connections. One that a trim has closed is
	// not counted any more, even before go-libp2p says that it is gone.
	ConnCount int
}

// GetInfo returns the configuration and the state.
func (cm *ConnManager) GetInfo() CMInfo {
	info := CMInfo{
		LowWater:    cm.low,
		HighWater:   cm.high,
		GracePeriod: cm.gracePeriod,
		ConnCount:   cm.core.ConnCount(),
	}
	if now := cm.core.Limits(); now != cm.limits { // changed through Core
		info.LowWater, info.HighWater = now.LowWater, now.HighWater
	}
	if last := cm.core.Stats().LastTrim; !last.Started.IsZero() {
		info.LastTrim = last.Started.Add(last.Took)
	}
	return info
}

// Notifee returns the receiver of go-libp2p's notifications. It is the same
// value every time.
func (cm *ConnManager) Notifee() network.Notifiee { return cm.notifee }

// Close stops background work and waits for it. Closing twice is the same as
// once. Being a Decayer as well, the manager has but one Close for both.
func (cm *ConnManager) Close() error { return cm.core.Close() }
