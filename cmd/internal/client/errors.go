package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is what can go wrong with a request: nobody answers, the node says no, or
// who answers is no node.

// UnreachableError says that no node answers, or not to the end.
type UnreachableError struct {
	// Address is where the API should be.
	Address string
	// Begun says that an answer had begun.
	Begun bool
	// Err is why.
	Err error
}

// Error names the address and says what to do.
func (e *UnreachableError) Error() string {
	if e.Begun {
		return fmt.Sprintf("connmgr: the answer of the node at %s broke off (%s)", e.Address, because(e.Err))
	}
	var silent *silentError
	if errors.As(e.Err, &silent) {
		return fmt.Sprintf("connmgr: the node at %s does not answer (%s); --timeout says how long to wait", e.Address, because(e.Err))
	}
	if errors.Is(e.Err, syscall.EACCES) {
		return fmt.Sprintf("connmgr: the node's socket at %s cannot be opened (%s); who may is said by its file mode", e.Address, because(e.Err))
	}
	return fmt.Sprintf("connmgr: no node answers at %s (%s); is \"connmgr run\" running there? --api says where", e.Address, because(e.Err))
}

// Unwrap returns Err.
func (e *UnreachableError) Unwrap() error { return e.Err }

// because is the innermost word on why a connection failed.
func because(err error) string {
	var (
		errno syscall.Errno
		dns   *net.DNSError
		op    *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		return clean(dns.Err)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &op):
		return clean(op.Err.Error())
	}
	return clean(err.Error())
}

// StatusError says that the node did not do what it was asked to.
type StatusError struct {
	// Address is where the API is.
	Address string
	// Problem is what the node says. Its texts are safe to show.
	Problem api.Problem
	// RetryAfter is when to ask again; 0 if the node does not say.
	RetryAfter time.Duration
	// TokenSent says that the request had a token.
	TokenSent bool
	// Local says that no node was asked, but a file; see [Local].
	Local bool
}

// Error says what the node says, and what to do where that is known here. What a node says
// to those who are refused is about headers; here it is about flags and settings.
func (e *StatusError) Error() string {
	p := e.Problem
	text := p.Title
	switch {
	case p.Detail != "":
		text = p.Detail
	case p.Title == "":
		text = http.StatusText(p.Status)
	}
	if p.Field != "" && !strings.Contains(text, p.Field) {
		text = p.Field + ": " + text
	}
	switch {
	case e.Local && p.InForce:
		return fmt.Sprintf("connmgr: %s: not written: %s", e.Address, reasonNotSaved(text, e.Address))
	case e.Local:
		return fmt.Sprintf("connmgr: %s: %s", e.Address, strings.TrimPrefix(text, "connmgr: "))
	case p.Status == http.StatusUnauthorized && e.TokenSent:
		return fmt.Sprintf("connmgr: the node at %s refuses the token: --token-file or CONNMGR_API_TOKEN gives another one", e.Address)
	case p.Status == http.StatusUnauthorized:
		return fmt.Sprintf("connmgr: the node at %s needs a token: --token-file or CONNMGR_API_TOKEN gives it", e.Address)
	case p.Status == http.StatusMisdirectedRequest:
		return fmt.Sprintf("connmgr: the node at %s refuses, since it does not go by that name: ask it by its address, or add the name to api.hosts of its configuration", e.Address)
	case p.Status == http.StatusForbidden && p.Title != "" && p.Detail != "":
		return fmt.Sprintf("connmgr: the node at %s refuses: %s: %s", e.Address, p.Title, p.Detail)
	case p.Status == http.StatusForbidden:
		return fmt.Sprintf("connmgr: the node at %s refuses: %s", e.Address, text)
	case p.InForce:
		return fmt.Sprintf("connmgr: in force, but not saved, so a restart of the node forgets it: %s", reasonNotSaved(text, ""))
	case p.Status >= 500:
		return fmt.Sprintf("connmgr: the node at %s failed: %s", e.Address, text)
	}
	return "connmgr: " + strings.TrimPrefix(text, "connmgr: ")
}

// reasonNotSaved is why a change of rules was not saved, without the words for a node, in
// which it is in force, and without the name of the file if that
// stands before it.
func reasonNotSaved(text, file string) string {
	if _, reason, ok := strings.Cut(text, "they could not be: "); ok {
		text = reason
	}
	text = strings.TrimPrefix(text, "connmgrbolt: ")
	if file == "" {
		return text
	}
	return strings.TrimPrefix(text, file+": ")
}

// Refused reports whether the node takes no requests from who asked.
func (e *StatusError) Refused() bool {
	s := e.Problem.Status
	return s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusMisdirectedRequest
}

// NotFound reports whether the node knows no such thing.
func (e *StatusError) NotFound() bool { return e.Problem.Status == http.StatusNotFound }

// AnswerError says that what answers is not the API.
type AnswerError struct {
	// Address is where the API should be.
	Address string
	// Reason is what is wrong with the answer.
	Reason string
}

// Error names the address and says what came instead.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("connmgr: what answers at %s is not the API of a node: %s; --api says where one is", e.Address, e.Reason)
}

// retryAfter reads a header Retry-After in seconds; others are 0.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// maxText bounds a text in an error, in bytes.
const maxText = 2 << 10

// clean makes a text that somebody else wrote safe for a terminal, and short.
func clean(text string) string {
	cut := false
	if len(text) > maxText {
		text, cut = text[:maxText], true
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case r == '\n':
			b.WriteByte(' ')
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}
