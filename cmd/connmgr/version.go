package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// This file is "connmgr version": which build this is.

// build is what is known about how the command was built.
type build struct {
	// Version is that of the module; "(devel)" of what was built from a working copy.
	Version string `json:"version"`
	// Revision is the commit; empty if it was built elsewhere than in a repository.
	Revision string `json:"revision,omitempty"`
	// Modified says that there were changes that are in no commit.
	Modified bool `json:"modified"`
	// Time is that of the commit.
	Time string `json:"time,omitempty"`
	Go   string `json:"go"`
}

// thisBuild reads what the Go toolchain has put into the binary.
func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{Version: "unknown"}
	}
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	if b.Version == "" { // of a test
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

func (b build) String() string {
	text := "connmgr " + b.Version
	if b.Revision != "" {
		text += fmt.Sprintf(" (revision %.12s", b.Revision)
		if b.Modified {
			text += ", modified"
		}
		text += ")"
	}
	return text + ", " + b.Go
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which build of connmgr this is",
		Long:  `Says which version and revision of connmgr this is, and with which Go it was built.`,
		Example: `  connmgr version
  connmgr version --json | jq -r .revision`,
		Args: cobra.NoArgs,
	}
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return failed(writeOwn(cmd, asJSON, thisBuild(), func(out io.Writer) error {
			_, err := fmt.Fprintln(out, thisBuild())
			return err
		}))
	}
	return cmd
}
