//go:build linux

package connmgrbolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
)

// This file fills the disk, for child processes only.

// bigRules is rules that take some hundred kilobytes.
func bigRules() (rules []connmgr.Rule) {
	for i := range 500 {
		r := peerRule(i)
		r.Reason = strings.Repeat("r", 1000)
		rules = append(rules, r)
	}
	return rules
}

// limitFiles makes files of more than some bytes impossible to write to for this
// process. That is what a user without rights can do of a full disk.
func limitFiles(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

const noLimit = ^uint64(0)

// isFull reports whether an error names a file and says that it cannot grow. bbolt does
// not always wrap what the system says.
func isFull(err error, path string) bool {
	return err != nil && strings.HasPrefix(err.Error(), "connmgrbolt: "+path+": ") && strings.Contains(err.Error(), syscall.EFBIG.Error())
}

// fillDisk has a file with peerRule(-1) that cannot grow beyond a number of bytes.
func fillDisk(path string, number int) error {
	s, err := connmgrbolt.Open(path)
	if err != nil {
		return err
	}
	if err := limitFiles(uint64(number)); err != nil {
		return err
	}
	for range 3 {
		err := s.Save(context.Background(), puts(bigRules()...))
		if !isFull(err, path) {
			return fmt.Errorf("the disk is full, but Save: %w", err)
		}
		rules, err := s.Load(context.Background())
		if err != nil {
			return err
		}
		if d := setOf(rules...).difference(setOf(peerRule(-1))); d != "" {
			return fmt.Errorf("after a Save that failed: %s", d)
		}
	}
	fmt.Println("full")
	if err := limitFiles(noLimit); err != nil {
		return err
	}
	if err := s.Save(context.Background(), puts(bigRules()...)); err != nil {
		return fmt.Errorf("there is room again: %w", err)
	}
	return s.Close()
}

func TestAFullDiskLeavesTheRulesAsTheyWereUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	// The file cannot grow.
	small := makeFile(t, peerRule(-1))
	// The file has grown before, but its pages cannot be written: so it is on a disk
	// where others have taken the room.
	large := newPath(t)
	s := mustOpen(t, large)
	mustSave(t, s, puts(bigRules()...))
	mustSave(t, s, append(removes(bigRules()...), puts(peerRule(-1))...))
	mustClose(t, s)

	for what, path := range map[string]string{"small": small, "large": large} {
		t.Run(what, func(t *testing.T) {
			if out := runChild(t, "full disk", path, 64<<10); out != "full\n" {
				t.Errorf("the child said %q, want that the disk was full", out)
			}
			wantInFile(t, path, append(bigRules(), peerRule(-1))...)
		})
	}
}

// fillTmpfs does it with a small disk of its own.
func fillTmpfs(path string, number int) error {
	folder := filepath.Dir(path)
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprint("size=", number)); err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	s, err := connmgrbolt.Open(path)
	if err != nil {
		return err
	}
	if err := s.Save(context.Background(), puts(peerRule(-1))); err != nil {
		return err
	}
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, make([]byte, number), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	for range 3 {
		if err := s.Save(context.Background(), puts(bigRules()...)); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("the disk is full, but Save: %w", err)
		}
		rules, err := s.Load(context.Background())
		if err != nil {
			return err
		}
		if d := setOf(rules...).difference(setOf(peerRule(-1))); d != "" {
			return fmt.Errorf("after a Save that failed: %s", d)
		}
	}
	// What was refused must not be there after a restart either.
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = connmgrbolt.Open(path); err != nil {
		return err
	}
	if rules, err := s.Load(context.Background()); err != nil || len(rules) != 1 {
		return fmt.Errorf("after a restart there are %d rules, want 1: %w", len(rules), err)
	}
	if err := os.Remove(other); err != nil {
		return err
	}
	if err := s.Save(context.Background(), puts(bigRules()...)); err != nil {
		return fmt.Errorf("there is room again: %w", err)
	}
	rules, err := s.Load(context.Background())
	fmt.Println("rules:", len(rules))
	return errors.Join(err, s.Close())
}

func TestADiskThatIsReallyFullIsAsHarmless(t *testing.T) {
	t.Parallel()
	cmd := child(t, "full tmpfs", newPath(t), 4<<20)
	cmd.SysProcAttr = &syscall.SysProcAttr{ // where anybody may mount
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	switch exit := new(exec.ExitError); {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no disk of its own for the child: %v", err)
	case strings.HasPrefix(string(out), "skip: "):
		t.Skipf("no disk of its own for the child: %s", out)
	case err != nil || string(out) != "rules: 501\n":
		t.Errorf("the child ended with %v and said %q: %s", err, out, cmd.Stderr)
	}
}

func makeFileOnFullDisk(path string, number int) error {
	if err := limitFiles(uint64(number)); err != nil {
		return err
	}
	_, err := connmgrbolt.Open(path)
	if !isFull(err, path) {
		return fmt.Errorf("the disk is full, but Open: %w", err)
	}
	if err := limitFiles(noLimit); err != nil {
		return err
	}
	s, err := connmgrbolt.Open(path)
	if err != nil {
		return fmt.Errorf("there is room again: %w", err)
	}
	return s.Close()
}

func TestAFileThatCouldNotBeMadeIsMadeWhenThereIsRoom(t *testing.T) {
	for _, room := range []int{0, 5000, 8192, 20_000} {
		path := newPath(t)
		runChild(t, "new file, full", path, room)
		wantInFile(t, path)
	}
}
