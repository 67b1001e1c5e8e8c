package config

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"
)

// This file gives a command a flag for each field.

// Flags is the flags of a command, after it was parsed with what they were given.
type Flags struct {
	file   string
	values []*flagValue
}

// AddFlags adds a flag for each field, and --config, to a command's flags.
func AddFlags(set *pflag.FlagSet) *Flags {
	flags := &Flags{}
	set.SortFlags = false // the order of the sample file
	set.StringVar(&flags.file, "config", "", "`file` of configuration, in TOML (environment "+configEnv+")")
	alias := map[string]string{}
	defaults := Default()
	for _, f := range fields {
		name := f.flagName()
		if name == "" {
			continue
		}
		v := &flagValue{field: f, standard: f.defaultText(&defaults)}
		flags.values = append(flags.values, v)
		flag := set.VarPF(v, name, "", f.usage())
		if _, ok := f.ptr(&defaults).(*bool); ok {
			flag.NoOptDefVal = "true"
		}
		alias[f.derivedFlag()] = name
	}
	// The name that follows from the key works too: who knows it from the file need not
	// look it up.
	set.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if short, ok := alias[name]; ok {
			name = short
		}
		return pflag.NormalizedName(name)
	})
	return flags
}

// given returns the flags that were given.
func (fs *Flags) given() (given []*flagValue) {
	if fs == nil {
		return nil
	}
	for _, v := range fs.values {
		if v.texts != nil {
			given = append(given, v)
		}
	}
	return given
}

func (f *field) usage() string {
	if f.derived != "" {
		return f.help + " (default " + f.derived + ")"
	}
	return f.help
}

// defaultText is a default as a flag's help shows it.
func (f *field) defaultText(c *Config) string {
	if f.derived != "" || f.rows != nil {
		return ""
	}
	if list, ok := deref(f.ptr(c)).([]string); ok {
		return strings.Join(list, itemMark)
	}
	text := strings.TrimSuffix(strings.Trim(literal(deref(f.ptr(c))), `"`), ".0")
	if f.raised != "" {
		text += ", or " + f.raised
	}
	return text
}

// flagValue is the value of a flag. It judges each text as it comes, so that a mistake
// is one of the command line, but leaves it to [Load] to apply them.
type flagValue struct {
	field    *field
	standard string
	texts    []string
}

func (v *flagValue) String() string { return v.standard }

func (v *flagValue) Set(text string) error {
	scratch := zero()
	if faults := v.field.setText(&scratch, []string{text}); len(faults) > 0 {
		return errors.New(strings.Join(faults, "; ")) // the command says whose it is
	}
	v.texts = append(v.texts, text)
	return nil
}

// Type is the word for the value in the help.
func (v *flagValue) Type() string {
	var c Config
	switch v.field.ptr(&c).(type) {
	case *int:
		return "number"
	case *float64:
		return "number"
	case *bool:
		return "bool"
	case *string:
		return "text"
	case *[]string:
		return "list"
	}
	if v.field.rows != nil {
		return "key=value,..."
	}
	return "duration"
}
