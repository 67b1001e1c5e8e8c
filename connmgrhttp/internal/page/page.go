// Package page is the web page of connmgrhttp: files that are part of the program. They
// ask for nothing outside of the node, so the page works offline, and they need no build.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// This file serves the files of the page, and says to browsers what the page may do.

//go:embed static
var embedded embed.FS

// Policy is the Content-Security-Policy that the page is served with: scripts, styles and
// requests go to the node that the page is from and nowhere else, nothing inline runs, no
// text becomes markup, and no other page can put it into a frame.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// types is the Content-Type by extension. What a system's own tables say differs from one
// to the next, and browsers refuse scripts that are called plain text.
var types = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8", // LICENSE
}

// file is a file of the page, ready to be sent.
type file struct {
	body        []byte
	contentType string
	etag        string
}

// files returns the files by path. All are read at the first call.
var files = sync.OnceValue(func() map[string]file {
	list := make(map[string]file)
	err := fs.WalkDir(embedded, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		hash := sha256.Sum256(body)
		list[strings.TrimPrefix(name, "static")] = file{
			body:        body,
			contentType: types[path.Ext(name)],
			etag:        `"` + base64.RawURLEncoding.EncodeToString(hash[:16]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("connmgr: the page is not in this program: " + err.Error()) // the build has put it there
	}
	list["/"] = list["/index.html"]
	return list
})

// Has reports whether the page has something at a path, such as "/" or
// "/assets/app.js": a file, not a folder. The empty path is one too: it is what
// [http.StripPrefix] leaves of a prefix that a slash is missing behind.
func Has(path string) bool {
	_, ok := files()[path]
	return ok || path == ""
}

// ServeHTTP answers a GET or HEAD of one of the page's files; others are not found.
// Browsers keep the files and ask each time whether they are still the same, so that a
// page never meets the API of another version. The empty path leads to the page.
func ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "" {
		redirect(w, r)
		return
	}
	f, ok := files()[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// redirect adds the slash that is missing behind a prefix; without it, what the page
// refers to would be looked for beside the prefix. Only the last element of the path is
// said, since a proxy may have taken off what was before it.
func redirect(w http.ResponseWriter, r *http.Request) {
	asked, _, _ := strings.Cut(r.RequestURI, "?")
	to := "./" + path.Base("/"+asked) + "/" // the "./" keeps "a:b" from being a scheme
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusTemporaryRedirect)
}
