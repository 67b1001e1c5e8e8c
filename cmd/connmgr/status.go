package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/internal/timespan"
	"github.com/spf13/cobra"
)

// This file is "connmgr status": how a node is, on a page, and first what is wrong.

func newStatus() *cobra.Command {
	o := new(online)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a running node is",
		Long: `Shows how a running node is: its connections against its limits, what has been closed
and refused, and first of all what is wrong, if anything is.`,
		Example: `  connmgr status
  connmgr status --api unix:/run/connmgr/api.sock
  connmgr status --json | jq .connections.open`,
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		answer, err := c.Status(cmd.Context())
		if err != nil {
			return err
		}
		return show(o, cmd, answer, func(out io.Writer, s *api.Status) error {
			for _, text := range warnings(s) {
				fmt.Fprintln(out, loud(cmd.OutOrStdout(), "warning:"), text)
			}
			return writeStatus(out, c.Address(), s)
		})
	})
	return cmd
}

// warnings says what an operator should look at.
func warnings(s *api.Status) (list []string) {
	warn := func(holds bool, format string, args ...any) {
		if holds {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	open, l, f := s.Connections.Open, &s.Limits, &s.Faults
	warn(s.Gate.UnsavedRules > 0, "%s not saved: in force, but a restart forgets them", isAre(s.Gate.UnsavedRules, "change of rules", "changes of rules"))
	warn(l.HardLimit != nil && open >= *l.HardLimit, "%s open, and the hard limit is %d: newcomers are refused unless they rank higher", isAre(open, "connection", "connections"), deref(l.HardLimit))
	if t := s.LastTrim; t != nil && t.Shortfall > 0 && open > l.HighWater {
		warn(true, "the last trim, %s ago, fell %s short: %s", timespan.String(s.Now.Sub(t.Started)), count(t.Shortfall, "connection"), causes(t.Causes))
	} else {
		warn(open > l.HighWater, "%s open, above high water, %d: those in grace and the protected ones stay", isAre(open, "connection", "connections"), l.HighWater)
	}
	warn(f.HangingPeers > 0, "%s a connection whose Close does not return", hasHave(f.HangingPeers, "peer"))
	warn(f.CloseErrors > 0, "%s would not close", times(f.CloseErrors, "a connection"))
	warn(f.Panics > 0, "%s of the node's own functions: its log says which", count(f.Panics, "panic"))
	warn(f.TagsRefused > 0, "%s dropped, since a peer had too many", count(f.TagsRefused, "tag"))
	warn(f.EventsLost > 0, "%s came faster than the API could note: histories have holes", count(f.EventsLost, "event"))
	if n := f.DuplicateConnects + f.UnknownDisconnects + f.NilNotifications + f.LateNotifications; n > 0 {
		warn(true, "%s ignored: the host reports connections twice, or ones that it never reported", count(n, "notification"))
	}
	return list
}

func isAre(n int, one, many string) string {
	if n == 1 {
		return "1 " + one + " is"
	}
	return fmt.Sprintf("%d %s are", n, many)
}

func hasHave(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " has"
	}
	return fmt.Sprintf("%d %ss have", n, thing)
}

func times(n uint64, what string) string {
	if n == 1 {
		return "once " + what
	}
	return fmt.Sprintf("%d times %s", n, what)
}

func deref(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// causes says what kept a trim from its target.
func causes(words []string) string {
	texts := map[string]string{
		"protected":      "the others are protected",
		"grace":          "the others are in their grace period",
		"outbound_floor": "outbound connections must not become fewer",
	}
	var list []string
	for _, word := range words {
		list = append(list, cmp.Or(texts[word], plainLine(word)))
	}
	if list == nil {
		return "it is not known why"
	}
	return strings.Join(list, ", or ")
}

func writeStatus(out io.Writer, address string, s *api.Status) error {
	t := newTable(out)
	name := "node at " + address
	if s.Node != "" {
		name = plainLine(s.Node) + " at " + address
	}
	t.row("node", name)
	t.row("started", fmt.Sprintf("%s, %s ago", moment(s.Started), timespan.String(s.Now.Sub(s.Started))))
	c := s.Connections
	t.row("connections", fmt.Sprintf("%d open: %d inbound, %d outbound%s", c.Open, c.Inbound, c.Outbound,
		also(part{c.Unknown, "unknown"}, part{c.Arriving, "arriving"}, part{c.Closing, "closing"})))
	l := s.Limits
	t.row("limits", fmt.Sprintf("low %d, high %d, hard %s", l.LowWater, l.HighWater, orNone(l.HardLimit)))
	t.row("peers", fmt.Sprintf("%d connected, %d protected%s", s.Peers.Connected, s.Peers.Protected, also(part{s.Peers.Idle, "remembered for their tags"})))
	t.row("grace period", seconds(s.GracePeriodSeconds).String())
	t.row("trims", tally(s.Trims))
	if trim := s.LastTrim; trim != nil {
		text := fmt.Sprintf("%s ago (%s), freed %s in %s", timespan.String(s.Now.Sub(trim.Started)), trim.Trigger, count(trim.Freed, "connection"), tookText(trim.TookSeconds))
		if trim.Shortfall > 0 {
			text += fmt.Sprintf(", %d short", trim.Shortfall)
		}
		t.row("last trim", text)
	}
	t.row("closed peers", tally(s.ClosedPeers))
	t.row("refused", strconv.FormatUint(s.Gate.Refused, 10)+refusals(s))
	t.row("rules", fmt.Sprintf("%d%s", s.Gate.Rules, also(part{s.Gate.UnsavedRules, "not saved"}, part{s.Gate.ReportedPeers, "peers on the ban ladder"})))
	t.row("event streams", fmt.Sprintf("%d%s", s.Streams, also(part{int(s.LostStreams), "ended for being slow"})))
	return t.flush()
}

// tookText is how long a trim took.
func tookText(n float64) string {
	d := seconds(n)
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

type part struct {
	n    int
	what string
}

// also lists those parts that are not 0.
func also(parts ...part) string {
	var b strings.Builder
	for _, p := range parts {
		if p.n != 0 {
			fmt.Fprintf(&b, ", %d %s", p.n, p.what)
		}
	}
	return b.String()
}

func orNone(limit *int) string {
	if limit == nil {
		return "none"
	}
	return strconv.Itoa(*limit)
}

// tally is a sum with its parts, the largest first.
func tally[K interface {
	comparable
	fmt.Stringer
}](counts map[K]uint64) string {
	type entry struct {
		what string
		n    uint64
	}
	var (
		sum  uint64
		list []entry
	)
	for k, n := range counts {
		if sum += n; n > 0 {
			list = append(list, entry{k.String(), n})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.what, b.what)) })
	text := strconv.FormatUint(sum, 10)
	for i, e := range list {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		text += fmt.Sprintf("%s%s %d", sep, e.what, e.n)
	}
	return text
}

// refusals says what refused how many checks.
func refusals(s *api.Status) string {
	sums := make(map[string]int)
	for _, outcomes := range s.Gate.Checks {
		for outcome, n := range outcomes {
			if outcome != 0 && n > 0 { // 0 is connmgr.Passed
				sums[outcome.String()] += int(n)
			}
		}
	}
	var parts []part
	for _, what := range slices.Sorted(maps.Keys(sums)) {
		parts = append(parts, part{sums[what], what})
	}
	if len(parts) == 0 {
		return ""
	}
	return " checks" + strings.Replace(also(parts...), ", ", ": ", 1)
}
