package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// This file asks a handler in this process.

func TestAHandlerInThisProcessIsAskedAsANodeIs(t *testing.T) {
	opened := 0
	c := Local("rules.db", func() (http.Handler, error) {
		opened++
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			if addr == nil || addr.Network() != "unix" || r.Host != "localhost" {
				t.Errorf("the request came in at %v for %q, want a unix socket and localhost", addr, r.Host)
			}
			body, err := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"got": "%s %s", "err": "%v"}`, r.Method, body, err)
		}), nil
	})
	for range 2 {
		answer, err := c.PatchLimits(t.Context(), map[string]int{})
		if want := `{"got": "PATCH {}", "err": "<nil>"}`; err != nil || string(answer.Raw()) != want {
			t.Errorf("the answer is %s, %v; want %s", answer.Raw(), err, want)
		}
	}
	if opened != 1 || !c.IsLocal() {
		t.Errorf("the handler was opened %d times, want once", opened)
	}
}

func TestAHandlerThatCannotBeOpenedIsNoNodeThatDoesNotAnswer(t *testing.T) {
	locked := errors.New("connmgr: rules.db: in use")
	c := Local("rules.db", func() (http.Handler, error) { return nil, locked })
	if _, err := c.Status(t.Context()); err != locked { //nolint:errorlint // it is to come as it is
		t.Errorf("the error is %v, want %v", err, locked)
	}
}

func TestAProblemOfAHandlerInThisProcessNamesTheFile(t *testing.T) {
	for problem, want := range map[string]string{
		`{"title":"no","detail":"there is no rule deny 192.0.2.1"}`:                                                                                   "connmgr: rules.db: there is no rule deny 192.0.2.1",
		`{"title":"not saved","in_force":true,"detail":"the rules are in force, but not saved: they could not be: connmgrbolt: rules.db: disk full"}`: "connmgr: rules.db: not written: disk full",
	} {
		c := Local("rules.db", func() (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = io.Copy(w, strings.NewReader(problem))
			}), nil
		})
		if _, err := c.Status(t.Context()); err == nil || err.Error() != want {
			t.Errorf("%s is the error %v, want %s", problem, err, want)
		}
	}
}
