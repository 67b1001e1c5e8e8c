//go:build unix

package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A node would wait for ever for whoever writes to a pipe, and not end when it is told to.
func TestAListThatIsAPipeIsRefused(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := RuleList{File: pipe, Origin: "drop"}.Read()
	if err == nil || !strings.Contains(err.Error(), pipe+" is not a file but p") {
		t.Errorf("a pipe gives %v, want it refused by its kind", err)
	}
}
