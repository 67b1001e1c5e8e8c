package apitest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
)

// This file asks what has to be refused: for everything that is in the description, by
// whom and how it must not be asked.

// minimal returns the smallest request for an operation.
func (w *world) minimal(id string) call {
	c := call{op: id, path: make(map[string]string)}
	o := w.seen.operations[id]
	for _, p := range o.parameters {
		switch {
		case p.Value.In == "path" && p.Value.Name == "peer":
			c.path["peer"] = w.name("alice")
		case p.Value.In == "path":
			c.path[p.Value.Name] = "some tag"
		case p.Value.Name == "target" && p.Value.Required:
			c.query = "target=192.0.2.1"
		case p.Value.Required:
			w.t.Fatalf("%s needs the parameter %s, and this test does not know a value", id, p.Value.Name)
		}
	}
	switch {
	case o.RequestBody == nil || !o.RequestBody.Value.Required:
	case o.RequestBody.Value.Content["text/plain"] != nil:
		c.body = "# nothing\n"
	default:
		schema := o.RequestBody.Value.Content["application/json"].Schema
		c.body = map[string]string{
			"TagValue": `{"value": 1}`, "LimitsPatch": `{}`, "NewRule": `{"target": "192.0.2.1"}`,
			"Block": `{"target": "192.0.2.1"}`, "Unblock": `{"target": "192.0.2.1"}`,
		}[refName(schema, "")]
		if c.body == "" {
			w.t.Fatalf("%s needs the body %s, and this test does not know one", id, schema.Ref)
		}
	}
	return c
}

func (o *operation) documents(status int) bool { return o.Responses.Status(status) != nil }

// tellWhoMayNotAsk asks everything in every way in which it must not be asked, and holds
// what there is against what was there before.
func tellWhoMayNotAsk(t *testing.T, seen *coverage, names naming) {
	open := newWorld(t, seen, names, nil)
	closed := newWorld(t, seen, names, func(_ *connmgr.Config, c *connmgrhttp.Config) { c.Token = token })
	open.connect("alice")
	before := fmt.Sprint(open.m.Limits(), open.m.Stats().Conns, slices.Collect(open.gate.Rules()))
	for _, id := range seen.ids() {
		o := seen.operations[id]
		refuse := func(status int, change func(*call)) {
			t.Helper()
			if !o.documents(status) {
				t.Errorf("%s: %d is not described, want it to be", id, status)
				return
			}
			c := open.minimal(id)
			c.want, c.follows = status, unchecked
			change(&c)
			open.do(c)
		}
		refuse(421, func(c *call) { c.host = "evil.example" })
		refuse(403, func(c *call) { c.header = map[string]string{"Origin": "https://evil.example"} })
		refuse(403, func(c *call) { c.header = map[string]string{"X-Forwarded-For": "192.0.2.1"} })
		if o.documents(400) {
			refuse(400, func(c *call) { c.query = strings.TrimPrefix(c.query+"&surprise=1", "&") })
			refuse(400, func(c *call) { c.query = "%zz" })
		}
		switch {
		case o.RequestBody != nil:
			refuse(413, func(c *call) { c.body, c.size = "{}", 33<<20 })
			refuse(415, func(c *call) { c.body, c.kind, c.follows = "{}", "text/html", refused })
		case o.method == "GET" || o.method == "DELETE":
			refuse(413, func(c *call) { c.body = strings.Repeat(" ", 5000) })
		default:
			refuse(400, func(c *call) { c.body, c.follows = "{}", refused })
		}

		c := closed.minimal(id)
		if !o.documents(401) { // public
			c.want = 200
			closed.do(c)
			continue
		}
		c.want, c.follows = 401, unchecked
		closed.do(c)
		c.header = map[string]string{"Authorization": "Bearer " + token[1:]}
		closed.do(c)
		if id != "streamEvents" { // which would not end
			c.header = map[string]string{"Authorization": "Bearer " + token}
			c.want, c.follows = 0, described
			if a := closed.do(c); a.status >= 400 && a.status != 404 {
				t.Errorf("%s: status %d with the token, want it answered: %s", id, a.status, a.body)
			}
		}
	}
	if after := fmt.Sprint(open.m.Limits(), open.m.Stats().Conns, slices.Collect(open.gate.Rules())); after != before {
		t.Errorf("after requests that were all refused there is\n\t%s, want what was there before,\n\t%s", after, before)
	}
}

// tellParameters asks with every value that a parameter is described to have, and with
// those beyond.
func tellParameters(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, nil)
	w.connect("alice")
	w.connect("bob")
	for _, id := range seen.ids() {
		o := seen.operations[id]
		if id == "streamEvents" { // see tellStreams
			continue
		}
		for _, p := range o.parameters {
			if p.Value.In != "query" {
				continue
			}
			with := func(value string, follows follows) answer {
				c := w.minimal(id)
				values, err := url.ParseQuery(c.query)
				if err != nil {
					t.Fatal(err)
				}
				values.Set(p.Value.Name, value)
				c.query, c.follows = values.Encode(), follows
				if follows == refused {
					c.want = 400
				}
				a := w.do(c)
				if follows == described && a.status == 400 {
					t.Errorf("%s: status 400, want it understood: %s", &c, a.body)
				}
				return a
			}
			s := p.Value.Schema.Value
			good, bad := sampleValues(s)
			for _, v := range good {
				with(v, described)
			}
			for _, v := range bad {
				with(v, refused)
			}
			if s.Default != nil && o.method == "GET" {
				explicit, implicit := with(fmt.Sprint(s.Default), described), w.do(w.minimal(id))
				if string(explicit.body) != string(implicit.body) {
					t.Errorf("%s: with %s=%v the answer is\n%s, want the one without, since that is described as the default:\n%s",
						id, p.Value.Name, s.Default, explicit.body, implicit.body)
				}
			}
		}
	}
}

// sampleValues returns values that a schema has, those at its bounds among them, and
// others.
func sampleValues(s *openapi3.Schema) (good, bad []string) {
	text := func(v *float64) string { return fmt.Sprintf("%.0f", *v) }
	switch {
	case len(s.Enum) > 0:
		for _, word := range s.Enum {
			good = append(good, word.(string))
		}
		bad = []string{"surprise", strings.ToUpper(good[0]), ""}
	case s.Type.Is("array"):
		words, _ := sampleValues(s.Items.Value)
		good = append(words, strings.Join(words, ","))
		bad = []string{"surprise", words[0] + ",surprise", strings.Join(words, ";")}
	case s.Type.Is("boolean"):
		good, bad = []string{"true", "false"}, []string{"yes", "surprise"}
	case s.Type.Is("integer"), s.Type.Is("number"):
		good, bad = []string{"1"}, []string{"surprise", "1,5", "1e", "0x1"}
		if s.Type.Is("integer") {
			bad = append(bad, "1.5", "1e3", "99999999999999999999")
		}
		if s.Min != nil {
			good = append(good, text(s.Min))
			bad = append(bad, text(new(*s.Min-1)))
		} else {
			good = append(good, "-9223372036854775808", "9223372036854775807")
		}
		if s.Max != nil {
			good = append(good, text(s.Max))
			bad = append(bad, text(new(*s.Max+1)))
		}
	}
	return good, bad
}
