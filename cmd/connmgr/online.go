package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/cmd/internal/command"
	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/spf13/cobra"
)

// This file is what all commands have in common that ask a running node: which node, how
// to get its answer, how to write it, and the exit status when it does not come.

// newOnline returns the commands that ask a running node, but for those below "rules".
func newOnline() []*cobra.Command {
	return []*cobra.Command{
		newStatus(), newPeers(), newExplain(), newPlan(), newTrim(),
		newProtect(), newUnprotect(), newTag(), newUntag(), newClose(),
		newBlock(), newUnblock(), newLimits(), newWatch(), newEvents(),
	}
}

// The environment variables that stand in for flags.
const (
	envAPI   = "CONNMGR_API"
	envToken = "CONNMGR_API_TOKEN"
)

// online is the flags that say which node to ask.
type online struct {
	api, tokenFile string
	timeout        time.Duration
	json           bool
	client         *client.Client
}

// flags adds the flags to a command.
func (o *online) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.api, "api", "", fmt.Sprintf("where the node's API is: host:port, a URL, or unix:PATH (default $%s, or %s)", envAPI, client.DefaultAddress))
	f.StringVar(&o.tokenFile, "token-file", "", fmt.Sprintf("the file with the API's token (default $%s, the token itself)", envToken))
	durationFlag(f, &o.timeout, "timeout", client.DefaultTimeout, "how long an answer may take")
	f.BoolVar(&o.json, "json", false, "write the API's own document, in JSON")
	_ = cmd.MarkFlagFilename("token-file")
	complete(cmd, "api", cobra.NoFileCompletions)
}

// connect makes the client. Its errors are about the command line.
func (o *online) connect(cmd *cobra.Command) (*client.Client, error) {
	if o.client != nil {
		return o.client, nil
	}
	opts := client.Options{Address: o.api, Timeout: o.timeout}
	if opts.Address == "" {
		opts.Address = os.Getenv(envAPI)
	}
	if opts.Timeout <= 0 {
		return nil, fmt.Errorf("--timeout is %v, must be above 0", o.timeout)
	}
	var err error
	if opts.Token, err = o.token(); err != nil {
		return nil, err
	}
	c, err := client.New(opts)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "connmgr: "))
	}
	if c.SendsTokenInClear() {
		fmt.Fprintf(cmd.ErrOrStderr(), "connmgr: the token goes to %s unencrypted, for everybody on the way to read; https, or a tunnel to a loopback address, would hide it\n", c.Address())
	}
	o.client = c
	return c, nil
}

// token returns the token; "" is none.
func (o *online) token() (string, error) {
	if o.tokenFile == "" {
		return os.Getenv(envToken), nil
	}
	token, err := config.ReadToken(o.tokenFile)
	if err != nil {
		return "", failed(fmt.Errorf("--token-file %s: %w", o.tokenFile, err))
	}
	return token, nil
}

// ask makes a RunE of a function that asks the node. Its errors are the node's fault, but
// for those marked as misuse.
func (o *online) ask(f func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := o.connect(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		return judged(f(cmd, c, args))
	}
}

// judged marks an error as not the fault of the command line, unless it is a misuse.
func judged(err error) error {
	if bad, ok := errors.AsType[*misuse](err); ok {
		return bad
	}
	return failed(err)
}

// failed marks an error, if it is one, as not the fault of the command line.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{err}
}

// misuse marks an error that is the fault of the command line.
type misuse struct{ text string }

func (m *misuse) Error() string { return m.text }

func misused(format string, args ...any) error { return &misuse{fmt.Sprintf(format, args...)} }

// show writes an answer: with --json as it came, else as text says.
func show[T any](o *online, cmd *cobra.Command, answer client.Answer[T], text func(out io.Writer, doc *T) error) error {
	out := cmd.OutOrStdout()
	if o.json {
		return writeJSON(out, answer.Raw())
	}
	doc, err := answer.Document()
	if err != nil {
		return err
	}
	return buffered(out, func(w io.Writer) error { return text(w, doc) })
}

// jsonFlag adds --json to a command that asks no node.
func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "write JSON")
}

// writeOwn writes a document that no node has written: as JSON, or as text does.
func writeOwn(cmd *cobra.Command, asJSON bool, doc any, text func(io.Writer) error) error {
	if !asJSON {
		return buffered(cmd.OutOrStdout(), text)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return writeJSON(cmd.OutOrStdout(), raw)
}

// showJSON writes an answer if it was asked for as it came.
func (o *online) showJSON(cmd *cobra.Command, raw json.RawMessage) error {
	if !o.json {
		return nil
	}
	return writeJSON(cmd.OutOrStdout(), raw)
}

// exitStatus is the exit status of an error that is not the command line's fault.
func exitStatus(err error) int {
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return command.Unreachable
	}
	if e, ok := errors.AsType[*client.StatusError](err); ok {
		switch {
		case e.Refused():
			return command.Refused
		case e.NotFound():
			return command.NotFound
		}
	}
	if _, ok := errors.AsType[*notFoundError](err); ok {
		return command.NotFound
	}
	return command.Failed
}

// notFoundError says that there is no such peer or rule.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

// newExitCodes is the help about exit statuses.
func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit status says",
		Long: `The exit status of every command:

    0  all went well
    1  something failed; of a demo: it broke a promise
    2  the command line is wrong, and nothing was done
    3  no node answers where --api says, or not in time
    4  the node refuses: the token is missing or wrong, or it does not go by that name
    5  there is no such peer or rule
  130  interrupted, with Ctrl-C or SIGTERM

With another status than 0, the last line of standard error says why.`,
	}
}
