package connmgrhttp

import (
	"encoding/json"
	"go/ast"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file holds openapi.json against the code: its documents against the types of
// package api, its words against the constants, its operations against the routes. What the
// handler really answers is held against it in the module of the command, which can have a
// library for that.

// answers is the documents that are answered with.
var answers = []any{
	api.Status{},
	api.Connections{},
	api.PeerCounts{},
	api.GateCounts{},
	api.FaultCounts{},
	api.Limits{},
	api.GateLimits{},
	api.PrefixLimit{},
	api.Samples{},
	api.Sample{},
	api.PeerList{},
	api.Peer{},
	api.Verdict{},
	api.PeerDetail{},
	api.Conn{},
	api.Standing{},
	api.PlanFigures{},
	api.Plan{},
	api.Trim{},
	api.ClosedPeer{},
	api.Protections{},
	api.Tags{},
	api.Closed{},
	api.Rule{},
	api.RuleList{},
	api.Blocked{},
	api.Unblocked{},
	api.Imported{},
	api.Event{},
	api.ClosedEvent{},
	api.WatermarksEvent{},
	api.DeniedEvent{},
	api.RulesEvent{},
	api.EventList{},
	api.Problem{},
}

// requests is the documents that are sent, with what must be in them: that the handler
// misses something does not show in a tag.
var requests = []struct {
	schema   string
	doc      any
	required []string
}{
	{"NewRule", api.NewRule{}, []string{"target"}},
	{"Block", api.Block{}, []string{"target"}},
	{"Unblock", api.Unblock{}, []string{"target"}},
	{"TagValue", api.TagValue{}, []string{"value"}},
	{"TrimRequest", api.TrimRequest{}, nil},
	{"LimitsPatch", api.Limits{}, nil},
	{"GateLimitsPatch", api.GateLimits{}, nil},
	{"PrefixLimitPatch", api.PrefixLimit{}, nil},
}

// inPatch is what a document is called as a part of a patch.
var inPatch = map[string]string{"GateLimits": "GateLimitsPatch", "PrefixLimit": "PrefixLimitPatch"}

// streamed is the schemas of what is no JSON document.
var streamed = []string{"EventMessage"}

func TestEveryDocumentIsDescribedAsItIs(t *testing.T) {
	schemas := readOpenAPI(t).Components.Schemas
	described := slices.Clone(streamed)
	for _, doc := range answers {
		typ := reflect.TypeOf(doc)
		described = append(described, typ.Name())
		want := make(map[string]string)
		for _, f := range fieldsOf(typ) {
			want[f.name] = f.shape + map[bool]string{true: ", required"}[!f.omitempty]
		}
		compareFields(t, schemas, typ.Name(), want)
		if s := schemas[typ.Name()]; s != nil && s.AdditionalProperties != nil {
			t.Errorf("schema %s says what else there may be; clients are to pass over what they do not know", typ.Name())
		}
	}
	for _, r := range requests {
		described = append(described, r.schema)
		want := make(map[string]string)
		for _, f := range fieldsOf(reflect.TypeOf(r.doc)) {
			if strings.HasSuffix(r.schema, "Patch") {
				for name, patch := range inPatch {
					f.shape = regexp.MustCompile(`\b`+name+`\b`).ReplaceAllString(f.shape, patch)
				}
			}
			if slices.Contains(r.required, f.name) {
				f.shape = strings.TrimSuffix(f.shape, " or null") + ", required"
			}
			want[f.name] = f.shape
		}
		compareFields(t, schemas, r.schema, want)
		if s := schemas[r.schema]; s != nil && string(s.AdditionalProperties) != "false" {
			t.Errorf("schema %s does not refuse other members; want additionalProperties false, as the handler does", r.schema)
		}
	}
	for name := range words(t) {
		described = append(described, name)
	}
	for name := range schemas {
		if !slices.Contains(described, name) {
			t.Errorf("schema %s is of no type of package api that this test knows", name)
		}
	}
}

func TestNoDocumentIsLeftOut(t *testing.T) {
	known := make(map[string]bool)
	for _, doc := range answers {
		known[reflect.TypeOf(doc).Name()] = true
	}
	for _, r := range requests {
		known[reflect.TypeOf(r.doc).Name()] = true
	}
	eachSpec(t, func(spec ast.Spec) {
		if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() {
			if _, isStruct := s.Type.(*ast.StructType); isStruct && !known[s.Name.Name] {
				t.Errorf("api.%s is in neither of this test's lists, so nothing holds its description against it", s.Name.Name)
			}
		}
	})
}

func TestTheWordsAreThoseOfTheConstants(t *testing.T) {
	schemas := readOpenAPI(t).Components.Schemas
	for name, want := range words(t) {
		switch s := schemas[name]; {
		case s == nil:
			t.Errorf("there is no schema %s", name)
		case !slices.Equal(s.Enum, want):
			t.Errorf("the words of schema %s are\n\t%v, want those of the constants, in their order:\n\t%v", name, s.Enum, want)
		}
	}
	if got, want := schemas["PlanFigures"].Properties["causes"].Items.Enum, connmgr.Cause(0xff).Words(); !slices.Equal(got, want) {
		t.Errorf("the words of causes are %v, want %v", got, want)
	}
}

func TestTheEventsThatCanBeAskedForAreThoseOfTheAPI(t *testing.T) {
	var want []string
	for _, kind := range api.EventTypes() {
		want = append(want, string(kind))
	}
	if got := readOpenAPI(t).Components.Parameters["types"].Schema.Items.Enum; !slices.Equal(got, want) {
		t.Errorf("the types of events that can be asked for are %v, want %v", got, want)
	}
}

func TestThePlansThatCanBeAskedForAreThoseThatTheHandlerMakes(t *testing.T) {
	described := readOpenAPI(t).Components.Parameters["trigger"].Schema.Enum
	for _, word := range wordsOf[connmgr.Trigger](t) {
		q := &query{values: url.Values{"trigger": {word}}}
		planTrigger(q)
		if listed := slices.Contains(described, word); listed != (q.err == nil) {
			t.Errorf("trigger=%s: described: %v, the handler says: %v", word, listed, q.err)
		}
	}
}

// elsewhere is the operations that are no routes of the API.
var elsewhere = []string{"GET /metrics"}

func TestEveryRouteIsAnOperationAndTheOtherWayRound(t *testing.T) {
	var routes, operations []string
	for _, r := range new(handler).routes() {
		routes = append(routes, r.method+" "+r.path)
	}
	for path, item := range readOpenAPI(t).Paths {
		for method := range item {
			if method != "parameters" {
				operations = append(operations, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range routes {
		if !slices.Contains(operations, r) {
			t.Errorf("%s is served and not described", r)
		}
	}
	for _, o := range operations {
		if !slices.Contains(routes, o) && !slices.Contains(elsewhere, o) {
			t.Errorf("%s is described and not served", o)
		}
	}
}

func TestEveryPartOfTheDescriptionIsThereAndUsed(t *testing.T) {
	used := make(map[string]bool)
	for _, m := range regexp.MustCompile(`"#/components/(\w+/\w+)"`).FindAllSubmatch(openAPI, -1) {
		used[string(m[1])] = true
	}
	var parts struct{ Components map[string]map[string]any }
	if err := json.Unmarshal(openAPI, &parts); err != nil {
		t.Fatal(err)
	}
	for kind, components := range parts.Components {
		if kind == "securitySchemes" { // used by name
			continue
		}
		for name := range components {
			if !used[kind+"/"+name] {
				t.Errorf("%s/%s is described and used nowhere", kind, name)
			}
			delete(used, kind+"/"+name)
		}
	}
	for name := range used {
		t.Errorf("%s is used and not described", name)
	}
}
