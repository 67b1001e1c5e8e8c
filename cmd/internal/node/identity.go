package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// This file keeps the node's identity: a private key in a file of its own.

// maxKey bounds the file of a key, in bytes. An RSA key of 8192 bits has 5 KB.
const maxKey = 64 << 10

// LoadIdentity returns the private key in a file, as go-libp2p marshals it. A file that is
// missing is made, with a new Ed25519 key, for its owner only. One that others can read,
// or that is no key, is an error: neither is safe to use, or to replace.
func LoadIdentity(name string) (crypto.PrivKey, error) {
	key, err := readIdentity(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeIdentity(name); err != nil {
		return nil, fmt.Errorf("connmgr: cannot make the identity file %s: %w", name, err)
	}
	return readIdentity(name) // ours, or that of a process that was faster
}

func readIdentity(name string) (crypto.PrivKey, error) {
	// Before it is opened, since opening a pipe waits for whoever writes to it.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("connmgr: identity file %s is not a file but %s", name, info.Mode().Type())
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("connmgr: cannot open the identity file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("connmgr: identity file %s: %w", name, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("connmgr: identity file %s is not a file but %s", name, info.Mode().Type())
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("connmgr: identity file %s has mode %#o, so others can use the private key in it; make it 0600 ('chmod 600 %s'), or a new one if somebody may have copied it", name, info.Mode().Perm(), name)
	case info.Size() > maxKey:
		return nil, fmt.Errorf("connmgr: identity file %s has %d bytes; a private key has %d at most", name, info.Size(), maxKey)
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("connmgr: identity file %s: %w", name, err)
	}
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("connmgr: identity file %s is damaged, or not a private key of libp2p (%d bytes): %w; put back a copy, or remove it to get a new identity", name, len(data), err)
	}
	return key, nil
}

// makeIdentity makes a file with a new key. It is there as a whole or not at all, and one
// that is there already stays.
func makeIdentity(name string) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	data, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // with 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace. Some file systems have none.
	if os.Link(file.Name(), name) == nil {
		return nil
	}
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	return os.Rename(file.Name(), name)
}
