package connmgrhttp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
)

// This file listens, and only where it is safe to.

// resolveTime is how long a name may take to be resolved.
const resolveTime = 10 * time.Second

// Listen listens at an address: "host:port", or "unix:PATH" for a unix socket. The port 0
// is any that is free.
//
// An address that others reach needs a token of at least 16 bytes: that is each that is
// not loopback, the empty host and 0.0.0.0 among them, and a name unless it resolves to
// loopback addresses only. Give the same token to [Config]. localhost is loopback whatever
// a name server says. Of a name the first address is taken, IPv4 before IPv6.
//
// A unix socket can be opened by the user of this process only (on Windows, by whoever
// the permissions of its folder let). One that was left behind by a process that has died
// is replaced; one that is answered, or another kind of file, is an error. Closing the
// listener removes the socket.
func Listen(address, token string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		l, err := listenUnix(path)
		if err != nil {
			return nil, fmt.Errorf("connmgr: cannot listen at %q: %w", address, err)
		}
		return l, nil
	}
	hostPort, err := checkAddress(address, token)
	if err != nil {
		return nil, fmt.Errorf("connmgr: cannot listen at %q: %w", address, err)
	}
	l, err := net.Listen("tcp", hostPort)
	if err != nil {
		return nil, fmt.Errorf("connmgr: cannot listen at %q: %w", address, err)
	}
	return l, nil
}

// checkAddress returns the address to listen at, without a name, so that what is listened
// at is what was looked at.
func checkAddress(address, token string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("want host:port, or unix:PATH: %w", err)
	}
	if port == "" {
		return "", errors.New("there is no port; 0 is any that is free")
	}
	addrs, err := resolve(host)
	if err != nil {
		return "", err
	}
	isLoopback := func(a netip.Addr) bool { return a.Unmap().IsLoopback() }
	others := slices.DeleteFunc(slices.Clone(addrs), isLoopback)
	if len(addrs) == 0 || len(others) > 0 { // no address is all addresses
		why := "it is reached by others"
		if len(others) > 0 && others[0].String() != host {
			why = fmt.Sprintf("it is reached by others, for %q is %v", host, others[0])
		}
		switch {
		case token == "":
			return "", fmt.Errorf("%s, and there is no token; set one of at least %d bytes, or listen at 127.0.0.1 or at a unix socket", why, guard.MinToken)
		case len(token) < guard.MinToken:
			return "", fmt.Errorf("%s, and the token has %d bytes; set one of at least %d, or listen at 127.0.0.1 or at a unix socket", why, len(token), guard.MinToken)
		}
	}
	if err := guard.CheckToken(token); err != nil {
		return "", err
	}
	if len(addrs) > 0 {
		host = addrs[0].String()
	}
	return net.JoinHostPort(host, port), nil
}

// resolve returns the addresses of a host, none for the empty one. A variable for the
// tests.
var resolve = func(host string) ([]netip.Addr, error) {
	if host == "" {
		return nil, nil
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return addrs, nil
}

// dialTime is how long a socket may take to be answered that is there already.
const dialTime = time.Second

// listenUnix listens at a unix socket that only this user can open.
//
// A socket is born with the permissions that the umask leaves, which others may be able
// to open for the moment until they are changed. The umask itself is the process's: to set
// it would change files that others make meanwhile. So the socket is made in a folder of
// its own, that nobody else can enter, and moved to its place when it is closed to them.
func listenUnix(path string) (net.Listener, error) {
	switch {
	case path == "":
		return nil, errors.New("there is no path; want unix:PATH")
	case path[0] == '@' || strings.ContainsRune(path, 0):
		return nil, errors.New("an abstract socket has no permissions, so whoever is on this machine could open it; give a path")
	}
	path, err := filepath.Abs(path) // the working directory may be another when it is removed
	if err != nil {
		return nil, err
	}
	born := path
	if runtime.GOOS != "windows" { // no permissions to set there, only those of the folder
		born = filepath.Join(filepath.Dir(path), ".s4294967295", "s") // the longest there can be
	}
	if most := maxSocketPath(); len(path) > most || len(born) > most {
		return nil, fmt.Errorf("the path is too long for a socket; take one shorter by %d bytes", max(len(path), len(born))-most)
	}
	if born == path {
		if err := removeStale(path, ""); err != nil {
			return nil, err
		}
		return bindUnix(path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s") // with 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := bindUnix(filepath.Join(dir, "s"))
	if err != nil {
		return nil, err
	}
	if err := l.moveTo(path, dir); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// maxSocketPath is the bytes that a socket's path can have on this system. It is less than
// what a socket can be moved to: it would be there, and nobody could connect to it.
func maxSocketPath() int {
	switch runtime.GOOS {
	case "linux", "android", "windows", "solaris", "illumos":
		return 107
	}
	return 103
}

// bindUnix makes a socket.
func bindUnix(path string) (*unixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it would look at this path only
	file, err := os.Lstat(path)
	if err == nil && runtime.GOOS != "windows" {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return &unixListener{UnixListener: l, path: path, file: file}, nil
}

// moveTo moves the socket to a path. If others do the same, one of them gets the path: a
// link, unlike a renamed file, takes no other's place.
func (l *unixListener) moveTo(path, dir string) error {
	var err error
	for range 10 { // the place may be taken, and left, meanwhile
		if err := removeStale(path, dir); err != nil {
			return err
		}
		err = place(l.path, path)
		if err == nil {
			l.path = path
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return err
}

// removeStale makes place for a socket: it removes one that nobody answers. dir is a
// folder that only this process uses; without one, whoever else makes place there at the
// same moment may lose a socket.
func removeStale(path, dir string) error {
	stale, err := isStale(path)
	if err != nil || !stale {
		return err
	}
	if dir == "" {
		return os.Remove(path)
	}
	return takeAway(path, dir)
}

// takeAway removes a socket that nobody answered a moment ago. By now it may be another
// one, of a process that was faster; so it is put aside, looked at again, and only then
// removed.
func takeAway(path, dir string) error {
	aside := filepath.Join(dir, "aside")
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	stale, err := isStale(aside)
	if stale {
		return os.Remove(aside)
	}
	return errors.Join(err, place(aside, path)) // back
}

// place gives a file a path that nothing has; its first one may remain.
func place(from, to string) error {
	err := link(from, to)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
		// A file system without links. There it is just very unlikely that somebody else's
		// file is replaced, which was not there a moment ago.
		err = os.Rename(from, to)
	}
	return err
}

// link is a variable for the tests.
var link = os.Link

// isStale reports whether there is a socket at a path that nobody answers. It is false if
// there is nothing, and an error if there is something else.
func isStale(path string) (bool, error) {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case file.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("there is a file that is not a socket (%v); remove it, or give another path", file.Mode())
	}
	conn, err := net.DialTimeout("unix", path, dialTime)
	switch {
	case err == nil:
		_ = conn.Close()
		return false, errors.New("another process answers there; stop it, or give another path")
	case errors.Is(err, fs.ErrNotExist): // gone meanwhile
		return false, nil
	case !isRefused(err): // not allowed, or a queue that is full: somebody may be there
		return false, fmt.Errorf("there is a socket, and whether somebody answers it is not known: %w", err)
	}
	return true, nil
}

// isRefused reports whether nobody answers at an address.
func isRefused(err error) bool {
	const wsaECONNREFUSED = syscall.Errno(10061) // what Windows says; its syscall.ECONNREFUSED never comes
	return errors.Is(err, syscall.ECONNREFUSED) || runtime.GOOS == "windows" && errors.Is(err, wsaECONNREFUSED)
}

// unixListener is a listener that knows where its socket was moved to.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

// Addr returns the path that was asked for.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket, unless it is another one's meanwhile.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}
