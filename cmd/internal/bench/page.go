package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// This file puts the report into its page. What people wrote around it stays.

const (
	blockBegin = "<!-- bench:begin -->"
	blockEnd   = "<!-- bench:end -->"
)

// replaceBlock returns the page with what stands between the two marks replaced.
func replaceBlock(page, block string) (string, error) {
	for _, mark := range []string{blockBegin, blockEnd} {
		if n := strings.Count(page, mark); n != 1 {
			return "", fmt.Errorf("the page has %q %d times, want it once", mark, n)
		}
	}
	before, rest, _ := strings.Cut(page, blockBegin)
	_, after, ok := strings.Cut(rest, blockEnd)
	if !ok {
		return "", fmt.Errorf("the page has %q before %q", blockEnd, blockBegin)
	}
	return before + blockBegin + "\n\n" + strings.TrimSpace(block) + "\n\n" + blockEnd + after, nil
}

// page is where a report goes.
type page struct {
	path string
	text string // as it was
}

// openPage reads the page, and fails if no report could be put into it: better before
// the measurements than after.
func openPage(path string) (page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return page{}, fmt.Errorf("bench: no page to write to (run this from the root of the repository, or see -out): %w", err)
	}
	if _, err := replaceBlock(string(text), ""); err != nil {
		return page{}, fmt.Errorf("bench: %s: %w", path, err)
	}
	return page{path: path, text: string(text)}, nil
}

// plotPath is where the plot goes: beside the page.
func (p page) plotPath() string {
	return strings.TrimSuffix(p.path, filepath.Ext(p.path)) + ".svg"
}

// write writes the page and the plot. The page is read again: somebody may have
// written on it meanwhile.
func (p page) write(report *report) error {
	text, err := os.ReadFile(p.path)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	replaced, err := replaceBlock(string(text), report.markdown(filepath.Base(p.plotPath())))
	if err != nil {
		return fmt.Errorf("bench: %s: %w", p.path, err)
	}
	var svg bytes.Buffer
	if err := report.plot(&svg); err != nil {
		return err
	}
	if err := os.WriteFile(p.plotPath(), svg.Bytes(), 0o644); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if err := os.WriteFile(p.path, []byte(replaced), 0o644); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
