// Package connmgrbolt keeps the rules of a gate in a file, so that they survive
// restarts:
//
//	store, err := connmgrbolt.Open("/var/lib/node/rules.db")
//	if err != nil {
//		return err
//	}
//	defer store.Close() // after the manager
//
// A [Store] is a connmgr.RuleStore. The file is one of bbolt, an embedded database:
// a transaction is in it as a whole or not at all, whenever the process ends, and is
// on the disk before Save returns.
//
// A file that cannot be trusted is an error, never a shorter list of rules. [Open]
// checks every page before it gives the file to bbolt, and [Store.Load] checks each
// rule, and that all of them are there. A file of another program is left alone.
//
// The file is for one process at a time. Commands that only look open it with
// [ReadOnly], which many can do at once, but none while a node has it open. It never
// shrinks: room that rules have left is used by later ones.
package connmgrbolt
