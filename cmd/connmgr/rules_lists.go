package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/spf13/cobra"
)

// This file is what "connmgr rules" does with lists of rules: check, import, export.

// someLists asks for at least one list.
func someLists(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New(`no list given; name one or more, "-" for standard input`)
	}
	return nil
}

func newRulesCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check LIST...",
		Short: "Read lists of rules and say what is in them, or what is wrong",
		Long:  `Reads lists of rules and says what is in them, or what is wrong. No node is asked.`,
		Example: `  connmgr rules check blocklist.txt firehol_level1.netset
  fetch-list | connmgr rules check -`,
		Args: someLists,
		RunE: func(cmd *cobra.Command, args []string) error {
			var (
				doc = checkedLists{OK: true, Lists: []checkedList{}}
				bad []error
			)
			for _, name := range args {
				rules, err := readList(cmd, name, connmgrlibp2p.ListFormat())
				doc.Lists = append(doc.Lists, checkList(name, rules, err))
				if err != nil {
					doc.OK = false
					bad = append(bad, err)
				}
			}
			wrote := writeOwn(cmd, asJSON, doc, func(out io.Writer) error {
				for _, l := range doc.Lists {
					if l.OK {
						fmt.Fprintf(out, "%s: %s\n", l.List, l)
					}
				}
				return nil
			})
			return failed(errors.Join(append(bad, wrote)...))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// checkedLists is what "rules check" finds.
type checkedLists struct {
	OK    bool          `json:"ok"`
	Lists []checkedList `json:"lists"`
}

// checkedList is one of them: numbers of rules, or what is wrong.
type checkedList struct {
	List     string `json:"list"`
	OK       bool   `json:"ok"`
	Rules    int    `json:"rules"`
	Deny     int    `json:"deny"`
	Allow    int    `json:"allow"`
	Prefixes int    `json:"prefixes"`
	Peers    int    `json:"peers"`
	Ports    int    `json:"ports"`
	Expired  int    `json:"expired"`
	Line     int    `json:"line,omitempty"`
	Message  string `json:"message,omitempty"`
}

func newRulesImport() *cobra.Command {
	var (
		r     rulesAt
		s     someRule
		empty bool
	)
	cmd := &cobra.Command{
		Use:   "import LIST...",
		Short: "Put the rules of lists into force",
		Long: `Puts the rules of lists into force at a running node, and so into its rule file, or with
--db into a rule file, which is made if it is missing. If one line of one list is wrong,
nothing is put in.

With --origin the rules replace all that came from there before, so that a published
list can be fetched and imported again and again. Without it they are added, with the
origins that the lists name, if they were exported.`,
		Example: `  connmgr rules import --origin firehol firehol_level1.netset
  connmgr rules import --for 24h --reason "port scans" scanners.txt
  connmgr rules import --allow friends.txt
  connmgr rules import --db rules.db --origin firehol firehol_level1.netset`,
		Args: someLists,
	}
	f := cmd.Flags()
	f.StringVar(&s.origin, "origin", "", "where the rules come from; replaces what came from there before")
	f.StringVar(&s.reason, "reason", "", "the reason of rules that have none in the list")
	durationFlag(f, &s.lasting, "for", 0, "how long rules last that do not say it, such as 24h or 90m (default for good)")
	f.BoolVar(&empty, "allow-empty", false, "with --origin, remove all that came from there if the lists are empty")
	f.BoolVar(&s.allow, "allow", false, "allow instead of deny what does not say it")
	complete(cmd, "origin", r.completeOrigin)
	complete(cmd, "reason", cobra.NoFileCompletions)
	complete(cmd, "for", cobra.NoFileCompletions)
	r.flags(cmd)
	r.use = makeFile
	cmd.RunE = r.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := s.check(cmd); err != nil {
			return err
		}
		// Before a file is made for a list that is none. A node knows best what it can read.
		lists, err := joinLists(cmd, args, c.IsLocal())
		if err != nil {
			return err
		}
		replace := cmd.Flags().Changed("origin")
		answer, err := c.ImportRules(cmd.Context(), lists.text, client.ImportOptions{
			Replace: replace, Origin: s.origin, Reason: s.reason, Lasting: s.lasting, Effect: s.effect(), AllowEmpty: empty,
		})
		if err != nil {
			return lists.locate(err)
		}
		return show(&r.online, cmd, answer, func(out io.Writer, doc *api.Imported) error {
			return writeImported(out, c.Address(), replace, s.origin, doc)
		})
	})
	return cmd
}

// check returns an error if the flags cannot be those of a rule.
func (s *someRule) check(cmd *cobra.Command) error {
	sample := connmgr.Rule{Target: connmgr.PortTarget(1), Origin: s.origin, Reason: s.reason}
	if sample.Validate() != nil {
		return misused("--origin and --reason must each be one line of at most 1024 bytes")
	}
	return checkFor(cmd, s.lasting)
}

// writeImported says what an import has changed.
func writeImported(out io.Writer, where string, replace bool, origin string, d *api.Imported) error {
	if d.Expired > 0 {
		fmt.Fprintf(out, "%s: %d left out, since they have expired\n", where, d.Expired)
	}
	var err error
	if replace {
		_, err = fmt.Fprintf(out, "%s: %d added, %d changed, %d removed, %d kept of origin %q; %d rules now\n",
			where, d.Added, d.Changed, d.Removed, d.Kept, origin, d.Total)
	} else {
		_, err = fmt.Fprintf(out, "%s: %d added, %d changed, %d there already; %d rules now\n",
			where, d.Added, d.Changed, d.Kept, d.Total)
	}
	return err
}

// maxLists is how much a node takes at a time, in bytes.
const maxLists = 32 << 20

// joinedLists is lists one after the other, as a node takes them.
type joinedLists struct {
	text  []byte
	names []string
	lines []int // how many each has, with the one that we put before it
}

// noOrigin ends what an earlier list says about the origin of its rules.
const noOrigin = "#! origin \"\"\n"

// joinLists reads lists. With check, a line that is wrong is an error.
func joinLists(cmd *cobra.Command, names []string, check bool) (*joinedLists, error) {
	j := &joinedLists{names: names}
	for _, name := range names {
		var text []byte
		err := openList(cmd, name, func(r io.Reader) (err error) {
			text, err = io.ReadAll(io.LimitReader(r, maxLists+1))
			return err
		})
		if check && err == nil {
			_, err = connmgrlibp2p.ListFormat().Read(bytes.NewReader(text), listName(name))
		}
		if err != nil {
			return nil, err
		}
		text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		j.text = append(append(j.text, noOrigin...), text...)
		// Lines end with LF, CR LF or CR.
		j.lines = append(j.lines, 1+bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r"))-bytes.Count(text, []byte("\r\n")))
		if len(j.text) > maxLists {
			return nil, fmt.Errorf("the lists have more than %d MiB, which is what a node takes at a time; import them one by one", maxLists>>20)
		}
	}
	return j, nil
}

// locate puts the name of the list, and the number of the line in it, into an error of
// the node about a line; other errors it gives the words of this command.
func (j *joinedLists) locate(err error) error {
	e, ok := errors.AsType[*client.StatusError](err)
	if !ok {
		return err
	}
	if strings.Contains(e.Problem.Detail, "allow_empty=true") {
		return fmt.Errorf("no rules in %s; to remove all that came from there, add --allow-empty", strings.Join(j.names, ", "))
	}
	line := e.Problem.Line
	for i, n := range j.lines {
		if line <= n && line > 0 {
			detail := strings.TrimPrefix(e.Problem.Detail, fmt.Sprintf("line %d: ", e.Problem.Line))
			return fmt.Errorf("%s:%d: %s", listName(j.names[i]), max(line-1, 1), detail)
		}
		line -= n
	}
	return err
}

// listName is what errors call a list.
func listName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

func newRulesExport() *cobra.Command {
	var (
		r              rulesAt
		origin, output string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write rules as a list",
		Long: `Writes rules as a list that "connmgr rules import" reads, and that other programs read as
far as they know its lines. Rules that have ended are left out.`,
		Example: `  connmgr rules export > rules.txt
  connmgr rules export --origin firehol -o firehol.txt
  connmgr rules export --db rules.db`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&origin, "origin", "", "only rules of this origin")
	complete(cmd, "origin", r.completeOrigin)
	cmd.Flags().StringVarP(&output, "output", "o", "", "the file to write (default standard output)")
	r.flags(cmd)
	_ = cmd.Flags().MarkHidden("json")
	write := func(cmd *cobra.Command, list func(io.Writer) error) error {
		if r.json {
			return misused(`a list is no JSON; "connmgr rules list --all --json" has the same rules in JSON`)
		}
		if output != "" {
			return writeFile(output, list)
		}
		out := cmd.OutOrStdout()
		if is, _ := terminal(out); is {
			return writePlain(out, list)
		}
		return list(out)
	}
	cmd.RunE = r.ask(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		only := &origin
		if !cmd.Flags().Changed("origin") {
			only = nil
		}
		return write(cmd, func(w io.Writer) error { return c.ExportRules(cmd.Context(), only, w) })
	})
	return cmd
}

// writePlain writes lines with escapes in place of what a terminal would obey. Our own
// lists have nothing of that; who answers as a node may not be one.
func writePlain(out io.Writer, list func(io.Writer) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(out, plainLine(lines.Text()))
		}
		r.CloseWithError(lines.Err())
		done <- lines.Err()
	}()
	err := list(w)
	w.Close()
	return errors.Join(err, <-done)
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

// readList reads a list; "-" is standard input.
func readList(cmd *cobra.Command, name string, format connmgr.ListFormat) (rules []connmgr.Rule, err error) {
	err = openList(cmd, name, func(r io.Reader) (err error) {
		rules, err = format.Read(r, listName(name))
		return err
	})
	return rules, err
}

func openList(cmd *cobra.Command, name string, read func(io.Reader) error) error {
	if name == "-" {
		return read(cmd.InOrStdin())
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return read(file)
}

// checkList counts the rules of a list by their kinds, or says why there are none.
func checkList(name string, rules []connmgr.Rule, err error) checkedList {
	l := checkedList{List: name, OK: err == nil, Rules: len(rules)}
	if err != nil {
		l.Message = strings.TrimPrefix(err.Error(), "connmgr: ")
		if bad, ok := errors.AsType[*connmgr.ListError](err); ok {
			l.Line, l.Message = bad.Line, fmt.Sprintf("%q: want %s", bad.Text, bad.Want)
		}
	}
	now := time.Now()
	for _, r := range rules {
		if r.Effect == connmgr.Allow {
			l.Allow++
		}
		if r.Expired(now) {
			l.Expired++
		}
		if _, ok := r.Target.Peer(); ok {
			l.Peers++
		} else if _, ok := r.Target.Prefix(); ok {
			l.Prefixes++
		} else {
			l.Ports++
		}
	}
	l.Deny = len(rules) - l.Allow
	return l
}

// String says it in a line.
func (l checkedList) String() string {
	text := fmt.Sprintf("rules %d (deny %d, allow %d): addresses and prefixes %d, peers %d, ports %d",
		l.Rules, l.Deny, l.Allow, l.Prefixes, l.Peers, l.Ports)
	if l.Expired > 0 {
		text += fmt.Sprintf("; expired %d", l.Expired)
	}
	return text
}
