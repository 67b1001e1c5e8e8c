package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr plan": what a trim would do now.

func newPlan() *cobra.Command {
	o := new(online)
	var (
		limit int
		full  bool
	)
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a trim would do now, without doing it",
		Long: `Shows whom a trim would close now, in which order, and why the others stay. Nothing is
closed. With another --trigger the plan is that of another kind of trim: a forced one
regards no grace, and protection only as long as it can.`,
		Example: `  connmgr plan
  connmgr plan --trigger force --limit 10
  connmgr plan --json | jq .closes`,
		Args: cobra.NoArgs,
	}
	trigger := triggerFlag(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "how many of the peers to show, at most 1000")
	cmd.Flags().BoolVar(&full, "full", false, "shorten nothing, however narrow the terminal is")
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if limit < 0 || limit > 1000 {
			return misused("--limit is %d, must be from 0 to 1000", limit)
		}
		if err := choice("trigger", *trigger, planTriggers()); err != nil {
			return err
		}
		answer, err := c.Plan(cmd.Context(), *trigger, limit)
		if err != nil {
			return err
		}
		return show(o, cmd, answer, func(out io.Writer, p *api.Plan) error {
			return writePlan(out, p, room(cmd.OutOrStdout(), full))
		})
	})
	return cmd
}

func writePlan(out io.Writer, p *api.Plan, room int) error {
	if p.Closes == 0 {
		fmt.Fprintf(out, "A trim (%v) would close nobody.\n", p.Trigger)
	} else {
		fmt.Fprintf(out, "A trim (%v) would close %s.\n", p.Trigger, count(p.Closes, "peer"))
	}
	writeFigures(out, &p.PlanFigures)
	if len(p.Kept) > 0 {
		fmt.Fprintf(out, "stay         %s\n", keptText(p.Kept))
	}
	if len(p.Peers) > 0 {
		fmt.Fprintln(out)
		if err := writePeers(out, p.Peers, room); err != nil {
			return err
		}
		if more := p.Closes - len(p.Peers); more > 0 {
			fmt.Fprintf(out, "and %d more\n", more)
		}
	}
	return nil
}

// writeFigures says what a plan counts.
func writeFigures(out io.Writer, f *api.PlanFigures) {
	fmt.Fprintf(out, "connections  %d: %d protected, %d in grace, %d counted\n", f.Total, f.Protected, f.InGrace, f.Counted)
	text := fmt.Sprintf("%d to go, %d freed", max(f.Target, 0), f.Freed)
	if f.Shortfall > 0 {
		text += fmt.Sprintf(", %d short: %s", f.Shortfall, causes(f.Causes))
	}
	fmt.Fprintf(out, "target       %s\n", text)
	if f.GraceEnds != nil && f.Shortfall > 0 {
		fmt.Fprintf(out, "grace        ends for the first at %s\n", moment(*f.GraceEnds))
	}
}

// keptText says how many stay for which reason, most first.
func keptText(kept map[connmgr.Reason]int) string {
	reasons := slices.SortedFunc(maps.Keys(kept), func(a, b connmgr.Reason) int {
		return cmp.Or(cmp.Compare(kept[b], kept[a]), cmp.Compare(a, b))
	})
	var list []string
	for _, r := range reasons {
		list = append(list, strconv.Itoa(kept[r])+" "+r.String())
	}
	return strings.Join(list, ", ")
}
