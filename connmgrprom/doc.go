// Package connmgrprom exports what a [connmgr.Manager] and its gate know to Prometheus:
//
//	prometheus.MustRegister(connmgrprom.NewCollector(m))
//
// Figures are read when they are scraped, in about a tenth of a millisecond whatever the
// number of peers.
// Two distributions cost more and have to be asked for: [WithTrimDurations] and
// [WithScores]. No label has a peer or an address as its value, and the number of series
// does not grow.
//
// A dashboard for Grafana (dashboard.json, to be imported) and three alert rules for
// Prometheus (alerts.yml) come with this package.
//
// # Metrics
//
// Counters start at 0 when the manager is made, and every series is there from the start.
// Those of a trim are 0 before the first one.
//
//	connmgr_close_errors_total, counter
//		Connections that would not close, each time counted.
//	connmgr_closed_peers_total{reason}, counter
//		Peers that the manager has closed, by reason.
//	connmgr_closing_connections, gauge
//		Connections that the manager has closed and that are not reported as gone yet.
//	connmgr_connections{direction}, gauge
//		Connections by direction, those included that are arriving or being closed.
//	connmgr_dropped_events_total, counter
//		Events that came too fast for the reader of trim durations (WithTrimDurations).
//	connmgr_forgotten_idle_peers_total{cause}, counter
//		Idle peers that were forgotten with their tags, for want of room or for their age.
//	connmgr_gate_arriving_connections, gauge
//		Connections that have passed the gate and are not reported as connected yet.
//	connmgr_gate_decisions_total{checkpoint, outcome}, counter
//		Decisions of the gate, by checkpoint and outcome. A connection passes several checkpoints.
//	connmgr_gate_displaced_peers_total, counter
//		Peers closed to make room for a newcomer that ranks higher.
//	connmgr_gate_reported_peers, gauge
//		Peers that the ban ladder remembers.
//	connmgr_gate_rules, gauge
//		Rules in memory, those that have just expired included.
//	connmgr_gate_tracked_prefixes, gauge
//		Address prefixes that the limits per prefix remember.
//	connmgr_gate_unsaved_rule_changes, gauge
//		Changes of rules that are in force and that the store could not save; a restart would lose them.
//	connmgr_hanging_peers, gauge
//		Peers with a connection whose Close was called and has not returned for long.
//	connmgr_hard_limit_connections, gauge
//		Number of connections above which newcomers are refused or closed; +Inf if there is no limit.
//	connmgr_high_water_connections, gauge
//		Number of connections above which a trim starts.
//	connmgr_idle_peers, gauge
//		Peers without a connection that are remembered for their tags.
//	connmgr_ignored_notifications_total{kind}, counter
//		Notifications that were ignored, by kind. With a host, some duplicate and unknown ones are normal.
//	connmgr_last_trim_counted_connections, gauge
//		Connections that counted against low water in the last trim.
//	connmgr_last_trim_duration_seconds, gauge
//		How long the last trim took.
//	connmgr_last_trim_in_grace_connections, gauge
//		Connections of peers in their grace period in the last trim.
//	connmgr_last_trim_planning_seconds, gauge
//		How long the last trim took to decide who goes, a part of its duration.
//	connmgr_last_trim_protected_connections, gauge
//		Connections of protected peers in the last trim.
//	connmgr_last_trim_shortfall_cause{cause}, gauge
//		Whether (1 or 0) this is a cause of the last trim's shortfall.
//	connmgr_last_trim_shortfall_connections, gauge
//		Connections that the last trim would have closed as well had it been allowed to.
//	connmgr_last_trim_target_connections, gauge
//		Connections that the last trim was to close.
//	connmgr_last_trim_timestamp_seconds, gauge
//		When the last trim began, in Unix time; 0 if there was none.
//	connmgr_low_water_connections, gauge
//		Number of connections at which a trim stops.
//	connmgr_open_connections, gauge
//		Open connections, those that are arriving or being closed not counted.
//	connmgr_outbound_floor_connections, gauge
//		Number of outbound connections below which only a forced trim goes.
//	connmgr_panics_total, counter
//		Panics of a host, connection or callback that were caught.
//	connmgr_peer_score, histogram
//		Scores of the peers that are connected now (WithScores). Its count goes up and down.
//	connmgr_peers, gauge
//		Peers with a connection.
//	connmgr_protected_peers, gauge
//		Protected peers, connected or not.
//	connmgr_refused_tags_total, counter
//		Tags that were dropped since the peer had too many.
//	connmgr_spared_peers_total, counter
//		Peers that a trim had planned to close and did not, since they had left, been protected or risen.
//	connmgr_trim_duration_seconds, histogram
//		How long trims took (WithTrimDurations).
//	connmgr_trims_total{trigger}, counter
//		Trims that have ended, by what set them off.
//
// # Values of labels
//
// Words that are in use keep their meaning; new ones may come. What a newer core counts
// and this package does not know has the word other.
//
//	cause of connmgr_forgotten_idle_peers_total
//		age, room
//	cause of connmgr_last_trim_shortfall_cause
//		grace, outbound_floor, protected
//	checkpoint of connmgr_gate_decisions_total
//		accept, address_dial, peer_dial, secured, upgraded
//	direction of connmgr_connections
//		inbound, outbound, unknown
//	kind of connmgr_ignored_notifications_total
//		duplicate_connect, late, nil, unknown_disconnect
//	outcome of connmgr_gate_decisions_total
//		denied_address, denied_peer, denied_port, hard_limit, inbound_limit, passed, peer_limit, prefix_limit, rate_limit
//	reason of connmgr_closed_peers_total
//		blocked, displaced, forced, forced_protected, hard_limit, low_score, misbehaved, on_request
//	trigger of connmgr_trims_total
//		force, grace_ended, hard_limit, high_water, manual, tick
//
// The words stand for the constants of package connmgr of the same meaning, such as
// high_water for [connmgr.TriggerHighWater] and forced_protected for
// [connmgr.ClosedForcedProtected].
//
// # Queries
//
// How full the node is, and how many it turns away per second, by checkpoint and cause:
//
//	connmgr_open_connections / connmgr_hard_limit_connections
//	sum by (checkpoint, outcome) (rate(connmgr_gate_decisions_total{outcome!="passed"}[5m]))
//
// Peers that change fast can mean that the watermarks are too low:
//
//	sum by (reason) (rate(connmgr_closed_peers_total[5m]))
package connmgrprom
