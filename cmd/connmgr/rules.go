package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/spf13/cobra"
)

// This file is "connmgr rules": lists of rules, and the file in which a node keeps
// its rules, while no node has it open.

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, import, export and list rules of the gate",
		Long: `Rules deny or allow peers, address prefixes and ports. A list has one a line: a CIDR,
an address, a range, a peer ID, or "port 25", with comments behind # or ;. Published
block lists and netset files read as they are.

A rule file is what a node keeps its rules in (bbolt). One process at a time can have
it open.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesCheck(), newRulesImport(), newRulesExport(), newRulesList())
	return cmd
}

// someLists asks for at least one list.
func someLists(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New(`no list given; name one or more, "-" for standard input`)
	}
	return nil
}

// dbFlag adds the flag that names the rule file.
func dbFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("db", "rules.db", "the rule file")
}

func newRulesCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check LIST...",
		Short: "Read lists of rules and say what is in them, or what is wrong",
		Example: `  connmgr rules check blocklist.txt firehol_level1.netset
  fetch-list | connmgr rules check -`,
		Args: someLists,
		RunE: func(cmd *cobra.Command, args []string) error {
			var bad []error
			for _, name := range args {
				rules, err := readList(cmd, name, connmgrlibp2p.ListFormat())
				if err != nil {
					bad = append(bad, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, countRules(rules))
			}
			return failed(errors.Join(bad...))
		},
	}
}

func newRulesImport() *cobra.Command {
	var (
		origin, reason string
		lasting        time.Duration
		allow, empty   bool
	)
	cmd := &cobra.Command{
		Use:   "import LIST...",
		Short: "Put the rules of lists into a rule file",
		Long: `Puts the rules of lists into a rule file, which is made if it is missing. If one line
of one list is wrong, nothing is put in.

With --origin the rules replace all that came from there before, so that a published
list can be fetched and imported again and again. Without it they are added, with the
origins that the lists name, if they were exported.`,
		Example: `  connmgr rules import --origin firehol firehol_level1.netset
  connmgr rules import --for 24h --reason "port scans" scanners.txt
  connmgr rules import --allow friends.txt`,
		Args: someLists,
	}
	f := cmd.Flags()
	db := dbFlag(cmd)
	f.StringVar(&origin, "origin", "", "where the rules come from; replaces what came from there before")
	f.StringVar(&reason, "reason", "", "the reason of rules that have none in the list")
	f.DurationVar(&lasting, "for", 0, "how long rules last that do not say it (default for good)")
	f.BoolVar(&empty, "allow-empty", false, "with --origin, remove all that came from there if the lists are empty")
	f.BoolVar(&allow, "allow", false, "allow instead of deny what does not say it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		format := connmgrlibp2p.ListFormat()
		format.Origin, format.Reason = origin, reason
		sample := connmgr.Rule{Target: connmgr.PortTarget(1), Origin: origin, Reason: reason}
		switch {
		case sample.Validate() != nil:
			return errors.New("--origin and --reason must each be one line of at most 1024 bytes")
		case lasting < 0:
			return fmt.Errorf("--for is %v, must not be negative", lasting)
		case lasting > 0:
			format.Expires = time.Now().Add(lasting)
		}
		if allow {
			format.Effect = connmgr.Allow
		}
		replace := cmd.Flags().Changed("origin")
		var rules []connmgr.Rule
		for _, name := range args {
			read, err := readList(cmd, name, format)
			if err != nil {
				return failed(err)
			}
			rules = append(rules, read...)
		}
		if replace && len(rules) == 0 && !empty { // most likely something went wrong on the way
			return failed(fmt.Errorf("no rules in %s; to remove all of origin %q, add --allow-empty", strings.Join(args, ", "), origin))
		}
		return failed(withGater(*db, func(gater *connmgr.Gater) error {
			return importRules(cmd, gater, *db, rules, replace, origin)
		}))
	}
	return cmd
}

// importRules puts rules into a gate, and says what that changed. Those that have
// expired are left out.
func importRules(cmd *cobra.Command, gater *connmgr.Gater, db string, rules []connmgr.Rule, replace bool, origin string) error {
	now := time.Now()
	var live []connmgr.Rule
	for _, r := range rules {
		if !r.Expired(now) {
			live = append(live, r)
		}
	}
	out := cmd.OutOrStdout()
	if n := len(rules) - len(live); n > 0 {
		fmt.Fprintf(out, "%s: %d left out, since they have expired\n", db, n)
	}
	if !replace {
		diff := diffRules(gater, live)
		if err := gater.Add(cmd.Context(), live...); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d added, %d changed, %d there already; %d rules now\n",
			db, diff.Added, diff.Changed, diff.Kept, inForce(gater))
		return nil
	}
	diff, err := gater.Replace(cmd.Context(), origin, live)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d added, %d changed, %d removed, %d kept of origin %q; %d rules now\n",
		db, diff.Added, diff.Changed, diff.Removed, diff.Kept, origin, inForce(gater))
	return nil
}

// diffRules says what adding rules to those in force will change.
func diffRules(gater *connmgr.Gater, rules []connmgr.Rule) (diff connmgr.RuleDiff) {
	type id struct {
		effect connmgr.Effect
		target connmgr.Target
		origin string
	}
	there := make(map[id]connmgr.Rule)
	for r := range gater.Rules() {
		there[id{r.Effect, r.Target, r.Origin}] = r
	}
	for _, r := range rules {
		key := id{r.Effect, r.Target, r.Origin}
		switch old, known := there[key]; {
		case !known:
			diff.Added++
		case old.Reason != r.Reason || !old.Expires.Equal(r.Expires):
			diff.Changed++
		default:
			diff.Kept++
		}
		there[key] = r
	}
	return diff
}

func inForce(gater *connmgr.Gater) (n int) {
	for range gater.Rules() {
		n++
	}
	return n
}

func newRulesExport() *cobra.Command {
	var origin, output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the rules of a rule file as a list",
		Long: `Writes the rules of a rule file as a list that "connmgr rules import" reads, and that
other programs read as far as they know its lines.`,
		Example: `  connmgr rules export --db rules.db > rules.txt
  connmgr rules export --origin firehol`,
		Args: cobra.NoArgs,
	}
	db := dbFlag(cmd)
	cmd.Flags().StringVar(&origin, "origin", "", "only rules of this origin")
	cmd.Flags().StringVarP(&output, "output", "o", "", "the file to write (default standard output)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rules, err := savedRules(cmd.Context(), *db)
		if err != nil {
			return failed(err)
		}
		chosen := ofOrigin(rules, cmd.Flags().Changed("origin"), origin)
		if output == "" {
			return failed(connmgrlibp2p.ListFormat().Write(cmd.OutOrStdout(), chosen))
		}
		return failed(writeFile(output, func(w io.Writer) error { return connmgrlibp2p.ListFormat().Write(w, chosen) }))
	}
	return cmd
}

func newRulesList() *cobra.Command {
	var (
		origin string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the rules of a rule file",
		Example: `  connmgr rules list
  connmgr rules list --origin "ban ladder" --json | jq .target`,
		Args: cobra.NoArgs,
	}
	db := dbFlag(cmd)
	cmd.Flags().StringVar(&origin, "origin", "", "only rules of this origin")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object a line instead of a table")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rules, err := savedRules(cmd.Context(), *db)
		if err != nil {
			return failed(err)
		}
		chosen := ofOrigin(rules, cmd.Flags().Changed("origin"), origin)
		if asJSON {
			out := bufio.NewWriter(cmd.OutOrStdout())
			return failed(errors.Join(writeRulesJSON(out, chosen), out.Flush()))
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		return failed(errors.Join(writeRulesTable(out, chosen), out.Flush()))
	}
	return cmd
}

// writeFile replaces a file when all of the new one has been written.
func writeFile(name string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(file.Chmod(0o644), write(file), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// savedRules returns the rules of a file, those that have expired too.
func savedRules(ctx context.Context, db string) (rules []connmgr.Rule, err error) {
	store, err := connmgrbolt.Open(db, connmgrbolt.ReadOnly())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return store.Load(ctx)
}

// withGater calls f with a gate whose rules are in a file.
func withGater(db string, f func(*connmgr.Gater) error) (err error) {
	store, err := connmgrbolt.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m, err := connmgr.New(connmgr.Config{
		ManualStart: true,
		Logger:      slog.New(slog.DiscardHandler), // errors are returned
		Gate:        connmgr.GateConfig{Store: store},
	})
	if err != nil {
		return err
	}
	defer m.Close()
	return f(m.Gater())
}

// readList reads a list; "-" is standard input.
func readList(cmd *cobra.Command, name string, format connmgr.ListFormat) ([]connmgr.Rule, error) {
	if name == "-" {
		return format.Read(cmd.InOrStdin(), "standard input")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return format.Read(file, name)
}

func ofOrigin(rules []connmgr.Rule, chosen bool, origin string) iter.Seq[connmgr.Rule] {
	return func(yield func(connmgr.Rule) bool) {
		for _, r := range rules {
			if (!chosen || r.Origin == origin) && !yield(r) {
				return
			}
		}
	}
}

// countRules says what kinds of rules there are.
func countRules(rules []connmgr.Rule) string {
	var allow, peers, prefixes, ports, expired int
	now := time.Now()
	for _, r := range rules {
		if r.Effect == connmgr.Allow {
			allow++
		}
		if r.Expired(now) {
			expired++
		}
		if _, ok := r.Target.Peer(); ok {
			peers++
		} else if _, ok := r.Target.Prefix(); ok {
			prefixes++
		} else {
			ports++
		}
	}
	text := fmt.Sprintf("rules %d (deny %d, allow %d): addresses and prefixes %d, peers %d, ports %d",
		len(rules), len(rules)-allow, allow, prefixes, peers, ports)
	if expired > 0 {
		text += fmt.Sprintf("; expired %d", expired)
	}
	return text
}

// targetText is a target as lists name it.
func targetText(t connmgr.Target) string {
	if id, ok := t.Peer(); ok {
		return "peer " + connmgrlibp2p.ListFormat().FormatPeer(id)
	}
	return t.String()
}

func writeRulesTable(out io.Writer, rules iter.Seq[connmgr.Rule]) error {
	now := time.Now()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EFFECT\tTARGET\tENDS\tORIGIN\tREASON")
	for r := range rules {
		ends := "never"
		switch {
		case r.Expired(now):
			ends = "expired"
		case !r.Expires.IsZero():
			ends = r.Expires.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%v\t%s\t%s\t%s\t%s\n", r.Effect, targetText(r.Target), ends, plainText(r.Origin), plainText(r.Reason))
	}
	return w.Flush()
}

// plainText makes a text safe for a terminal and a table.
func plainText(text string) string {
	if text == "" {
		return "-"
	}
	quoted := fmt.Sprintf("%q", text)
	return quoted[1 : len(quoted)-1]
}

// ruleLine is a rule in JSON.
type ruleLine struct {
	Effect string `json:"effect"`
	// Target is a CIDR, an address, "peer ID" or "port N".
	Target string `json:"target"`
	// Expires is missing if the rule never ends.
	Expires *time.Time `json:"expires,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Origin  string     `json:"origin,omitempty"`
}

func writeRulesJSON(out io.Writer, rules iter.Seq[connmgr.Rule]) error {
	enc := json.NewEncoder(out)
	for r := range rules {
		line := ruleLine{Effect: r.Effect.String(), Target: targetText(r.Target), Reason: r.Reason, Origin: r.Origin}
		if !r.Expires.IsZero() {
			line.Expires = new(r.Expires.UTC())
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// failed marks an error, if it is one, as not the fault of the command line.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{err}
}
