package connmgrhttp

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file reads the bodies of requests.

const (
	// maxBody is the size of a document in bytes. The largest one, the limits with a few
	// dozen prefixes, has a few thousand.
	maxBody = 64 << 10
	// maxList is the size of a list of rules in bytes. The largest ones that are published
	// have a few megabytes.
	maxList = 32 << 20
)

// readBody reads a document.
func readBody(r *http.Request, into any) error { return guard.DecodeJSON(r, maxBody, into) }

// readOptionalBody is readBody where there may be none.
func readOptionalBody(r *http.Request, into any) error {
	if r.ContentLength == 0 {
		return nil
	}
	return readBody(r, into)
}

// noBody is for requests whose path says all.
func noBody(r *http.Request) error {
	if r.ContentLength != 0 {
		return refuse(problem.BadRequest, "", "%s %.200s takes no body", r.Method, r.URL.Path)
	}
	return nil
}

// readPatch reads a merge patch. A null in it would mean to remove a member; those that
// cannot be removed are refused, and not taken for missing, as encoding/json would.
func readPatch(r *http.Request, into any, nullable ...string) error {
	var raw json.RawMessage
	if err := guard.DecodeJSON(r, maxBody, &raw); err != nil {
		return err
	}
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	if field, found := findNull(doc, "", nullable); found {
		return refuse(problem.Unprocessable, field, "%.200s is null, which it cannot be; leave it out to keep it as it is", field)
	}
	return guard.Decode(raw, into)
}

// findNull returns the path of a member that is null.
func findNull(doc any, path string, nullable []string) (string, bool) {
	object, ok := doc.(map[string]any)
	if !ok {
		return path, doc == nil
	}
	for name, value := range object {
		at := name
		if path != "" {
			at = path + "." + name
		}
		if field, found := findNull(value, at, nullable); found && !slices.Contains(nullable, field) {
			return field, true
		}
	}
	return "", false
}
