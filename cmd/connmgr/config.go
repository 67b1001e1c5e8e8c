package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dep2p/connmgr/cmd/internal/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file is "connmgr config": the configuration of "connmgr run", before it is used.

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, show and explain the configuration of 'connmgr run'",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
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
  connmgr config check --low-water 200
  connmgr config check connmgr.toml --json | jq -r '.problems[].message'`,
		Args: cobra.MaximumNArgs(1),
	}
	var asJSON bool
	jsonFlag(cmd, &asJSON)
	load := configInputs(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, name, err := load(args)
		if asUsage, ok := errors.AsType[*misuse](err); ok {
			return asUsage
		}
		err = errors.Join(err, cfg.CheckFiles())
		if err != nil && !asJSON {
			return failed(err)
		}
		report := config.Report(name, err)
		wrote := writeOwn(cmd, asJSON, report, func(out io.Writer) error {
			if name == "" {
				name = "no file"
			}
			_, err := fmt.Fprintf(out, "%s: ok: %s\n", name, cfg.Summary())
			return err
		})
		if err != nil && wrote == nil {
			wrote = errors.New(count(len(report.Problems), "mistake") + " in the configuration")
		}
		return failed(wrote)
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
  CONNMGR_WATERMARKS_HIGH=900 connmgr config show
  connmgr config show --json | jq '."watermarks.high".value'`,
		Args: cobra.MaximumNArgs(1),
	}
	var asJSON bool
	jsonFlag(cmd, &asJSON)
	load := configInputs(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, _, err := load(args)
		if err != nil {
			return judged(err)
		}
		return failed(writeOwn(cmd, asJSON, cfg.Settings(), func(out io.Writer) error {
			_, err := io.WriteString(out, cfg.TOML())
			return err
		}))
	}
	return cmd
}

func newConfigExample() *cobra.Command {
	return &cobra.Command{
		ValidArgsFunction: cobra.NoFileCompletions,
		Use:               "example",
		Short:             "Write a sample file, with everything that can be set",
		Example:           `  connmgr config example > connmgr.toml`,
		Args:              cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), config.Example())
			return failed(err)
		},
	}
}

// configInputs gives a command the flags of "connmgr run", and returns what loads the
// configuration and says in which file it is, if in any.
func configInputs(cmd *cobra.Command) func(args []string) (config.Config, string, error) {
	flags := config.AddFlags(cmd.Flags())
	completeConfig(cmd)
	return func(args []string) (config.Config, string, error) {
		in := config.Inputs{Env: os.Environ(), Flags: flags}
		if len(args) > 0 {
			in.File = args[0]
			if cmd.Flags().Changed("config") {
				return config.Config{}, "", misused("the file is given twice, as %s and as --config %s", args[0], cmd.Flags().Lookup("config").Value)
			}
		}
		cfg, err := config.Load(in)
		return cfg, in.Name(), err
	}
}

// completeConfig completes the values of the flags of "connmgr run".
func completeConfig(cmd *cobra.Command) {
	files := map[string]bool{"config": true, "identity": true, "rules-store": true, "api-token-file": true}
	for name, list := range config.Words() {
		complete(cmd, name, words(list...))
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, done := config.Words()[f.Name]; !done && !files[f.Name] && f.Value.Type() != "bool" {
			complete(cmd, f.Name, cobra.NoFileCompletions)
		}
	})
}
