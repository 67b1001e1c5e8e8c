package connmgrhttp

import (
	"net/http"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file tells how the node is.

// getStatus returns what the node has and has done.
func (h *handler) getStatus(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	s, gate := h.m.Stats(), h.g.Stats()
	doc := api.Status{
		Now:                wire.UTC(time.Now()),
		Node:               h.node,
		Started:            wire.UTC(h.started),
		Limits:             h.limits(),
		GracePeriodSeconds: h.m.Policy().GracePeriod.Seconds(),
		Connections: api.Connections{
			Open: s.Conns, Inbound: s.Inbound, Outbound: s.Outbound, Unknown: s.UnknownDirection,
			Closing: s.Closing, Arriving: gate.Arriving,
		},
		Peers:       api.PeerCounts{Connected: s.Peers, Protected: s.ProtectedPeers, Idle: s.IdlePeers},
		Trims:       s.Trims,
		ClosedPeers: s.ClosedPeers,
		SparedPeers: s.SparedPeers,
		Gate: api.GateCounts{
			Checks: gate.Checks, Refused: refused(gate.Checks),
			Rules: gate.Rules, UnsavedRules: gate.UnsavedRules, Displaced: gate.Displaced,
			TrackedPrefixes: gate.TrackedPrefixes, ReportedPeers: gate.ReportedPeers,
		},
		Faults: api.FaultCounts{
			CloseErrors: s.CloseErrors, HangingPeers: s.HangingPeers, Panics: s.Panics, TagsRefused: s.TagsRefused,
			DuplicateConnects: s.DuplicateConnects, UnknownDisconnects: s.UnknownDisconnects,
			NilNotifications: s.NilNotifications, LateNotifications: s.LateNotifications,
			EventsLost: h.journal.Dropped(),
		},
		Streams:     h.journal.Streams(),
		LostStreams: h.journal.LostStreams(),
	}
	if !s.LastTrim.Started.IsZero() {
		doc.LastTrim = new(h.names.Trim(s.LastTrim, 0))
	}
	return doc, nil
}

// refused counts the checks that ended in a refusal.
func refused(checks map[connmgr.Checkpoint]map[connmgr.Outcome]uint64) (n uint64) {
	for _, outcomes := range checks {
		for outcome, count := range outcomes {
			if outcome != connmgr.Passed {
				n += count
			}
		}
	}
	return n
}

// limits returns the limits in force.
func (h *handler) limits() api.Limits {
	l, gate := h.m.Limits(), h.g.Limits()
	doc := api.Limits{
		LowWater: l.LowWater, HighWater: l.HighWater, HardLimit: wire.HardLimit(l.HardLimit), OutboundFloor: l.OutboundFloor,
		Gate: api.GateLimits{
			MaxInbound: gate.MaxInbound, MaxPerPeer: gate.MaxPerPeer,
			PerPrefix: []api.PrefixLimit{}, ExemptPrivate: gate.ExemptPrivate,
		},
	}
	for _, p := range gate.PerPrefix {
		doc.Gate.PerPrefix = append(doc.Gate.PerPrefix, api.PrefixLimit(p))
	}
	return doc
}
