package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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
type page struct{ path string }

// openPage reads the page, and fails if no report could be put into it, or no plot beside
// it: better before the measurements than after.
func openPage(path string) (page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return page{}, fmt.Errorf("bench: no page to write to (run this from the root of the repository, or see -out): %w", err)
	}
	if _, err := replaceBlock(string(text), ""); err != nil {
		return page{}, fmt.Errorf("bench: %s: %w", path, err)
	}
	p := page{path: path}
	for _, file := range []string{path, p.plotPath()} {
		if err := writable(file); err != nil {
			return page{}, fmt.Errorf("bench: no report can be written: %w", err)
		}
	}
	return p, nil
}

// writable returns an error if a file that exists cannot be written to.
func writable(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
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
