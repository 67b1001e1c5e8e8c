package guard

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file tests what JSON is read, and what is said about the rest.

type inner struct {
	Low  int   `json:"low"`
	High *int8 `json:"high"`
}

// Embedded is exported as the documents are that are embedded in others.
type Embedded struct {
	Target string `json:"target"`
	Expiry uint   `json:"expiry"`
}

type document struct {
	Embedded
	Name   string           `json:"name"`
	Ratio  float64          `json:"ratio"`
	Force  bool             `json:"force"`
	Addr   netip.Addr       `json:"addr"`
	List   []inner          `json:"list"`
	Inner  inner            `json:"inner"`
	Tags   map[string]int   `json:"tags"`
	Nested []map[string]any `json:"nested"`
}

func TestADocumentIsReadWhole(t *testing.T) {
	var got document
	err := Decode([]byte(" {\"name\": \"n\\u00e9\", \"ratio\": 0.5, \"force\": true, \"addr\": \"192.0.2.1\",\r\n\t\"target\": \"x\", \"list\": [{\"low\": 1}, {\"low\": 2}], \"tags\": {\"a\": 1, \"low\": 2}, \"inner\": {\"low\": -3, \"high\": 4}, \"nested\": [{\"a\": {\"a\": [1, {\"a\": 2}]}}, {\"a\": 3}]} \n"), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := document{
		Embedded: Embedded{Target: "x"}, Name: "né", Ratio: 0.5, Force: true, Addr: netip.MustParseAddr("192.0.2.1"),
		List: []inner{{Low: 1}, {Low: 2}}, Tags: map[string]int{"a": 1, "low": 2}, Inner: inner{Low: -3, High: new(int8(4))},
		Nested: []map[string]any{{"a": map[string]any{"a": []any{1.0, map[string]any{"a": 2.0}}}}, {"a": 3.0}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the document is\n%+v, want\n%+v", got, want)
	}
}

func TestWhatIsSaidAboutADocumentThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		body         string
		status       int
		line, column int
		field        string
		says         string
	}{
		{"", 400, 0, 0, "", "empty"},
		{" \n\t ", 400, 0, 0, "", "empty"},
		{"null", 422, 0, 0, "", "null"},
		{" null\n", 422, 0, 0, "", "null"},
		{"hello", 400, 1, 1, "", "invalid character 'h'"},
		{"{\n  \"name\": \"a\",\n  \"force\": yes\n}", 400, 3, 12, "", "invalid character 'y'"},
		{"{\"name\": \"a\"", 400, 1, 13, "", "too early"},
		{"{\"name\": \"a\",}", 400, 1, 14, "", "invalid character '}'"},
		{"{'name': 1}", 400, 1, 2, "", "invalid character"},
		{"{\"ratio\": 01}", 400, 1, 12, "", "invalid character '1'"},
		{"{\"ratio\": NaN}", 400, 1, 11, "", "invalid character 'N'"},
		{"{\"name\": \"a\nb\"}", 400, 1, 12, "", "invalid character"},
		{"{} {}", 400, 1, 4, "", "follows"},
		{"{}\n]", 400, 2, 1, "", "follows"},
		{"{}x", 400, 1, 3, "", "follows"},
		{"{}\x00", 400, 1, 3, "", "follows"},
		{"\ufeff{}", 400, 1, 1, "", "not JSON"},
		{"{\"name\":\n \"a\xffb\"}", 400, 2, 4, "", "not UTF-8"},
		{"[1]", 422, 1, 1, "", "the document: array is not an object"},
		{"\"x\"", 422, 1, 0, "", "string is not an object"},
		{"{\"name\": 5}", 422, 1, 0, "name", "name: number is not a string"},
		{"{\n\"force\": 1}", 422, 2, 0, "force", "true or false"},
		{"{\"ratio\": \"1\"}", 422, 1, 0, "ratio", "a number"},
		{"{\"ratio\": 1e999}", 422, 1, 0, "ratio", "1e999"},
		{"{\"inner\": {\"low\": 1.5}}", 422, 1, 0, "inner.low", "whole number"},
		{"{\"inner\": {\"high\": 300}}", 422, 1, 0, "inner.high", "number 300 is not a whole number of at most 8 bits"},
		{"{\"expiry\": -1}", 422, 1, 0, "expiry", "not negative"},
		{"{\"target\": []}", 422, 1, 0, "target", "target: array is not a string"},
		{"{\"list\": {}}", 422, 1, 0, "list", "a list"},
		{"{\"addr\": \"elsewhere\"}", 422, 0, 0, "", "elsewhere"},
		{"{\"nmae\": \"a\"}", 422, 0, 0, "nmae", "no member \"nmae\""},
		{"{\"inner\": {\"name\": \"a\"}}", 422, 0, 0, "name", "no member"},
		{"{\"Embedded\": {}}", 422, 0, 0, "Embedded", "no member"},
		{"{\"name\": \"a\",\n \"name\": \"b\"}", 400, 2, 0, "name", "comes twice"},
		{"{\"name\": \"a\", \"NAME\": \"b\"}", 400, 1, 0, "NAME", "comes twice"},
		{"{\"tags\": {}, \"ta\u0067s\": {}}", 400, 1, 0, "tags", "comes twice"},
		{"{\"list\": [{\"low\": 1}, {\"low\": 1, \"\u006cow\": 2}]}", 400, 1, 0, "low", "comes twice"},
		{"{\"tags\": {\"k\": 1, \"\u212a\": 2}}", 400, 1, 0, "\u212a", "comes twice"},
		{"{\"tags\": {\"a\": 1, \"b\": 1}, \"inner\": {}, \"name\": \"name\", \"name\": \"x\"}", 400, 1, 0, "name", "comes twice"},
		{"{\"nested\": [" + strings.Repeat("{\"a\":[", 20_000), 400, 1, 0, "", "depth"},
		{strings.Repeat("[", 1<<20), 400, 1, 10_001, "", "depth"},
	} {
		var v document
		err := Decode([]byte(test.body), &v)
		p, ok := errors.AsType[*api.Problem](err)
		if !ok {
			t.Errorf("%.60q: the error is %v, want a problem", test.body, err)
			continue
		}
		if p.Status != test.status || p.Line != test.line || test.column != 0 && p.Column != test.column || p.Field != test.field || !strings.Contains(p.Detail, test.says) {
			t.Errorf("%.60q: the problem is %d at %d:%d, field %q: %s\nwant %d at %d:%d, field %q, saying %q",
				test.body, p.Status, p.Line, p.Column, p.Field, p.Detail, test.status, test.line, test.column, test.field, test.says)
		}
		if len(p.Detail)+len(p.Field) > 2000 {
			t.Errorf("%.60q: the problem has %d bytes, want less than 2000", test.body, len(p.Detail)+len(p.Field))
		}
	}
}

func TestALongNameIsCutInTheProblem(t *testing.T) {
	err := Decode([]byte(`{"`+strings.Repeat("x", 1<<20)+`": 1}`), new(document))
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != 422 || len(p.Detail) > 300 || len(p.Field) != 200 {
		t.Errorf("the problem is %.500v, want 422 with the name cut to 200 bytes", err)
	}
}

// FuzzDecode looks for bodies that make reading panic, or pass although they are
// something else than the one document.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"name":"a"}`, `{"inner":{"low":1,"Low":2}}`, `[{"a":[{}]}]`, "{\"a\":\"\xff\"}", `{"tags":{"a":1,"b":2}} x`, "\n\n{"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := Decode(body, new(document))
		if err == nil {
			return
		}
		p, ok := errors.AsType[*api.Problem](err)
		if !ok || p.Status != 400 && p.Status != 422 || p.Detail == "" {
			t.Errorf("%q: the error is %v, want a problem 400 or 422 with a detail", body, err)
		}
		if p.Line < 0 || p.Line > len(body)+1 || p.Column < 0 || p.Column > len(body)+1 {
			t.Errorf("%q: the problem is at %d:%d, want that to be in the body", body, p.Line, p.Column)
		}
	})
}
