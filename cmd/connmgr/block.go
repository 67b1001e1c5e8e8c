package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr block", "connmgr unblock" and "connmgr close": getting rid of
// somebody, for a while, for good, or just now.

const targetHelp = `TARGET is an address, a CIDR, a peer ID, or "port" and a number. A peer ID can be
abbreviated if the peer is connected: its beginning or end will do, with or without "…".`

func oneTarget(_ *cobra.Command, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return fmt.Errorf(`%d arguments given, want one TARGET (or two: "port 25")`, len(args))
	}
	return nil
}

func newBlock() *cobra.Command {
	o := new(online)
	var (
		lasting time.Duration
		reason  string
	)
	cmd := &cobra.Command{
		Use:   "block TARGET",
		Short: "Refuse a peer, an address or a range, and close its connections",
		Long: `Denies connections with a peer, an address, a range of addresses, or to a port of
others, and closes those that there are. The rule is saved, so it holds after a restart
of the node. A block that is there and ends later stays.

` + targetHelp,
		Example: `  connmgr block 192.0.2.0/24 --for 24h --reason "port scans"
  connmgr block 12D3KooWGRUVh7fxNMcSUBXUbVZmxRsZLi5rUJJbXbDKXZQUKVSq
  connmgr block …XZQUKVSq --for 1h
  connmgr block port 25`,
		Args:              oneTarget,
		ValidArgsFunction: o.completePeer,
	}
	forFlag(cmd, &lasting)
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, for people")
	complete(cmd, "reason", cobra.NoFileCompletions)
	complete(cmd, "for", cobra.NoFileCompletions)
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := checkFor(cmd, lasting); err != nil {
			return err
		}
		target, err := target(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		answer, err := c.Block(cmd.Context(), api.Block{Target: target, ForSeconds: lasting.Seconds(), Reason: reason})
		if err != nil {
			return err
		}
		return show(o, cmd, answer, func(out io.Writer, b *api.Blocked) error {
			_, err := fmt.Fprintf(out, "in force: %s; closed %s\n", ruleText(b.Rule), count(b.ClosedPeers, "peer"))
			return err
		})
	})
	return cmd
}

func newUnblock() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "unblock TARGET",
		Short: "Take all rules back that deny exactly this",
		Long: `Takes back every rule that denies exactly this target, whatever its origin. If a wider
rule denies it still, that is said.

` + targetHelp,
		Example: `  connmgr unblock 192.0.2.0/24
  connmgr unblock port 25`,
		Args:              oneTarget,
		ValidArgsFunction: completeRule(o.connect, func() url.Values { return url.Values{"effect": {"deny"}} }),
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		target, err := target(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		answer, err := c.Unblock(cmd.Context(), target)
		if err != nil {
			return err
		}
		u, err := answer.Document()
		if err == nil && u.Removed == 0 {
			if err = o.showJSON(cmd, answer.Raw()); err == nil {
				err = notDenied(target, u)
			}
			return err
		}
		return show(o, cmd, answer, writeUnblocked)
	})
	return cmd
}

// notDenied says that there was nothing to take back.
func notDenied(target string, u *api.Unblocked) error {
	text := fmt.Sprintf("no rule denied %s itself", plainLine(target))
	if u.DeniedBy != nil {
		text += "; it is denied by: " + ruleText(*u.DeniedBy)
	}
	return &notFoundError{text}
}

func writeUnblocked(out io.Writer, u *api.Unblocked) error {
	fmt.Fprintf(out, "removed %s\n", count(u.Removed, "rule"))
	if u.DeniedBy != nil {
		fmt.Fprintf(out, "still denied by: %s\n", ruleText(*u.DeniedBy))
	}
	return nil
}

// ruleText is a rule in a line.
func ruleText(r api.Rule) string {
	text := r.Effect.String() + " " + plainText(r.Target)
	if r.Expires != nil {
		text += " until " + moment(*r.Expires)
	}
	if r.Reason != "" {
		text += " (" + plainLine(r.Reason) + ")"
	}
	if r.Origin != "" {
		text += " from " + plainLine(r.Origin)
	}
	return text
}

func newClose() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "close PEER",
		Short: "Close a peer's connections now",
		Long: `Closes all connections with a peer, a protected one too. It may come back at once;
"connmgr block" keeps it away.

` + peerHelp,
		Example:           `  connmgr close …XZQUKVSq`,
		Args:              onePeer,
		ValidArgsFunction: o.completePeer,
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		peer, err := findPeer(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		answer, err := c.ClosePeer(cmd.Context(), peer)
		if err != nil {
			return err
		}
		closed, err := answer.Document()
		if err == nil && closed.Connections == 0 {
			if err = o.showJSON(cmd, answer.Raw()); err == nil {
				err = &notFoundError{fmt.Sprintf("%s was not connected", plainText(peer))}
			}
			return err
		}
		return show(o, cmd, answer, func(out io.Writer, closed *api.Closed) error {
			_, err := fmt.Fprintf(out, "%s: closed %s\n", plainText(closed.Peer), count(closed.Connections, "connection"))
			return err
		})
	})
	return cmd
}
