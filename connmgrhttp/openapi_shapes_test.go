package connmgrhttp

import (
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file puts the types of package api and the schemas of openapi.json into the same
// words, such as "list of Peer, required", and finds the words of the constants. The tests
// in openapi_test.go compare them.

type field struct {
	name, shape string
	omitempty   bool
}

// fieldsOf returns the members of a document as encoding/json makes them.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() { // not VisibleFields: Go hides a Peer within a Peer, JSON does not
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			list = append(list, fieldsOf(f.Type)...)
			continue
		}
		omitempty := options == "omitempty"
		shape := shapeOf(f.Type)
		if f.Type.Kind() == reflect.Pointer && !omitempty {
			shape += " or null"
		}
		list = append(list, field{name, shape, omitempty})
	}
	return list
}

// plainWords is what the kinds of plain values are called.
var plainWords = map[reflect.Kind]string{
	reflect.String:  "string",
	reflect.Bool:    "boolean",
	reflect.Int:     "integer int64",
	reflect.Uint64:  "integer int64", // no tool knows a uint64, and no counter gets that far
	reflect.Float64: "number double",
}

// shapeOf puts a type into words; one that no document has had so far is its own word,
// which no schema has.
func shapeOf(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return shapeOf(t.Elem())
	case t.Kind() == reflect.Slice:
		return "list of " + shapeOf(t.Elem())
	case t.Kind() == reflect.Map:
		return "map from " + shapeOf(t.Key()) + " to " + shapeOf(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t == reflect.TypeFor[api.EventType]():
		return t.Name()
	case t.Kind() == reflect.Struct:
		return t.Name()
	}
	if word := plainWords[t.Kind()]; word != "" {
		return word
	}
	return t.String()
}

type openAPIDocument struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas    map[string]*schema
		Parameters map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Description          string
	Type                 json.RawMessage // a string or a list of them
	Format               string
	Enum, Required       []string
	Items, PropertyNames *schema
	Properties           map[string]*schema
	AdditionalProperties json.RawMessage // false or a schema
	AllOf                []*schema
}

func readOpenAPI(t *testing.T) (doc openAPIDocument) {
	t.Helper()
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return doc
}

// compareFields holds a schema against the fields that it should have.
func compareFields(t *testing.T, schemas map[string]*schema, name string, want map[string]string) {
	t.Helper()
	s := schemas[name]
	if s == nil {
		t.Errorf("there is no schema %s", name)
		return
	}
	if s.Description == "" {
		t.Errorf("schema %s has no description", name)
	}
	got := make(map[string]string)
	for _, part := range append([]*schema{s}, s.AllOf...) {
		for part.Ref != "" {
			part = schemas[refName(part.Ref)]
		}
		for field, p := range part.Properties {
			got[field] = p.shape(t)
			if p.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
		for _, field := range part.Required {
			got[field] += ", required"
		}
	}
	for _, field := range slices.Sorted(maps.Keys(want)) {
		if got[field] != want[field] {
			t.Errorf("%s.%s is described as %q, want %q", name, field, got[field], want[field])
		}
	}
	for field, shape := range got {
		if _, ok := want[field]; !ok {
			t.Errorf("%s.%s is described as %q, but is no field of the type", name, field, shape)
		}
	}
}

func (s *schema) shape(t *testing.T) string {
	t.Helper()
	if s.Ref != "" {
		if name := refName(s.Ref); name != "ProblemType" { // the one kind of word that is a plain string in Go
			return name
		}
		return "string"
	}
	kind := strings.Trim(string(s.Type), `"`)
	var list []string
	if json.Unmarshal(s.Type, &list) == nil {
		kind = list[0]
	}
	switch kind {
	case "string":
		if s.Format == "date-time" {
			return "time"
		}
	case "array":
		return "list of " + s.Items.shape(t)
	case "object":
		key, value := "string", new(schema)
		if s.PropertyNames != nil {
			key = s.PropertyNames.shape(t)
		}
		if err := json.Unmarshal(s.AdditionalProperties, value); err != nil {
			t.Errorf("%.100s: additionalProperties: %v", s.Description, err)
		}
		return "map from " + key + " to " + value.shape(t)
	}
	if s.Format != "" {
		kind += " " + s.Format
	}
	if len(list) == 2 && list[1] == "null" {
		kind += " or null"
	}
	return kind
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// words returns the words of each type that has some, by the name of its schema.
func words(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{
		"Reason":     wordsOf[connmgr.Reason](t),
		"Trigger":    wordsOf[connmgr.Trigger](t),
		"Direction":  wordsOf[connmgr.Direction](t),
		"Checkpoint": wordsOf[connmgr.Checkpoint](t),
		"Outcome":    wordsOf[connmgr.Outcome](t),
		"Effect":     wordsOf[connmgr.Effect](t),
	}
	eachSpec(t, func(spec ast.Spec) { // those of package api are strings
		c, ok := spec.(*ast.ValueSpec)
		if !ok || len(c.Values) != 1 {
			return
		}
		name := ""
		switch typ, _ := c.Type.(*ast.Ident); {
		case typ != nil && typ.Name == "EventType":
			name = "EventType"
		case strings.HasPrefix(c.Names[0].Name, "Problem"):
			name = "ProblemType"
		default:
			return
		}
		word, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = append(all[name], word)
	})
	return all
}

func wordsOf[T ~uint8](t *testing.T) (list []string) {
	t.Helper()
	for v := range math.MaxUint8 {
		word, err := any(T(v)).(encoding.TextMarshaler).MarshalText()
		if err != nil {
			break
		}
		list = append(list, string(word))
	}
	if len(list) < 2 {
		t.Fatalf("%s has the words %v", reflect.TypeFor[T](), list)
	}
	return list
}

// eachSpec calls f with every declaration of package api.
func eachSpec(t *testing.T, f func(ast.Spec)) {
	t.Helper()
	files, err := filepath.Glob("api/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the source of package api: %v, %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				for _, s := range g.Specs {
					f(s)
				}
			}
		}
	}
}
