package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/pelletier/go-toml/v2/unstable"
)

// This file turns text and TOML into the values of fields, and back.

// The forms of text in which the environment and flags have lists: items between commas,
// and tables between semicolons, as in "origin=firehol,file=firehol.netset".
const (
	itemMark = ","
	rowMark  = ";"
)

// parseScalar sets a value that is not a list from text, and reports whether it could.
func parseScalar(ptr any, text string) bool {
	var err error
	switch p := ptr.(type) {
	case *int:
		*p, err = strconv.Atoi(text)
	case *float64:
		*p, err = strconv.ParseFloat(text, 64)
	case *bool:
		*p, err = strconv.ParseBool(text)
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	case *string:
		*p = text
	default:
		return false
	}
	return err == nil
}

// parseTOML is the same for a value of a TOML file. Numbers and durations are not
// interchangeable there: 20 is not "20s".
func parseTOML(ptr any, v *value) bool {
	number := strings.ReplaceAll(v.text, "_", "")
	switch p := ptr.(type) {
	case *int:
		n, err := strconv.ParseInt(number, 0, 0)
		*p = int(n)
		return v.kind == unstable.Integer && err == nil
	case *float64:
		return (v.kind == unstable.Integer || v.kind == unstable.Float) && parseScalar(ptr, number)
	case *bool:
		return v.kind == unstable.Bool && parseScalar(ptr, v.text)
	}
	return v.kind == unstable.String && parseScalar(ptr, v.text)
}

// isList reports whether a field has several values.
func isList(ptr any) bool {
	switch ptr.(type) {
	case *[]string, *[]connmgr.PrefixLimit, *[]RuleList:
		return true
	}
	return false
}

// setText sets a field from texts, several if a flag was given several times, and returns
// what is wrong.
func (f *field) setText(c *Config, texts []string) (faults []string) {
	switch p := f.ptr(c).(type) {
	case *[]string:
		items := []string{}
		for _, text := range texts {
			for item := range strings.SplitSeq(text, itemMark) {
				if item = strings.TrimSpace(item); item == "" {
					continue
				}
				if f.valid != nil && !f.valid(item) {
					faults = append(faults, f.fault(quoted(item), f.want))
				}
				items = append(items, item)
			}
		}
		*p = items
	case *[]connmgr.PrefixLimit, *[]RuleList:
		clearList(p)
		for _, text := range texts {
			for row := range strings.SplitSeq(text, rowMark) {
				if row = strings.TrimSpace(row); row != "" {
					faults = append(faults, f.setRow(p, row)...)
				}
			}
		}
	default:
		text := texts[len(texts)-1]
		if !parseScalar(p, strings.TrimSpace(text)) || f.valid != nil && !f.valid(deref(p)) {
			return []string{f.fault(quoted(text), f.want)}
		}
	}
	return faults
}

// clearList makes a list an empty one, without touching what it shares memory with.
func clearList(list any) {
	v := reflect.ValueOf(list).Elem()
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
}

// setRow adds a table written as "key=value,key=value".
func (f *field) setRow(list any, text string) (faults []string) {
	row := f.rows.grow(list)
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, itemMark) {
		name, val, _ := strings.Cut(part, "=")
		name, val = strings.TrimSpace(name), strings.TrimSpace(val)
		col := f.rows.column(name)
		switch {
		case col == nil:
			faults = append(faults, f.fault(quoted(text), fmt.Sprintf("%s=…, not %s", strings.Join(f.rows.names(), "=…, "), shown(part))))
		case !parseScalar(col.ptr(row), val) || col.valid != nil && !col.valid(deref(col.ptr(row))):
			faults = append(faults, fmt.Sprintf("%s: %s is %s, want %s", f.key, name, quoted(val), col.want))
		}
		seen[name] = true
	}
	if len(faults) > 0 {
		return faults
	}
	return f.checkRow(row, seen)
}

// checkRow says what is missing in a table, or does not fit together.
func (f *field) checkRow(row any, seen map[string]bool) (faults []string) {
	for _, col := range f.rows.columns {
		if col.required && !seen[col.name] {
			faults = append(faults, fmt.Sprintf("%s: %s is missing, want %s", f.key, col.name, col.want))
		}
	}
	if f.rows.check != nil && len(faults) == 0 {
		if fault := f.rows.check(row); fault != "" {
			faults = append(faults, f.key+": "+fault)
		}
	}
	return faults
}

func (k *rowKind) column(name string) *column {
	for i := range k.columns {
		if k.columns[i].name == name {
			return &k.columns[i]
		}
	}
	return nil
}

func (k *rowKind) names() (names []string) {
	for _, col := range k.columns {
		names = append(names, col.name)
	}
	return names
}

// fault says what is wrong with a value.
func (f *field) fault(text, want string) string {
	if f.secret {
		return fmt.Sprintf("%s is set here, want %s", f.key, want)
	}
	return fmt.Sprintf("%s is %s, want %s", f.key, text, want)
}

// quoted is a text in a message, where nothing else says where it ends.
func quoted(text string) string {
	if s := shown(text); strings.HasPrefix(s, `"`) {
		return s
	}
	return `"` + shown(text) + `"`
}

func deref(ptr any) any { return reflect.ValueOf(ptr).Elem().Interface() }

// literal is a value as TOML has it.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case time.Duration:
		return tomlString(shortDuration(v))
	case float64:
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	case []string:
		items := make([]string, len(v))
		for i, s := range v {
			items[i] = tomlString(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case []connmgr.PrefixLimit:
		return rowsLiteral(prefixRows, reflect.ValueOf(v))
	case []RuleList:
		return rowsLiteral(listRows, reflect.ValueOf(v))
	}
	return fmt.Sprint(v)
}

func rowsLiteral(kind *rowKind, list reflect.Value) string {
	rows := make([]string, list.Len())
	for i := range rows {
		var parts []string
		for _, col := range kind.columns {
			cell := deref(col.ptr(list.Index(i).Addr().Interface()))
			if !reflect.ValueOf(cell).IsZero() {
				parts = append(parts, col.name+" = "+literal(cell))
			}
		}
		rows[i] = "{" + strings.Join(parts, ", ") + "}"
	}
	return "[" + strings.Join(rows, ", ") + "]"
}

// tomlString is a text in quotes. TOML knows fewer escapes than Go.
func tomlString(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// shortDuration is "1m" where Go says "1m0s".
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// sameValue reports whether a field is the same in two configurations.
func (f *field) sameValue(a, b *Config) bool {
	x, y := f.ptr(a), f.ptr(b)
	if !isList(x) {
		return deref(x) == deref(y)
	}
	return slices.Equal([]byte(literal(deref(x))), []byte(literal(deref(y))))
}
