package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/command"
)

// This file sends signals to real processes of "connmgr run", as a service manager does.

// runPatience is how long a node may take for anything, on a machine that has other
// things to do.
const runPatience = 30 * time.Second

// process is a node in a process of its own.
type process struct {
	*exec.Cmd
	t    *testing.T
	dir  string
	log  syncBuffer
	done chan error
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startRun starts a node in a folder, with its configuration in connmgr.toml there, and
// waits until it serves.
func startRun(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), "connmgr", "run", "--config", "connmgr.toml"), t: t, dir: dir, done: make(chan error, 1)}
	p.Dir, p.Stderr = dir, &p.log
	p.Env = append(os.Environ(), env...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	p.logs(`msg="API and page"`)
	return p
}

// logs waits for a line that has a text.
func (p *process) logs(text string) {
	p.t.Helper()
	deadline := time.NewTimer(runPatience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.log.String(), text) {
		select {
		case <-tick.C:
		case err := <-p.done:
			p.done <- err
			if strings.Contains(p.log.String(), text) {
				return
			}
			p.t.Fatalf("the node ended with %v before it logged %q:\n%s", err, text, p.log.String())
		case <-deadline.C:
			p.t.Fatalf("after %v the node has not logged %q:\n%s", runPatience, text, p.log.String())
		}
	}
}

// signalled sends a signal.
func (p *process) signalled(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end and returns the exit status.
func (p *process) ends() int {
	p.t.Helper()
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
		return p.ProcessState.ExitCode()
	case <-time.After(runPatience):
		p.t.Fatalf("after %v the node has not ended:\n%s", runPatience, p.log.String())
		return 0
	}
}

// configure writes the configuration of a node on loopback.
func configure(t *testing.T, dir, more string) {
	t.Helper()
	text := `listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
api.listen = ["127.0.0.1:0"]
` + more
	if err := os.WriteFile(filepath.Join(dir, "connmgr.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// page returns the URL that the node logged.
func (p *process) page() string {
	p.t.Helper()
	found := regexp.MustCompile(`url=(http://\S+/)`).FindStringSubmatch(p.log.String())
	if found == nil {
		p.t.Fatalf("the node logged no URL:\n%s", p.log.String())
	}
	return found[1]
}

func (p *process) limits() string {
	p.t.Helper()
	resp, err := http.Get(p.page() + "v1/limits")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return text.String()
}

func TestHangupReloadsTheConfigurationOfARunningNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "list.txt")
	lists := "[[rules.lists]]\norigin = \"list\"\nfile = \"list.txt\"\n"
	writeRules := func(text string) {
		t.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeRules("192.0.2.0/24\n")
	configure(t, dir, "watermarks.low = 11\nwatermarks.high = 22\n"+lists)
	p := startRun(t, dir)
	if limits := p.limits(); !strings.Contains(limits, `"low_water":11`) {
		t.Errorf("limits are %s, want low water 11", limits)
	}

	// What is changed holds, the log's level too.
	writeRules("192.0.2.0/24\n198.51.100.0/24\n")
	configure(t, dir, "watermarks.low = 12\nwatermarks.high = 23\nwatermarks.grace = \"1m\"\nlog.level = \"debug\"\n"+lists)
	p.signalled(syscall.SIGHUP)
	p.logs(`msg="configuration reloaded"`)
	p.logs(`msg="changed, but takes a restart" field=watermarks.grace`)
	p.logs("msg=\"rules loaded\" origin=list file=list.txt added=1 changed=0 removed=0 kept=1")
	if limits := p.limits(); !strings.Contains(limits, `"low_water":12`) || !strings.Contains(limits, `"high_water":23`) {
		t.Errorf("limits are %s after SIGHUP, want low water 12 and high water 23", limits)
	}

	// A file with mistakes changes nothing, and each of them is named.
	configure(t, dir, "watermarks.low = 50\nwatermarks.high = 40\nrelya = true\n"+lists)
	p.signalled(syscall.SIGHUP)
	p.logs(`configuration not reloaded`)
	p.logs(`connmgr.toml:3:18: watermarks.low is 50, must not be above watermarks.high, which is 40`)
	p.logs(`connmgr.toml:5:1: unknown key relya; did you mean relay?`)
	if limits := p.limits(); !strings.Contains(limits, `"low_water":12`) {
		t.Errorf("limits are %s after SIGHUP with a mistake in the file, want low water 12 as before", limits)
	}

	// A broken list keeps the rules, and says where it is broken.
	configure(t, dir, "watermarks.low = 13\n"+lists)
	writeRules("192.0.2.0/24\nnonsense\n")
	p.signalled(syscall.SIGHUP)
	p.logs(`list.txt:2: `)
	p.logs(`but for what is said above`)
	if limits := p.limits(); !strings.Contains(limits, `"low_water":13`) {
		t.Errorf("limits are %s after SIGHUP with a broken list, want low water 13: the list is not theirs", limits)
	}

	p.signalled(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("the exit status is %d, want 0:\n%s", status, p.log.String())
	}
	p.logs("msg=drained")
	out, err := exec.CommandContext(t.Context(), "connmgr", "rules", "export", "--db", filepath.Join(dir, "rules.db")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "198.51.100.0/24") {
		t.Errorf("the file of rules has %q (%v), want the rules from before the list was broken", out, err)
	}
}

func TestInterruptDrainsANode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	configure(t, dir, "")
	p := startRun(t, dir)
	p.signalled(os.Interrupt)
	if status := p.ends(); status != 0 || !strings.Contains(p.log.String(), "msg=drained") || strings.Contains(p.log.String(), "interrupted") {
		t.Errorf("the exit status is %d, want 0 and a word on the drain:\n%s", status, p.log.String())
	}
}

func TestADrainThatExceedsItsDeadlineFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as a signal does
	var stderr bytes.Buffer
	status := conclude(ctx, ended(errors.New("connmgr: drain timeout of 200ms exceeded while closing: API")), &stderr, nil)
	if want := "connmgr: the node did not end in order: connmgr: drain timeout of 200ms exceeded while closing: API\n"; status != 1 || stderr.String() != want {
		t.Errorf("exit status %d and %q, want 1 and %q, no word on an interrupt", status, stderr.String(), want)
	}
}

// neverEnding is a command that does not end when it is asked to.
func neverEnding() {
	command.Main(func(ctx context.Context, _ []string, _, stderr io.Writer) int {
		fmt.Fprintln(stderr, "started")
		<-ctx.Done()
		fmt.Fprintln(stderr, "draining")
		select {}
	})
}

func TestASecondSignalEndsADrainAtOnce(t *testing.T) {
	t.Parallel()
	p := &process{Cmd: exec.CommandContext(t.Context(), "never-ending"), t: t, done: make(chan error, 1)}
	p.Stderr = &p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	p.logs("started")
	p.signalled(syscall.SIGTERM)
	p.logs("draining")
	p.signalled(syscall.SIGTERM)
	_ = p.ends()
	if state := p.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() {
		t.Errorf("the command ended with %v, want it to be ended by the signal:\n%s", p.ProcessState, p.log.String())
	}
}

func TestTheServiceManagerHearsOfStartReloadAndEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("this system has no such sockets: %v", err)
	}
	defer l.Close()
	hears := func(want string) {
		t.Helper()
		buf := make([]byte, 1000)
		if err := l.SetReadDeadline(time.Now().Add(runPatience)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buf)
		if err != nil || !regexp.MustCompile(want).Match(buf[:n]) {
			t.Errorf("the service manager hears %q (%v), want %s", buf[:n], err, want)
		}
	}
	dir := t.TempDir()
	configure(t, dir, "")
	p := startRun(t, dir, "NOTIFY_SOCKET="+path)
	hears("^READY=1\nSTATUS=low water 100, ")
	p.signalled(syscall.SIGHUP)
	hears(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`)
	hears("^READY=1$")
	p.signalled(syscall.SIGTERM)
	hears("^STOPPING=1$")
	if status := p.ends(); status != 0 {
		t.Errorf("the exit status is %d, want 0", status)
	}
}

func TestANodeAskedToEndWhileItStartsEndsInOrder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	configure(t, dir, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if status := run(ctx, []string{"run", "--config", "connmgr.toml"}, &stdout, &stderr); status != 0 {
		t.Errorf("the exit status is %d, want 0; stderr is\n%s", status, stderr.String())
	}
}
