package bench

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file writes tables, in Markdown that can be read as it is: the terminal and the
// page get the same.

type table struct {
	title string
	// below is what a reader has to know about the figures.
	below string
	head  []string
	rows  [][]string
}

func (t table) String() string {
	width := make([]int, len(t.head))
	for _, cells := range append([][]string{t.head}, t.rows...) {
		for i, cell := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.title)
	line := func(cells []string) {
		for i := range t.head {
			cell := ""
			if i < len(cells) {
				cell = cells[i]
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if t.words(i) {
				cell += pad
			} else {
				cell = pad + cell
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	line(t.head)
	for i, w := range width {
		if t.words(i) {
			b.WriteString("|" + strings.Repeat("-", w+2))
		} else {
			b.WriteString("|" + strings.Repeat("-", w+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, cells := range t.rows {
		line(cells)
	}
	if t.below != "" {
		fmt.Fprintf(&b, "\n%s\n", t.below)
	}
	return b.String()
}

// words reports whether a column has words in it, which stand left; figures stand right.
func (t table) words(column int) bool {
	if len(t.rows) == 0 || column >= len(t.rows[0]) {
		return true
	}
	first, _ := utf8.DecodeRuneInString(t.rows[0][column])
	return column == 0 || unicode.IsLetter(first) && t.rows[0][column] != unmeasured
}

// section is a part of the report: a table, with a title, of a certain layout.
type section struct {
	layout layout
	title  string
}

// trimTitle is the title of the table that the plot belongs to.
const trimTitle = "Trims that close a tenth"

type layout int

const (
	trimLayout layout = iota
	callLayout
	checkLayout
	memoryLayout
	noTable // for figures that a bound is about, and that stand in a table of their own
)

// tableOf shows the rows of a section.
func tableOf(s section, rows []row) table {
	t := table{title: s.title}
	switch s.layout {
	case trimLayout:
		t.head = []string{"crowd", theirs.name, ours.name, "ratio", "floor", "over the floor"}
		t.below = "Floor: copy a slice that has a number for each peer, by which they are ordered, and sort its lowest tenth to the front. \"Over the floor\" compares the quickest round of each."
		for _, r := range rows {
			t.rows = append(t.rows, []string{
				r.work, r.unit.write(r.theirs), r.unit.write(r.ours), times(r.ratio()), r.unit.write(r.floor), times(r.overFloor),
			})
		}
	case callLayout:
		t.head = []string{"call", "goroutines", theirs.name, "allocations", ours.name, "allocations", "ratio", "over a look-up"}
		for _, r := range rows {
			t.rows = append(t.rows, append(callCells(r), times(r.overFloor)))
		}
	case checkLayout:
		t.head = []string{"check", "goroutines", theirGate.name, "allocations", ourGate.name, "allocations", "ratio"}
		for _, r := range rows {
			t.rows = append(t.rows, callCells(r))
		}
	case memoryLayout:
		t.head = []string{"crowd", theirs.name, "allocations", ours.name, "allocations", "ratio"}
		for _, r := range rows {
			t.rows = append(t.rows, slices.Delete(callCells(r), 1, 2))
		}
	case noTable:
	}
	return t
}

func callCells(r row) []string {
	goroutines := "–"
	if r.goroutines > 0 {
		goroutines = fmt.Sprint(r.goroutines)
	}
	return []string{
		r.work, goroutines, r.unit.write(r.theirs), perCallAllocs(r.theirAllocs),
		r.unit.write(r.ours), perCallAllocs(r.ourAllocs), times(r.ratio()),
	}
}

// boundTable shows which promises are kept, and how to see where the time of the others
// goes.
func boundTable(verdicts []verdict) table {
	t := table{title: "Bounds", head: []string{"work", "bound", "measured", "met"}}
	var missed strings.Builder
	for _, v := range verdicts {
		t.rows = append(t.rows, []string{v.work, v.wanted(), v.found(), v.yesOrNo()})
		if v.yesOrNo() == "no" && v.profile != "" {
			fmt.Fprintf(&missed, "\n- %s: `go run ./cmd/bench -profile %s`", v.work, v.profile)
		}
	}
	if missed.Len() > 0 {
		t.below = "Not met, and how to see where the time goes:\n" + missed.String()
	}
	return t
}

// checkTable shows what a check makes of them.
func checkTable(verdicts []verdict) table {
	t := table{title: "Bounds", head: []string{"work", "bound", "reached before", "measured", "outcome"}}
	for _, v := range verdicts {
		reached := "–"
		if v.reached != 0 {
			reached = v.write(v.reached)
		}
		t.rows = append(t.rows, []string{v.work, v.wanted(), reached, v.found(), v.checked()})
	}
	return t
}
