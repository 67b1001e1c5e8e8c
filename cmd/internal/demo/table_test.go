package demo

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rows returns the lines of the table in a report.
func rows(t *testing.T, nodes ...Fate) []string {
	t.Helper()
	text := (&Report{Peers: len(nodes), Nodes: nodes}).text()
	_, text, found := strings.Cut(text, "FATE ")
	if !found {
		t.Fatalf("the report has no table:\n%s", text)
	}
	text, _, _ = strings.Cut(text, "\n\n")
	return strings.Split(text, "\n")[1:]
}

// asRole returns a fate with a role.
func asRole(f Fate, role string) Fate {
	f.Role = role
	return f
}

func TestTableShowsThoseThatStayedFirstAndTheBestOfThemFirst(t *testing.T) {
	got := rows(t,
		asRole(went("n001", 50), "late"), asRole(stayed("n002", 0), "plain"), asRole(went("n003", -1000), "bad"),
		asRole(stayed("n004", 100), "own"), asRole(stayed("n005", 5), "kbucket"),
	)
	for i, want := range []string{
		`^stayed +100 +above the cut +own +1 +n004$`,
		`^stayed +5 +above the cut +kbucket +1 +n005$`,
		`^stayed +0 +above the cut +plain +1 +n002$`,
		`^went +50 +low score, trim 1 +late +1 +n001$`,
		`^went +-1000 +low score, trim 1 +bad +1 +n003$`,
	} {
		if i >= len(got) || !regexp.MustCompile(want).MatchString(got[i]) {
			t.Fatalf("row %d does not match %s:\n%s", i+1, want, strings.Join(got, "\n"))
		}
	}
	if len(got) != 5 {
		t.Errorf("the table has %d rows, want 5:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestNodesThatShareAFateShareARow(t *testing.T) {
	same := []Fate{asRole(stayed("n001", 5), "a"), asRole(stayed("n002", 5), "a")}
	if got := rows(t, same...); len(got) != 1 || !regexp.MustCompile(` 2 +n001 n002$`).MatchString(got[0]) {
		t.Errorf("two nodes with one fate make %q, want one row that counts and names both", got)
	}
	for what, differ := range map[string]func(*Fate){
		"score":  func(f *Fate) { f.Score = 6 },
		"role":   func(f *Fate) { f.Role = "b" },
		"reason": func(f *Fate) { f.Reason = "in grace" },
		"fate":   func(f *Fate) { f.Connected = false },
		"trim":   func(f *Fate) { f.Trim = 2 },
	} {
		two := slices.Clone(same)
		differ(&two[1])
		if got := rows(t, two...); len(got) != 2 {
			t.Errorf("two nodes that differ in %s make %q, want two rows", what, got)
		}
	}
}

func TestTableSaysWhoDroppedAndReturned(t *testing.T) {
	f := stayed("n001", 0)
	f.Returned = true
	if got := rows(t, f); len(got) != 1 || !strings.HasSuffix(got[0], "n001 (dropped and returned)") {
		t.Errorf("the table is %q, want it to say that n001 dropped and returned", got)
	}
}

func TestLongListsOfNodesAreWrapped(t *testing.T) {
	var nodes []Fate
	for _, name := range strings.Fields(strings.Repeat("n111 ", 100)) {
		nodes = append(nodes, asRole(stayed(name, 0), "plain"))
	}
	got := rows(t, nodes...)
	if named := strings.Count(strings.Join(got, " "), "n111"); named != 100 {
		t.Errorf("the table names %d nodes, want all 100", named)
	}
	column := strings.Index(got[0], "n111")
	for _, line := range got {
		if len(line) > column+40 {
			t.Errorf("a line is %d wide, want names within 40 columns: %q", len(line), line)
		}
		if strings.TrimRight(line[:column], " ") != "" && line != got[0] {
			t.Errorf("a continued line begins with %q, want blanks", line[:column])
		}
	}
}

func TestWrapLosesNoWord(t *testing.T) {
	for _, c := range []struct {
		words []string
		width int
		want  []string
	}{
		{nil, 10, []string{""}},
		{[]string{"a"}, 10, []string{"a"}},
		{[]string{"aaaa", "bbbb"}, 9, []string{"aaaa bbbb"}},
		{[]string{"aaaa", "bbbb"}, 8, []string{"aaaa", "bbbb"}},
		{[]string{"a word longer than the width", "b"}, 5, []string{"a word longer than the width", "b"}},
	} {
		if got := wrap(c.words, c.width); !slices.Equal(got, c.want) {
			t.Errorf("wrap(%q, %d) is %q, want %q", c.words, c.width, got, c.want)
		}
	}
}

func TestReportMarksBrokenPromises(t *testing.T) {
	r := Report{Peers: 2, Connected: 1, Nodes: []Fate{stayed("n001", 0), went("n002", 0)}, Seconds: 1.25, Promises: []Promise{
		{Promise: "this one", Kept: true, Detail: "fine"},
		{Promise: "that one", Detail: "n002"},
	}}
	for _, want := range []string{
		`(?m)^1 of 2 nodes are connected, 1 `,
		`(?m)^  kept +this one \(fine\)$`,
		`(?m)^  BROKEN +that one \(n002\)$`,
		`(?m)^Done in 1\.[23] s\.$`,
	} {
		if !regexp.MustCompile(want).MatchString(r.text()) {
			t.Errorf("the report does not match %s:\n%s", want, r.text())
		}
	}
	if strings.Contains(r.text(), "1 were") {
		t.Errorf("the report speaks of one as of many:\n%s", r.text())
	}
}
