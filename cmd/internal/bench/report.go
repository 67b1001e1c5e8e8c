package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// This file writes the report: what goes to the terminal, and into the page.

type report struct {
	command string
	quick   bool
	when    time.Time
	took    time.Duration
	machine machine
	findings
}

// text is the report for a terminal.
func (r *report) text() string { return r.write("") }

// markdown is the report for the page, beside which there is the plot.
func (r *report) markdown(plot string) string { return r.write(plot) }

func (r *report) write(plot string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s by `%s` in %v", r.when.UTC().Format(time.DateOnly), r.command, r.took.Round(time.Second))
	if r.quick {
		b.WriteString(": a quick run, with fewer rounds than a full one, and without what takes longest")
	}
	fmt.Fprintf(&b, ".\nMachine: %s.\n\n", r.machine)
	tables := append([]table{boundTable(judge(bounds, r.rows))}, r.tables()...)
	for i, t := range tables {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(t.String())
		if plot != "" && t.title == trimTitle {
			fmt.Fprintf(&b, "\n![Time of a trim over the number of peers, on logarithmic axes: %s above, %s below, and the floor](%s)\n",
				theirs.name, ours.name, plot)
		}
	}
	return b.String()
}

// tables returns a table for each section, in the order of measurement.
func (r *report) tables() (tables []table) {
	var sections []section
	for _, row := range r.rows {
		if row.section.layout != noTable && !slices.Contains(sections, row.section) {
			sections = append(sections, row.section)
		}
	}
	for _, s := range sections {
		var rows []row
		for _, row := range r.rows {
			if row.section == s {
				rows = append(rows, row)
			}
		}
		tables = append(tables, tableOf(s, rows))
	}
	if len(r.latency) > 0 {
		t := table{title: fmt.Sprintf("Calls while a trim of %s peers runs", thousands(latencyPeers)), head: latencyHeader()}
		for _, l := range r.latency {
			t.rows = append(t.rows, l.cells())
		}
		if r.quick {
			t.below = "Not run in a quick run: " + theirs.name + "."
		}
		tables = append(tables, t)
	}
	if n := r.node; n != nil {
		tables = append(tables,
			table{
				title: fmt.Sprintf("A go-libp2p node with %s connections, whose peers get %s tags a second", thousands(n.conns), thousands(n.rate)),
				head:  nodeHeader(), rows: n.rows(),
			},
			table{
				title: "Stat of a connection",
				head:  []string{"connection", "time"},
				rows: [][]string{
					{"of the node", nanoseconds.write(figure(n.realStat))},
					{"of these measurements", nanoseconds.write(figure(n.fakeStat))},
				},
			})
	}
	if len(r.made) > 0 {
		tables = append(tables, breakdownTable(r.made))
	}
	return tables
}

// plot draws the plot.
func (r *report) plot(w io.Writer) error {
	caption := r.machine.short() + ", " + r.when.UTC().Format(time.DateOnly)
	return drawPlot(w, caption, trimSeries(r.rows, spreadScores))
}
