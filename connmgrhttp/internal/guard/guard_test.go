package guard_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
)

// This file sends requests, byte by byte, through real sockets to a guard, and looks at
// who gets through. Each case says all that is sent behind the first line.

const token = "a-token-of-good-length"

// site is a server with something behind a guard.
type site struct {
	*httptest.Server
	calls atomic.Int32 // of what is behind the guard
}

// open serves something behind a guard: "/" is public, and so is whatever is called page.js.
func open(t *testing.T, l net.Listener, cfg guard.Config, next http.HandlerFunc) *site {
	t.Helper()
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s := new(site)
	public := func(r *http.Request) bool { return r.URL.Path == "/" || strings.HasSuffix(r.URL.Path, "page.js") }
	s.Server = httptest.NewUnstartedServer(guard.New(cfg).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		if next != nil {
			next(w, r)
		}
	}), public))
	s.Config.DisableGeneralOptionsHandler = true // as connmgrhttp.Serve has it
	if l != nil {
		s.Listener.Close()
		s.Listener = l
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// dial connects to the site.
func (s *site) dial(t *testing.T) net.Conn {
	t.Helper()
	addr := s.Listener.Addr()
	if lying, ok := s.Listener.(lyingListener); ok {
		addr = lying.Listener.Addr()
	}
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// ask sends bytes and returns the answer, with its body read.
func (s *site) ask(t *testing.T, raw string) (*http.Response, string) {
	t.Helper()
	conn := s.dial(t)
	if _, err := io.WriteString(conn, strings.ReplaceAll(raw, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, conn)
}

func readAnswer(t *testing.T, conn net.Conn) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("there is no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer is cut off: %v", err)
	}
	return resp, string(body)
}

// wantRefused checks that an answer is the problem with a slug.
func wantRefused(t *testing.T, resp *http.Response, body, slug string) api.Problem {
	t.Helper()
	statuses := map[string]int{
		"bad-request": 400, "unauthorized": 401, "cross-origin": 403, "no-token": 403, "method-not-allowed": 405,
		"too-large": 413, "unsupported-media-type": 415, "misdirected": 421, "unprocessable": 422,
	}
	var p api.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("the answer %d is no problem document: %v\n%s", resp.StatusCode, err, body)
	}
	if want := "urn:connmgr:problem:" + slug; p.Type != want || resp.StatusCode != statuses[slug] || p.Status != statuses[slug] {
		t.Errorf("the answer is %d, %s (%s), want %d, %s", resp.StatusCode, p.Type, p.Detail, statuses[slug], want)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("the Content-Type is %q, want application/problem+json", got)
	}
	if p.Detail == "" {
		t.Error("the problem has no detail, want one that says what to do")
	}
	return p
}

func TestWhoGetsThroughOnLoopback(t *testing.T) {
	withToken := guard.Config{Token: token}
	bearer := "Authorization: Bearer " + token + "\n"
	for _, test := range []struct {
		name    string
		cfg     guard.Config
		raw     string // without the empty line at the end
		refused string // "" if the request gets through
	}{
		{"a plain request", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: localhost:7654\n", ""},
		{"a plain change", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nContent-Length: 0\n", ""},
		{"its token", withToken, "GET /v1/status HTTP/1.1\nHost: 127.0.0.1\n" + bearer, ""},
		{"its token, in other words", withToken, "GET /v1/status HTTP/1.1\nHost: 127.0.0.1\nauthorization: bEARER   " + token + "  \n", ""},
		{"no token", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"a wrong token", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer " + token + "x\n", "unauthorized"},
		{"the start of the token", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer " + token[:8] + "\n", "unauthorized"},
		{"an empty token", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer \n", "unauthorized"},
		{"the token alone", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: " + token + "\n", "unauthorized"},
		{"the token by another scheme", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Basic " + token + "\n", "unauthorized"},
		{"the token behind a tab", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer\t" + token + "\n", "unauthorized"},
		{"the token and more", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer " + token + " x\n", "unauthorized"},
		{"two tokens, the right one first", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\n" + bearer + "Authorization: Bearer x\n", "unauthorized"},
		{"two tokens, the right one last", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer x\n" + bearer, "unauthorized"},
		{"two tokens in one header", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer x, Bearer " + token + "\n", "unauthorized"},
		{"the token in the query", withToken, "GET /v1/status?access_token=" + token + "&token=" + token + " HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"the token as the user of the URL", withToken, "GET http://" + token + ":" + token + "@localhost/v1/status HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"the token in a cookie", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nCookie: token=" + token + "\n", "unauthorized"},
		{"the token in another header", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nProxy-Authorization: Bearer " + token + "\nX-Token: " + token + "\n", "unauthorized"},
		{"a short token, on loopback", guard.Config{Token: "abc"}, "GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: Bearer abc\n", ""},
		{"no token, where a short one is asked", guard.Config{Token: "abc"}, "GET /v1/status HTTP/1.1\nHost: localhost\n", "unauthorized"},

		{"the page", withToken, "GET / HTTP/1.1\nHost: localhost\n", ""},
		{"a file of the page", withToken, "HEAD /page.js HTTP/1.1\nHost: localhost\n", ""},
		{"a change where the page is", withToken, "POST / HTTP/1.1\nHost: localhost\nContent-Length: 0\n", "unauthorized"},
		{"a method called Get", withToken, "Get / HTTP/1.1\nHost: localhost\n", "method-not-allowed"},
		{"a method by override", withToken, "POST / HTTP/1.1\nHost: localhost\nX-HTTP-Method-Override: GET\nContent-Length: 0\n", "unauthorized"},
		{"the page under another Host", withToken, "GET / HTTP/1.1\nHost: evil.example\n", "misdirected"},

		{"up from the page", withToken, "GET /page.js/../v1/status HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"up to the page", withToken, "GET /v1/../page.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"up to the page, escaped", withToken, "GET /v1/%2e%2e/page.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"an escaped slash", withToken, "GET /%2fpage.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"an escaped letter", withToken, "GET /%70age.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"two slashes", withToken, "GET //page.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"two slashes and a change", withToken, "POST //v1//trim HTTP/1.1\nHost: localhost\nContent-Length: 0\n", "unauthorized"},
		{"a file of the page, further down", withToken, "GET /dir/page.js HTTP/1.1\nHost: localhost\n", ""},
		{"a dot", withToken, "GET /./page.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"a backslash", withToken, "GET /v1\\..\\page.js HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"another URL in the first line", withToken, "GET http://localhost/v1/status HTTP/1.1\nHost: localhost\n", "unauthorized"},

		{"the name of a stranger", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: evil.example:7654\n", "misdirected"},
		{"the name of a stranger, and the token", withToken, "GET /v1/status HTTP/1.1\nHost: evil.example\n" + bearer, "misdirected"},
		{"a name of ours", guard.Config{Hosts: []string{"node.example"}}, "GET /v1/status HTTP/1.1\nHost: Node.Example.:80\n", ""},
		{"no Host", guard.Config{}, "GET /v1/status HTTP/1.0\n", "misdirected"},
		{"an empty Host", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: \n", "misdirected"},
		{"a stranger in the first line", guard.Config{}, "GET http://evil.example/v1/status HTTP/1.1\nHost: localhost\n", "misdirected"},
		{"another scheme in the first line", guard.Config{}, "GET ftp://evil.example/v1/status HTTP/1.1\nHost: localhost\n", "misdirected"},
		{"ours forwarded", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: evil.example\nX-Forwarded-Host: localhost\n", "no-token"},

		{"a proxy's", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: localhost\nX-Forwarded-For: 203.0.113.9\n", "no-token"},
		{"a proxy's by the standard", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: localhost\nForwarded: for=203.0.113.9\n", "no-token"},
		{"a proxy's, and the token", withToken, "GET /v1/status HTTP/1.1\nHost: localhost\nVia: 1.1 proxy\n" + bearer, ""},
		{"a proxy's, and a short token", guard.Config{Token: "abc"}, "GET /v1/status HTTP/1.1\nHost: localhost\nVia: 1.1 proxy\nAuthorization: Bearer abc\n", "no-token"},

		{"our page", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://localhost:7654\nSec-Fetch-Site: same-origin\nContent-Length: 0\n", ""},
		{"our page in an old browser", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://localhost:7654\nContent-Length: 0\n", ""},
		{"another site", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://evil.example\nSec-Fetch-Site: cross-site\nContent-Length: 0\n", "cross-origin"},
		{"another site, and the token", withToken, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://evil.example\nSec-Fetch-Site: cross-site\nContent-Length: 0\n" + bearer, "cross-origin"},
		{"another site in an old browser", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://evil.example\nContent-Length: 0\n", "cross-origin"},
		{"a page without an origin", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: null\nContent-Length: 0\n", "cross-origin"},
		{"another program's page on this machine", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost:7654\nOrigin: http://localhost:3000\nContent-Length: 0\n", "cross-origin"},
		{"the same, in a new browser", guard.Config{}, "DELETE /v1/rules HTTP/1.1\nHost: localhost:7654\nSec-Fetch-Site: same-site\n", "cross-origin"},
		{"a word that no browser says", guard.Config{}, "POST /v1/trim HTTP/1.1\nHost: localhost\nSec-Fetch-Site: Same-Origin\nContent-Length: 0\n", "cross-origin"},
		{"another site's question whether it may", guard.Config{}, "OPTIONS /v1/trim HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\nAccess-Control-Request-Method: POST\n", "cross-origin"},
		{"another site reads", guard.Config{}, "GET /v1/peers HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\n", "cross-origin"},
		{"another site reads, in an old browser", guard.Config{}, "GET /v1/peers HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\n", "cross-origin"},
		{"another site leads to the API", guard.Config{}, "GET /v1/peers HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\n", "cross-origin"},
		{"another site leads to the page", guard.Config{}, "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\n", ""},
		{"another site takes a file of the page", guard.Config{}, "GET /page.js HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\n", "cross-origin"},
		{"another site sends a form to the page", guard.Config{}, "POST / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nContent-Length: 0\n", "cross-origin"},
		{"an address that was typed", guard.Config{}, "GET /v1/status HTTP/1.1\nHost: localhost\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\n", ""},

		{"the server as a whole", guard.Config{}, "OPTIONS * HTTP/1.1\nHost: localhost\n", "bad-request"},
		{"the server as a whole, without the token", withToken, "OPTIONS * HTTP/1.1\nHost: localhost\n", "unauthorized"},
		{"the server as a whole, to read", withToken, "GET * HTTP/1.1\nHost: localhost\n" + bearer, "bad-request"},

		{"TRACE", guard.Config{}, "TRACE /v1/status HTTP/1.1\nHost: localhost\n", "method-not-allowed"},
		{"CONNECT", guard.Config{}, "CONNECT localhost:80 HTTP/1.1\nHost: localhost:80\n", "method-not-allowed"},
		{"CONNECT to a path", guard.Config{}, "CONNECT /v1/trim HTTP/1.1\nHost: localhost:80\n", "method-not-allowed"},
		{"a method nobody knows", guard.Config{}, "BREW /v1/trim HTTP/1.1\nHost: localhost:80\n", "method-not-allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, nil, test.cfg, nil)
			resp, body := s.ask(t, test.raw+"Connection: close\n\n")
			if through := s.calls.Load() > 0; through != (test.refused == "") {
				t.Errorf("the request got through: %v, want %v (the answer is %d %s)", through, test.refused == "", resp.StatusCode, body)
			}
			if test.refused != "" {
				wantRefused(t, resp, body, test.refused)
			}
			if test.refused == "unauthorized" {
				want := `Bearer realm="connmgr"`
				if strings.Contains(strings.ToLower(test.raw), "\nauthorization:") {
					want += `, error="invalid_token"`
				}
				if got := resp.Header.Get("WWW-Authenticate"); got != want {
					t.Errorf("WWW-Authenticate is %q, want %q", got, want)
				}
			}
			if test.refused == "method-not-allowed" && resp.Header.Get("Allow") == "" {
				t.Error("there is no Allow, want the methods that are")
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has %s, want nothing that lets other sites in", name)
				}
			}
			if strings.Contains(body, token) {
				t.Errorf("the answer has the token in it: %s", body)
			}
		})
	}
}

// Some tricks never come as far as the guard, for net/http refuses them. If it ceased to,
// we would want to know.
func TestNetHTTPStopsWhatNoParserAgreesOn(t *testing.T) {
	for name, raw := range map[string]string{
		"two Hosts":                     "GET /v1/status HTTP/1.1\nHost: localhost\nHost: evil.example\n",
		"no Host":                       "GET /v1/status HTTP/1.1\n",
		"a Host with a space":           "GET /v1/status HTTP/1.1\nHost: localhost evil.example\n",
		"two lengths":                   "POST /v1/trim HTTP/1.1\nHost: localhost\nContent-Length: 0\nContent-Length: 5\n",
		"a space before the colon":      "GET /v1/status HTTP/1.1\nHost : localhost\n",
		"a folded header at the start":  "GET /v1/status HTTP/1.1\n Host: localhost\nHost: localhost\n",
		"a header with a NUL":           "GET /v1/status HTTP/1.1\nHost: localhost\nX: \x00\n",
		"an unknown Transfer-Encoding":  "POST /v1/trim HTTP/1.1\nHost: localhost\nTransfer-Encoding: gzip, chunked\n",
		"a NUL in the path":             "GET /page.js\x00 HTTP/1.1\nHost: localhost\n",
		"a version that does not exist": "GET / HTTP/3.7\nHost: localhost\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil, guard.Config{}, nil)
			resp, body := s.ask(t, raw+"Connection: close\n\n")
			if resp.StatusCode < 400 || s.calls.Load() > 0 {
				t.Errorf("the answer is %d (%s), want a refusal", resp.StatusCode, body)
			}
		})
	}
}

func TestEveryAnswerTellsBrowsersToKeepApart(t *testing.T) {
	s := open(t, nil, guard.Config{Token: token}, nil)
	for path, cache := range map[string]string{"/": "", "/v1/status": "no-store", "/page.js": ""} {
		for _, authorization := range []string{"", "Authorization: Bearer " + token + "\n"} {
			resp, _ := s.ask(t, "GET "+path+" HTTP/1.1\nHost: localhost\nConnection: close\n"+authorization+"\n")
			for name, want := range map[string]string{
				"X-Content-Type-Options":       "nosniff",
				"Referrer-Policy":              "no-referrer",
				"Cross-Origin-Resource-Policy": "same-origin",
				"Cross-Origin-Opener-Policy":   "same-origin",
				"X-Frame-Options":              "DENY",
				"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
				"Cache-Control":                cache,
			} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s, %d: %s is %q, want %q", path, resp.StatusCode, name, got, want)
				}
			}
		}
	}
}

func TestAConfigThatCannotWorkIsAnError(t *testing.T) {
	for _, cfg := range []guard.Config{
		{Token: "with space in it, long"},
		{Token: "line\nbreak"},
		{Token: "zürich"},
		{Token: "nul\x00"},
		{Hosts: []string{"*"}},
		{Hosts: []string{"node.example", "http://node.example"}},
		{Hosts: []string{""}},
		{Hosts: []string{"node.example/path"}},
		{Hosts: []string{"*.example"}},
		{Hosts: []string{".example"}},
		{Hosts: []string{"node.example.."}},
		{Hosts: []string{"fe80::1%eth0"}},
	} {
		err := cfg.Check()
		if err == nil {
			t.Errorf("%+v is accepted", cfg)
			continue
		}
		if cfg.Token != "" && strings.Contains(err.Error(), cfg.Token) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
	good := guard.Config{Token: token, Hosts: []string{"node.example", "NODE.example.:7654", "10.0.0.1", "2001:db8::1", "[2001:db8::2]:80"}}
	if err := good.Check(); err != nil {
		t.Errorf("%+v is refused: %v", good, err)
	}
}
