// Package connmgr decides which connections of a peer-to-peer node to keep, which to
// close and which never to open, and says why for every one.
//
// A [Manager] is told of connections ([Manager.Connected],
// [Manager.Disconnected]) and learns from the program what peers are worth: tags
// with values ([Manager.TagPeer]), values that decay with time
// ([Manager.RegisterDecayingTag]) and protections ([Manager.Protect]). When there
// are more connections than high water, it closes the lowest-ranked peers until
// low water is reached. Peers that have just connected have a grace period.
//
// Watermarks count connections; peers are what is ranked, protected and closed.
// Closing a peer closes all of its connections.
//
// What a trim does is decided by [PlanTrim], a pure function whose result gives
// every peer a verdict with a reason. [Manager.DryRun] and [Manager.Explain] show
// it without acting.
//
// The manager's [Gater] is asked before connections come about, at five checkpoints. It
// has rules that deny or allow peers, addresses and ports, that can expire and are kept
// in a [RuleStore], and limits for those who dial us ([GateLimits]). A rule that denies
// closes the connections that it is about. Reports of misbehaviour can lead to bans
// ([LadderConfig]).
//
// Users of go-libp2p take package connmgrlibp2p, a module of its own beside this
// one, and users of Fx package connmgrfx.
package connmgr
