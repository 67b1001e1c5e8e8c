package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file reads a body of JSON strictly: what the sender wrote is what is done, or it is
// refused. encoding/json by itself is lenient where a slip of the pen would then be taken
// for something else.

// Decode reads a body, as Body returns it, into the value that v points to. It must be one
// JSON value in UTF-8, with names that v has, each once, and nothing behind it. Errors are
// *api.Problem: what is not JSON is a bad-request, what is not the document an
// unprocessable, with the line and the column where they are known. After an error *v may
// have been changed.
func Decode(body []byte, v any) error {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return refusef(problem.BadRequest, "the body is empty; send a JSON document")
	case !utf8.Valid(body):
		return at(problem.BadRequest, body, int64(badByte(body)), "", "the body is not UTF-8")
	case bytes.Equal(bytes.TrimSpace(body), []byte("null")):
		return refusef(problem.Unprocessable, "the body is null; send a JSON document")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return explain(err, body)
	}
	end := d.InputOffset()
	if rest := bytes.TrimLeft(body[end:], " \t\r\n"); len(rest) > 0 {
		return at(problem.BadRequest, body, int64(len(body)-len(rest)), "", "something follows the JSON document")
	}
	return onceEach(body)
}

// explain makes a problem of what encoding/json says.
func explain(err error, body []byte) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return at(problem.BadRequest, body, max(e.Offset-1, 0), "", "the body is not JSON: "+e.Error())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return at(problem.BadRequest, body, int64(len(body)), "", "the body is not JSON: it ends too early")
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := memberPath(e.Field)
		where := "the document"
		if field != "" {
			where = field
		}
		return at(problem.Unprocessable, body, max(e.Offset-1, 0), field,
			fmt.Sprintf("%.200s: %.100s is not %s", where, e.Value, kindWords(e.Type)))
	}
	// There is no type for this error.
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(quoted); err == nil {
			p := problem.Unprocessable.Withf("there is no member %.200q in this document", name)
			p.Field = fmt.Sprintf("%.200s", name)
			return &p
		}
	}
	// A member's own UnmarshalText or UnmarshalJSON.
	return refusef(problem.Unprocessable, "%.500s", strings.TrimPrefix(err.Error(), "json: "))
}

// memberPath takes the names of embedded Go types out of a path of encoding/json's; the
// sender knows nothing of them. They are in upper case, as no member of our documents is.
func memberPath(path string) string {
	elements := slices.DeleteFunc(strings.Split(path, "."), func(s string) bool {
		return s != "" && s[0] >= 'A' && s[0] <= 'Z'
	})
	return strings.Join(elements, ".")
}

// kindWords says what JSON a Go type is read from.
func kindWords(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a string"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Int64:
		return fmt.Sprintf("a whole number of at most %d bits", t.Bits())
	case k >= reflect.Uint && k <= reflect.Uint64:
		return fmt.Sprintf("a whole number, not negative, of at most %d bits", t.Bits())
	case k == reflect.Float32, k == reflect.Float64:
		return "a number"
	case k == reflect.Slice, k == reflect.Array:
		return "a list"
	case k == reflect.Map, k == reflect.Struct:
		return "an object"
	}
	return "what is expected"
}

// onceEach refuses objects in which a name comes twice, for encoding/json would take the
// last one, and another reader of the same bytes, a proxy perhaps, the first. Upper and
// lower case do not make names different, as encoding/json does not tell them apart
// either. The body is JSON.
func onceEach(body []byte) error {
	type object struct {
		names map[string]bool // nil for a list
		value bool            // a value comes next, not a name
	}
	var open []object
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return refusef(problem.BadRequest, "the body is not JSON: %v", err)
		}
		top := len(open) - 1
		if name, ok := token.(string); ok && top >= 0 && open[top].names != nil && !open[top].value {
			if open[top].names[fold(name)] {
				return at(problem.BadRequest, body, d.InputOffset()-1, name, fmt.Sprintf("the member %.200q comes twice", name))
			}
			open[top].names[fold(name)] = true
			open[top].value = true
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, object{names: make(map[string]bool)})
			continue
		case json.Delim('['):
			open = append(open, object{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			top--
		}
		if top >= 0 { // a value has ended
			open[top].value = false
		}
	}
}

// fold returns the same string for all that strings.EqualFold takes for equal.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}

// at is a problem at a byte of the body.
func at(kind problem.Kind, body []byte, offset int64, field, detail string) error {
	before := body[:min(offset, int64(len(body)))]
	p := kind.With("")
	p.Line = bytes.Count(before, []byte("\n")) + 1
	p.Column = len(before) - bytes.LastIndexByte(before, '\n')
	p.Field = fmt.Sprintf("%.200s", field)
	p.Detail = fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, detail)
	return &p
}

// badByte returns where the first byte is that is not UTF-8.
func badByte(body []byte) int {
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(body)
}
