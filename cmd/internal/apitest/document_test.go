// Package apitest holds the description of connmgrhttp's API against what its handler
// answers.
package apitest

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
)

// This file reads the description, as a tool of its users would.

// descriptionFile is where the handler has it from.
const descriptionFile = "../../../connmgrhttp/openapi.json"

func TestTheDescriptionIsValidOpenAPI(t *testing.T) {
	doc := loadDescription(t, nil)
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("the description is of OpenAPI %s, want 3.1: earlier versions cannot say what its schemas say", doc.OpenAPI)
	}
	err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation(),
		openapi3.EnableSchemaFormatValidation(), openapi3.EnableSchemaPatternValidation(), openapi3.EnableMultiError())
	if err != nil {
		t.Errorf("the description is not valid: %v", err)
	}
}

func TestTheServerOfTheDescriptionIsThePrefixThatItIsServedUnder(t *testing.T) {
	at, err := url.Parse("http://localhost:7654/admin/connmgr/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	servers := loadDescription(t, nil).Servers
	if len(servers) != 1 {
		t.Fatalf("there are %d servers, want the one", len(servers))
	}
	base, err := at.Parse(servers[0].URL)
	if want := "http://localhost:7654/admin/connmgr/"; err != nil || base.String() != want {
		t.Errorf("the server of the description at %v is %v (%v), want %s", at, base, err, want)
	}
}

// loadDescription reads the description, after a change of it if there is one.
func loadDescription(t testing.TB, change func(schemas map[string]map[string]any)) *openapi3.T {
	t.Helper()
	text, err := os.ReadFile(descriptionFile)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		var doc map[string]any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		schemas := make(map[string]map[string]any)
		for name, s := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
			schemas[name] = s.(map[string]any)
		}
		change(schemas)
		if text, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatalf("%s: %v", descriptionFile, err)
	}
	return doc
}

// closeSchemas makes the schemas refuse what they do not name. To clients the description
// says that more may come; here, more is something that somebody forgot to describe.
// Schemas that others extend stay as they are.
func closeSchemas(schemas map[string]map[string]any) {
	extended := make(map[any]bool)
	for _, s := range schemas {
		parts, _ := s["allOf"].([]any)
		for _, part := range parts {
			extended[part.(map[string]any)["$ref"]] = true
		}
	}
	for name, s := range schemas {
		if (s["properties"] != nil || s["allOf"] != nil) && !extended["#/components/schemas/"+name] {
			s["unevaluatedProperties"] = false
		}
	}
}

// operation is an operation of the description and where it stands there.
type operation struct {
	*openapi3.Operation
	method, path string
	route        *routers.Route
	parameters   openapi3.Parameters // those of its path as well
}

// operations returns the operations by their IDs.
func operations(t testing.TB, doc *openapi3.T) map[string]*operation {
	t.Helper()
	all := make(map[string]*operation)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if o.OperationID == "" || all[o.OperationID] != nil {
				t.Errorf("%s %s has the operationId %q, want one of its own", method, path, o.OperationID)
			}
			all[o.OperationID] = &operation{
				Operation: o, method: method, path: path,
				route:      &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: o},
				parameters: append(append(openapi3.Parameters{}, item.Parameters...), o.Parameters...),
			}
		}
	}
	return all
}
