package apiload

import (
	"bytes"
	"flag"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file is the load test itself: a short one with all the other tests, and a long one
// for who asks for it.

var loadFor = flag.Duration("apiload.for", 0, "how long TestLoad puts load on the API; 0 is a few seconds")

func TestLoad(t *testing.T) {
	cfg := Config{
		For: 8 * time.Second, Calm: 3 * time.Second,
		Rate: 1000, Clients: 64, Streams: 100, Silent: 10,
		Nodes: 340, Low: 220, High: 280, Hard: 300,
		Stay: 6 * time.Second, Away: time.Second,
		Seed: 1,
	}
	switch {
	case *loadFor > 0:
		cfg.For, cfg.Calm = *loadFor, 10*time.Second
		cfg.HeapEvery = max(2*time.Second, *loadFor/60)
	case testing.Short() || underRaceDetector(): // each request takes ten times as long
		cfg.For, cfg.Rate, cfg.Streams = 5*time.Second, 200, 40
		cfg.Nodes, cfg.Low, cfg.High, cfg.Hard = 100, 60, 75, 85
	}
	started := time.Now()
	cfg.Log = func(format string, args ...any) {
		t.Logf("%5.1f s: "+format, append([]any{time.Since(started).Seconds()}, args...)...)
	}
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%v", report)
	for _, p := range report.Problems() {
		t.Error(p)
	}

	// Now that all is closed, nothing of ours runs any more.
	if err := until(t.Context(), func() bool { return len(ours()) == 0 }); err != nil {
		t.Errorf("goroutines are left after everything has been closed:\n%s", strings.Join(ours(), "\n\n"))
	}
}

// ours returns the stacks of goroutines that run code of the core or of the API.
func ours() (stacks []string) {
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, "github.com/dep2p/connmgr.") || strings.Contains(stack, "github.com/dep2p/connmgr/connmgr") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

func underRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
