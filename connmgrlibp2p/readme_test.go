package connmgrlibp2p_test

import (
	"os"
	"strings"
	"testing"
)

// The README's sample is the body of Example, line by line.
func TestTheCodeInTheReadmeIsTheExample(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if os.IsNotExist(err) {
		t.Skip("the README belongs to the repository, and this module stands alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	sample, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README.md has no block of Go code")
	}
	example, err := os.ReadFile("readme_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(sample) {
		if !strings.Contains(string(example), "\t"+line) && strings.TrimSpace(line) != "" {
			t.Errorf("README.md has a line that the example has not: %q", line)
		}
	}
	if n := strings.Count(strings.TrimSpace(sample), "\n") + 1; n > 15 {
		t.Errorf("the sample has %d lines, should have at most 15", n)
	}
}
