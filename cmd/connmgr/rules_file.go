package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrbolt"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/spf13/cobra"
)

// This file is --db of "connmgr rules": the rules in a file, asked and changed through the
// API of a manager that has them and nobody else, so that all works as at a node.

// fileUse is what a command does with a rule file.
type fileUse uint8

const (
	readFile   fileUse = iota // looks at it
	changeFile                // changes it; it must be there
	makeFile                  // changes it, and makes it if it is missing
)

// rulesAt is the flags that say where the rules are: at a node, or in a file.
type rulesAt struct {
	online
	db  string
	use fileUse
}

func (r *rulesAt) flags(cmd *cobra.Command) {
	r.online.flags(cmd)
	cmd.Flags().StringVar(&r.db, "db", "", "a rule file, in place of a running node")
	_ = cmd.MarkFlagFilename("db")
	for _, other := range []string{"api", "token-file", "timeout"} {
		cmd.MarkFlagsMutuallyExclusive("db", other)
	}
}

// ask is that of online, for a node or a file.
func (r *rulesAt) ask(f func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	node := r.online.ask(f)
	return func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("db") {
			return node(cmd, args)
		}
		file := &ruleFile{path: r.db, use: r.use}
		return judged(errors.Join(f(cmd, client.Local(r.db, file.open), args), file.close()))
	}
}

// connectAny is the client of the node or the file, for completions. The file is closed
// with the process.
func (r *rulesAt) connectAny(cmd *cobra.Command) (*client.Client, error) {
	if !cmd.Flags().Changed("db") {
		return r.connect(cmd)
	}
	return client.Local(r.db, (&ruleFile{path: r.db}).open), nil
}

// ruleFile is a rule file, and once it is open, a manager whose rules are in it.
type ruleFile struct {
	path  string
	use   fileUse
	store *connmgrbolt.Store
	m     *connmgr.Manager
}

// open returns the API of the rules. It is not called for a command line that is wrong.
func (f *ruleFile) open() (_ http.Handler, err error) {
	var opts []connmgrbolt.Option
	switch f.use {
	case readFile:
		opts = append(opts, connmgrbolt.ReadOnly())
	case changeFile:
		if _, err := os.Stat(f.path); err != nil {
			return nil, f.fault(err)
		}
	case makeFile:
	}
	if f.store, err = connmgrbolt.Open(f.path, opts...); err != nil {
		return nil, f.fault(err)
	}
	log := slog.New(slog.DiscardHandler) // what goes wrong is answered
	f.m, err = connmgr.New(connmgr.Config{ManualStart: true, Logger: log, Gate: connmgr.GateConfig{Store: f.store}})
	if err != nil {
		return nil, f.fault(err)
	}
	return connmgrhttp.Handler(f.m, nil, connmgrhttp.Config{Names: connmgrlibp2p.ListFormat(), Logger: log})
}

// close closes what was opened.
func (f *ruleFile) close() error {
	if f.m != nil {
		_ = f.m.Close() // what could not be saved was the answer's
	}
	if f.store == nil {
		return nil
	}
	if err := f.store.Close(); err != nil {
		return f.fault(err)
	}
	return nil
}

// fault is an error about the file, which it names once.
func (f *ruleFile) fault(err error) error {
	if errors.Is(err, connmgrbolt.ErrLocked) {
		return fmt.Errorf("%s is in use by a running node; leave --db out to ask the node", f.path)
	}
	text := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "connmgrbolt: "), f.path+": "), "open: ")
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		text = path.Err.Error()
	}
	return fmt.Errorf("%s: %s", f.path, text)
}
