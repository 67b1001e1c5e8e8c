//go:build linux

package connmgrbolt_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrbolt"
)

// This file runs what needs a process of its own in one that is this test binary again:
// what kills it, locks files, changes its limits, or gives up its rights.

// Variables that tell a child process what to do, and with which file.
const (
	childVariable = "CONNMGR_TEST_SCENARIO"
	childPath     = "CONNMGR_TEST_PATH"
	childNumber   = "CONNMGR_TEST_NUMBER"
)

// scenarios is what a child can be asked to do. An error ends it with a failure.
var scenarios = map[string]func(path string, number int) error{
	"save one by one": saveOneByOne,
	"hold":            holdForWriting,
	"hold, looking":   holdForLooking,
	"full disk":       fillDisk,
	"new file, full":  makeFileOnFullDisk,
	"full tmpfs":      fillTmpfs,
	"other user":      openAsOtherUser,
}

func TestMain(m *testing.M) {
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	number, err := strconv.Atoi(os.Getenv(childNumber))
	if err == nil {
		err = scenarios[name](os.Getenv(childPath), number)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns a process that will run a scenario. It does not outlive the test.
func child(t *testing.T, scenario, path string, number int) *exec.Cmd {
	t.Helper()
	if scenarios[scenario] == nil {
		t.Fatalf("there is no scenario %q", scenario)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"="+scenario, childPath+"="+path, childNumber+"="+strconv.Itoa(number),
		"GORACE=atexit_sleep_ms=0") // else the race detector makes each wait a second
	cmd.Stderr = new(bytes.Buffer)
	return cmd
}

// runChild runs a scenario to its end, and fails the test if the child does.
func runChild(t *testing.T, scenario, path string, number int) (output string) {
	t.Helper()
	cmd := child(t, scenario, path, number)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the child process ended with %v:\n%s%s", err, out, cmd.Stderr)
	}
	return string(out)
}

func saveOneByOne(path string, number int) error {
	s, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(5*time.Second))
	if err != nil {
		return err
	}
	for ; ; number++ {
		if err := s.Save(context.Background(), puts(peerRule(number))); err != nil {
			return err
		}
		fmt.Println(number) // acknowledged
	}
}

func TestAcknowledgedRulesSurviveKill9(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	next := 0 // the first rule that was not acknowledged
	for round := range 8 {
		cmd := child(t, "save one by one", path, next)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, killAfter := bufio.NewScanner(out), 1+rand.IntN(40)
		if round == 0 {
			killAfter = 0 // while the file is being made
		}
		kill := func() { _ = cmd.Process.Kill() } // that is SIGKILL
		if killAfter == 0 {
			kill()
		}
		for seen := 1; lines.Scan(); seen++ {
			if lines.Text() != strconv.Itoa(next) {
				t.Fatalf("the child acknowledged %q, want %d", lines.Text(), next)
			}
			next++
			if seen == killAfter {
				// Somewhere in a later save, not always at the same place.
				time.AfterFunc(rand.N(3*time.Millisecond), kill)
			}
		}
		err = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("the child ended with %v, want to have killed it:\n%s", err, cmd.Stderr)
		}

		s, err := connmgrbolt.Open(path)
		if err != nil {
			t.Fatalf("round %d, after %d rules: %v", round, next, err)
		}
		loaded := mustLoad(t, s)
		for i := range next {
			if _, ok := loaded[nameOf(peerRule(i))]; !ok {
				t.Errorf("round %d: rule %d was acknowledged, and is not there", round, i)
			}
			delete(loaded, nameOf(peerRule(i)))
		}
		if _, ok := loaded[nameOf(peerRule(next))]; ok { // saved, but it could not say so any more
			delete(loaded, nameOf(peerRule(next)))
			next++
		}
		if len(loaded) > 0 {
			t.Errorf("round %d: there are rules that nobody has saved: %v", round, loaded)
		}
		mustClose(t, s)
	}
	if next < 8 {
		t.Errorf("only %d rules were saved, so nothing was tried", next)
	}
}

func holdForWriting(path string, _ int) error { return hold(path) }

func holdForLooking(path string, _ int) error { return hold(path, connmgrbolt.ReadOnly()) }

// hold has a file open until its input ends.
func hold(path string, opts ...connmgrbolt.Option) error {
	s, err := connmgrbolt.Open(path, opts...)
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// startHolder starts a child that has a file open until release is called.
func startHolder(t *testing.T, scenario, path string) (release func()) {
	t.Helper()
	cmd := child(t, scenario, path, 0)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("the child said %q, %v: %s", line, err, cmd.Stderr)
	}
	return func() {
		t.Helper()
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child ended with %v: %s", err, cmd.Stderr)
		}
	}
}

func TestAFileThatAnotherProcessHasOpenIsLocked(t *testing.T) {
	t.Parallel()
	path := makeFile(t, peerRule(1))
	release := startHolder(t, "hold", path)
	for _, opts := range [][]connmgrbolt.Option{
		{connmgrbolt.WithLockTimeout(70 * time.Millisecond)},
		{connmgrbolt.WithLockTimeout(70 * time.Millisecond), connmgrbolt.ReadOnly()},
	} {
		start := time.Now()
		_, err := connmgrbolt.Open(path, opts...)
		wantError(t, err, path, connmgrbolt.ErrLocked)
		if waited := time.Since(start); waited < 70*time.Millisecond {
			t.Errorf("Open waited %v, want at least 70ms", waited)
		}
		if !strings.Contains(fmt.Sprint(err), "70ms") {
			t.Errorf("the error is %v, want one that says how long it waited", err)
		}
	}

	// Who waits long enough gets it.
	opened := make(chan error)
	go func() {
		s, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(time.Minute))
		if err == nil {
			err = errors.Join(s.Save(context.Background(), puts(peerRule(2))), s.Close())
		}
		opened <- err
	}()
	release()
	if err := <-opened; err != nil {
		t.Errorf("after the other process has ended: %v", err)
	}
	wantInFile(t, path, peerRule(1), peerRule(2))
}

func TestManyProcessesCanLookAtAFile(t *testing.T) {
	path := makeFile(t, peerRule(1))
	release := startHolder(t, "hold, looking", path)
	wantInFile(t, path, peerRule(1))
	_, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(0))
	wantError(t, err, path, connmgrbolt.ErrLocked)
	release()
	mustOpen(t, path, connmgrbolt.WithLockTimeout(0))
}

// otherUser is the number of a user who has nothing: nobody, on most systems.
const otherUser = 65534

// openAsOtherUser opens a file that it may only read; root may write any file, and
// becomes somebody else for it.
func openAsOtherUser(path string, _ int) error {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(otherUser); err != nil {
			fmt.Println("skip:", err)
			return nil
		}
	}
	if _, err := os.ReadFile(path); err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	s, err := connmgrbolt.Open(path, connmgrbolt.ReadOnly())
	if err != nil {
		return err
	}
	rules, err := s.Load(context.Background())
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	_, err = connmgrbolt.Open(path)
	if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "connmgrbolt: "+path+": ") {
		return fmt.Errorf("Open of a file that must not be written: %w", err)
	}
	_, err = connmgrbolt.Open(filepath.Join(filepath.Dir(path), "new.db"))
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("Open in a folder that must not be written: %w", err)
	}
	fmt.Println("rules:", len(rules))
	return nil
}

func TestAFileThatMustNotBeWrittenCanOnlyBeLookedAt(t *testing.T) {
	path := makeFile(t, peerRule(1))
	before := mustRead(t, path)
	folder := filepath.Dir(path)
	for name, mode := range map[string]fs.FileMode{path: 0o444, folder: 0o555, filepath.Dir(folder): 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(folder, 0o755) }) // else it cannot be removed
	switch out := runChild(t, "other user", path, 0); {
	case strings.HasPrefix(out, "skip: "):
		t.Skipf("no user can be tried who may read but not write: %s", out)
	case out != "rules: 1\n":
		t.Errorf("the child said %q, want one rule", out)
	}
	if !bytes.Equal(before, mustRead(t, path)) {
		t.Error("the file was changed")
	}
}
