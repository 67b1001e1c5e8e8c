package main

import (
	"github.com/dep2p/connmgr/cmd/internal/demo"
	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	opts := demo.Defaults()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch one real libp2p node keep itself within its watermarks",
		Long: `Starts one libp2p node guarded by connmgr, and a crowd of real nodes in the same
process that connect to it over TCP and QUIC on loopback. Some are tagged, some
protected, some have open streams, half of them come in one burst, one drops and
returns. Then another node, whose gate is tried: a peer and a prefix that are blocked
while connected, a burst from one prefix, a ban that ends. It asks the nodes that dialled
whether the promises were kept.

Nothing leaves this machine. The exit status is 1 if a promise was broken.`,
		Example: `  connmgr demo
  connmgr demo --peers 300 --low 50 --high 100 --transport quic
  connmgr demo --json | jq .promises`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.LowSet = cmd.Flags().Changed("low")
			opts.HighSet = cmd.Flags().Changed("high")
			if err := opts.Validate(); err != nil {
				return err
			}
			err := demo.Run(cmd.Context(), opts, cmd.OutOrStdout())
			if err != nil {
				return &failure{err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&opts.Peers, "peers", opts.Peers, "number of nodes that connect")
	f.IntVar(&opts.Low, "low", opts.Low, "low water, in connections (default a third of the peers)")
	f.IntVar(&opts.High, "high", opts.High, "high water, in connections (default two thirds of the peers)")
	durationFlag(f, &opts.Grace, "grace", opts.Grace, "how long a new peer is left alone")
	f.Uint64Var(&opts.Seed, "seed", opts.Seed, "decides identities and who plays which role")
	f.StringVar(&opts.Transport, "transport", opts.Transport, "tcp, quic or both")
	f.BoolVar(&opts.JSON, "json", false, "write one JSON report instead of text")
	return cmd
}
