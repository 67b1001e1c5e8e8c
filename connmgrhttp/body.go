package connmgrhttp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
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
	// maxRules is the rules of a list. It is a few times what the largest ones that are
	// published have, and takes some 100 MB while it is read.
	maxRules = 1 << 19
)

// readBody reads a document. A null in it would be taken for a member that is missing by
// encoding/json, and in a merge patch it would mean to remove one; neither is meant here,
// so it is refused but for those that are named.
func readBody(r *http.Request, into any, nullable ...string) error {
	types := []string{"application/json"}
	if r.Method == http.MethodPatch {
		types = append(types, "application/merge-patch+json") // its own name, as RFC 7396 has it
	}
	body, err := guard.Body(r, maxBody, types...)
	if err != nil {
		return err
	}
	if err := guard.Decode(body, into); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // one that is too large has been refused where it is wanted
	var doc any
	if err := d.Decode(&doc); err != nil {
		return err
	}
	if field, found := findNull(doc, "", nullable); found {
		return refuse(problem.Unprocessable, field, "%.200s is null, which it cannot be; leave it out instead", field)
	}
	return nil
}

// readOptionalBody is readBody where there may be none.
func readOptionalBody(r *http.Request, into any) error {
	if isEmpty(r) {
		return nil
	}
	return readBody(r, into)
}

// noBody is for requests whose path says all.
func noBody(r *http.Request) error {
	if !isEmpty(r) {
		return refuse(problem.BadRequest, "", "%s %.200s takes no body", r.Method, r.URL.Path)
	}
	return nil
}

// isEmpty reports whether a request has no body. What has no length, since it comes in
// chunks, may still be empty.
func isEmpty(r *http.Request) bool {
	if r.ContentLength >= 0 || r.Body == nil {
		return r.ContentLength <= 0
	}
	body := bufio.NewReader(r.Body)
	_, err := body.Peek(1)
	r.Body = peeked{body, r.Body}
	return err == io.EOF
}

// peeked is a body that has been looked into.
type peeked struct {
	io.Reader
	io.Closer
}

// findNull returns the path of a member that is null.
func findNull(doc any, path string, nullable []string) (string, bool) {
	switch doc := doc.(type) {
	case nil:
		return path, !slices.Contains(nullable, path)
	case map[string]any:
		for name, value := range doc {
			if path != "" {
				name = path + "." + name
			}
			if field, found := findNull(value, name, nullable); found {
				return field, true
			}
		}
	case []any:
		for _, value := range doc {
			if field, found := findNull(value, path, nullable); found {
				return field, true
			}
		}
	}
	return "", false
}
