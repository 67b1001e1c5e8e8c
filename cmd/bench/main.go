// Command bench measures connmgr beside go-libp2p's own connection manager and gater,
// in one process, and writes docs/performance.md. Run it from the root of the
// repository:
//
//	go run ./cmd/bench
//
// Exit status: 0 when all went well, 1 when something failed (with -check: when a bound
// is missed), 2 when the command line is wrong, 130 when interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/bench"
	"github.com/dep2p/connmgr/cmd/internal/command"
)

func main() { command.Main(run) }

const usage = `Measure connmgr beside go-libp2p's BasicConnMgr and BasicConnectionGater.

Usage, from the root of the repository:

  go run ./cmd/bench            everything, in about ten minutes; writes the page
  go run ./cmd/bench -quick     the same with fewer rounds, within two minutes
  go run ./cmd/bench -check     only what has a bound, in about a minute; writes nothing,
                                and fails if something is more than a third worse than
                                its bound, or than what was reached if that is less
  go run ./cmd/bench -profile NAME
                                a CPU profile of one kind of work; "list" lists them

Flags:
`

// options is a command line.
type options struct {
	quick, check bool
	out          string
	outSet       bool
	profile      string
	seconds      float64
}

// parse reads a command line. Of an error it has told the user.
func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.quick, "quick", false, "take fewer rounds, and leave out what takes longest")
	flags.BoolVar(&o.check, "check", false, "measure what has a bound, and fail if something is much worse than it should be")
	flags.StringVar(&o.out, "out", "docs/performance.md", "write the report into this `page`, and the plot beside it; \"\" or - only prints.\nWith -profile: write the profile to this file, NAME.pprof if not given")
	flags.StringVar(&o.profile, "profile", "", "profile the kind of work of this `name`")
	flags.Float64Var(&o.seconds, "seconds", 10, "how long to profile")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	set := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.outSet = set["out"]
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.quick && o.check:
		err = errors.New("-quick and -check are two different runs")
	case set["profile"] && (o.quick || o.check):
		err = errors.New("-profile is a run of its own, without -quick and -check")
	case set["profile"] && o.profile != "list" && !bench.HasProfile(o.profile):
		err = fmt.Errorf("there is nothing called %q to profile; -profile list says what there is", o.profile)
	case set["seconds"] && !set["profile"]:
		err = errors.New("-seconds belongs to -profile")
	case !(o.seconds > 0 && o.seconds <= 3600):
		err = fmt.Errorf("-seconds is %v, want more than 0 and at most 3600", o.seconds)
	case o.check && o.outSet:
		err = errors.New("-check writes no file, so that -out has no meaning")
	case set["profile"] && o.outSet && (o.out == "" || o.out == "-"):
		err = errors.New("-out names no file for the profile")
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v (see 'bench -h')\n", err)
	}
	return o, err
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return command.OK
	case err != nil:
		return command.Usage
	}
	out, progress := &writer{to: stdout}, &writer{to: stderr}
	done := make(chan error, 1)
	go func() { done <- o.do(ctx, out, progress) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// Most measurements end soon. A trim of a million peers does not, and what it
		// leaves behind ends with the process.
		select {
		case err = <-done:
		case <-time.After(time.Second):
			err = ctx.Err()
		}
	}
	out.shut()
	progress.shut()
	var failed *bench.BoundsError
	switch {
	case err == nil:
		return command.OK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted")
		return command.Interrupted
	case errors.As(err, &failed):
		for _, f := range failed.Failed {
			fmt.Fprintf(stderr, "bench: failed: %s\n", f)
		}
	default:
		fmt.Fprintf(stderr, "bench: %s\n", strings.TrimPrefix(err.Error(), "bench: "))
	}
	return command.Failed
}

// writer passes everything on until it is shut. What is measured after an interrupt has
// nobody to tell.
type writer struct {
	mu sync.Mutex // guards to
	to io.Writer  // nil once it is shut
}

func (w *writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == nil {
		return len(b), nil
	}
	return w.to.Write(b)
}

func (w *writer) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = nil
}

func (o options) do(ctx context.Context, stdout, stderr io.Writer) error {
	switch {
	case o.profile == "list":
		return bench.ListProfiles(stdout)
	case o.profile != "":
		file := o.profile + ".pprof"
		if o.outSet {
			file = o.out
		}
		return bench.Profile(ctx, o.profile, time.Duration(o.seconds*float64(time.Second)), file, stdout, stderr)
	case o.check:
		return bench.Check(ctx, stdout, stderr)
	}
	page := o.out
	if page == "-" {
		page = ""
	}
	return bench.Run(ctx, bench.Options{Quick: o.quick, Page: page, Command: o.commandLine()}, stdout, stderr)
}

// commandLine is what the report says it was made by, without paths.
func (o options) commandLine() string {
	if o.quick {
		return "go run ./cmd/bench -quick"
	}
	return "go run ./cmd/bench"
}
