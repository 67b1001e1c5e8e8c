package api

import "strings"

// This file is the document that answers a request that was not fulfilled.

// Problem says why a request was not fulfilled, as RFC 9457 has it. It is the body
// of every answer with a status of 400 and above; its Content-Type is
// application/problem+json.
type Problem struct {
	// Type is one of the Problem... constants. It is what programs look at: it stays
	// the same where Title and Detail become better words. A client takes a type that
	// it does not know by its Status.
	Type string `json:"type"`
	// Title is the type in a few words for people. It is the same for every problem
	// of a type.
	Title string `json:"title"`
	// Status is the status of the answer, 400 to 599.
	Status int `json:"status"`
	// Detail is what is wrong with this request, and what to do about it.
	Detail string `json:"detail,omitempty"`
	// Field is the member of the body, or the parameter of the query, that is wrong,
	// with dots between the names of members within members. Empty if it is none.
	Field string `json:"field,omitempty"`
	// Line is the line of the body that is wrong, from 1. 0 if it is none.
	Line int `json:"line,omitempty"`
	// Column is the byte in Line at which it is wrong, from 1. 0 if that is not known.
	Column int `json:"column,omitempty"`
	// InForce says that the change was made and is in force, although the request
	// failed: it is not saved, so a restart forgets it.
	InForce bool `json:"in_force,omitempty"`
}

// Error makes a problem an error, for clients.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString("connmgr: ")
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": ")
		b.WriteString(p.Detail)
	}
	return b.String()
}

// The types of problems.
const (
	// ProblemBadRequest: the request is not understood (400).
	ProblemBadRequest = "urn:connmgr:problem:bad-request"
	// ProblemUnauthorized: the bearer token is missing or wrong (401).
	ProblemUnauthorized = "urn:connmgr:problem:unauthorized"
	// ProblemCrossOrigin: a page of another site made a browser ask (403).
	ProblemCrossOrigin = "urn:connmgr:problem:cross-origin"
	// ProblemNoToken: the request came in over an address that others reach, and no
	// token is set (403).
	ProblemNoToken = "urn:connmgr:problem:no-token"
	// ProblemNotFound: there is nothing by this path, or no such peer or rule (404).
	ProblemNotFound = "urn:connmgr:problem:not-found"
	// ProblemMethodNotAllowed: the path is known, but not with this method; the
	// header Allow says with which (405).
	ProblemMethodNotAllowed = "urn:connmgr:problem:method-not-allowed"
	// ProblemTooLarge: the body is larger than is read (413).
	ProblemTooLarge = "urn:connmgr:problem:too-large"
	// ProblemUnsupportedMediaType: the body is of another Content-Type than is read
	// here (415).
	ProblemUnsupportedMediaType = "urn:connmgr:problem:unsupported-media-type"
	// ProblemMisdirected: the header Host names somebody else (421).
	ProblemMisdirected = "urn:connmgr:problem:misdirected"
	// ProblemUnprocessable: the request is understood, but a value in it cannot be
	// (422).
	ProblemUnprocessable = "urn:connmgr:problem:unprocessable"
	// ProblemTooManyStreams: as many event streams are open as are allowed; the header
	// Retry-After says when to ask again (503).
	ProblemTooManyStreams = "urn:connmgr:problem:too-many-streams"
	// ProblemNotSaved: the change is in force, but could not be saved (500).
	ProblemNotSaved = "urn:connmgr:problem:not-saved"
	// ProblemInternal: the server failed (500).
	ProblemInternal = "urn:connmgr:problem:internal"
	// ProblemUnavailable: the manager is closed, or busy beyond its bounds; the header
	// Retry-After says when to ask again (503).
	ProblemUnavailable = "urn:connmgr:problem:unavailable"
)
