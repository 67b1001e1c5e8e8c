package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file is flags that are a time span.

// duration is the value of such a flag. What it says of a mistake is what to write, not
// what Go's parser missed.
type duration time.Duration

// durationFlag adds a flag.
func durationFlag(f *pflag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	f.Var((*duration)(p), name, usage)
}

// Set is pflag.Value's.
func (d *duration) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want a duration such as 24h or 90m")
	}
	*d = duration(v)
	return nil
}

// Type is pflag.Value's.
func (d *duration) Type() string { return "duration" }

// String is pflag.Value's. The help shows no default of 0.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// forFlag adds --for, of something that holds for good without it.
func forFlag(cmd *cobra.Command, p *time.Duration) {
	durationFlag(cmd.Flags(), p, "for", 0, "how long, such as 24h or 90m (default for good)")
}

// checkFor returns an error if --for cannot be. To block for no time is nothing that
// somebody would want, and for good is not what 0 says.
func checkFor(cmd *cobra.Command, lasting time.Duration) error {
	switch {
	case lasting < 0:
		return misused("--for is %v, must not be negative", lasting)
	case lasting == 0 && cmd.Flags().Changed("for"):
		return misused("--for is 0, want a duration such as 24h or 90m; leave --for out for good")
	}
	return nil
}
