package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file tests what becomes of a request whom somebody else answers, or nobody.

// serve serves a function on loopback, and returns a client of it.
func serve(t *testing.T, opts Options, f http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // before it: some answers never end
	opts.Address = server.URL
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func writeJSON(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text)
}

func TestWhatIsNotTheAPIsAnswerIsAnErrorThatSaysSo(t *testing.T) {
	for _, c := range []struct {
		title, want string
		answer      http.HandlerFunc
	}{
		{"a web page", "it answered with text/html where application/json was asked for", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<!DOCTYPE html><title>Router</title>")
		}},
		{"a page that is not there", "it answered 404 Not Found with text/plain", http.NotFound},
		{"a redirect", "it answered 302 Found", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login", http.StatusFound)
		}},
		{"garbage that calls itself JSON", "its answer says that it is JSON, and is not", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, "{\"now\": \x1b[31m")
		}},
		{"half of a document", "its answer says that it is JSON, and is not", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, `{"now":`)
		}},
		{"a document and more", "its answer says that it is JSON, and is not", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, `{} {}`)
		}},
		{"an empty answer", "its answer says that it is JSON, and is not", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, "")
		}},
		{"a problem that is none", "it answered 500 Internal Server Error with a problem that is none", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "[]")
		}},
		{"a document without a type", "it answered without a Content-Type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "{}")
		}},
		{"a huge document", "its answer is larger than any of the API's", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			blanks := bytes.Repeat([]byte(" "), 1<<20)
			for range maxDocument>>20 + 2 {
				if _, err := w.Write(blanks); err != nil {
					return
				}
			}
		}},
		{"a huge header", "server response headers exceeded", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
			writeJSON(w, "{}")
		}},
	} {
		client := serve(t, Options{}, c.answer)
		_, err := client.Status(t.Context())
		var foreign *AnswerError
		if !errors.As(err, &foreign) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), client.Address()) {
			t.Errorf("%s: the error is %v, want an AnswerError that names %s and says %q", c.title, err, client.Address(), c.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%s: the error has control characters: %q", c.title, err)
		}
	}
}

func TestAnAnswerOfAnotherKindIsAnErrorWhenItIsRead(t *testing.T) {
	for _, doc := range []string{`[]`, `"status"`, `{"connections": 7}`, `{"trims": {"teleport": 1}}`} {
		answer, err := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, doc) }).Status(t.Context())
		if err != nil || string(answer.Raw()) != doc {
			t.Errorf("%s came as %s, %v; want it as it is, for programs", doc, answer.Raw(), err)
			continue
		}
		if _, err := answer.Document(); err == nil || !strings.Contains(err.Error(), "not understood") {
			t.Errorf("%s read as a status gives %v, want an error that says that it is not understood", doc, err)
		}
	}
}

func TestAProblemIsTheErrorThatItIs(t *testing.T) {
	for _, c := range []struct {
		status            int
		body, want        string
		refused, notFound bool
	}{
		{401, `{"title":"a bearer token is needed","detail":"send it"}`, "needs a token: --token-file or CONNMGR_API_TOKEN gives it", true, false},
		{403, `{"title":"no token is set"}`, "refuses: no token is set", true, false},
		{403, `{"title":"no token is set","detail":"set one"}`, "refuses: no token is set: set one", true, false},
		{421, `{"title":"the Host is somebody else","detail":"the header Host is \"a\""}`, "does not go by that name: ask it by its address, or add the name to api.hosts", true, false},
		{404, `{"title":"there is no such thing","detail":"nothing is known about peer \"a\""}`, `connmgr: nothing is known about peer "a"`, false, true},
		{422, `{"title":"a value cannot be","detail":"low_water 3 is above high_water 2","field":"low_water"}`, "connmgr: low_water 3 is above high_water 2", false, false},
		{400, `{"title":"no","detail":"want a number","field":"limit"}`, "connmgr: limit: want a number", false, false},
		{500, `{"title":"in force, but not saved","detail":"disk full","in_force":true}`, "in force, but not saved, so a restart of the node forgets it: disk full", false, false},
		{503, `{"title":"not at the moment"}`, "failed: not at the moment", false, false},
		{500, `{}`, "failed: Internal Server Error", false, false},
		{422, `{"title":"\u001b[31mred\u0007\nline"}`, `connmgr: \x1b[31mred\a line`, false, false},
	} {
		client := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := client.Trim(t.Context(), api.TrimRequest{})
		var status *StatusError
		if !errors.As(err, &status) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %s: the error is %v, want a StatusError that says %q", c.status, c.body, err, c.want)
			continue
		}
		if status.Problem.Status != c.status || status.Refused() != c.refused || status.NotFound() != c.notFound {
			t.Errorf("%d %s: got status %d, refused %v, not found %v", c.status, c.body, status.Problem.Status, status.Refused(), status.NotFound())
		}
	}
}

func TestNobodyWhoAnswersIsAnErrorThatSaysWhereAndWhy(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for address, want := range map[string]string{
		free.Addr().String():                              "(connection refused)",
		"unix:" + filepath.Join(t.TempDir(), "none.sock"): "(no such file or directory)",
	} {
		c, err := New(Options{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "no node answers at "+address+" "+want) {
			t.Errorf("at %s the error is %v, want an UnreachableError that says %s", address, err, want)
		}
	}
}

func TestAnAnswerThatDoesNotComeInTimeIsGivenUp(t *testing.T) {
	gone := make(chan struct{})
	t.Cleanup(func() { close(gone) })
	for title, answer := range map[string]http.HandlerFunc{
		"it does not begin": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-gone:
			}
		},
		"it does not end": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		},
	} {
		c := serve(t, Options{Timeout: 100 * time.Millisecond}, answer)
		_, err := c.Status(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) && !strings.Contains(fmt.Sprint(err), "larger than any") {
			t.Errorf("%s: the error is %v, want an UnreachableError", title, err)
		}
		if unreachable != nil && !strings.Contains(err.Error(), "no answer within 100ms") {
			t.Errorf("%s: the error is %v, want it to say how long was waited", title, err)
		}
	}
}

func TestAnAnswerThatBreaksOffIsNoDocument(t *testing.T) {
	c := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		writeJSON(w, "{}")
	})
	_, err := c.Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("the error is %v, want that the answer broke off", err)
	}
}

func TestWhatSpeaksNoHTTPIsNoNode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n")
			_, _ = bufio.NewReader(conn).ReadString('\n')
			conn.Close()
		}
	}()
	for _, scheme := range []string{"http://", "https://"} {
		c, err := New(Options{Address: scheme + l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context())
		var foreign *AnswerError
		if !errors.As(err, &foreign) {
			t.Errorf("over %s the error is %v, want an AnswerError", scheme, err)
		}
	}
}

func TestAnEndedContextIsTheError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, Options{}, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
}

func TestTheTokenIsSentAndFollowsNoRedirect(t *testing.T) {
	var elsewhere []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	var got string
	c := serve(t, Options{Token: "s3cret"}, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, _ = c.Status(t.Context())
	if got != "Bearer s3cret" || len(elsewhere) > 0 {
		t.Errorf("the node got %q, another server %q; want the token and nothing", got, elsewhere)
	}
	for token, bad := range map[string]bool{"s3cret": false, "s3 cret": true, "s3\ncret": true, "s3\x00": true, "s3ä": true} {
		if _, err := New(Options{Token: token}); (err != nil) != bad {
			t.Errorf("a client with the token %q: %v", token, err)
		} else if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestATokenInClearIsNoticedOnlyWhereItIsReadable(t *testing.T) {
	for address, want := range map[string]bool{
		"": false, "localhost:1": false, "[::1]:1": false, "unix:a": false, "https://192.0.2.1": false,
		"192.0.2.1:1": true, "node.example:1": true,
	} {
		for _, token := range []string{"", "s3cret"} {
			c, err := New(Options{Address: address, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.SendsTokenInClear(); got != (want && token != "") {
				t.Errorf("token %q to %q is sent in clear: %v", token, address, got)
			}
		}
	}
}

// TestEveryCallAsksForWhatItSays holds method, path, query and body of each call against
// the API's description.
func TestEveryCallAsksForWhatItSays(t *testing.T) {
	var got string
	c := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Header.Get("Content-Type"), body))
		if strings.HasSuffix(r.URL.Path, "/export") {
			w.Header().Set("Content-Type", "text/plain")
			return
		}
		writeJSON(w, `{"peers":[],"rules":[],"events":[],"matched":0}`)
	})
	ctx, origin := t.Context(), "a b"
	const odd = "../a/b?c=d#e%ä"
	oddPath := "..%2Fa%2Fb%3Fc=d%23e%25%C3%A4"
	for want, call := range map[string]func() error{
		"GET /v1/status":                                       func() error { _, err := c.Status(ctx); return err },
		"GET /v1/peers?limit=10&offset=5&q=x":                  func() error { _, err := c.Peers(ctx, optional("q", "x"), 5, 10); return err },
		"GET /v1/peers?limit=1000&offset=0":                    func() error { _, err := c.Peers(ctx, nil, 0, -1); return err },
		"GET /v1/peers/" + oddPath + "?trigger=tick":           func() error { _, err := c.Peer(ctx, odd, "tick"); return err },
		"GET /v1/peers/%2E%2E":                                 func() error { _, err := c.Peer(ctx, "..", ""); return err },
		"PUT /v1/peers/a/protections/%2E":                      func() error { _, err := c.Protect(ctx, "a", "."); return err },
		"DELETE /v1/peers/a/protections/x%20y":                 func() error { _, err := c.Unprotect(ctx, "a", "x y"); return err },
		`PUT /v1/peers/a/tags/b application/json {"value":-3}`: func() error { _, err := c.Tag(ctx, "a", "b", -3); return err },
		"DELETE /v1/peers/a/tags/b":                            func() error { _, err := c.Untag(ctx, "a", "b"); return err },
		"POST /v1/peers/a/close":                               func() error { _, err := c.ClosePeer(ctx, "a"); return err },
		"GET /v1/plan?limit=0&trigger=force":                   func() error { _, err := c.Plan(ctx, "force", 0); return err },
		`POST /v1/trim application/json {"force":true}`:        func() error { _, err := c.Trim(ctx, api.TrimRequest{Force: true}); return err },
		"GET /v1/limits":                                       func() error { _, err := c.Limits(ctx); return err },
		`PATCH /v1/limits application/json {"hard_limit":null}`: func() error {
			_, err := c.PatchLimits(ctx, map[string]any{"hard_limit": nil})
			return err
		},
		"GET /v1/rules?limit=7&offset=0": func() error { _, err := c.Rules(ctx, nil, 0, 7); return err },
		`POST /v1/rules application/json {"effect":"allow","target":"port 25","for_seconds":60}`: func() error {
			_, err := c.AddRule(ctx, api.NewRule{Rule: api.Rule{Effect: connmgr.Allow, Target: "port 25"}, ForSeconds: 60})
			return err
		},
		"DELETE /v1/rules?effect=deny&origin=a+b&target=port+25": func() error {
			_, err := c.RemoveRule(ctx, connmgr.Deny, "port 25", "a b")
			return err
		},
		"POST /v1/rules/import?effect=deny text/plain; charset=utf-8 port 25": func() error {
			_, err := c.ImportRules(ctx, []byte("port 25"), ImportOptions{})
			return err
		},
		"POST /v1/rules/import?allow_empty=true&effect=allow&for_seconds=1.5&origin=&reason=r text/plain; charset=utf-8 x": func() error {
			_, err := c.ImportRules(ctx, []byte("x"), ImportOptions{
				Replace: true, Reason: "r", Lasting: 1500 * time.Millisecond, Effect: connmgr.Allow, AllowEmpty: true,
			})
			return err
		},
		"GET /v1/rules/export":            func() error { return c.ExportRules(ctx, nil, io.Discard) },
		"GET /v1/rules/export?origin=a+b": func() error { return c.ExportRules(ctx, &origin, io.Discard) },
		`POST /v1/block application/json {"target":"10.0.0.0/8","for_seconds":3600,"reason":"r"}`: func() error {
			_, err := c.Block(ctx, api.Block{Target: "10.0.0.0/8", ForSeconds: 3600, Reason: "r"})
			return err
		},
		`POST /v1/unblock application/json {"target":"10.0.0.0/8"}`: func() error { _, err := c.Unblock(ctx, "10.0.0.0/8"); return err },
		"GET /v1/events/recent?limit=3&peer=a&types=trim%2Cclosed": func() error {
			_, err := c.RecentEvents(ctx, []string{"trim", "closed"}, "a", 3)
			return err
		},
	} {
		if err := call(); err != nil || got != want {
			t.Errorf("asked %q, %v; want %q", got, err, want)
		}
	}
}
