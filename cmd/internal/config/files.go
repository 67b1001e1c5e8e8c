package config

import (
	"errors"
	"fmt"
	"os"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
)

// This file reads the lists of rules that a configuration names.

// errNoRules is wrapped by the error about a list without rules: it is more likely that
// fetching it went wrong than that there is nobody to deny any more.
var errNoRules = errors.New("has no rules in it")

// Read returns the rules of a list. Its error names the file, and the line if one is
// wrong.
func (l RuleList) Read() ([]connmgr.Rule, error) {
	format := connmgrlibp2p.ListFormat()
	format.Origin = l.Origin
	if l.Allow {
		format.Effect = connmgr.Allow
	}
	// Opening a pipe waits for whoever writes to it, and a node would wait with it.
	info, err := os.Stat(l.File)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file but %s", l.File, info.Mode().Type())
	}
	if err != nil {
		return nil, fmt.Errorf("connmgr: rules of %q: %w", l.Origin, err)
	}
	file, err := os.Open(l.File)
	if err != nil {
		return nil, fmt.Errorf("connmgr: rules of %q: %w", l.Origin, err)
	}
	defer file.Close()
	rules, err := format.Read(file, l.File)
	switch {
	case err != nil:
		return nil, err
	case len(rules) == 0:
		return nil, fmt.Errorf("connmgr: %s: %w", l.File, errNoRules)
	}
	return rules, nil
}

// CheckFiles reads the lists of rules and returns what is wrong with them.
func (c *Config) CheckFiles() error {
	var problems Problems
	for i, list := range c.Rules.Lists {
		_, err := list.Read()
		var line *connmgr.ListError
		switch {
		case errors.As(err, &line):
			problems = append(problems, &Problem{
				Source: Source{Kind: KindFile, Name: line.File, Line: line.Line, Column: 1}, Field: "rules.lists",
				Text: fmt.Sprintf("%s, want %s", quoted(line.Text), line.Want),
			})
		case errors.Is(err, errNoRules):
			problems = append(problems, &Problem{
				Source: c.from["rules.lists"].item(i), Field: "rules.lists",
				Text: fmt.Sprintf("rules.lists: file is %s, which %s", quoted(list.File), errNoRules),
			})
		case err != nil:
			problems = append(problems, &Problem{
				Source: c.from["rules.lists"].item(i), Field: "rules.lists",
				Text: fmt.Sprintf("rules.lists: file is %s: %s", quoted(list.File), reasonOf(err)),
			})
		}
	}
	return problems.err()
}
