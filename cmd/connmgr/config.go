package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/spf13/cobra"
)

// This file is "connmgr config": the configuration of "connmgr run", before it is used.

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, show and explain the configuration of 'connmgr run'",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(), newConfigShow(), newConfigExample())
	return cmd
}

func newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Find the mistakes in a configuration",
		Long: `Looks at the file of configuration, the environment and the flags as "connmgr run" would,
and at the lists of rules that they name, and names every mistake with its place and what
was expected. Nothing is started or changed.

Exit status: 0 if there are none, 1 if there are.`,
		Example: `  connmgr config check connmgr.toml
  connmgr config check --low-water 200`,
		Args: cobra.MaximumNArgs(1),
	}
	load := configInputs(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, name, err := load(args)
		if err = errors.Join(err, cfg.CheckFiles()); err != nil {
			return failed(err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s\n", name, cfg.Summary())
		return failed(err)
	}
	return cmd
}

func newConfigShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the configuration that holds, and where each value is from",
		Long: `Writes the configuration that "connmgr run" would have, as a file of configuration, with a
comment behind each value that says where it is from. Secrets are not shown.`,
		Example: `  connmgr config show connmgr.toml
  CONNMGR_WATERMARKS_HIGH=900 connmgr config show`,
		Args: cobra.MaximumNArgs(1),
	}
	load := configInputs(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, _, err := load(args)
		if err != nil {
			return failed(err)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), cfg.TOML())
		return failed(err)
	}
	return cmd
}

func newConfigExample() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Write a sample file, with everything that can be set",
		Example: `  connmgr config example > connmgr.toml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), config.Example())
			return failed(err)
		},
	}
}

// configInputs gives a command the flags of "connmgr run", and returns what loads the
// configuration and says what it is called.
func configInputs(cmd *cobra.Command) func(args []string) (config.Config, string, error) {
	flags := config.AddFlags(cmd.Flags())
	return func(args []string) (config.Config, string, error) {
		in := config.Inputs{Env: os.Environ(), Flags: flags}
		if len(args) > 0 {
			in.File = args[0]
		}
		cfg, err := config.Load(in)
		name := in.Name()
		if name == "" {
			name = "no file"
		}
		return cfg, name, err
	}
}
