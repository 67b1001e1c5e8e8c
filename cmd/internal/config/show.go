package config

import (
	"fmt"
	"reflect"
	"strings"
)

// This file writes configurations: the effective one, and the sample file.

// TOML returns the whole configuration as a file, with a comment behind each value that
// says where it is from. Secrets are left out, with a word on where they are from.
func (c *Config) TOML() string {
	var b strings.Builder
	width := 0
	for _, f := range fields {
		if line := f.line(c); len([]rune(line)) <= 48 {
			width = max(width, len([]rune(line)))
		}
	}
	last := ""
	for _, f := range fields {
		section, _ := f.name()
		if section != last {
			fmt.Fprintf(&b, "\n[%s]\n", section)
			last = section
		}
		line := f.line(c)
		fmt.Fprintf(&b, "%s%s  # %s\n", line, strings.Repeat(" ", max(0, width-len([]rune(line)))), oneLine(c.from[f.key].String()))
	}
	return b.String()
}

// oneLine keeps the name of a file from ending a comment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}

func (f *field) line(c *Config) string {
	_, name := f.name()
	if f.secret {
		if reflect.ValueOf(f.ptr(c)).Elem().IsZero() {
			return "# " + name + " is not set"
		}
		return "# " + name + " is set, and not shown"
	}
	return name + " = " + literal(deref(f.ptr(c)))
}

// name splits the key of a field.
func (f *field) name() (section, name string) {
	if at := strings.LastIndex(f.key, "."); at >= 0 {
		return f.key[:at], f.key[at+1:]
	}
	return "", f.key
}

// Example returns the sample file: every key with its meaning and its default.
func Example() string {
	var b strings.Builder
	comment(&b, `The configuration of "connmgr run". Take the # away before a key to change it: what is
behind it is the default, or where it says "for example", an example.

What the environment says is stronger than this file, and flags are stronger still; their
names stand with each key. Names of files begin at the folder in which the command runs.
"connmgr config check" finds mistakes, "connmgr config show" says what holds and why.
SIGHUP makes a running node read this file again and apply what is marked with "live".`)
	defaults := Default()
	last, fresh := "", false // the header of a section has just been written
	for _, f := range fields {
		section, name := f.name()
		if section != last {
			fmt.Fprintf(&b, "\n[%s]\n", section)
			fresh = true
			for _, s := range sections {
				if s.name == section && s.help != "" {
					comment(&b, s.help)
					fresh = false
				}
			}
			last = section
		}
		if !fresh {
			b.WriteByte('\n')
		}
		fresh = false
		comment(&b, strings.ToUpper(f.help[:1])+f.help[1:]+".")
		if f.more != "" {
			comment(&b, f.more)
		}
		names := "environment " + f.env()
		if flag := f.flagName(); flag != "" {
			names = "flag --" + flag + ", " + names
		}
		if f.live {
			names += ", live"
		}
		if f.secret { // not in files
			comment(&b, "Not in a file, nor a flag: "+names)
			continue
		}
		switch {
		case f.derived != "":
			names += "; default: " + f.derived
		case f.sample != "":
			names += "; for example:"
		}
		comment(&b, "("+names+")")
		text := literal(deref(f.ptr(&defaults)))
		if f.sample != "" {
			text = f.sample
		}
		fmt.Fprintf(&b, "#%s = %s\n", name, text)
	}
	return b.String()
}

// comment writes a text, whose lines are as they are to be.
func comment(b *strings.Builder, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
}

// Summary says in a few words what the configuration is about.
func (c *Config) Summary() string {
	hard := "no hard limit"
	if c.Watermarks.HardLimit > 0 {
		hard = fmt.Sprintf("hard limit %d", c.Watermarks.HardLimit)
	}
	return fmt.Sprintf("low water %d, high water %d, %s; addresses %d; lists of rules %d; peers to connect to %d, to protect %d",
		c.Watermarks.Low, c.Watermarks.High, hard, len(c.Listen), len(c.Rules.Lists), len(c.Connect), len(c.Protect))
}

// Change is a field that two configurations have different.
type Change struct {
	// Key is the field's key, and Old and New its values as TOML has them.
	Key, Old, New string
	// Live says that it can be applied to a running node.
	Live bool
}

// Changes returns how two configurations differ, in the order of the sample file.
func Changes(before, after *Config) (changes []Change) {
	for _, f := range fields {
		if f.sameValue(before, after) {
			continue
		}
		change := Change{Key: f.key, Old: "(not shown)", New: "(not shown)", Live: f.live}
		if !f.secret {
			change.Old, change.New = literal(deref(f.ptr(before))), literal(deref(f.ptr(after)))
		}
		changes = append(changes, change)
	}
	return changes
}

// Apply returns before with those changes of after that a running node can make.
func Apply(before, after Config) Config {
	for _, f := range fields {
		if !f.live {
			reflect.ValueOf(f.ptr(&after)).Elem().Set(reflect.ValueOf(f.ptr(&before)).Elem())
		}
	}
	return after
}
