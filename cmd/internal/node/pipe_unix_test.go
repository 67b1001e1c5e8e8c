//go:build unix

package node

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A node would wait for ever for whoever writes to a pipe, and not end when it is told to.
func TestAnIdentityThatIsAPipeIsRefused(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(pipe); err == nil || !strings.Contains(err.Error(), pipe+" is not a file but p") {
		t.Errorf("a pipe gives %v, want it refused by its kind", err)
	}
}
