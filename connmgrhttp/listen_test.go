package connmgrhttp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// This file tests where Listen listens, and where it refuses to.

const goodToken = "0123456789abcdef"

// names replaces the name server.
func names(t *testing.T, known map[string][]string) {
	t.Helper()
	before := resolve
	t.Cleanup(func() { resolve = before })
	resolve = func(host string) ([]netip.Addr, error) {
		if _, ok := known[host]; !ok {
			return before(host)
		}
		var addrs []netip.Addr
		for _, s := range known[host] {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		return addrs, nil
	}
}

func TestListenWantsATokenWhereOthersReach(t *testing.T) {
	names(t, map[string][]string{
		"loop.example":  {"127.0.0.1", "::1"},
		"mixed.example": {"127.0.0.1", "192.0.2.1"},
		"other.example": {"192.0.2.1"},
		"empty.example": {},
	})
	for _, test := range []struct {
		address, token string
		refused        string // what the error says; "" if it listens
	}{
		{"127.0.0.1:0", "", ""},
		{"127.0.0.1:0", "short", ""},
		{"127.1.2.3:0", "", ""},
		{"[::ffff:127.0.0.1]:0", "", ""},
		{"localhost:0", "", ""},
		{"LOCALHOST.:0", "", ""},
		{"loop.example:0", "", ""},
		{":0", goodToken, ""},
		{"0.0.0.0:0", goodToken, ""},
		{"127.0.0.1:0", goodToken, ""},

		{":0", "", "there is no token"},
		{"0.0.0.0:0", "", "there is no token"},
		{"[::]:0", "", "there is no token"},
		{"192.0.2.1:0", "", "there is no token"},
		{"10.0.0.1:0", "", "there is no token"},
		{"192.168.1.1:0", "", "there is no token"},
		{"[fd00::1]:0", "", "there is no token"},
		{"169.254.1.1:0", "", "there is no token"},
		{"[fe80::1%lo]:0", "", "there is no token"},
		{"[::ffff:192.0.2.1]:0", "", "there is no token"},
		{"other.example:0", "", `"other.example" is 192.0.2.1`},
		{"mixed.example:0", "", `"mixed.example" is 192.0.2.1`},
		{"empty.example:0", "", "there is no token"},
		{":0", "0123456789abcde", "the token has 15 bytes"},
		{"mixed.example:0", "short", "the token has 5 bytes"},
		{":0", "with space 0123456789", "printable ASCII"},
		{"127.0.0.1:0", "with space", "printable ASCII"},

		{"", "", "want host:port, or unix:PATH"},
		{"127.0.0.1", "", "want host:port, or unix:PATH"},
		{"::1:0", goodToken, "want host:port, or unix:PATH"},
		{"http://127.0.0.1:0", goodToken, "want host:port, or unix:PATH"},
		{"127.0.0.1:", "", "there is no port"},
		{"127.0.0.1:65536", "", "invalid port"},
		{"unix:", "", "there is no path"},
		{"unix:@connmgr", "", "abstract socket"},
		{"unix:\x00connmgr", "", "abstract socket"},
		{"unix:/nowhere/at/all/s", "", "no such file"},
	} {
		l, err := Listen(test.address, test.token)
		if err == nil {
			_ = l.Close()
		}
		switch {
		case test.refused == "" && err != nil:
			t.Errorf("%q with token %q: %v, want it to listen", test.address, test.token, err)
		case test.refused != "" && err == nil:
			t.Errorf("%q with token %q: it listens at %v, want an error that says %q", test.address, test.token, l.Addr(), test.refused)
		case test.refused != "":
			if !strings.Contains(err.Error(), test.refused) || !strings.HasPrefix(err.Error(), fmt.Sprintf("connmgr: cannot listen at %q: ", test.address)) {
				t.Errorf("%q with token %q: %v, want it to name the address and say %q", test.address, test.token, err, test.refused)
			}
			if test.token != "" && strings.Contains(err.Error(), test.token) {
				t.Errorf("%q: the error repeats the token: %v", test.address, err)
			}
		}
	}
}

func TestListenListensAtTheAddressThatItLookedAt(t *testing.T) {
	asked := 0
	before := resolve
	t.Cleanup(func() { resolve = before })
	resolve = func(string) ([]netip.Addr, error) {
		asked++
		return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("127.0.0.%d", asked))}, nil
	}
	l, err := Listen("node.example:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Addr().(*net.TCPAddr).IP.String(); got != "127.0.0.1" || asked != 1 {
		t.Errorf("it listens at %s after asking %d times, want 127.0.0.1 after asking once", got, asked)
	}
}

func TestListenSaysThatAPortIsTaken(t *testing.T) {
	l, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(l.Addr().String(), ""); !errors.Is(err, syscall.EADDRINUSE) && runtime.GOOS != "windows" || err == nil {
		t.Errorf("the error is %v, want that the address is in use", err)
	}
}
