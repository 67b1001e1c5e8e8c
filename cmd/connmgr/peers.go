package main

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/internal/timespan"
	"github.com/spf13/cobra"
)

// This file is "connmgr peers": the connected peers, filtered and sorted.

// wideTable is the columns that a table with full peer IDs needs.
const wideTable = 140

var (
	sortKeys   = []string{"next", "score", "age", "streams", "connections", "peer"}
	directions = []string{"inbound", "outbound"}
)

// planTriggers are the words of the triggers for which there are plans.
func planTriggers() (words []string) {
	for t := connmgr.Trigger(0); ; t++ {
		word, err := t.MarshalText()
		if err != nil {
			return words
		}
		if t.Trims() {
			words = append(words, string(word))
		}
	}
}

// planReasons are the words of the reasons that a plan has.
func planReasons() []string {
	return []string{
		"nothing_to_do", "above_cut", "in_grace", "protected", "outbound_floor",
		"low_score", "hard_limit", "forced", "forced_protected",
	}
}

// choice is the error if a flag's value is none of those that there are; empty is not set.
func choice(flag, value string, words []string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	return misused("--%s is %q, must be one of %s", flag, value, strings.Join(words, ", "))
}

func triggerFlag(cmd *cobra.Command) *string {
	trigger := cmd.Flags().String("trigger", "manual", "for which kind of trim the plan is: "+strings.Join(planTriggers(), ", "))
	complete(cmd, "trigger", words(planTriggers()...))
	return trigger
}

// peerFilter is the flags of "peers".
type peerFilter struct {
	paging
	search, direction, reason, tag, protection, address, by string
	closed, kept, protected, unprotected, reverse, full     bool
	minScore, maxScore                                      int
}

func newPeers() *cobra.Command {
	o, f := new(online), new(peerFilter)
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the connected peers, those first that would go next",
		Long: `Lists the connected peers with what a trim would do with each of them now. NEXT is the
place among those whom it would close; who has none stays, for the reason beside it.
"connmgr explain PEER" tells more about one.

On a terminal with less than ` + strconv.Itoa(wideTable) + ` columns peer IDs are shortened to "…" and their end, and
what does not fit is cut. Other commands take the short IDs; --full shows all, as it is
where there is no terminal.`,
		Example: `  connmgr peers
  connmgr peers --closed
  connmgr peers --sort score --reverse --limit 10
  connmgr peers --address 192.0.2.0/24 --direction inbound
  connmgr peers --all --json | jq -r '.peers[].peer'`,
		Args: cobra.NoArgs,
	}
	trigger := triggerFlag(cmd)
	f.flags(cmd)
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		query, err := f.query(cmd, *trigger)
		if err != nil {
			return err
		}
		answer, err := c.Peers(cmd.Context(), query, f.offset, f.most())
		if err != nil {
			return err
		}
		return f.show(o, cmd, answer)
	})
	return cmd
}

// show writes a list, and then on standard error what is not in it.
func (f *peerFilter) show(o *online, cmd *cobra.Command, answer client.Answer[api.PeerList]) error {
	err := show(o, cmd, answer, func(out io.Writer, list *api.PeerList) error {
		if len(list.Peers) == 0 {
			return nil
		}
		return writePeers(out, list.Peers, room(cmd.OutOrStdout(), f.full))
	})
	if err != nil || o.json {
		return err
	}
	list, err := answer.Document()
	if err != nil {
		return err
	}
	if len(list.Peers) == 0 {
		noteNone(cmd.ErrOrStderr(), list.Total, "nobody is connected", fmt.Sprintf("no peer is like that; %s connected", isAre(list.Total, "peer", "peers")))
	}
	f.note(cmd.ErrOrStderr(), len(list.Peers), list.Matched, "peers")
	return nil
}

func (f *peerFilter) flags(cmd *cobra.Command) {
	f.paging.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.search, "search", "q", "", "only peers with this in their ID or an address")
	flags.StringVar(&f.direction, "direction", "", "only inbound, or outbound")
	flags.StringVar(&f.reason, "reason", "", "only with this verdict: "+strings.Join(planReasons(), ", "))
	flags.BoolVar(&f.closed, "closed", false, "only those whom the trim would close")
	flags.BoolVar(&f.kept, "kept", false, "only those who would stay")
	flags.BoolVar(&f.protected, "protected", false, "only protected ones")
	flags.BoolVar(&f.unprotected, "unprotected", false, "only those who are not protected")
	flags.StringVar(&f.tag, "tag", "", "only peers with this tag")
	flags.StringVar(&f.protection, "protection", "", "only peers protected under this tag")
	flags.StringVar(&f.address, "address", "", "only peers at this address or in this CIDR")
	flags.IntVar(&f.minScore, "min-score", 0, "only with at least this score")
	flags.IntVar(&f.maxScore, "max-score", 0, "only with at most this score")
	flags.StringVar(&f.by, "sort", "next", "the order: "+strings.Join(sortKeys, ", "))
	flags.BoolVarP(&f.reverse, "reverse", "r", false, "the other way round")
	flags.BoolVar(&f.full, "full", false, "shorten nothing, however narrow the terminal is")
	cmd.MarkFlagsMutuallyExclusive("closed", "kept")
	cmd.MarkFlagsMutuallyExclusive("protected", "unprotected")
	complete(cmd, "direction", words(directions...))
	complete(cmd, "reason", words(planReasons()...))
	complete(cmd, "sort", words(sortKeys...))
	for _, name := range []string{"search", "tag", "protection", "address", "min-score", "max-score"} {
		complete(cmd, name, cobra.NoFileCompletions)
	}
}

// query is the parameters of the API that say the same as the flags.
func (f *peerFilter) query(cmd *cobra.Command, trigger string) (url.Values, error) {
	for _, err := range []error{
		f.check(),
		choice("trigger", trigger, planTriggers()), choice("direction", f.direction, directions),
		choice("reason", f.reason, planReasons()), choice("sort", f.by, sortKeys),
	} {
		if err != nil {
			return nil, err
		}
	}
	if f.address != "" {
		if _, err := netip.ParsePrefix(f.address); err != nil {
			if _, err := netip.ParseAddr(f.address); err != nil {
				return nil, misused("--address is %q, must be an address or a CIDR", f.address)
			}
		}
	}
	q := url.Values{"sort": {f.by}, "trigger": {trigger}}
	text := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	text("q", f.search)
	text("direction", f.direction)
	text("reason", f.reason)
	text("address", f.address)
	given := cmd.Flags().Changed
	for flag, parameter := range map[string]string{"tag": "tag", "protection": "protection", "min-score": "min_score", "max-score": "max_score"} {
		if given(flag) { // the empty tag is one, and a score can be 0
			q.Set(parameter, cmd.Flags().Lookup(flag).Value.String())
		}
	}
	if f.closed || f.kept {
		q.Set("closed", strconv.FormatBool(f.closed))
	}
	if f.protected || f.unprotected {
		q.Set("protected", strconv.FormatBool(f.protected))
	}
	if f.reverse {
		q.Set("order", "desc")
	}
	return q, nil
}

// room is how many columns a table of peers has; 0 is as many as it wants.
func room(out io.Writer, full bool) int {
	if is, columns := terminal(out); is && !full && columns < wideTable {
		return columns
	}
	return 0
}

// writePeers writes a table that is not wider than it has room.
func writePeers(out io.Writer, peers []api.Peer, room int) error {
	name := plainText
	if room > 0 {
		name = shortPeer
		out = &cutLines{out: out, columns: room}
	}
	t := newTable(out, "PEER", "NEXT", "VERDICT", "SCORE", "CONNS", "OUT", "STREAMS", "AGE", "ADDRESS")
	for i := range peers {
		p := &peers[i]
		next := "-"
		if p.Verdict.Rank > 0 {
			next = strconv.Itoa(p.Verdict.Rank)
		}
		t.row(name(p.Peer), next, p.Verdict.Reason.String(), strconv.Itoa(p.Score),
			strconv.Itoa(p.Connections), strconv.Itoa(p.Outbound), strconv.Itoa(p.Streams),
			timespan.String(seconds(p.AgeSeconds)), addressText(p.Addresses))
	}
	return t.flush()
}

// addressText is the first address, and how many more there are.
func addressText(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	text := plainText(list[0])
	if more := len(list) - 1; more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return text
}
