package connmgrhttp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// This file tests unix sockets: who can open them, and what is there already.

// socketDir is a folder for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the permissions of sockets are those of their folder here")
	}
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // TempDir has the test's name in it: too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// socketPath is a path for a socket in a folder of its own.
func socketPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(socketDir(t), "api.sock")
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

// longPath is a path of so many bytes in a folder of its own.
func longPath(t *testing.T, length int) string {
	t.Helper()
	dir := socketDir(t)
	return filepath.Join(dir, strings.Repeat("x", length-len(dir)-1))
}

func TestAPathThatIsTooLongIsSaidToBe(t *testing.T) {
	most := 103
	if runtime.GOOS == "linux" {
		most = 107
	}
	fits := longPath(t, most)
	l := listenAt(t, fits)
	if !isAnswered(fits) {
		t.Errorf("a path of %d bytes is not answered", most)
	}
	_ = l.Close()
	for _, over := range []int{1, 30} {
		path := longPath(t, most+over)
		if _, err := Listen("unix:"+path, ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("too long for a socket; take one shorter by %d bytes", over)) {
			t.Errorf("a path of %d bytes: the error is %v, want that it is too long by %d", most+over, err, over)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 0 {
			t.Errorf("there is %v left, want nothing", entries)
		}
	}
}

// The socket is made in another folder before it is moved, and the name of that differs.
func TestWhetherAPathFitsIsNotLeftToChance(t *testing.T) {
	most := 103
	if runtime.GOOS == "linux" {
		most = 107
	}
	for _, over := range []int{0, 1} {
		path := filepath.Join(longPath(t, most-len("/.s4294967295/s")+over), "s")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			l, err := Listen("unix:"+path, "")
			if err == nil {
				_ = l.Close()
			}
			if refused := err != nil; refused != (over > 0) {
				t.Errorf("in a folder that is too deep by %d bytes: the error is %v", over, err)
			}
		}
	}
}

func TestAFileSystemWithoutLinksWillDo(t *testing.T) {
	t.Cleanup(func() { link = os.Link })
	for _, errno := range []error{syscall.EPERM, syscall.ENOTSUP} {
		link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: errno} }
		path := socketPath(t)
		l := listenAt(t, path)
		if !isAnswered(path) {
			t.Errorf("%v: the socket is not answered", errno)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%v: beside the socket there is %v, want nothing", errno, entries)
		}
		_ = l.Close()
	}
}

func TestASocketThatIsAnsweredMeanwhileIsKept(t *testing.T) {
	path := socketPath(t)
	listenAt(t, path)
	if err := takeAway(path, socketDir(t)); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("the error is %v, want that another process answers", err)
	}
	if !isAnswered(path) {
		t.Error("the socket is not answered any more")
	}
}

func TestOfTwoWhoListenAtOnePathOneDoes(t *testing.T) {
	for i := range 200 {
		path := socketPath(t)
		if i%2 == 1 { // one is left behind
			dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			dead.SetUnlinkOnClose(false)
			_ = dead.Close()
		}
		var ls [2]net.Listener
		var errs [2]error
		var both sync.WaitGroup
		for k := range ls {
			both.Go(func() { ls[k], errs[k] = Listen("unix:"+path, "") })
		}
		both.Wait()
		listening := 0
		for k, l := range ls {
			if errs[k] == nil {
				listening++
				defer l.Close()
			} else if !strings.Contains(errs[k].Error(), "another process answers") {
				t.Errorf("round %d: the error is %v, want that another process answers", i, errs[k])
			}
		}
		if listening != 1 || !isAnswered(path) {
			t.Fatalf("round %d: %d listen, and the path is answered: %v; want one, and that it is", i, listening, isAnswered(path))
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Fatalf("round %d: beside the socket there is %v, want nothing", i, entries)
		}
	}
}
