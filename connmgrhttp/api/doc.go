// Package api holds the documents that connmgrhttp's handler and its clients exchange.
//
// All are JSON. Names are in snake_case and say their unit where there could be a doubt:
// _seconds is a number of seconds with a fraction, and what has no unit counts
// connections or peers, as it says. Times are in UTC, as RFC 3339 has it. Words such as
// "low_score" are those of the core's MarshalText, which are the ones of the metrics too.
// Peers have the names that connmgrhttp.Config.Names gives them.
//
// Within a version of the paths, fields keep their meaning; new fields and new words may
// come, and clients should pass over what they do not know. These types pass over fields;
// a word that is newer than they are is an error, so programs that use them should not be
// older than the nodes that they ask.
package api

// Version is the first element of all paths.
const Version = "v1"
