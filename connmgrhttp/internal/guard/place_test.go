package guard_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
)

// This file tests that it matters where a request comes in: over loopback, a unix socket,
// or an address that others reach.

func TestAUnixSocketIsForThoseWhoMayOpenIt(t *testing.T) {
	for host, refused := range map[string]string{
		"localhost": "", "127.0.0.1:80": "", "node.example": "",
		"evil.example": "misdirected", "": "misdirected", "unix": "misdirected",
	} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Skipf("there are no unix sockets here: %v", err)
		}
		s := open(t, l, guard.Config{Hosts: []string{"node.example"}}, nil)
		resp, body := s.ask(t, "GET /v1/status HTTP/1.1\nHost: "+host+"\nConnection: close\n\n")
		if through := s.calls.Load() > 0; through != (refused == "") {
			t.Errorf("Host %q: the request got through: %v, want %v", host, through, refused == "")
		}
		if refused != "" {
			wantRefused(t, resp, body, refused)
		}
	}
}

// lyingListener accepts connections that say that they came in at another address.
type lyingListener struct {
	net.Listener
	addr net.Addr
}

func (l lyingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return lyingConn{conn, l.addr}, err
}

func (l lyingListener) Addr() net.Addr { return l.addr }

type lyingConn struct {
	net.Conn
	addr net.Addr
}

func (c lyingConn) LocalAddr() net.Addr { return c.addr }

// otherAddr is an address of a type that nobody knows.
type otherAddr struct{ network, addr string }

func (a otherAddr) Network() string { return a.network }
func (a otherAddr) String() string  { return a.addr }

func TestAnAddressThatOthersReachNeedsAToken(t *testing.T) {
	tcp := func(s string) net.Addr {
		addr, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	for _, test := range []struct {
		local  net.Addr
		host   string
		needed bool
	}{
		{tcp("192.0.2.1:7654"), "192.0.2.1:7654", true},
		{tcp("[2001:db8::1]:7654"), "[2001:db8::1]:7654", true},
		{tcp("[fe80::1%1]:7654"), "[fe80::1]:7654", true},
		{tcp("0.0.0.0:7654"), "localhost", true},
		{tcp("192.0.2.1:7654"), "localhost", true},
		{otherAddr{"quic", "192.0.2.1:7654"}, "192.0.2.1", true},
		{otherAddr{"memory", "somewhere"}, "localhost", true},
		{otherAddr{"quic", "127.0.0.1:7654"}, "localhost", false},
		{otherAddr{"unix", "/run/s"}, "localhost", false},
		{tcp("127.0.0.2:7654"), "127.0.0.2", false},
		{tcp("[::1]:7654"), "[::1]", false},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}, "127.0.0.1", false},
		{(*net.TCPAddr)(nil), "localhost", true},
	} {
		for _, given := range []string{"", "short", token} {
			t.Run(fmt.Sprintf("%v with token %q", test.local, given), func(t *testing.T) {
				inner, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				addr := test.local
				if addr == (*net.TCPAddr)(nil) {
					addr = otherAddr{"nil", ""}
				}
				s := open(t, lyingListener{inner, addr}, guard.Config{Token: given}, nil)
				authorization := ""
				if given != "" {
					authorization = "Authorization: Bearer " + given + "\n"
				}
				for _, path := range []string{"/v1/status", "/"} {
					s.calls.Store(0)
					resp, body := s.ask(t, "GET "+path+" HTTP/1.1\nHost: "+test.host+"\nConnection: close\n"+authorization+"\n")
					refused := test.needed && given != token
					if through := s.calls.Load() > 0; through == refused {
						t.Errorf("%s got through: %v, want %v (%s)", path, through, !refused, body)
					}
					if refused {
						wantRefused(t, resp, body, "no-token")
					}
				}
			})
		}
	}
}

func TestARealAddressThatOthersReachNeedsAToken(t *testing.T) {
	l := listenElsewhere(t)
	s := open(t, l, guard.Config{}, nil)
	host := l.Addr().String()
	resp, body := s.ask(t, "GET /v1/status HTTP/1.1\nHost: "+host+"\nConnection: close\n\n")
	wantRefused(t, resp, body, "no-token")

	s = open(t, listenElsewhere(t), guard.Config{Token: token}, nil)
	host = s.Listener.Addr().String()
	if resp, body = s.ask(t, "GET /v1/status HTTP/1.1\nHost: "+host+"\nConnection: close\n\n"); resp.StatusCode != 401 {
		t.Errorf("without the token the answer is %d (%s), want 401", resp.StatusCode, body)
	}
	if resp, body = s.ask(t, "GET /v1/status HTTP/1.1\nHost: "+host+"\nConnection: close\nAuthorization: Bearer "+token+"\n\n"); resp.StatusCode != 200 {
		t.Errorf("with the token the answer is %d (%s), want 200", resp.StatusCode, body)
	}
}

// listenElsewhere listens at an address of this machine that is not loopback.
func listenElsewhere(t *testing.T) net.Listener {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			if l, err := net.Listen("tcp", net.JoinHostPort(ip.IP.String(), "0")); err == nil {
				return l
			}
		}
	}
	t.Skip("this machine has loopback addresses only")
	return nil
}

func TestWithoutAServerNothingIsKnownAboutWhoAsks(t *testing.T) {
	h := guard.New(guard.Config{}).Wrap(http.NotFoundHandler(), func(*http.Request) bool { return true })
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	wantRefused(t, w.Result(), w.Body.String(), "no-token")

	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusNotFound {
		t.Errorf("with a local address in the context the status is %d, want that of the handler, 404", w.Code)
	}
}
