// Command connmgr runs a libp2p node under the connection manager, asks and changes a node
// that runs, and shows the manager at work on real nodes.
//
// Exit status: 0 when all went well, 1 when something failed (of a demo: when it broke a
// promise), 2 when the command line is wrong, 3 when no node answers, 4 when the node
// refuses, 5 when there is no such peer or rule, 130 when interrupted. "connmgr help
// exit-codes" says the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/command"
	"github.com/spf13/cobra"
)

func main() { command.Main(run) }

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return conclude(ctx, root.ExecuteContext(ctx), stderr, func() string { return called(root, args) })
}

// conclude says on standard error what went wrong, if anything did, and returns the exit
// status. help is the command whose help helps.
func conclude(ctx context.Context, err error, stderr io.Writer, help func() string) int {
	var failure *failure
	switch {
	case err == nil:
		return command.OK
	case ctx.Err() != nil && !errors.Is(err, errUnclean):
		fmt.Fprintln(stderr, "connmgr: interrupted")
		return command.Interrupted
	case errors.As(err, &failure):
		for line := range strings.Lines(failure.Error() + "\n") { // one for each that failed
			fmt.Fprintf(stderr, "connmgr: %s", strings.TrimPrefix(line, "connmgr: "))
		}
		return exitStatus(err)
	default: // everything else comes from reading the command line
		fmt.Fprintf(stderr, "connmgr: %v (see '%s --help')\n", err, help())
		return command.Usage
	}
}

// failure marks an error that is not the fault of the command line.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// called returns the command that the arguments name, to point at its help.
func called(root *cobra.Command, args []string) string {
	if cmd, _, err := root.Find(args); err == nil {
		return cmd.CommandPath()
	}
	return root.CommandPath()
}

// knownCommand is the error about a command that there is none of, with what may have been
// meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		text += "; did you mean " + strings.Join(names, " or ") + "?"
	}
	return errors.New(text)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "connmgr",
		Short:         "Connection manager for peer-to-peer nodes",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       thisBuild().String(),
		Args:          knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.AddCommand(newDemo(), newRules(), newRun(), newConfig())
	root.AddCommand(newOnline()...)
	root.AddCommand(newVersion(), newExitCodes())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	return root
}
