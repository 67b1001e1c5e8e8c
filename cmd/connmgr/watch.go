package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr watch", what happens at a node while it happens, and "connmgr
// events", what has happened lately.

// eventFilter is the flags that say which events are wanted.
type eventFilter struct {
	types []string
	peer  string
	full  bool
}

func (f *eventFilter) flags(cmd *cobra.Command, o *online) {
	cmd.Flags().StringSliceVar(&f.types, "types", nil, "only these, with commas between them: "+strings.Join(eventTypes(), ", "))
	cmd.Flags().StringVar(&f.peer, "peer", "", "only about this peer")
	cmd.Flags().BoolVar(&f.full, "full", false, "shorten nothing, however narrow the terminal is")
	complete(cmd, "types", completeList(eventTypes()))
	complete(cmd, "peer", o.completeOnePeer)
}

// resolve checks the types, and completes the peer's name.
func (f *eventFilter) resolve(ctx context.Context, c *client.Client) (err error) {
	for _, kind := range f.types {
		if !slices.Contains(eventTypes(), kind) {
			return misused("--types has %q, want some of %s", kind, strings.Join(eventTypes(), ", "))
		}
	}
	if f.peer != "" {
		f.peer, err = findPeer(ctx, c, f.peer)
	}
	return err
}

func eventTypes() (words []string) {
	for _, kind := range api.EventTypes() {
		words = append(words, string(kind))
	}
	return words
}

func newWatch() *cobra.Command {
	o, f := new(online), new(eventFilter)
	var (
		since  uint64
		recent int
		count  uint
		during time.Duration
	)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens at a running node while it happens",
		Long: `Shows what happens at a running node while it happens, one event a line: when (in UTC),
what, who, and what there is to say about it. With --json each line is an event as the
API has it. On a narrow terminal peer IDs are shortened and lines are cut; --full shows all.

When the node restarts or the network breaks, it connects again and goes on after the
last event that it showed; standard error says so. A terminal that is too slow for the
node misses events, which is said too.

It ends with Ctrl-C, or by itself with --for or --count.`,
		Example: `  connmgr watch
  connmgr watch --types closed,denied
  connmgr watch --recent 20 --peer …XZQUKVSq
  connmgr watch --types trim --count 1 --for 5m --json | jq .trim.closed`,
		Args: cobra.NoArgs,
	}
	f.flags(cmd, o)
	flags := cmd.Flags()
	flags.Uint64Var(&since, "since", 0, "begin after the event with this ID, if the node remembers it")
	flags.IntVar(&recent, "recent", 0, "begin with so many of the latest events")
	flags.UintVar(&count, "count", 0, "end after so many events")
	durationFlag(flags, &during, "for", 0, "end after this time")
	cmd.MarkFlagsMutuallyExclusive("since", "recent")
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		switch {
		case recent < 0 || recent > 1000:
			return misused("--recent is %d, must be from 0 to 1000", recent)
		case during < 0:
			return misused("--for is %v, must not be negative", during)
		}
		ctx := cmd.Context()
		if err := f.resolve(ctx, c); err != nil {
			return err
		}
		if during > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, during, errEnough)
			defer cancel()
		}
		w := client.Watch{Types: f.types, Peer: f.peer}
		if flags.Changed("since") {
			w.Since = &since
		}
		err := watch(ctx, cmd, o, c, w, f.full, recent, count)
		if errors.Is(err, errEnough) || errors.Is(context.Cause(ctx), errEnough) {
			return nil
		}
		return err
	})
	return cmd
}

// errEnough ends a watch that has shown what it was asked for.
var errEnough = errors.New("enough")

// watch writes events until it has shown most of them, if that is not 0.
func watch(ctx context.Context, cmd *cobra.Command, o *online, c *client.Client, w client.Watch, full bool, recent int, most uint) error {
	stderr := cmd.ErrOrStderr()
	w.Lost = func(err error) {
		fmt.Fprintf(stderr, "connmgr: lost the connection: %s\n", strings.TrimPrefix(err.Error(), "connmgr: "))
	}
	w.Resumed = func() { fmt.Fprintf(stderr, "connmgr: connected to %s again\n", c.Address()) }
	w.Behind = func() {
		fmt.Fprintln(stderr, "connmgr: too slow for the node, events may be missing; going on with what it remembers")
	}
	shown := uint(0)
	each := func(e client.Event) error {
		out := cmd.OutOrStdout()
		if err := writeEvent(out, o.json, &e, room(out, full)); err != nil {
			return err
		}
		if shown++; most > 0 && shown >= most {
			return errEnough
		}
		return nil
	}
	if recent > 0 {
		last, err := writeRecent(ctx, c, w, recent, each)
		if err != nil {
			return err
		}
		w.Since = last
	}
	return c.Watch(ctx, w, each)
}

// writeRecent shows the latest events, the oldest first, and returns the ID after which
// to go on; nil if there were none.
func writeRecent(ctx context.Context, c *client.Client, w client.Watch, most int, each func(client.Event) error) (*uint64, error) {
	answer, err := c.RecentEvents(ctx, w.Types, w.Peer, most)
	if err != nil {
		return nil, err
	}
	list, err := client.Events(answer)
	if err != nil {
		return nil, err
	}
	var last *uint64
	for _, e := range slices.Backward(list) {
		last = new(e.ID)
		if err := each(e); err != nil {
			return last, err
		}
	}
	return last, nil
}

func newEvents() *cobra.Command {
	o, f := new(online), new(eventFilter)
	var limit int
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened lately at a running node",
		Long: `Shows the latest events that a running node remembers, the oldest first. "connmgr watch"
shows those that come.`,
		Example: `  connmgr events --limit 20
  connmgr events --types closed --json | jq '.events[].closed.reason'`,
		Args: cobra.NoArgs,
	}
	f.flags(cmd, o)
	cmd.Flags().IntVar(&limit, "limit", 100, "how many to show, at most 1000")
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if limit < 1 || limit > 1000 {
			return misused("--limit is %d, must be from 1 to 1000", limit)
		}
		if err := f.resolve(cmd.Context(), c); err != nil {
			return err
		}
		answer, err := c.RecentEvents(cmd.Context(), f.types, f.peer, limit)
		if err != nil {
			return err
		}
		if o.json {
			return writeJSON(cmd.OutOrStdout(), answer.Raw())
		}
		list, err := client.Events(answer)
		if err != nil {
			return err
		}
		return buffered(cmd.OutOrStdout(), func(out io.Writer) error {
			for _, e := range slices.Backward(list) {
				if err := writeEvent(out, false, &e, room(cmd.OutOrStdout(), f.full)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return cmd
}

// writeEvent writes one line, which is cut if it has not enough room; 0 is as much as it
// wants.
func writeEvent(out io.Writer, asJSON bool, e *client.Event, room int) error {
	if asJSON {
		return writeJSONLine(out, e.Raw)
	}
	name := plainText
	if room > 0 {
		name = shortPeer
	}
	who := ""
	if e.Peer != "" {
		who = name(e.Peer) + "  "
	}
	line := fmt.Sprintf("%s  %-12s  %s%s\n", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), plainText(string(e.Type)), who, plainLine(e.Text))
	if room > 0 {
		out = &cutLines{out: out, columns: room}
	}
	_, err := io.WriteString(out, line)
	return err
}
