// Package bench compares connmgr with go-libp2p's own connection manager and gater,
// side by side in one process, and writes a page about it. It is what the command
// bench does.
package bench

import (
	"context"
	"io"
	"time"
)

// This file is the run that writes the page.

// Options says what [Run] does.
type Options struct {
	// Quick takes fewer rounds, and leaves out what takes longest.
	Quick bool
	// Page is the file to write the report into; the plot goes beside it. Empty means
	// that the report is only printed.
	Page string
	// Command is the command line, for the report.
	Command string
}

// Run measures everything, prints a report to out, and writes it into the page. It says
// on progress what it is doing.
func Run(ctx context.Context, o Options, out, progress io.Writer) error {
	var to page
	if o.Page != "" {
		var err error
		if to, err = openPage(o.Page); err != nil {
			return err
		}
	}
	m := modeFull
	if o.Quick {
		m = modeQuick
	}
	r := report{command: o.Command, quick: o.Quick, when: time.Now(), machine: thisMachine()}
	var err error
	if r.findings, err = measureAll(ctx, planOf(m), progress); err != nil {
		return err
	}
	r.took = time.Since(r.when)
	if _, err := io.WriteString(out, r.text()); err != nil {
		return err
	}
	if o.Page != "" {
		return to.write(&r)
	}
	return nil
}
