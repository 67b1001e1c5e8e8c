package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/dep2p/connmgr/cmd/internal/node"
	"github.com/spf13/cobra"
)

// This file is "connmgr run": a node for as long as it is wanted, and the signals that it
// obeys.

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a libp2p node with connmgr, until it is told to end",
		Long: `Runs a libp2p node (TCP and QUIC) whose connections connmgr manages, with an API and a
web page to watch and change it.

What can be set is in the sample file, "connmgr config example". It is set by a file of
configuration, by the environment, or by flags; the later of these is stronger. "connmgr
config check" finds mistakes in all of them.

SIGHUP makes it read the file of configuration and the lists of rules again, and apply
what a running node can change. A file with a mistake changes nothing. SIGTERM and SIGINT
drain it: nobody is let in, connections are closed, rules are on the disk; a second one
ends it at once.

Exit status: 0 after an orderly end, 1 if it could not start or did not end in order.`,
		Example: `  connmgr run
  connmgr run --config /etc/connmgr/connmgr.toml
  connmgr run --low-water 50 --high-water 100 --connect /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…
  CONNMGR_API_LISTEN=unix:/run/connmgr/api.sock connmgr run`,
		Args: cobra.NoArgs,
	}
	r := &runner{flags: config.AddFlags(cmd.Flags())}
	completeConfig(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context(), cmd.ErrOrStderr()) }
	return cmd
}

// errUnclean marks the failure of a node that was asked to end. That is no interruption:
// to be asked is how it ends.
var errUnclean = errors.New("connmgr: the node did not end in order")

// runner is one node and what it is told.
type runner struct {
	flags *config.Flags
	log   *slog.Logger
	level slog.LevelVar
	node  *node.Node
}

func (r *runner) load() (config.Config, error) {
	return config.Load(config.Inputs{Env: os.Environ(), Flags: r.flags})
}

func (r *runner) run(ctx context.Context, stderr io.Writer) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before there is anything to reload: it would end the process
	defer signal.Stop(hangup)
	cfg, err := r.load()
	if err != nil {
		return configError(err)
	}
	r.log = newLogger(stderr, cfg.Log, &r.level)
	slog.SetDefault(r.log)
	r.node, err = node.New(ctx, cfg, r.log)
	switch {
	case err != nil && ctx.Err() != nil:
		r.log.Info("asked to end while starting")
		return nil
	case err != nil:
		return failed(err)
	}
	r.notify("READY=1", "STATUS="+cfg.Summary())
	for {
		select {
		case <-hangup:
			r.reload(ctx)
		case err := <-r.node.Failed():
			return failed(errors.Join(err, r.end()))
		case <-ctx.Done():
			return ended(r.end())
		}
	}
}

// ended is the failure of a node that was asked to end, if it is one.
func ended(err error) error {
	if err == nil {
		return nil
	}
	return failed(fmt.Errorf("%w: %w", errUnclean, err))
}

// end drains the node.
func (r *runner) end() error {
	r.notify("STOPPING=1")
	return r.node.Close()
}

// reload applies what has changed in the configuration, if there is no mistake in it.
func (r *runner) reload(ctx context.Context) {
	r.notify(node.Reloading()...)
	defer r.notify("READY=1")
	cfg, err := r.load()
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			r.log.Error("configuration", "err", strings.TrimSuffix(strings.TrimPrefix(line, "connmgr: "), "\n"))
		}
		r.log.Error("configuration not reloaded, since there are mistakes in it; nothing has changed")
		return
	}
	setLevel(&r.level, cfg.Log.Level)
	if err := r.node.Reload(ctx, cfg); err != nil { // the node has logged it
		r.log.Error("configuration reloaded, but for what is said above")
		return
	}
	r.log.Info("configuration reloaded")
}

func (r *runner) notify(states ...string) {
	if err := node.Notify(states...); err != nil {
		r.log.Warn("cannot tell the service manager", "state", states[0], "err", err)
	}
}

// newLogger makes the logger that a configuration asks for, and its level one that can be
// changed.
func newLogger(w io.Writer, cfg config.Log, level *slog.LevelVar) *slog.Logger {
	setLevel(level, cfg.Level)
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func setLevel(level *slog.LevelVar, name string) {
	var l slog.Level
	if l.UnmarshalText([]byte(name)) == nil { // the configuration lets nothing else through
		level.Set(l)
	}
}

// configError is the command line's fault if every mistake is in the flags.
func configError(err error) error {
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			if p.Source.Kind != config.KindFlag {
				return failed(err)
			}
		}
		return errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "connmgr: "), "\nconnmgr: ", "\n"))
	}
	return failed(err)
}
