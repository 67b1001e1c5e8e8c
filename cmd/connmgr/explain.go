package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/internal/timespan"
	"github.com/spf13/cobra"
)

// This file is "connmgr explain": all that a node knows about one peer, and first why it
// stays, would go, or has gone.

func newExplain() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "explain PEER",
		Short: "Say why a peer stays, would go next, or was closed",
		Long: `Says why a peer stays, would be closed by the next trim, or has been closed, and what is
known about it: what its score is made of, its connections, the rules about it, and what
has happened to it lately. Peers that are gone can be explained while the node remembers
them.

` + peerHelp,
		Example: `  connmgr explain 12D3KooWGRUVh7fxNMcSUBXUbVZmxRsZLi5rUJJbXbDKXZQUKVSq
  connmgr explain …XZQUKVSq
  connmgr explain XZQUKVSq --trigger hard_limit
  connmgr explain XZQUKVSq --json | jq -r '.why[]'`,
		Args:              onePeer,
		ValidArgsFunction: o.completePeer,
	}
	trigger := triggerFlag(cmd)
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := choice("trigger", *trigger, planTriggers()); err != nil {
			return err
		}
		peer, err := findPeer(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		answer, err := c.Peer(cmd.Context(), peer, *trigger)
		if err != nil {
			return err
		}
		return show(o, cmd, answer, writeExplanation)
	})
	return cmd
}

// onePeer asks for a peer as the only argument.
func onePeer(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments given, want one: PEER", len(args))
	}
	return nil
}

func writeExplanation(out io.Writer, p *api.PeerDetail) error {
	fmt.Fprintln(out, plainText(p.Peer.Peer))
	for _, sentence := range p.Why {
		fmt.Fprintln(out, plainLine(sentence))
	}
	writeScore(out, p)
	writeStanding(out, p)
	if p.Connected && p.Since != nil {
		fmt.Fprintf(out, "\nCONNECTED for %s, since %s\n", timespan.String(seconds(p.AgeSeconds)), moment(*p.Since))
	}
	if len(p.Conns) > 0 {
		t := indentedTable(out, "  ", "DIRECTION", "ADDRESS", "AGE", "STREAMS", "STATE")
		for _, c := range p.Conns {
			t.row(c.Direction.String(), plainText(c.Address), timespan.String(seconds(c.AgeSeconds)), strconv.Itoa(c.Streams), plainText(c.State))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if p.Standing != nil {
		fmt.Fprintf(out, "\nREPORTED with a score of %.4g, banned %s\n", p.Standing.Score, timesText(p.Standing.Bans))
	}
	if len(p.Rules) > 0 {
		fmt.Fprint(out, "\nRULES\n")
		if err := writeRules(out, "  ", p.Rules); err != nil {
			return err
		}
	}
	if len(p.History) > 0 {
		fmt.Fprint(out, "\nHISTORY\n")
		for i := range p.History {
			e := &p.History[i]
			fmt.Fprintf(out, "  %s  %s\n", moment(e.At), plainText(e.Text))
		}
	}
	return nil
}

func timesText(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// writeScore breaks a score down, if it is made of anything. Of a peer that has gone that
// is what it would come back with.
func writeScore(out io.Writer, p *api.PeerDetail) {
	made := p.OutboundBonus != 0 || p.ActiveBonus != 0
	for _, value := range p.Tags {
		made = made || value != 0
	}
	switch {
	case made && !p.Connected:
		fmt.Fprintf(out, "\nSCORE %d, should it come back\n", p.Score)
	case made || p.Connected && len(p.Tags) > 0:
		fmt.Fprintf(out, "\nSCORE %d\n", p.Score)
	default:
		return
	}
	t := indentedTable(out, "  ")
	for _, tag := range slices.SortedFunc(maps.Keys(p.Tags), func(a, b string) int {
		return cmp.Or(cmp.Compare(p.Tags[b], p.Tags[a]), cmp.Compare(a, b))
	}) {
		t.row(strconv.Itoa(p.Tags[tag]), "tag "+plainText(tag))
	}
	if p.OutboundBonus != 0 {
		t.row(strconv.Itoa(p.OutboundBonus), "for being dialled by us")
	}
	if p.ActiveBonus != 0 {
		t.row(strconv.Itoa(p.ActiveBonus), "for open streams")
	}
	_ = t.flush() // to a buffer
}

// writeStanding says what sets a peer apart, connected or not.
func writeStanding(out io.Writer, p *api.PeerDetail) {
	if len(p.Protections) > 0 {
		var tags []string
		for _, tag := range p.Protections {
			tags = append(tags, plainText(tag))
		}
		fmt.Fprintf(out, "\nPROTECTED under %s\n", strings.Join(tags, ", "))
	}
	if p.Trusted {
		fmt.Fprint(out, "\nTRUSTED: a rule lets it pass the limits at the door\n")
	}
}
