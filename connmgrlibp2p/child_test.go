package connmgrlibp2p_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// This file runs what takes go-libp2p's manager down: in a child process, which is
// this test binary again.

// childVariable names the scenario that a child process is to run.
const childVariable = "CONNMGR_TEST_SCENARIO"

// A child whose scenario has not ended by then is taken to hang.
const childPatience = time.Second

const (
	exitSurvived = 10
	exitHangs    = 11
)

// scenarios is what a child can be asked to do to go-libp2p's manager.
var scenarios = map[string]func(){
	"TagPeer of the empty ID": func() {
		mustBasic().TagPeer("", "tag", 1)
	},
	"Bump of the empty ID": func() {
		cm := mustBasic()
		_ = mustBasicTag(cm, libp2p.BumpSumUnbounded()).Bump("", 1)
		<-time.After(childPatience / 2) // it dies in the background
	},
	"callback of UpsertTag": func() {
		cm := mustBasic()
		cm.UpsertTag("peer", "tag", func(v int) int {
			cm.GetTagInfo("peer")
			return v + 1
		})
	},
	"bump function that calls back": func() {
		cm := mustBasic()
		tag := mustBasicTag(cm, func(v libp2p.DecayingValue, delta int) int {
			cm.GetTagInfo(v.Peer)
			return v.Value + delta
		})
		_ = tag.Bump("peer", 1)
		for cm.GetTagInfo("peer") == nil { // the bump hangs with the lock held
			<-time.After(time.Millisecond)
		}
	},
	"concurrent Close": func() {
		for range 10_000 {
			cm := mustBasic()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() { _ = cm.Close() })
			}
			all.Wait()
		}
	},
	"empty DecayerCfg": func() {
		mustBasic(basic.DecayerConfig(&basic.DecayerCfg{}))
		<-time.After(childPatience / 2) // it dies in the background
	},
}

func mustBasic(opts ...basic.Option) *basic.BasicConnMgr {
	cm, err := basic.NewConnManager(10, 20, opts...)
	if err != nil {
		panic(err)
	}
	return cm
}

func mustBasicTag(cm *basic.BasicConnMgr, bump libp2p.BumpFn) libp2p.DecayingTag {
	tag, err := cm.RegisterDecayingTag("tag", time.Minute, libp2p.DecayNone(), bump)
	if err != nil {
		panic(err)
	}
	return tag
}

func TestMain(m *testing.M) {
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	ended := make(chan struct{})
	go func() {
		scenarios[name]()
		close(ended) // not deferred: a panic must end the process
	}()
	limit := childPatience
	if name == "concurrent Close" { // needs many tries
		limit = patience
	}
	select {
	case <-ended:
		os.Exit(exitSurvived)
	case <-time.After(limit):
		os.Exit(exitHangs)
	}
}

// crashes fails the test unless the scenario ends go-libp2p's process with a panic
// that contains a text.
func crashes(t *testing.T, scenario, text string) {
	t.Helper()
	code, output := runChild(t, scenario)
	if code == exitSurvived || code == exitHangs || !strings.Contains(output, "panic: ") || !strings.Contains(output, text) {
		t.Errorf("%s: %s, was a panic with %q:\n%s", scenario, exitText(code), text, output)
	}
}

// hangs fails the test unless the scenario makes go-libp2p's manager hang.
func hangs(t *testing.T, scenario string) {
	t.Helper()
	if code, output := runChild(t, scenario); code != exitHangs {
		t.Errorf("%s: %s, was a deadlock:\n%s", scenario, exitText(code), output)
	}
}

func exitText(code int) string {
	switch code {
	case exitSurvived:
		return "the process survived"
	case exitHangs:
		return "the call did not return"
	default:
		return fmt.Sprintf("the process ended with code %d", code)
	}
}

// runChild runs a scenario in a process of its own.
func runChild(t *testing.T, scenario string) (code int, output string) {
	t.Helper()
	if scenarios[scenario] == nil {
		t.Fatalf("there is no scenario %q", scenario)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childVariable+"="+scenario)
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	err = child.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the child process ended with %v, want an exit code: %s", err, out.String())
	}
	return exit.ExitCode(), out.String()
}
