package connmgrprom

import (
	"math"

	"github.com/dep2p/connmgr"
	"github.com/prometheus/client_golang/prometheus"
)

// This file is the table of what a scrape reads off a manager. The same table, with the
// values of labels, is in doc.go; a test holds the two against each other.

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// reading is what one scrape knows. All figures of a scrape come from one reading.
type reading struct {
	stats  connmgr.Stats
	gate   connmgr.GateStats
	limits connmgr.Limits
}

func read(m *connmgr.Manager) *reading {
	return &reading{stats: m.Stats(), gate: m.Gater().Stats(), limits: m.Limits()}
}

// emitter takes a value with the values of the metric's labels, in their order.
type emitter func(value float64, labels ...string)

// metric is one row of the table.
type metric struct {
	name   string
	kind   prometheus.ValueType
	help   string
	labels []string
	read   func(r *reading, emit emitter)
}

// plain is a metric without labels.
func plain(name string, kind prometheus.ValueType, help string, value func(r *reading) float64) metric {
	return metric{name, kind, help, nil, func(r *reading, emit emitter) { emit(value(r)) }}
}

// metrics is what every collector exports.
var metrics = []metric{
	// What there is.
	{
		"connmgr_connections", gauge,
		"Connections by direction, those included that are arriving or being closed.",
		[]string{"direction"},
		func(r *reading, emit emitter) {
			emit(float64(r.stats.Inbound), wordOf(connmgr.DirInbound))
			emit(float64(r.stats.Outbound), wordOf(connmgr.DirOutbound))
			emit(float64(r.stats.UnknownDirection), wordOf(connmgr.DirUnknown))
		},
	},
	plain("connmgr_open_connections", gauge,
		"Open connections, those that are arriving or being closed not counted.",
		func(r *reading) float64 { return float64(r.stats.Conns) }),
	plain("connmgr_closing_connections", gauge,
		"Connections that the manager has closed and that are not reported as gone yet.",
		func(r *reading) float64 { return float64(r.stats.Closing) }),
	plain("connmgr_peers", gauge,
		"Peers with a connection.",
		func(r *reading) float64 { return float64(r.stats.Peers) }),
	plain("connmgr_protected_peers", gauge,
		"Protected peers, connected or not.",
		func(r *reading) float64 { return float64(r.stats.ProtectedPeers) }),
	plain("connmgr_idle_peers", gauge,
		"Peers without a connection that are remembered for their tags.",
		func(r *reading) float64 { return float64(r.stats.IdlePeers) }),

	// What is allowed.
	plain("connmgr_low_water_connections", gauge,
		"Number of connections at which a trim stops.",
		func(r *reading) float64 { return limit(r.limits.LowWater) }),
	plain("connmgr_high_water_connections", gauge,
		"Number of connections above which a trim starts.",
		func(r *reading) float64 { return limit(r.limits.HighWater) }),
	plain("connmgr_hard_limit_connections", gauge,
		"Number of connections above which newcomers are refused or closed; +Inf if there is no limit.",
		func(r *reading) float64 { return limit(r.limits.HardLimit) }),
	plain("connmgr_outbound_floor_connections", gauge,
		"Number of outbound connections below which only a forced trim goes.",
		func(r *reading) float64 { return limit(r.limits.OutboundFloor) }),

	// What the manager has done.
	{
		"connmgr_trims_total", counter,
		"Trims that have ended, by what set them off.",
		[]string{"trigger"},
		func(r *reading, emit emitter) {
			emitAll(tallied(r.stats.Trims, connmgr.Trigger.Trims), emit)
		},
	},
	{
		"connmgr_closed_peers_total", counter,
		"Peers that the manager has closed, by reason.",
		[]string{"reason"},
		func(r *reading, emit emitter) {
			emitAll(tallied(r.stats.ClosedPeers, connmgr.Reason.Closed), emit)
		},
	},
	plain("connmgr_spared_peers_total", counter,
		"Peers that a trim had planned to close and did not, since they had left, been protected or risen.",
		func(r *reading) float64 { return float64(r.stats.SparedPeers) }),
	plain("connmgr_last_trim_timestamp_seconds", gauge,
		"When the last trim began, in Unix time; 0 if there was none.",
		func(r *reading) float64 {
			if r.stats.LastTrim.Started.IsZero() {
				return 0
			}
			return float64(r.stats.LastTrim.Started.UnixNano()) / 1e9
		}),
	plain("connmgr_last_trim_duration_seconds", gauge,
		"How long the last trim took.",
		func(r *reading) float64 { return r.stats.LastTrim.Took.Seconds() }),
	plain("connmgr_last_trim_planning_seconds", gauge,
		"How long the last trim took to decide who goes, a part of its duration.",
		func(r *reading) float64 { return r.stats.LastTrim.Planning.Seconds() }),
	plain("connmgr_last_trim_counted_connections", gauge,
		"Connections that counted against low water in the last trim.",
		func(r *reading) float64 { return float64(r.stats.LastTrim.Counted) }),
	plain("connmgr_last_trim_protected_connections", gauge,
		"Connections of protected peers in the last trim.",
		func(r *reading) float64 { return float64(r.stats.LastTrim.Protected) }),
	plain("connmgr_last_trim_in_grace_connections", gauge,
		"Connections of peers in their grace period in the last trim.",
		func(r *reading) float64 { return float64(r.stats.LastTrim.InGrace) }),
	plain("connmgr_last_trim_target_connections", gauge,
		"Connections that the last trim was to close.",
		func(r *reading) float64 { return float64(r.stats.LastTrim.Target) }),
	plain("connmgr_last_trim_shortfall_connections", gauge,
		"Connections that the last trim would have closed as well had it been allowed to.",
		func(r *reading) float64 { return float64(r.stats.LastTrim.Shortfall) }),
	{
		"connmgr_last_trim_shortfall_cause", gauge,
		"Whether (1 or 0) this is a cause of the last trim's shortfall.",
		[]string{"cause"},
		func(r *reading, emit emitter) {
			for c := connmgr.Cause(1); len(c.Words()) == 1; c <<= 1 {
				emit(oneIf(r.stats.LastTrim.Cause&c != 0), c.Words()[0])
			}
		},
	},

	// What went wrong.
	plain("connmgr_hanging_peers", gauge,
		"Peers with a connection whose Close was called and has not returned for long.",
		func(r *reading) float64 { return float64(r.stats.HangingPeers) }),
	plain("connmgr_close_errors_total", counter,
		"Connections that would not close, each time counted.",
		func(r *reading) float64 { return float64(r.stats.CloseErrors) }),
	plain("connmgr_panics_total", counter,
		"Panics of a host, connection or callback that were caught.",
		func(r *reading) float64 { return float64(r.stats.Panics) }),
	{
		"connmgr_ignored_notifications_total", counter,
		"Notifications that were ignored, by kind. With a host, some duplicate and unknown ones are normal.",
		[]string{"kind"},
		func(r *reading, emit emitter) {
			emit(float64(r.stats.DuplicateConnects), "duplicate_connect")
			emit(float64(r.stats.UnknownDisconnects), "unknown_disconnect")
			emit(float64(r.stats.NilNotifications), "nil")
			emit(float64(r.stats.LateNotifications), "late")
		},
	},
	plain("connmgr_refused_tags_total", counter,
		"Tags that were dropped since the peer had too many.",
		func(r *reading) float64 { return float64(r.stats.TagsRefused) }),
	{
		"connmgr_forgotten_idle_peers_total", counter,
		"Idle peers that were forgotten with their tags, for want of room or for their age.",
		[]string{"cause"},
		func(r *reading, emit emitter) {
			emit(float64(r.stats.IdleEvicted), "room")
			emit(float64(r.stats.IdleExpired), "age")
		},
	},

	// The gate.
	{
		"connmgr_gate_decisions_total", counter,
		"Decisions of the gate, by checkpoint and outcome. A connection passes several checkpoints.",
		[]string{"checkpoint", "outcome"},
		func(r *reading, emit emitter) {
			// A checkpoint without a word is left out: it is a further place to be asked
			// at, not a share of what is counted here.
			for cp := connmgr.Checkpoint(0); wordOf(cp) != ""; cp++ {
				emitAll(tallied(r.gate.Checks[cp], nil), func(value float64, labels ...string) {
					emit(value, wordOf(cp), labels[0])
				})
			}
		},
	},
	plain("connmgr_gate_rules", gauge,
		"Rules in memory, those that have just expired included.",
		func(r *reading) float64 { return float64(r.gate.Rules) }),
	plain("connmgr_gate_unsaved_rule_changes", gauge,
		"Changes of rules that are in force and that the store could not save; a restart would lose them.",
		func(r *reading) float64 { return float64(r.gate.UnsavedRules) }),
	plain("connmgr_gate_displaced_peers_total", counter,
		"Peers closed to make room for a newcomer that ranks higher.",
		func(r *reading) float64 { return float64(r.gate.Displaced) }),
	plain("connmgr_gate_arriving_connections", gauge,
		"Connections that have passed the gate and are not reported as connected yet.",
		func(r *reading) float64 { return float64(r.gate.Arriving) }),
	plain("connmgr_gate_tracked_prefixes", gauge,
		"Address prefixes that the limits per prefix remember.",
		func(r *reading) float64 { return float64(r.gate.TrackedPrefixes) }),
	plain("connmgr_gate_reported_peers", gauge,
		"Peers that the ban ladder remembers.",
		func(r *reading) float64 { return float64(r.gate.ReportedPeers) }),
}

func emitAll(t *tally, emit emitter) {
	for _, word := range t.words {
		emit(t.counts[word], word)
	}
}

// limit is a limit as Prometheus sees it: none is +Inf, above which nothing is.
func limit(n int) float64 {
	if n == math.MaxInt {
		return math.Inf(1)
	}
	return float64(n)
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
