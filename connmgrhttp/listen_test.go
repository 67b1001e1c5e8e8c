package connmgrhttp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

// socketPath is a path for a socket in a folder of its own.
func socketPath(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the permissions of sockets are those of their folder here")
	}
	return filepath.Join(t.TempDir(), "api.sock")
}

func listenAt(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := Listen("unix:"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// isAnswered reports whether a socket is answered.
func isAnswered(path string) bool {
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func TestASocketIsForItsUserOnly(t *testing.T) {
	path := socketPath(t)
	l := listenAt(t, path)
	file, err := os.Lstat(path)
	if err != nil || file.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("the file is %v, %v, want a socket with 0600", file, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("beside the socket there is %v, %v, want nothing", entries, err)
	}
	if got := l.Addr(); got.Network() != "unix" || got.String() != path {
		t.Errorf("the address is %v, want %s", got, path)
	}
	if !isAnswered(path) {
		t.Error("the socket is not answered")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close the socket is there: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close says %v, want %v", err, net.ErrClosed)
	}
}

func TestASocketIsNeverOpenToOthers(t *testing.T) {
	path := socketPath(t)
	for range 300 {
		first := make(chan fs.FileMode)
		go func() {
			for {
				if file, err := os.Lstat(path); err == nil {
					first <- file.Mode()
					return
				}
			}
		}()
		l := listenAt(t, path)
		if mode := <-first; mode != fs.ModeSocket|0o600 {
			t.Fatalf("when the socket appears it is %v, want 0600 from the beginning", mode)
		}
		_ = l.Close()
	}
}

func TestASocketThatNobodyAnswersIsReplaced(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the dead socket is not there: %v", err)
	}
	listenAt(t, path)
	if !isAnswered(path) {
		t.Error("the new socket is not answered")
	}
}

func TestASocketThatIsAnsweredIsKept(t *testing.T) {
	path := socketPath(t)
	listenAt(t, path)
	if _, err := Listen("unix:"+path, ""); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("the error is %v, want that another process answers", err)
	}
	if !isAnswered(path) {
		t.Error("the first socket is not answered any more")
	}
}

func TestASocketOfAnotherKindIsKept(t *testing.T) {
	path := socketPath(t)
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Listen("unix:"+path, ""); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("the error is %v, want that it is not known whether somebody answers", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket is not there any more: %v", err)
	}
}

func TestAFileThatIsNoSocketIsKept(t *testing.T) {
	path := socketPath(t)
	elsewhere := filepath.Join(t.TempDir(), "s")
	listenAt(t, elsewhere)
	for name, create := range map[string]func() error{
		"a file":           func() error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a folder":         func() error { return os.Mkdir(path, 0o700) },
		"a symbolic link":  func() error { return os.Symlink(elsewhere, path) },
		"a dangling link":  func() error { return os.Symlink(elsewhere+"x", path) },
		"a link to itself": func() error { return os.Symlink(path, path) },
	} {
		if err := create(); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen("unix:"+path, ""); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: the error is %v, want that it is not a socket", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Errorf("%s: it is not there any more: %v", name, err)
		}
	}
}

func TestCloseLeavesTheSocketOfASuccessor(t *testing.T) {
	path := socketPath(t)
	first := listenAt(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listenAt(t, path)
	_ = first.Close()
	if !isAnswered(path) {
		t.Error("the successor's socket is not answered any more")
	}
}

func TestASocketIsRemovedFromWhereverItWasMade(t *testing.T) {
	path := socketPath(t)
	t.Chdir(filepath.Dir(path))
	l, err := Listen("unix:api.sock", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	_ = l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close in another working directory the socket is there: %v", err)
	}
}

func TestAPathThatIsTooLongIsSaidToBe(t *testing.T) {
	path := filepath.Join(filepath.Dir(socketPath(t)), strings.Repeat("x", 100))
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+filepath.Join(path, "s"), ""); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("the error is %v, want that the path is too long", err)
	}
	if entries, _ := os.ReadDir(path); len(entries) > 0 {
		t.Errorf("there is %v left, want nothing", entries)
	}
}
