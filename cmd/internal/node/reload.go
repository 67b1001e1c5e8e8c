package node

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/config"
)

// This file changes a running node.

// Reload applies what a running node can change: limits, lists of rules, peers to connect
// to and to protect. It warns of what takes a restart. The configuration is one that
// [config.Load] found nothing wrong with. An error is about lists of rules, and has been
// logged; everything else is applied all the same.
func (n *Node) Reload(ctx context.Context, next config.Config) error {
	for _, change := range config.Changes(&n.cfg, &next) {
		attrs := []any{"field", change.Key, "from", unquoted(change.Old), "to", unquoted(change.New)}
		if change.Live {
			n.log.Info("changed", attrs...)
		} else {
			n.log.Warn("changed, but takes a restart", attrs...)
		}
	}
	before := n.cfg
	n.cfg = config.Apply(before, next)
	var errs []error
	// Somebody may have changed limits through the API; the file is what holds now.
	core, limits := n.cm.Core(), n.cfg.Watermarks.Limits()
	if now := core.Limits(); now != limits {
		errs = append(errs, core.SetLimits(limits))
		n.log.Info("limits", append(limitAttrs(limits), "outbound_floor", limits.OutboundFloor)...)
	}
	gate, door := n.cm.Gater().Core(), n.cfg.Gate.Limits()
	if now := gate.Limits(); !reflect.DeepEqual(now, door) {
		errs = append(errs, gate.SetLimits(door))
	}
	protect(n.cm, before.PeersToProtect(), n.cfg.PeersToProtect(), protectTag)
	n.keep.set(n.cfg.PeersToConnect())
	errs = append(errs, n.reloadRules(ctx, before.Rules.Lists, n.cfg.Rules.Lists))
	return errors.Join(errs...)
}

// unquoted is a value without the quotes that TOML has: logs put their own around it, and
// escape those within.
func unquoted(literal string) string { return strings.ReplaceAll(literal, `"`, "") }
