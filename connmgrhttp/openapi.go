package connmgrhttp

import _ "embed"

// This file holds the description of the API for programs: every operation, its parameters,
// answers and documents. It is written by hand, so that it can be read; openapi_test.go
// holds it against the types of package api and the routes, and a test in the module of
// the command against what the handler answers.
//
// It is OpenAPI 3.1 since only that says null and the words of a map's keys as they are.

//go:embed openapi.json
var openAPI []byte
