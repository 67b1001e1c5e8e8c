// Package command is what our commands have in common: how they begin and end.
package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit statuses.
const (
	OK          = 0
	Failed      = 1
	Usage       = 2 // the command line is wrong
	Unreachable = 3 // no node answers
	Refused     = 4 // the node takes no requests from us
	NotFound    = 5 // there is no such peer or rule
	Interrupted = 130
)

// Main runs a command with the arguments of the process and ends the process with the
// status that it returns. Its context ends at the first interrupt; a second one ends the
// process at once.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
