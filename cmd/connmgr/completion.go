package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// This file completes command lines in a shell: words that are fixed, and the names of
// peers, for which the running node is asked. Whatever goes wrong, nothing is said: it
// would stand in the middle of the line that somebody types.

// completionPatience is how long somebody who has pressed Tab waits for a node.
const completionPatience = time.Second

// mostCompletions is how many peers are offered; more are of no help.
const mostCompletions = 50

// complete says how the value of a flag is completed. The flag must exist.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// words completes one of some words.
func words(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// completeList completes the last of some words with commas between them.
func completeList(list []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		done := typed[:strings.LastIndexByte(typed, ',')+1]
		var offers []cobra.Completion
		for _, word := range list {
			if !strings.Contains(","+done, ","+word+",") {
				offers = append(offers, done+word)
			}
		}
		return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
	}
}

// completePeer completes the first argument of a command: a connected peer.
func (o *online) completePeer(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.completeOnePeer(cmd, args, typed)
}

// completeOnePeer completes the name of a connected peer.
func (o *online) completeOnePeer(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	cmd.SetErr(io.Discard) // a warning would stand in the line
	c, err := o.connect(cmd)
	if err != nil {
		return nil, nothing
	}
	defer c.Close()
	query := url.Values{"sort": {"peer"}}
	if typed != "" {
		query.Set("q", typed)
	}
	answer, err := c.Peers(ctx, query, 0, mostCompletions)
	if err != nil {
		return nil, nothing
	}
	list, err := answer.Document()
	if err != nil {
		return nil, nothing
	}
	var offers []cobra.Completion
	for _, p := range list.Peers {
		if strings.HasPrefix(p.Peer, typed) && isPlain(p.Peer) && !strings.ContainsAny(p.Peer, "\t ") {
			offers = append(offers, cobra.CompletionWithDesc(p.Peer, fmt.Sprintf("score %d, %s", p.Score, p.Verdict.Reason)))
		}
	}
	return offers, nothing
}
