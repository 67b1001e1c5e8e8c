package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// This file reads a TOML file into keys and values that know their places. A decoder
// stops at the first value that does not fit, and forgets the places of the others.

// place is an offset in the document, in bytes.
type place int

// value is a value of the document.
type value struct {
	kind  unstable.Kind
	raw   string // as it is written
	text  string // what a string says; of a number, as it is written
	at    place
	items []*value // of an array
	pairs []pair   // of an inline table, or of one table of an array of tables
}

// pair is a key with its value, or a table's header, whose value is nil.
type pair struct {
	key string // all of its parts, with dots between
	at  place
	val *value
}

// document is what is in a file.
type document struct {
	data  []byte
	pairs []pair
}

// syntaxFault is what TOML itself objects to.
type syntaxFault struct {
	line, column int
	text         string
}

// maxFaults bounds how many mistakes of syntax are looked for.
const maxFaults = 20

// parse reads a document. With faults it is what could be read all the same: the lines
// up to the first fault behind which nobody knows where a value ends, without those with
// faults.
func parse(data []byte) (*document, []syntaxFault) {
	data = bytes.Clone(data)
	end := len(data)
	var faults []syntaxFault
	for len(faults) < maxFaults {
		var all map[string]any
		var fault *toml.DecodeError
		if !errors.As(toml.Unmarshal(data, &all), &fault) {
			break
		}
		line, column := fault.Position()
		start, stop := lineAt(data, line)
		faults = append(faults, syntaxFault{
			line: line, column: characters(data[start:min(start+column-1, stop)]) + 1,
			text: strings.TrimPrefix(fault.Error(), "toml: "),
		})
		if !endsThere(data, start, stop, column) {
			end = start
			break
		}
		for i := start; i < stop; i++ {
			data[i] = ' '
		}
	}
	d := &document{data: data}
	d.read(end)
	return d, faults
}

// endsThere reports whether a fault is about nothing but its line. One at the very
// beginning of a line that is not a key can be about what began lines before, and
// without the header of a table nobody knows whose keys follow.
func endsThere(data []byte, start, stop, column int) bool {
	line := data[start:stop]
	first := len(line) - len(bytes.TrimLeft(line, " \t"))
	if bytes.HasPrefix(line[first:], []byte("[")) || bytes.Contains(line, []byte(`"""`)) || bytes.Contains(line, []byte(`'''`)) {
		return false
	}
	if column-1 > first {
		return true
	}
	p := &unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
	}
	return p.Error() == nil // a key that is there twice
}

// lineAt returns where a line begins and ends.
func lineAt(data []byte, number int) (start, stop int) {
	for ; number > 1; number-- {
		next := bytes.IndexByte(data[start:], '\n')
		if next < 0 {
			break
		}
		start += next + 1
	}
	if stop = bytes.IndexByte(data[start:], '\n'); stop < 0 {
		return start, len(data)
	}
	return start, start + stop
}

// read collects the pairs that begin before an offset.
func (d *document) read(end int) {
	p := &unstable.Parser{}
	p.Reset(d.data)
	var section string // with a dot behind it
	var row *value     // of an array of tables, if we are in one
	arrays := map[string]*value{}
	for p.NextExpression() {
		node := p.Expression()
		if node.Kind == unstable.KeyValue {
			one := d.pair(node)
			switch {
			case int(one.at) >= end:
				return
			case row != nil:
				row.pairs = append(row.pairs, one)
			default:
				one.key = section + one.key
				d.pairs = append(d.pairs, one)
			}
			continue
		}
		key, at := joined(node.Key()) // of a header: comments are not kept
		if int(at) >= end {
			return
		}
		row, section = nil, key+"."
		if node.Kind != unstable.ArrayTable {
			d.pairs = append(d.pairs, pair{key: key, at: at})
			continue
		}
		row = &value{kind: unstable.InlineTable, raw: "[[" + key + "]]", at: at}
		if arrays[key] == nil {
			arrays[key] = &value{kind: unstable.ArrayTable, raw: row.raw, at: at}
			d.pairs = append(d.pairs, pair{key: key, at: at, val: arrays[key]})
		}
		arrays[key].items = append(arrays[key].items, row)
	}
}

func (d *document) pair(node *unstable.Node) pair {
	key, at := joined(node.Key())
	behind := int(at)
	for it := node.Key(); it.Next(); {
		raw := it.Node().Raw
		behind = int(raw.Offset + raw.Length)
	}
	behind += bytes.IndexByte(d.data[behind:], '=') + 1
	for behind < len(d.data) && (d.data[behind] == ' ' || d.data[behind] == '\t') {
		behind++
	}
	stop := int(node.Raw.Offset + node.Raw.Length)
	val := d.value(node.Value(), place(behind))
	val.raw = string(bytes.TrimSpace(d.data[behind:max(behind, stop)]))
	return pair{key: key, at: at, val: val}
}

// value takes over a node. Arrays do not know their place.
func (d *document) value(node *unstable.Node, at place) *value {
	if node.Raw.Length > 0 {
		at = place(node.Raw.Offset)
	}
	v := &value{kind: node.Kind, at: at, text: string(node.Data)}
	v.raw = string(d.data[at : int(at)+int(node.Raw.Length)])
	for it := node.Children(); it.Next(); {
		switch child := it.Node(); {
		case child.Kind == unstable.Comment:
		case node.Kind == unstable.InlineTable:
			v.pairs = append(v.pairs, d.pair(child))
		case node.Kind == unstable.Array:
			v.items = append(v.items, d.value(child, at))
		}
	}
	return v
}

// joined is a key with dots, as TOML writes it: a part with other than bare characters
// is in quotes. at is where it begins.
func joined(parts unstable.Iterator) (key string, at place) {
	at = -1
	for parts.Next() {
		node := parts.Node()
		if at < 0 {
			at = place(node.Raw.Offset)
		} else {
			key += "."
		}
		part := string(node.Data)
		if part == "" || strings.ContainsAny(part, ".\"'\\ \t\n") {
			part = tomlString(part)
		}
		key += part
	}
	return key, at
}

// position returns line and column of a place, from 1, in characters.
func (d *document) position(at place) (line, column int) {
	before := d.data[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, characters(before[start:]) + 1
}

func characters(text []byte) int { return utf8.RuneCount(text) }
