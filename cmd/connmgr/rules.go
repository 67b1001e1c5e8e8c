package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr rules": the rules of a running node, or with --db those in the
// file in which a node keeps them while no node has it open. rules_lists.go has what is
// done with lists of rules, rules_file.go what is done with the file.

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "List, add, remove, import, export and check rules of the gate",
		Long: `Rules deny or allow peers, address prefixes and ports. They are those of a running node,
or with --db those of a rule file, which is what a node keeps its rules in (bbolt). One
process at a time can have it open.

A list has one rule a line: a CIDR, an address, a range, a peer ID, or "port 25", with
comments behind # or ;. Published block lists and netset files read as they are.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newRulesList(), newRulesAdd(), newRulesRemove(), newRulesImport(), newRulesExport(), newRulesCheck())
	return cmd
}

// ruleFilter is the flags of "rules list".
type ruleFilter struct {
	paging
	search, effect, origin, target string
	byOrigin                       bool
}

func newRulesList() *cobra.Command {
	r, f := new(rulesAt), new(ruleFilter)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show rules",
		Long: `Shows rules: those about peers first, then those about addresses, in the order of the
addresses, then those about ports. ENDS is in UTC. Rules that have ended are left out.`,
		Example: `  connmgr rules list
  connmgr rules list --search scans --effect deny
  connmgr rules list --origin "ban ladder" --all --json | jq -r '.rules[].target'
  connmgr rules list --db rules.db`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.origin, "origin", "", "only rules of this origin")
	flags.StringVar(&f.effect, "effect", "", "only deny, or allow")
	flags.StringVar(&f.target, "target", "", "only rules with exactly this target")
	flags.StringVarP(&f.search, "search", "q", "", "only rules with this in their target, reason or origin")
	complete(cmd, "effect", words("deny", "allow"))
	complete(cmd, "origin", r.completeOrigin)
	complete(cmd, "target", completeRule(r.connectAny, func() url.Values { return url.Values{} }))
	complete(cmd, "search", cobra.NoFileCompletions)
	f.flags(cmd)
	r.flags(cmd)
	cmd.RunE = r.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		query, err := f.query(cmd, c)
		if err != nil {
			return err
		}
		answer, err := c.Rules(cmd.Context(), query, f.offset, f.most())
		if err != nil {
			return err
		}
		return f.show(&r.online, cmd, answer)
	})
	return cmd
}

// show writes a list, and then on standard error what is not in it.
func (f *ruleFilter) show(o *online, cmd *cobra.Command, answer client.Answer[api.RuleList]) error {
	err := show(o, cmd, answer, func(out io.Writer, list *api.RuleList) error {
		if len(list.Rules) == 0 {
			return nil
		}
		return writeRules(out, "", list.Rules)
	})
	if err != nil || o.json {
		return err
	}
	list, err := answer.Document()
	if err != nil {
		return err
	}
	if len(list.Rules) == 0 {
		noteNone(cmd.ErrOrStderr(), list.Total, "no rules", fmt.Sprintf("no rule is like that, of %d", list.Total))
	}
	f.note(cmd.ErrOrStderr(), len(list.Rules), list.Matched, "rules")
	return nil
}

func (f *ruleFilter) check(cmd *cobra.Command) error {
	f.byOrigin = cmd.Flags().Changed("origin")
	if err := f.paging.check(); err != nil {
		return err
	}
	return choice("effect", f.effect, []string{"deny", "allow"})
}

// query is the parameters of the API that say the same as the flags.
func (f *ruleFilter) query(cmd *cobra.Command, c *client.Client) (url.Values, error) {
	q := make(url.Values)
	for name, value := range map[string]string{"q": f.search, "effect": f.effect} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.byOrigin {
		q.Set("origin", f.origin)
	}
	if f.target != "" {
		text, err := target(cmd.Context(), c, []string{f.target})
		if err != nil {
			return nil, err
		}
		q.Set("target", text)
	}
	return q, nil
}

// someRule is the flags that say what a rule is like, beside its target.
type someRule struct {
	allow          bool
	origin, reason string
	lasting        time.Duration
}

func (s *someRule) effect() connmgr.Effect {
	if s.allow {
		return connmgr.Allow
	}
	return connmgr.Deny
}

func newRulesAdd() *cobra.Command {
	r, s := new(rulesAt), new(someRule)
	cmd := &cobra.Command{
		Use:   "add TARGET",
		Short: "Add a rule that denies or allows",
		Long: `Adds a rule, or gives the one of the same target, effect and origin a new end and reason.
An allow rule also exempts from the limits at the door, and opens a hole in a wider
prefix that is denied.

` + targetHelp,
		Example: `  connmgr rules add 192.0.2.0/24 --for 24h --reason "port scans"
  connmgr rules add --allow 192.0.2.7 --origin friends
  connmgr rules add --db rules.db port 25`,
		Args:              oneTarget,
		ValidArgsFunction: r.completePeer,
	}
	f := cmd.Flags()
	f.BoolVar(&s.allow, "allow", false, "allow instead of deny")
	f.StringVar(&s.origin, "origin", "", "where the rule comes from")
	f.StringVar(&s.reason, "reason", "", "the reason, for people")
	forFlag(cmd, &s.lasting)
	complete(cmd, "origin", r.completeOrigin)
	complete(cmd, "reason", cobra.NoFileCompletions)
	complete(cmd, "for", cobra.NoFileCompletions)
	r.flags(cmd)
	r.use = makeFile
	cmd.RunE = r.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := s.check(cmd); err != nil {
			return err
		}
		target, err := target(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		answer, err := c.AddRule(cmd.Context(), api.NewRule{
			Rule:       api.Rule{Effect: s.effect(), Target: target, Reason: s.reason, Origin: s.origin},
			ForSeconds: s.lasting.Seconds(),
		})
		if err != nil {
			return err
		}
		return show(&r.online, cmd, answer, writeInForce)
	})
	return cmd
}

func writeInForce(out io.Writer, rule *api.Rule) error {
	_, err := fmt.Fprintf(out, "in force: %s\n", ruleText(*rule))
	return err
}

func newRulesRemove() *cobra.Command {
	r, s := new(rulesAt), new(someRule)
	cmd := &cobra.Command{
		Use:   "remove TARGET",
		Short: "Remove one rule",
		Long: `Removes the one rule of this target, effect and origin. "connmgr unblock" removes all that
deny a target, whatever their origin.

` + targetHelp,
		Example: `  connmgr rules remove 192.0.2.0/24
  connmgr rules remove --allow 192.0.2.7 --origin friends`,
		Args: oneTarget,
	}
	cmd.ValidArgsFunction = completeRule(r.connectAny, func() url.Values {
		q := url.Values{"effect": {s.effect().String()}}
		if cmd.Flags().Changed("origin") {
			q.Set("origin", s.origin)
		}
		return q
	})
	f := cmd.Flags()
	f.BoolVar(&s.allow, "allow", false, "a rule that allows instead of one that denies")
	f.StringVar(&s.origin, "origin", "", "the origin of the rule")
	complete(cmd, "origin", r.completeOrigin)
	r.flags(cmd)
	r.use = changeFile
	cmd.RunE = r.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		target, err := target(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		answer, err := c.RemoveRule(cmd.Context(), s.effect(), target, s.origin)
		if err != nil {
			return err
		}
		return show(&r.online, cmd, answer, writeUnblocked)
	})
	return cmd
}

// writeRules writes a table of rules, each line behind the same indent.
func writeRules(out io.Writer, indent string, rules []api.Rule) error {
	t := indentedTable(out, indent, "EFFECT", "TARGET", "ENDS", "ORIGIN", "REASON")
	for i := range rules {
		r := &rules[i]
		ends := "never"
		if r.Expires != nil {
			ends = moment(*r.Expires)
		}
		t.row(r.Effect.String(), plainText(r.Target), ends, plainText(r.Origin), plainText(r.Reason))
	}
	return t.flush()
}
