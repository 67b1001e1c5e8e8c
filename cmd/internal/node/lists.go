package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/config"
)

// This file puts rules in force: those that were kept, and those of lists, each under an
// origin of its own.

// startRules loads the lists when the node starts. The rules of a list that cannot be read
// are those that were kept from before. Without any, the node does not start: half of the
// rules would be worse than none.
func (n *Node) startRules(ctx context.Context) error {
	kept := n.rulesByOrigin()
	total := 0
	for _, count := range kept {
		total += count
	}
	if total > 0 {
		n.log.Info("rules kept from before", "file", n.store.Path(), "rules", total)
	}
	for _, list := range n.cfg.Rules.Lists {
		rules, err := list.Read()
		if err == nil {
			err = n.replace(ctx, list, rules)
			if err != nil {
				return err
			}
			continue
		}
		if kept[list.Origin] == 0 {
			return err
		}
		n.log.Error("list of rules not loaded, those from before stay", "origin", list.Origin, "rules", kept[list.Origin], "err", err)
	}
	return nil
}

// reloadRules loads the lists of a running node, and takes back the rules of lists that
// are not named any more.
func (n *Node) reloadRules(ctx context.Context, before, after []config.RuleList) error {
	var errs []error
	for _, old := range before {
		if slices.ContainsFunc(after, func(l config.RuleList) bool { return l.Origin == old.Origin }) {
			continue
		}
		diff, err := n.cm.Gater().Core().Replace(ctx, old.Origin, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("connmgr: taking back the rules of %q: %w", old.Origin, err))
		}
		n.log.Info("rules of a list that is not named any more taken back", "origin", old.Origin, "removed", diff.Removed)
	}
	for _, list := range after {
		rules, err := list.Read()
		if err != nil {
			n.log.Error("list of rules not loaded, those from before stay", "origin", list.Origin, "rules", n.rulesByOrigin()[list.Origin], "err", err)
			errs = append(errs, err)
			continue
		}
		if err := n.replace(ctx, list, rules); err != nil {
			n.log.Error("list of rules not kept", "origin", list.Origin, "err", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// replace puts the rules of a list in the place of those that came from there before.
func (n *Node) replace(ctx context.Context, list config.RuleList, rules []connmgr.Rule) error {
	diff, err := n.cm.Gater().Core().Replace(ctx, list.Origin, rules)
	if err != nil {
		return fmt.Errorf("connmgr: rules of %q from %s: %w", list.Origin, list.File, err)
	}
	n.log.Info("rules loaded", "origin", list.Origin, "file", list.File,
		"added", diff.Added, "changed", diff.Changed, "removed", diff.Removed, "kept", diff.Kept)
	return nil
}

// rulesByOrigin counts the rules in force.
func (n *Node) rulesByOrigin() map[string]int {
	count := map[string]int{}
	for r := range n.cm.Gater().Core().Rules() {
		count[r.Origin]++
	}
	return count
}
