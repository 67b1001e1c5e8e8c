package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file completes command lines in a shell: words that are fixed, and the names of
// peers and the targets and origins of rules, for which the running node is asked. Whatever goes wrong, nothing is said: it
// would stand in the middle of the line that somebody types.

// completionPatience is how long somebody who has pressed Tab waits for a node.
const completionPatience = time.Second

// mostCompletions is how many peers are offered; more are of no help.
const mostCompletions = 50

// mostRulesLookedAt is among how many rules origins are looked for: a page.
const mostRulesLookedAt = 1000

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
	query := url.Values{"sort": {"peer"}}
	if typed != "" {
		query.Set("q", typed)
	}
	list := offered(cmd, o.connect, func(ctx context.Context, c *client.Client) (client.Answer[api.PeerList], error) {
		return c.Peers(ctx, query, 0, mostCompletions)
	})
	var offers []cobra.Completion
	for _, p := range list.Peers {
		if strings.HasPrefix(p.Peer, typed) && isPlain(p.Peer) && !strings.ContainsAny(p.Peer, "\t ") {
			offers = append(offers, cobra.CompletionWithDesc(p.Peer, fmt.Sprintf("score %d, %s", p.Score, p.Verdict.Reason)))
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}

// offered is a document for completions, from where connect says. It is empty if there is
// none in time.
func offered[T any](cmd *cobra.Command, connect func(*cobra.Command) (*client.Client, error), ask func(context.Context, *client.Client) (client.Answer[T], error)) *T {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	cmd.SetErr(io.Discard) // a warning would stand in the line
	c, err := connect(cmd)
	if err != nil {
		return new(T)
	}
	defer c.Close()
	answer, err := ask(ctx, c)
	if err != nil {
		return new(T)
	}
	doc, err := answer.Document()
	if err != nil {
		return new(T)
	}
	return doc
}

// completeRule completes the target of a rule that there is, such as "192.0.2.0/24", a peer
// ID, or in two words "port 25". query says which rules are meant.
func completeRule(connect func(*cobra.Command) (*client.Client, error), query func() url.Values) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const nothing = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 1 || len(args) == 1 && args[0] != "port" && args[0] != "peer" {
			return nil, nothing
		}
		q := query()
		if typed != "" {
			q.Set("q", typed)
		}
		list := offered(cmd, connect, func(ctx context.Context, c *client.Client) (client.Answer[api.RuleList], error) {
			return c.Rules(ctx, q, 0, mostCompletions)
		})
		var offers []cobra.Completion
		for _, r := range list.Rules {
			kind, word, two := strings.Cut(r.Target, " ")
			switch {
			case !two && len(args) == 0:
				word = r.Target
			case kind == "port" && len(args) == 0:
				word = "port"
			case !two || len(args) == 1 && args[0] != kind:
				continue
			}
			if strings.HasPrefix(word, typed) && isPlain(word) && !strings.ContainsAny(word, "\t ") {
				offer := cobra.CompletionWithDesc(word, plainLine(strings.Join([]string{r.Effect.String(), r.Origin, r.Reason}, " ")))
				if word == "port" {
					offer = word
				}
				if !slices.Contains(offers, offer) {
					offers = append(offers, offer)
				}
			}
		}
		return offers, nothing
	}
}

// completeOrigin completes where rules come from.
func (r *rulesAt) completeOrigin(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	list := offered(cmd, r.connectAny, func(ctx context.Context, c *client.Client) (client.Answer[api.RuleList], error) {
		return c.Rules(ctx, nil, 0, mostRulesLookedAt)
	})
	var offers []cobra.Completion
	for _, rule := range list.Rules {
		if o := rule.Origin; o != "" && strings.HasPrefix(o, typed) && isPlain(o) && !slices.Contains(offers, o) {
			offers = append(offers, o)
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}
