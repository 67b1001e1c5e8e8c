package page

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// This file holds what the page promises whatever browser asks: how it is served, and
// that nothing in it reaches out of the node.

func get(t *testing.T, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// walk calls f for every file of the page.
func walk(t *testing.T, f func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(embedded, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		f(strings.TrimPrefix(name, "static"), string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryFileIsServedWithItsTypeAndUnderThePolicy(t *testing.T) {
	want := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
		"":      "text/plain; charset=utf-8",
	}
	n := 0
	walk(t, func(name, text string) {
		n++
		if !Has(name) {
			t.Errorf("Has(%q) is false, want true", name)
		}
		resp := get(t, name)
		if resp.StatusCode != 200 || body(t, resp) != text {
			t.Errorf("%s: status %d, or another text than the file's", name, resp.StatusCode)
		}
		if got := resp.Header.Get("Content-Type"); got != want[path.Ext(name)] || got == "" {
			t.Errorf("%s: Content-Type %q, want %q", name, got, want[path.Ext(name)])
		}
		for header, want := range map[string]string{
			"Cache-Control":           "no-cache",
			"Content-Security-Policy": Policy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if got := resp.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
	})
	if n < 10 {
		t.Errorf("the page has %d files, want at least its document, styles and scripts", n)
	}
}

func TestTheRootIsTheDocument(t *testing.T) {
	if text := body(t, get(t, "/")); !strings.HasPrefix(strings.ToLower(text), "<!doctype html>") {
		t.Errorf("/ begins with %.40q, want the document", text)
	}
}

func TestAFileThatTheBrowserHasIsNotSentAgain(t *testing.T) {
	etag := get(t, "/").Header.Get("ETag")
	if etag == "" {
		t.Fatal("/ has no ETag")
	}
	if resp := get(t, "/", "If-None-Match", etag); resp.StatusCode != http.StatusNotModified || body(t, resp) != "" {
		t.Errorf("with its ETag, / is answered with %d, want 304 and no body", resp.StatusCode)
	}
	if resp := get(t, "/", "If-None-Match", `"other"`); resp.StatusCode != 200 {
		t.Errorf("with another ETag, / is answered with %d, want 200", resp.StatusCode)
	}
	if other := get(t, "/assets/base.css").Header.Get("ETag"); other == etag {
		t.Errorf("two files have the same ETag %s", etag)
	}
}

func TestFoldersAndWhatIsNotThereAreNotFound(t *testing.T) {
	for _, name := range []string{"/assets", "/assets/", "/assets/uplot/", "/static/index.html", "/page.go", "/favicon.ico", "/assets/../index.html"} {
		if Has(name) {
			t.Errorf("Has(%q) is true, want false", name)
		}
		if resp := get(t, "http://node"+name); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s is answered with %d, want 404", name, resp.StatusCode)
		}
	}
}

func TestAPrefixWithoutItsSlashLeadsToThePage(t *testing.T) {
	for prefix, want := range map[string]string{
		"/connmgr":       "./connmgr/",
		"/ops/connmgr":   "./connmgr/",
		"/connmgr?a=b":   "./connmgr/?a=b",
		"/x/javascript:": "./javascript:/",
		"//evil.example": "./evil.example/",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI = prefix
		r.URL.Path, r.URL.RawQuery = "", ""
		_, r.URL.RawQuery, _ = strings.Cut(prefix, "?")
		w := httptest.NewRecorder()
		ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != want || w.Code != http.StatusTemporaryRedirect {
			t.Errorf("%s leads to %q with %d, want %q with 307", prefix, got, w.Code, want)
		}
	}
}

// A reference that begins with a slash or a host would leave the prefix or the node.
func TestNothingInThePageRefersToOutside(t *testing.T) {
	reference := regexp.MustCompile(`(?:\b(?:href|src|action)=|url\(|@import\s+)["']?([^"'\s)>;]+)`)
	imported := regexp.MustCompile(`(?m)^import .*?["']([^"']+)["']|\bimport\(["']?([^"')]+)`)
	walk(t, func(name, text string) {
		if strings.HasPrefix(name, "/assets/uplot/") {
			return
		}
		if at := strings.Index(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), "://"); at >= 0 {
			t.Errorf("%s names an address", name)
		}
		if path.Ext(name) == ".js" { // only imports; the rest is text
			for _, m := range imported.FindAllStringSubmatch(text, -1) {
				if to := m[1] + m[2]; !strings.HasPrefix(to, "./") || !Has(path.Join("/assets", to)) {
					t.Errorf("%s imports %q, want a file beside it", name, to)
				}
			}
			return
		}
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to != "" && !Has(path.Join(path.Dir(name), to)) {
				t.Errorf("%s refers to %q, which the page does not have", name, m[1])
			}
		}
	})
}

// The policy makes a browser refuse all of these; the page must not need them.
func TestNothingInThePageMakesMarkupOfText(t *testing.T) {
	inline := regexp.MustCompile(`(?i)\son[a-z]+=|\sstyle=|<style|<script>|javascript:`)
	markup := regexp.MustCompile(`\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|DOMParser|createContextualFragment|srcdoc)\b|\b(alert|confirm|prompt)\(`)
	walk(t, func(name, text string) {
		switch {
		case strings.HasPrefix(name, "/assets/uplot/"):
		case path.Ext(name) == ".html" || path.Ext(name) == ".svg":
			if m := inline.FindString(text); m != "" {
				t.Errorf("%s has %q", name, m)
			}
		case path.Ext(name) == ".js":
			if m := markup.FindString(text); m != "" {
				t.Errorf("%s has %q", name, m)
			}
		}
	})
}
