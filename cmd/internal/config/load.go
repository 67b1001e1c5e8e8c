package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// This file puts a configuration together: defaults, file, environment, flags, and what
// follows from them.

// Inputs is what a configuration is made of.
type Inputs struct {
	// File is the TOML file. If it is empty, --config of Flags is taken, then CONNMGR_CONFIG
	// of the environment, and if that is missing too, none.
	File string
	// Env is the environment, as os.Environ returns it.
	Env []string
	// Flags is the flags, given or not; nil means none.
	Flags *Flags
}

// configEnv is the variable of the environment that names the file.
const configEnv = envPrefix + "CONFIG"

// addressEnv is the variable by which commands find a running node; a node has no use for
// it. The token, which they need too, they read from the node's own variable.
const addressEnv = envPrefix + "API"

// maxFile bounds a file of configuration, in bytes.
const maxFile = 1 << 20

// Load returns the configuration. If something is wrong with it the error is all
// [Problems] together; the configuration then has what is right.
func Load(in Inputs) (Config, error) {
	l := &loader{Config: zero()}
	if file := in.Name(); file != "" {
		l.file(file)
	}
	l.env(in.Env)
	for _, given := range in.Flags.given() {
		src := Source{Kind: KindFlag, Name: given.field.flagName()}
		l.set(given.field, origin{Source: src}, given.texts, src)
	}
	l.token()
	l.derive()
	l.cross()
	l.sort()
	return l.Config, l.problems.err()
}

// Name returns the name of the file that is read, "" if there is none.
func (in Inputs) Name() string {
	file := in.File
	if file == "" && in.Flags != nil {
		file = in.Flags.file
	}
	for _, variable := range in.Env {
		if name, text, _ := strings.Cut(variable, "="); name == configEnv && file == "" {
			file = text
		}
	}
	return file
}

// loader collects values and problems.
type loader struct {
	Config
	doc      *document
	name     string // of the file
	problems Problems
	bad      map[string]bool // fields with a problem
	broken   bool            // some of the file could not be read
}

// sort brings problems of the file into the order of its lines: some were found while it
// was read, others when all was there.
func (l *loader) sort() {
	slices.SortStableFunc(l.problems, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Source.Kind, b.Source.Kind),
			cmp.Compare(a.Source.Line, b.Source.Line), cmp.Compare(a.Source.Column, b.Source.Column))
	})
}

func (l *loader) problem(src Source, key, text string) {
	l.problems = append(l.problems, &Problem{Source: src, Field: key, Text: text})
	if l.bad == nil {
		l.bad = map[string]bool{}
	}
	l.bad[key] = true
}

// set gives a field a value written as text, unless something is wrong with it.
func (l *loader) set(f *field, from origin, texts []string, src Source) {
	next := l.Config
	if faults := f.setText(&next, texts); len(faults) > 0 {
		for _, fault := range faults {
			l.problem(src, f.key, fault)
		}
		return
	}
	l.Config = next
	l.from[f.key] = from
}

// env takes variables in alphabetical order, so that problems have an order.
func (l *loader) env(variables []string) {
	variables = slices.Clone(variables)
	slices.Sort(variables)
	for _, variable := range variables {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || name == configEnv || name == addressEnv {
			continue
		}
		src := Source{Kind: KindEnv, Name: name}
		f := fieldOfEnv(name)
		if f == nil {
			l.problem(src, "", "no such setting"+suggestEnv(name))
			continue
		}
		if f.secret && text != "" { // its text is never shown, and may have any characters
			*f.ptr(&l.Config).(*string) = strings.TrimSpace(text)
			l.from[f.key] = origin{Source: src}
			continue
		}
		l.set(f, origin{Source: src}, []string{text}, src)
	}
}

func fieldOfEnv(name string) *field {
	for _, f := range fields {
		if f.env() == name {
			return f
		}
	}
	return nil
}

func envNames() []string {
	names := []string{configEnv}
	for _, f := range fields {
		names = append(names, f.env())
	}
	return names
}

// suggestEnv is suggest for a variable, of which also the words count: those of a key in
// another order, or of a flag.
func suggestEnv(name string) string {
	if f := sameWords(name); f != nil {
		return "; did you mean " + f.env() + "?"
	}
	return suggest(name, envNames())
}

// suggest is the end of a message about a name that nothing has.
func suggest(name string, names []string) string {
	if best, ok := nearest(name, names); ok {
		return "; did you mean " + best + "?"
	}
	return ""
}

// file reads the TOML file.
func (l *loader) file(name string) {
	l.name = name
	src := Source{Kind: KindFile, Name: name}
	data, err := readSmall(name, maxFile)
	if err != nil {
		l.broken = true
		l.problem(src, "", reasonOf(err))
		return
	}
	doc, faults := parse(data)
	for _, fault := range faults {
		l.broken = true
		l.problem(Source{Kind: KindFile, Name: name, Line: fault.line, Column: fault.column}, "", fault.text)
	}
	l.doc = doc
	skip := "" // what keys in a section that does not exist begin with: that is one mistake
	for _, p := range doc.pairs {
		switch {
		case p.val == nil:
			skip = l.header(p)
		case skip != "" && strings.HasPrefix(p.key, skip):
		default:
			l.pair(p)
		}
	}
}

// header looks at the header of a table, and returns what the keys to skip begin with.
func (l *loader) header(p pair) (skip string) {
	if isSection(p.key) {
		return ""
	}
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	text := fmt.Sprintf("unknown section [%s]%s", shown(p.key), suggest(p.key, names))
	if f := find(p.key); f != nil {
		text = fmt.Sprintf("%s is not a section, want %s", f.key, f.want)
	}
	l.problem(l.at(p.at), p.key, text)
	return p.key + "."
}

func isSection(name string) bool {
	return slices.ContainsFunc(sections, func(s section) bool { return s.name == name })
}

func (l *loader) at(at place) Source {
	line, column := l.doc.position(at)
	return Source{Kind: KindFile, Name: l.name, Line: line, Column: column}
}

// pair takes a key with its value.
func (l *loader) pair(p pair) {
	f := find(p.key)
	switch {
	case f != nil && f.secret:
		l.problem(l.at(p.at), f.key, f.fault("", f.want))
	case f != nil:
		l.value(f, p.val)
	case isSection(p.key) && p.val.kind == unstable.InlineTable:
		for _, inner := range p.val.pairs {
			inner.key = p.key + "." + inner.key
			l.pair(inner)
		}
	case isSection(p.key):
		l.problem(l.at(p.val.at), p.key, fmt.Sprintf("%s is a section, want [%s] and keys below it", p.key, p.key))
	default:
		var keys []string
		for _, f := range fields {
			keys = append(keys, f.key)
		}
		text := "unknown key " + shown(p.key) + suggestKey(p.key, keys)
		l.problem(l.at(p.at), p.key, text)
	}
}

// suggestKey also finds keys that are in the wrong section.
func suggestKey(key string, keys []string) string {
	if text := suggest(key, keys); text != "" {
		return text
	}
	name := key[strings.LastIndex(key, ".")+1:]
	for _, other := range keys {
		if other == name || strings.HasSuffix(other, "."+name) {
			return "; did you mean " + other + "?"
		}
	}
	return ""
}

// value gives a field a value of the file, unless something is wrong with it.
func (l *loader) value(f *field, v *value) {
	next, before := l.Config, len(l.problems)
	from := origin{Source: l.at(v.at)}
	ptr := f.ptr(&next)
	switch list := ptr.(type) {
	case *[]string:
		from.items = l.items(f, list, v)
	default:
		switch {
		case f.rows != nil:
			from.items = l.rows(f, ptr, v)
		case !parseTOML(ptr, v) || f.valid != nil && !f.valid(deref(ptr)):
			l.problem(from.Source, f.key, f.fault(shown(v.raw), f.want+unquote(ptr, v)))
		}
	}
	if len(l.problems) == before {
		l.Config = next
		l.from[f.key] = from
	}
}

// unquote says what the usual mistake is.
func unquote(ptr any, v *value) string {
	if v.kind != unstable.String || !parseScalar(ptr, v.text) {
		return ""
	}
	switch ptr.(type) {
	case *int, *float64, *bool:
		return ", without quotes"
	}
	return ""
}

// items reads a list of strings and returns their places.
func (l *loader) items(f *field, list *[]string, v *value) (places []Source) {
	if v.kind != unstable.Array {
		l.problem(l.at(v.at), f.key, f.fault(shown(v.raw), "a list in brackets, each "+f.want))
		return nil
	}
	*list = []string{}
	for _, item := range v.items {
		if item.kind != unstable.String || f.valid != nil && !f.valid(item.text) {
			l.problem(l.at(item.at), f.key, f.fault(shown(item.raw), f.want))
		}
		*list = append(*list, item.text)
		places = append(places, l.at(item.at))
	}
	return places
}

// rows reads a list of tables and returns their places.
func (l *loader) rows(f *field, list any, v *value) (places []Source) {
	if v.kind != unstable.Array && v.kind != unstable.ArrayTable {
		l.problem(l.at(v.at), f.key, f.fault(shown(v.raw), "a list of "+f.want))
		return nil
	}
	clearList(list)
	for _, item := range v.items {
		if item.kind != unstable.InlineTable {
			l.problem(l.at(item.at), f.key, f.fault(shown(item.raw), f.want))
			continue
		}
		row, seen, before := f.rows.grow(list), map[string]bool{}, len(l.problems)
		for _, p := range item.pairs {
			seen[p.key] = true
			col := f.rows.column(p.key)
			if col == nil {
				l.problem(l.at(p.at), f.key, fmt.Sprintf("%s: unknown key %s%s", f.key, shown(p.key), suggest(p.key, f.rows.names())))
				continue
			}
			if ptr := col.ptr(row); !parseTOML(ptr, p.val) || col.valid != nil && !col.valid(deref(ptr)) {
				l.problem(l.at(p.val.at), f.key, fmt.Sprintf("%s: %s is %s, want %s%s", f.key, p.key, shown(p.val.raw), col.want, unquote(ptr, p.val)))
			}
		}
		if len(l.problems) == before {
			for _, fault := range f.checkRow(row, seen) {
				l.problem(l.at(item.at), f.key, fault)
			}
		}
		places = append(places, l.at(item.at))
	}
	return places
}

// readSmall reads a file that is not expected to be large.
func readSmall(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a folder, want a file")
	case info.Size() > limit:
		return nil, fmt.Errorf("has %d bytes, want %d at most", info.Size(), limit)
	}
	return os.ReadFile(name)
}

// reasonOf is an error without the name of the file, which stands before it.
func reasonOf(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
