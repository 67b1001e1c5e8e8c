package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// This file is the flags that say which part of a long list is wanted.

type paging struct {
	limit, offset int
	all           bool
}

func (p *paging) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&p.limit, "limit", 100, "how many to show")
	f.IntVar(&p.offset, "offset", 0, "how many to pass over before")
	f.BoolVar(&p.all, "all", false, "show all")
	cmd.MarkFlagsMutuallyExclusive("all", "limit")
}

// most is the limit to ask for; -1 is none.
func (p *paging) most() int {
	if p.all {
		return -1
	}
	return p.limit
}

func (p *paging) check() error {
	if p.limit < 1 {
		return misused("--limit is %d, must be at least 1", p.limit)
	}
	if p.offset < 0 {
		return misused("--offset is %d, must not be negative", p.offset)
	}
	return nil
}

// note says on standard error that a list goes on.
func (p *paging) note(stderr io.Writer, shown, matched int, things string) {
	if shown < matched {
		fmt.Fprintf(stderr, "connmgr: %d of %d %s; --all shows all\n", shown, matched, things)
	}
}

// noteNone says on standard error why there is no table: there is nothing at all, or
// nothing that the flags ask for.
func noteNone(stderr io.Writer, total int, nothing, others string) {
	if total == 0 {
		fmt.Fprintf(stderr, "connmgr: %s\n", nothing)
		return
	}
	fmt.Fprintf(stderr, "connmgr: %s\n", others)
}
