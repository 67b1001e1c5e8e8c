package connmgr

import "context"

// This file says how rules survive restarts.

// RuleStore keeps rules across restarts. Package connmgrbolt has one in a file of
// its own, package connmgrlibp2p one in any go-datastore.
//
// The gater calls Load once, before anything else, and never two methods at once.
// No method is called under a lock of the manager, but none may wait for the gater.
// The gater does not close a store; who opened it does, after the manager.
type RuleStore interface {
	// Load returns all rules, those that have expired meanwhile too. If a single one
	// cannot be read it returns an error that names the file or key, since a node
	// that starts without a part of its rules has lost them without notice.
	Load(ctx context.Context) ([]Rule, error)
	// Save makes changes durable before it returns: all of them, or none and an
	// error. No two changes are about the same rule. The slice is the caller's.
	Save(ctx context.Context, changes []RuleChange) error
}

// RuleChange is a rule to be kept, or one to be forgotten.
type RuleChange struct {
	Rule Rule
	// Remove says that the rule is to be forgotten; its expiry and reason mean
	// nothing then. A rule that the store does not have is no error.
	Remove bool
}
