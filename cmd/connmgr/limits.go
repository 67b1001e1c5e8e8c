package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr limits": what limits connections, and how to change it while the
// node runs.

func newLimits() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show the limits of a running node, or change them",
		Long: `Shows the limits in force: the watermarks, the hard limit, and the limits at the door for
connections that others open. "connmgr limits set" changes them.`,
		Example: `  connmgr limits
  connmgr limits --json | jq .gate`,
		Args: knownCommand,
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		answer, err := c.Limits(cmd.Context())
		if err != nil {
			return err
		}
		return show(o, cmd, answer, writeLimits)
	})
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newLimitsSet())
	return cmd
}

func newLimitsSet() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Change limits while the node runs",
		Long: `Changes limits at once and together: if one of them cannot be, none is changed. They hold
until the node is restarted or reads its configuration anew.

  low             where a trim stops, in connections, 1 or more
  high            above which one starts, 1 or more
  hard            what inbound connections never exceed; 0, or "none", is no limit
  floor           the outbound connections below which trims do not go
  max-inbound     inbound connections; 0 is no limit
  max-per-peer    connections with one peer; 0 is no limit
  exempt-private  whether private addresses are left out of per-prefix: true or false
  per-prefix      "none", or a limit for address prefixes: IPV4BITS/IPV6BITS:MAX, with
                  :RATE new connections a second and :BURST at once behind it if wanted.
                  Given several times, all apply; they replace those that there are.

A length of 0 bits leaves that kind of address out, a MAX or RATE of 0 is no limit.`,
		Example: `  connmgr limits set low=160 high=320
  connmgr limits set hard=none floor=20
  connmgr limits set per-prefix=32/56:8:5:20 per-prefix=24/48:64 exempt-private=true`,
		ValidArgsFunction: func(_ *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return limitNames, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("no limit given, want NAME=VALUE, such as low=160")
			}
			return nil
		},
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		patch, err := limitsPatch(args)
		if err != nil {
			return err
		}
		answer, err := c.PatchLimits(cmd.Context(), patch)
		if err != nil {
			return err
		}
		return show(o, cmd, answer, writeLimits)
	})
	return cmd
}

var limitNames = []cobra.Completion{
	"low=", "high=", "hard=", "floor=", "max-inbound=", "max-per-peer=", "exempt-private=", "per-prefix=",
}

// limitsPatch reads NAME=VALUE arguments into a merge patch of api.Limits.
func limitsPatch(args []string) (map[string]any, error) {
	patch, gate := make(map[string]any), make(map[string]any)
	set := func(doc map[string]any, field, name string, value any) error {
		if _, twice := doc[field]; twice {
			return misused("%s is given twice", name)
		}
		doc[field] = value
		return nil
	}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, misused("%q is no NAME=VALUE", arg)
		}
		var err error
		switch name = strings.ReplaceAll(name, "_", "-"); name {
		case "low", "low-water":
			err = setWater(set, patch, "low_water", name, value)
		case "high", "high-water":
			err = setWater(set, patch, "high_water", name, value)
		case "hard", "hard-limit":
			if n, bad := strconv.Atoi(value); value == "none" || bad == nil && n == 0 { // as in the file
				err = set(patch, "hard_limit", name, nil)
			} else {
				err = setNumber(set, patch, "hard_limit", name, value)
			}
		case "floor", "outbound-floor":
			err = setNumber(set, patch, "outbound_floor", name, value)
		case "max-inbound":
			err = setNumber(set, gate, "max_inbound", name, value)
		case "max-per-peer":
			err = setNumber(set, gate, "max_per_peer", name, value)
		case "exempt-private":
			b, bad := strconv.ParseBool(value)
			if bad != nil {
				return nil, misused("exempt-private is %q, want true or false", value)
			}
			err = set(gate, "exempt_private", name, b)
		case "per-prefix":
			var limit *api.PrefixLimit
			if limit, err = prefixLimit(value); err == nil {
				list, _ := gate["per_prefix"].([]api.PrefixLimit)
				if list == nil {
					list = []api.PrefixLimit{}
				}
				if limit != nil {
					list = append(list, *limit)
				}
				gate["per_prefix"] = list
			}
		default:
			err = misused("there is no limit %q, want one of %s", name, strings.ReplaceAll(strings.Join(limitNames, ", "), "=", ""))
		}
		if err != nil {
			return nil, err
		}
	}
	if len(gate) > 0 {
		patch["gate"] = gate
	}
	return patch, nil
}

// setWater is setNumber for a watermark, which cannot be 0.
func setWater(set func(map[string]any, string, string, any) error, doc map[string]any, field, name, value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 1 {
		return misused("%s is %q, want a number of connections, 1 or more", name, value)
	}
	return setNumber(set, doc, field, name, value)
}

func setNumber(set func(map[string]any, string, string, any) error, doc map[string]any, field, name, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return misused("%s is %q, want a number of connections, 0 or more", name, value)
	}
	return set(doc, field, name, n)
}

// prefixLimit reads IPV4BITS/IPV6BITS:MAX[:RATE[:BURST]]; it is nil for "none".
func prefixLimit(text string) (*api.PrefixLimit, error) {
	if text == "none" {
		return nil, nil
	}
	bad := misused(`per-prefix is %q, want IPV4BITS/IPV6BITS:MAX[:RATE[:BURST]], such as 32/56:8:5:20, or "none"`, text)
	bits, rest, ok := strings.Cut(text, ":")
	v4, v6, both := strings.Cut(bits, "/")
	parts := strings.Split(rest, ":")
	if !ok || !both || len(parts) > 3 {
		return nil, bad
	}
	var (
		l    api.PrefixLimit
		errs [5]error
	)
	l.IPv4, errs[0] = strconv.Atoi(v4)
	l.IPv6, errs[1] = strconv.Atoi(v6)
	l.MaxConns, errs[2] = strconv.Atoi(parts[0])
	if len(parts) > 1 {
		l.Rate, errs[3] = strconv.ParseFloat(parts[1], 64)
	}
	if len(parts) > 2 {
		l.Burst, errs[4] = strconv.Atoi(parts[2])
	}
	for _, err := range errs {
		if err != nil {
			return nil, bad
		}
	}
	return &l, nil
}

func writeLimits(out io.Writer, l *api.Limits) error {
	t := newTable(out, "LIMIT", "VALUE", "MEANING")
	t.row("low", strconv.Itoa(l.LowWater), "where a trim stops")
	t.row("high", strconv.Itoa(l.HighWater), "above which one starts")
	t.row("hard", orNone(l.HardLimit), "what inbound connections never exceed")
	t.row("floor", zeroNone(l.OutboundFloor), "outbound connections that trims leave")
	t.row("max-inbound", zeroNone(l.Gate.MaxInbound), "inbound connections")
	t.row("max-per-peer", zeroNone(l.Gate.MaxPerPeer), "connections with one peer")
	t.row("exempt-private", yesNo(l.Gate.ExemptPrivate), "private addresses are left out of per-prefix")
	if len(l.Gate.PerPrefix) == 0 {
		t.row("per-prefix", "none", "connections from one address prefix")
	}
	for _, p := range l.Gate.PerPrefix {
		text := fmt.Sprintf("%d/%d:%d", p.IPv4, p.IPv6, p.MaxConns)
		if p.Rate > 0 || p.Burst > 0 {
			text += ":" + strconv.FormatFloat(p.Rate, 'g', -1, 64)
		}
		if p.Burst > 0 {
			text += ":" + strconv.Itoa(p.Burst)
		}
		t.row("per-prefix", text, prefixText(p))
	}
	return t.flush()
}

// prefixText says what a limit per prefix means.
func prefixText(p api.PrefixLimit) string {
	var from, what []string
	if p.IPv4 > 0 {
		from = append(from, fmt.Sprintf("an IPv4 /%d", p.IPv4))
	}
	if p.IPv6 > 0 {
		from = append(from, fmt.Sprintf("an IPv6 /%d", p.IPv6))
	}
	if p.MaxConns > 0 {
		what = append(what, count(p.MaxConns, "connection"))
	}
	if p.Rate > 0 {
		what = append(what, fmt.Sprintf("%g new ones a second", p.Rate))
	}
	return "from " + strings.Join(from, " or ") + ": " + strings.Join(what, " and ")
}

func zeroNone(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}
