package config

import (
	"errors"
	"reflect"
	"time"

	"github.com/dep2p/connmgr"
)

// This file is configurations and their mistakes as JSON, for programs.

// Place is a [Source] as JSON.
type Place struct {
	// Source is "default", "derived", "file", "environment" or "flag"; missing if what is
	// wrong is in no one place.
	Source string `json:"source,omitempty"`
	// Name is the file, the variable, or the flag without dashes; of what is derived, from
	// what.
	Name string `json:"name,omitempty"`
	// Line and Column are from 1, in characters; missing where there is no such place.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// Check is what is wrong with a configuration, if anything is.
type Check struct {
	// File is the file of configuration; missing if there is none.
	File string `json:"file,omitempty"`
	// OK says that there are no problems.
	OK       bool    `json:"ok"`
	Problems []Fault `json:"problems"`
}

// Fault is a [Problem] as JSON.
type Fault struct {
	Place
	// Field is the key, such as "watermarks.low"; missing if it is about none.
	Field string `json:"field,omitempty"`
	// Message says what is wrong and what was expected.
	Message string `json:"message"`
}

// Setting is one value of a configuration.
type Setting struct {
	// Value is missing if it is secret.
	Value any `json:"value,omitempty"`
	// Set says of a secret that there is one.
	Set    bool  `json:"set,omitempty"`
	Source Place `json:"source"`
}

// Report says what is wrong with the configuration in a file, by the errors of [Load] and
// [Config.CheckFiles]; nil is nothing.
func Report(file string, err error) Check {
	c := Check{File: file, OK: err == nil, Problems: []Fault{}}
	c.add(err)
	return c
}

func (c *Check) add(err error) {
	var p *Problem
	switch joined, several := err.(interface{ Unwrap() []error }); { //nolint:errorlint // each is looked at
	case err == nil:
	case several:
		for _, err := range joined.Unwrap() {
			c.add(err)
		}
	case errors.As(err, &p):
		c.Problems = append(c.Problems, Fault{Place: p.Source.place(), Field: p.Field, Message: p.Text})
	default:
		c.Problems = append(c.Problems, Fault{Message: err.Error()})
	}
}

func (s Source) place() Place {
	words := map[Kind]string{KindDefault: "default", kindDerived: "derived", KindFile: "file", KindEnv: "environment", KindFlag: "flag"}
	return Place{Source: words[s.Kind], Name: s.Name, Line: s.Line, Column: s.Column}
}

// Settings returns every value with where it is from, by its key.
func (c *Config) Settings() map[string]Setting {
	settings := make(map[string]Setting, len(fields))
	for _, f := range fields {
		s := Setting{Source: c.from[f.key].place()}
		if f.secret {
			s.Set = !reflect.ValueOf(f.ptr(c)).Elem().IsZero()
		} else {
			s.Value = jsonValue(deref(f.ptr(c)))
		}
		settings[f.key] = s
	}
	return settings
}

// jsonValue is a value as the file of configuration has it.
func jsonValue(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return shortDuration(v)
	case []string:
		return append([]string{}, v...) // none is [], not null
	case []connmgr.PrefixLimit:
		return jsonRows(prefixRows, reflect.ValueOf(v))
	case []RuleList:
		return jsonRows(listRows, reflect.ValueOf(v))
	}
	return v
}

func jsonRows(kind *rowKind, list reflect.Value) []map[string]any {
	rows := make([]map[string]any, list.Len())
	for i := range rows {
		rows[i] = make(map[string]any)
		for _, col := range kind.columns {
			rows[i][col.name] = deref(col.ptr(list.Index(i).Addr().Interface()))
		}
	}
	return rows
}
