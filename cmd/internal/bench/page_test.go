package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const somePage = "# Title\n\nBy hand, before.\n\n<!-- bench:begin -->\nold figures\n<!-- bench:end -->\n\nBy hand, after.\n"

func TestReportReplacesNothingButItsBlock(t *testing.T) {
	got, err := replaceBlock(somePage, "\nnew figures\n\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\nBy hand, before.\n\n<!-- bench:begin -->\n\nnew figures\n\n<!-- bench:end -->\n\nBy hand, after.\n"
	if got != want {
		t.Errorf("the page is now\n%s\nwant\n%s", got, want)
	}
	if again, err := replaceBlock(got, "new figures"); err != nil || again != got {
		t.Errorf("the same report once more changed the page (error %v):\n%s", err, again)
	}
}

func TestPageWithoutItsMarksIsAnError(t *testing.T) {
	for _, c := range []struct{ page, want string }{
		{"no marks", `"<!-- bench:begin -->" 0 times`},
		{"<!-- bench:begin -->", `"<!-- bench:end -->" 0 times`},
		{"<!-- bench:end --> <!-- bench:begin -->", `"<!-- bench:end -->" before`},
		{somePage + somePage, `"<!-- bench:begin -->" 2 times`},
	} {
		if _, err := replaceBlock(c.page, "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("for %q the error is %v, want one that says %s", c.page, err, c.want)
		}
	}
}

func TestPageIsLookedAtBeforeTheMeasurements(t *testing.T) {
	file, noPlot := filepath.Join(t.TempDir(), "page.md"), filepath.Join(t.TempDir(), "other.md")
	for path, text := range map[string]string{file: "no marks", noPlot: somePage} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Where the plot goes is a folder, to which nobody can write.
	if err := os.Mkdir(strings.TrimSuffix(noPlot, ".md")+".svg", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".missing", noPlot} {
		var out, progress strings.Builder
		if err := Run(t.Context(), Options{Page: path}, &out, &progress); err == nil || progress.Len() > 0 {
			t.Errorf("with %s the error is %v, after the progress %q; want an error at once", filepath.Base(path), err, progress.String())
		}
	}
}

// someReport is a report of made-up figures.
func someReport() *report {
	r := &report{command: "go run ./cmd/bench", when: time.Date(2030, 4, 5, 6, 0, 0, 0, time.UTC), took: time.Minute, machine: machine{
		processor: "Some Processor", cores: 4, inUse: 2, memory: 8 << 30, system: "plan9/amd64", goVersion: "go9.9", goLibp2p: "go-libp2p v9",
	}}
	for _, peers := range []int{1000, 10_000, 100_000} {
		for _, busy := range []bool{false, true} {
			c := trimCase{peers: peers, kind: spreadScores, busy: busy}
			row := newRow(c.key(), c.work())
			row.section = section{trimLayout, trimTitle}
			row.theirs, row.ours, row.floor = figure(peers)*4000, figure(peers)*100, figure(peers)*20
			row.overFloor = 5
			r.rows = append(r.rows, row)
		}
	}
	slow := newRow("tag/1000/1", "tag")
	slow.section, slow.theirs, slow.ours = section{callLayout, "Calls"}, 29, 10
	left := newRow("accept/outside/7/1", "7 prefixes")
	left.section, left.goroutines, left.ours = section{checkLayout, "Checks"}, 1, 50
	r.rows = append(r.rows, slow, left)
	return r
}

func TestPageGetsReportAndPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(somePage), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPage(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.write(someReport()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spaced := strings.Join(strings.Fields(string(text)), " ") // columns are as wide as they are
	for _, want := range []string{
		"By hand, before.", "By hand, after.",
		"2030-04-05", "`go run ./cmd/bench`", "Some Processor", "4 cores, GOMAXPROCS 2", "8 GiB", "plan9/amd64", "go9.9", "go-libp2p v9",
		"| 100,000 peers, spread scores | ", " 400 ms | 10.0 ms | 40.0 × |", "| 5.00 × ", // and the floor
		"| trim of 100,000 peers, spread scores | at least 40 × | 40.0 × | yes |",
		"| trim of 100,000 peers, over copying and sorting scores | at most 5 × | 5.00 × | yes |",
		"| trim of 1,000,000 peers, spread scores | at least 50 × | not run | not run |",
		"- tag one of 1,000 peers: `go run ./cmd/bench -profile tag-1k`",
		"| 7 prefixes | 1 | not run | – | 50 ns | – | – |",
		"](page.svg)",
	} {
		if !strings.Contains(spaced, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if _, err := os.Stat(strings.TrimSuffix(file, ".md") + ".svg"); err != nil {
		t.Errorf("the plot is not beside the page: %v", err)
	}
	if strings.Contains(someReport().text(), "](") {
		t.Error("the report for the terminal has a picture in it")
	}
}

func TestFiguresAreWrittenForPeople(t *testing.T) {
	for _, c := range []struct {
		unit unit
		in   figure
		want string
	}{
		{nanoseconds, 8.25, "8.2 ns"},
		{nanoseconds, 80.4, "80 ns"},
		{nanoseconds, 1234, "1.23 µs"},
		{nanoseconds, 29.04e6, "29.0 ms"},
		{nanoseconds, 11.62e9, "11.6 s"},
		{bytesOfMemory, 199.4, "199 B"},
		{nanoseconds, notRun, "not run"},
	} {
		if got := c.unit.write(c.in); got != c.want {
			t.Errorf("%v is written %q, want %q", c.in, got, c.want)
		}
	}
	for in, want := range map[figure]string{0.5: "0.50 ×", 3.14159: "3.14 ×", 42.42: "42.4 ×", 123.4: "123 ×", 12345: "12,300 ×", 1098138: "1,100,000 ×", 999.7: "1,000 ×"} {
		if got := times(in); got != want {
			t.Errorf("the ratio %v is written %q, want %q", in, got, want)
		}
	}
	for in, want := range map[figure]string{0: "0", 0.004: "0", 1.001: "1", 1.04: "1.04", 12: "12"} {
		if got := perCallAllocs(in); got != want {
			t.Errorf("%v allocations are written %q, want %q", in, got, want)
		}
	}
	if got := times(notRun / 3); got != "–" {
		t.Errorf("the ratio of what is not run is written %q", got)
	}
	for in, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := thousands(in); got != want {
			t.Errorf("%d is written %q, want %q", in, got, want)
		}
	}
}
