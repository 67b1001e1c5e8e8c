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
	"github.com/spf13/cobra"
)

// This file is "connmgr tag" and "connmgr untag".

func newTag() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "tag PEER NAME=VALUE...",
		Short: "Give a peer tags, whose values add up to its score",
		Long: `Gives a peer tags. The values of all its tags add up to its score, and a trim closes those
with the lowest scores first; a value may be negative. A tag that is there gets the new
value. Programs that set a tag of the same name set it anew.

` + peerHelp,
		Example: `  connmgr tag …XZQUKVSq friend=100
  connmgr tag …XZQUKVSq slow=-20 far=-5`,
		Args:              peerAnd("NAME=VALUE"),
		ValidArgsFunction: o.completePeer,
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		type assignment struct {
			tag   string
			value int
		}
		var list []assignment
		for _, arg := range args[1:] {
			at := strings.LastIndexByte(arg, '=') // a name may have one in it
			if at < 1 {
				return misused("%q is no NAME=VALUE", arg)
			}
			value, err := strconv.Atoi(arg[at+1:])
			if err != nil {
				return misused("the value of tag %q is %q, want a whole number", arg[:at], arg[at+1:])
			}
			list = append(list, assignment{arg[:at], value})
		}
		peer, err := findPeer(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		var answer client.Answer[api.Tags]
		for _, a := range list {
			if answer, err = c.Tag(cmd.Context(), peer, a.tag, a.value); err != nil {
				return err
			}
		}
		return show(o, cmd, answer, writeTags)
	})
	return cmd
}

func newUntag() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "untag PEER NAME...",
		Short: "Take tags off a peer",
		Long: `Takes tags off a peer. That it has none of that name is no error.

` + peerHelp,
		Example:           `  connmgr untag …XZQUKVSq friend`,
		Args:              peerAnd("NAME"),
		ValidArgsFunction: o.completePeer,
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if slices.Contains(args[1:], "") {
			return misused("a NAME is empty")
		}
		peer, err := findPeer(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		var answer client.Answer[api.Tags]
		for _, tag := range args[1:] {
			if answer, err = c.Untag(cmd.Context(), peer, tag); err != nil {
				return err
			}
		}
		return show(o, cmd, answer, writeTags)
	})
	return cmd
}

// peerAnd asks for a peer and at least one more.
func peerAnd(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < 2 {
			return fmt.Errorf("%d arguments given, want PEER and at least one %s", len(args), what)
		}
		return nil
	}
}

func writeTags(out io.Writer, t *api.Tags) error {
	fmt.Fprintf(out, "%s has %s, in sum %d\n", plainText(t.Peer), count(len(t.Tags), "tag"), t.TagSum)
	table := indentedTable(out, "  ")
	for _, tag := range slices.SortedFunc(maps.Keys(t.Tags), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.Tags[b], t.Tags[a]), cmp.Compare(a, b))
	}) {
		table.row(strconv.Itoa(t.Tags[tag]), plainText(tag))
	}
	return table.flush()
}
