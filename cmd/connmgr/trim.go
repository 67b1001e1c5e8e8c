package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr trim": it closes peers, and asks first where that is drastic.

func newTrim() *cobra.Command {
	o := new(online)
	var force, yes, quiet bool
	cmd := &cobra.Command{
		Use:   "trim",
		Short: "Close the lowest-ranked peers down to low water now",
		Long: `Trims now, and says whom that closed: what "connmgr plan" shows happens. Down at low
water it closes nobody.

With --force it closes down to low water without regard to grace, and if that is not
enough the protected peers too. It asks first; where nobody can be asked, --yes is
needed.`,
		Example: `  connmgr trim
  connmgr trim --quiet
  connmgr trim --force --yes --json | jq .closed`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.BoolVar(&force, "force", false, "regard no grace, and no protection if it must be")
	f.BoolVarP(&yes, "yes", "y", false, "with --force, do not ask")
	f.BoolVar(&quiet, "quiet", false, "do not list who was closed")
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if force && !yes {
			if err := confirmForce(cmd, c); err != nil {
				return err
			}
		}
		answer, err := c.Trim(cmd.Context(), api.TrimRequest{Force: force})
		if err != nil {
			return err
		}
		return show(o, cmd, answer, func(out io.Writer, t *api.Trim) error { return writeTrim(out, t, quiet) })
	})
	return cmd
}

// confirmForce asks on the terminal, and returns nil if the answer is yes.
func confirmForce(cmd *cobra.Command, c *client.Client) error {
	if is, _ := terminal(cmd.InOrStdin()); !is {
		return misused("--force can close protected peers; where nobody can be asked, add --yes")
	}
	answer, err := c.Plan(cmd.Context(), "force", 0)
	if err != nil {
		return err
	}
	plan, err := answer.Document()
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "A forced trim would close %s of the node at %s, and leave %s. Go on? [y/N] ",
		count(plan.Closes, "peer"), c.Address(), count(plan.Total-plan.Freed, "connection"))
	line, err := readLine(cmd.Context(), cmd.InOrStdin())
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was closed")
}

// readLine reads a line, or returns early if the context ends. The goroutine that reads
// then ends with the process.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // the end of input is no yes
		lines <- line
	}()
	select {
	case line := <-lines:
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func writeTrim(out io.Writer, t *api.Trim, quiet bool) error {
	closed := "nobody"
	if t.Closed > 0 {
		closed = count(t.Closed, "peer")
	}
	fmt.Fprintf(out, "closed %s in %s\n", closed, tookText(t.TookSeconds))
	writeFigures(out, &t.PlanFigures)
	if t.Spared > 0 {
		fmt.Fprintf(out, "spared       %s that had left, risen, or been protected meanwhile\n", count(t.Spared, "peer"))
	}
	if t.Failed > 0 || t.Hanging > 0 {
		fmt.Fprintf(out, "faults       %s would not close, %s still closing\n", count(t.Failed, "connection"), count(t.Hanging, "peer"))
	}
	if quiet || len(t.Peers) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	table := newTable(out, "PEER", "RANK", "REASON", "SCORE", "CONNS")
	for _, p := range t.Peers {
		table.row(plainText(p.Peer), strconv.Itoa(p.Rank), p.Reason.String(), strconv.Itoa(p.Score), strconv.Itoa(p.Connections))
	}
	if err := table.flush(); err != nil {
		return err
	}
	if more := t.Closed - len(t.Peers); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	return nil
}
