// Package guard decides who may ask, before anything else looks at a request, and bounds
// what is read of it.
package guard

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file is the guard itself: what is asked of a request, in order.

// MinToken is the bytes that a token has at least, if it is to guard an address that
// others reach. Shorter ones can be guessed.
const MinToken = 16

// Config says who may ask. The zero value lets in what comes over loopback and unix
// sockets.
type Config struct {
	// Token is the bearer token that requests have to carry; "" is none. Over addresses
	// that others reach, one of fewer than MinToken bytes is as good as none.
	Token string
	// Hosts is further names and addresses that the header Host may have; ports do not
	// matter. What is neither name nor address, such as "*", matches nothing.
	Hosts []string
}

// Check says which field of a Config can never work.
func (c Config) Check() error {
	if err := CheckToken(c.Token); err != nil {
		return err
	}
	if _, bad := parseHosts(c.Hosts); len(bad) > 0 {
		return fmt.Errorf("connmgr: Hosts has %q, which is neither a name nor an address; each name is given in full, without scheme and path", bad[0])
	}
	return nil
}

// CheckToken says whether a token can be sent in a header: it must be of printable ASCII
// without spaces. The empty one passes. The error does not repeat it.
func CheckToken(token string) error {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("connmgr: the token has byte %#x at %d; it must be of printable ASCII without spaces", token[i], i)
		}
	}
	return nil
}

// Guard decides who may ask. It can be used by several goroutines.
type Guard struct {
	token   [sha256.Size]byte // a digest, so that comparing takes the same time whatever its length
	length  int               // of the token
	hosts   map[host]bool
	origins http.CrossOriginProtection
}

// New returns a Guard. It does not fail; see Config.Check.
func New(c Config) *Guard {
	hosts, _ := parseHosts(c.Hosts)
	return &Guard{token: sha256.Sum256([]byte(c.Token)), length: len(c.Token), hosts: hosts}
}

// Wrap returns a handler that calls next for the requests that may ask, and answers the
// others with a problem. Requests to read something for which public returns true need no
// token. It is only asked about paths that cannot be read in two ways.
//
// next has to read bodies by Body. What it answers must be taken within half a minute from
// its first byte, and within 5 seconds if it is public, as must refusals; who answers for
// longer sets a deadline before each write, by http.ResponseController.
func (g *Guard) Wrap(next http.Handler, public func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := newResponseWriter(w)
		defer a.end()
		isPublic := isPlainRead(r) && public(r)
		setHeaders(a.Header(), isPublic)
		if g.refuse(a, r, isPublic) {
			return
		}
		if !isPublic {
			a.patience = answerTime
		}
		if bounded := a.bound(r); bounded != nil {
			next.ServeHTTP(a, bounded)
		}
	})
}

// isPlainRead reports whether a request only reads, at a path that is written plainly:
// nothing escaped that need not be, no empty elements, no dots to go up.
func isPlainRead(r *http.Request) bool {
	p := r.URL.Path
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.RawPath != "" {
		return false
	}
	clean := path.Clean(p)
	return strings.HasPrefix(p, "/") && (p == clean || p == clean+"/")
}

// setHeaders sets the headers that all answers have. There is never one of CORS: no other
// site has business here. An answer that is a page sets another policy; in all others
// nothing is meant to be shown.
func setHeaders(h http.Header, public bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	if !public {
		h.Set("Cache-Control", "no-store")
	}
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions,
}

// refuse answers a request that may not ask.
func (g *Guard) refuse(w *responseWriter, r *http.Request, public bool) bool {
	write := func(kind problem.Kind, format string, args ...any) bool {
		w.hangUp(r)
		problem.Write(w, kind.Withf(format, args...))
		return true
	}
	local, where := localAddr(r)
	if where == elsewhere && g.length < MinToken {
		return write(problem.NoToken, "the request came in over an address that others reach; set a token of at least %d bytes, or listen on loopback or a unix socket", MinToken)
	}
	if name := proxied(r.Header); name != "" && g.length < MinToken {
		return write(problem.NoToken, "the request came through a proxy (it has a header %s), so it may be anybody's; set a token of at least %d bytes", name, MinToken)
	}
	if !g.isFor(r.Host, local) {
		return write(problem.Misdirected, "the header Host is %.100q; use localhost or the address itself, or add the name to Hosts", r.Host)
	}
	if !slices.Contains(methods, r.Method) {
		w.hangUp(r)
		problem.WriteMethodNotAllowed(w, r, methods...)
		return true
	}
	if g.isCrossOrigin(r, public) {
		return write(problem.CrossOrigin, "a page of another origin made a browser send this (Origin %.100q, Sec-Fetch-Site %.20q); open the page that is served here", r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site"))
	}
	if g.length > 0 && !public {
		switch given := r.Header.Values("Authorization"); {
		case len(given) == 0:
			return write(problem.Unauthorized, "send the header Authorization: Bearer TOKEN; a token in the URL is not looked at")
		case len(given) > 1 || !g.isToken(given[0]):
			w.Header().Set("WWW-Authenticate", `Bearer realm="connmgr", error="invalid_token"`)
			return write(problem.Unauthorized, "the header Authorization does not have the token; send one, as Bearer TOKEN")
		}
	}
	if r.RequestURI == "*" { // http.ServeMux would answer, without a word
		return write(problem.BadRequest, "%.20s * asks about the server as a whole, of which there is nothing to say; ask for a path", r.Method)
	}
	return false
}

// isToken reports whether an Authorization header has the token.
func (g *Guard) isToken(header string) bool {
	scheme, token, _ := strings.Cut(header, " ")
	given := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], g.token[:]) == 1
}

// isCrossOrigin reports whether a page of another origin made a browser send a request.
// Who follows a link to our page is welcome; nothing else that comes from elsewhere is,
// reading included: the answers could not be read, but their size and time could.
func (g *Guard) isCrossOrigin(r *http.Request, public bool) bool {
	if public && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return false
	}
	asWrite := *r // of reads, CrossOriginProtection asks nothing
	asWrite.Method = http.MethodPost
	return g.origins.Check(&asWrite) != nil
}

// proxied returns the header by which a proxy says that it passes on another's request,
// "" if there is none. Behind a proxy, that a request came over loopback says nothing
// about who sent it.
func proxied(h http.Header) string {
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"} {
		if len(h.Values(name)) > 0 {
			return name
		}
	}
	return ""
}

// place is where a request came in.
type place int

const (
	elsewhere  place = iota // an address that others reach, or one that is not known
	loopback                // from this machine
	unixSocket              // from those who may open the file
)

// localAddr returns the address that a request came in on. net/http's server puts it into
// the context; without it nothing is known, and that is no reason to trust.
func localAddr(r *http.Request) (netip.Addr, place) {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch addr := addr.(type) {
	case nil:
		return netip.Addr{}, elsewhere
	case *net.UnixAddr:
		return netip.Addr{}, unixSocket
	case *net.TCPAddr:
		return placeOf(addr.AddrPort().Addr())
	default: // of a listener that is not package net's
		if addr.Network() == "unix" {
			return netip.Addr{}, unixSocket
		}
		ap, _ := netip.ParseAddrPort(addr.String())
		return placeOf(ap.Addr())
	}
}

func placeOf(a netip.Addr) (netip.Addr, place) {
	if a.Unmap().IsLoopback() {
		return a, loopback
	}
	return a, elsewhere
}
