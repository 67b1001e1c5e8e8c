package apitest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// This file sends bodies with one mistake each: what is no JSON, and for every member of
// every document, what it is not described to be.

func tellBodies(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, nil)
	for _, id := range seen.ids() {
		o := seen.operations[id]
		if o.RequestBody == nil || o.RequestBody.Value.Content["application/json"] == nil {
			continue
		}
		refuse := func(body string, follows follows) {
			t.Helper()
			c := w.minimal(id)
			c.body, c.kind, c.follows = body, "application/json", follows
			if a := w.do(c); a.status != 400 && a.status != 422 {
				t.Errorf("%s: status %d, want 400 or 422", &c, a.status)
			}
		}
		good := w.minimal(id).body
		if good == "" {
			good = "{}"
		}
		for _, body := range []string{"{", "\xff", good[:len(good)-1] + "]", "[]", "1", "null", `"{}"`} {
			refuse(body, refused)
		}
		refuse(good+"x", unchecked) // to the library, it is over with the document
		if o.RequestBody.Value.Required {
			refuse("", refused)
		}
		schema := o.RequestBody.Value.Content["application/json"].Schema.Value
		for _, missing := range schema.Required {
			refuse(with(t, good, missing, nil), refused)
		}
		for _, member := range append(slices.Sorted(maps.Keys(schema.Properties)), "surprise") {
			values := []any{1}
			if m := schema.Properties[member]; m != nil {
				values = wrong(m.Value)
			}
			for _, value := range values {
				refuse(with(t, good, member, &value), refused)
			}
		}
		if member := slices.Sorted(maps.Keys(schema.Properties))[0]; member != "" {
			twice := strings.Replace(good, "{", `{"`+member+`": 1, "`+member+`": 1, `, 1)
			refuse(strings.Replace(twice, ", }", "}", 1), unchecked) // the library takes the last one
		}
	}
}

// with returns a document with another value for a member, or without it.
func with(t *testing.T, doc, member string, value *any) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(doc), &object); err != nil {
		t.Fatal(err)
	}
	if delete(object, member); value != nil {
		object[member] = *value
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wrong returns values that a schema does not describe, with one mistake each, however
// deep.
func wrong(s *openapi3.Schema) (list []any) {
	for _, value := range []any{"surprise", map[string]any{"surprise": 1.0}, []any{1.0}, true, -1.0, 1.5, 1e300, nil} {
		if s.VisitJSON(value, openapi3.EnableJSONSchema2020()) != nil {
			list = append(list, value)
		}
	}
	for _, member := range slices.Sorted(maps.Keys(s.Properties)) {
		for _, value := range wrong(s.Properties[member].Value) {
			list = append(list, map[string]any{member: value})
		}
	}
	if s.Items != nil {
		for _, value := range wrong(s.Items.Value) {
			if object, ok := value.(map[string]any); ok && s.Items.Value.Properties["ipv4_bits"] != nil {
				// Without these, a limit is refused whatever else it has.
				whole := map[string]any{"ipv4_bits": 24.0, "max_connections": 1.0}
				maps.Copy(whole, object)
				value = whole
			}
			list = append(list, []any{value})
		}
	}
	return list
}
