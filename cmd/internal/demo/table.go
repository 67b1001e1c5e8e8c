package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// This file writes the outcome for people.

// text is the report: who stayed, who went, and the promises.
func (r *Report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d of %d nodes are connected, %d went.\n\n", r.Connected, r.Peers, r.closed())
	r.table(&b)
	b.WriteString("\nPromises, as the nodes that dialled see it:\n")
	for _, p := range r.Promises {
		mark := "kept  "
		if !p.Kept {
			mark = "BROKEN"
		}
		fmt.Fprintf(&b, "  %s  %s (%s)\n", mark, p.Promise, p.Detail)
	}
	fmt.Fprintf(&b, "\nDone in %.1f s.\n", r.Seconds)
	return b.String()
}

func (r *Report) closed() (n int) {
	for i := range r.Nodes {
		if !r.Nodes[i].Connected {
			n++
		}
	}
	return n
}

// table groups nodes that share a fate, the best first.
func (r *Report) table(b *strings.Builder) {
	type group struct {
		fate  Fate
		nodes []string
	}
	var groups []*group
	for _, f := range r.Nodes {
		same := func(g *group) bool {
			return g.fate.Connected == f.Connected && g.fate.Score == f.Score && g.fate.Reason == f.Reason &&
				g.fate.Role == f.Role && g.fate.Trim == f.Trim
		}
		i := slices.IndexFunc(groups, same)
		if i < 0 {
			groups = append(groups, &group{fate: f})
			i = len(groups) - 1
		}
		name := f.Node
		if f.Returned {
			name += " (dropped and returned)"
		}
		groups[i].nodes = append(groups[i].nodes, name)
	}
	slices.SortStableFunc(groups, func(a, b *group) int {
		if a.fate.Connected != b.fate.Connected {
			return cmp.Compare(boolRank(b.fate.Connected), boolRank(a.fate.Connected))
		}
		return cmp.Compare(b.fate.Score, a.fate.Score)
	})
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FATE\tSCORE\tREASON\tROLE\tPEERS\tWHO")
	for _, g := range groups {
		fate := "stayed"
		if !g.fate.Connected {
			fate = "went"
		}
		reason := g.fate.Reason
		if g.fate.Trim > 0 {
			reason = fmt.Sprintf("%s, trim %d", reason, g.fate.Trim)
		}
		for i, line := range wrap(g.nodes, 40) {
			if i == 0 {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\n", fate, g.fate.Score, reason, g.fate.Role, len(g.nodes), line)
			} else {
				fmt.Fprintf(w, "\t\t\t\t\t%s\n", line)
			}
		}
	}
	_ = w.Flush() // writes to memory
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wrap joins words to lines of about the given width.
func wrap(words []string, width int) (lines []string) {
	line := ""
	for _, word := range words {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
