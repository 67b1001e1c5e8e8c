// Package wire makes the documents of package api of the core's values, and reads what
// clients send back.
package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dep2p/connmgr"
)

// This file is how peers are named, as lists of rules name them.

// Names says how peers are named. The zero value names them by their IDs. It is a plain
// value; its methods can be called from several goroutines at once if the functions of
// its format can.
type Names struct {
	// Format is asked for ParsePeer and FormatPeer; the rest of it means nothing here.
	Format connmgr.ListFormat
}

// Peer returns the name of a peer, from which Parse gets the peer back: what FormatPeer
// makes of it, or without that the ID if it is printable ASCII, and its bytes in
// hexadecimal behind "0x" otherwise. So are the IDs "." and "..", with which no path of a
// URL can end.
func (n Names) Peer(id connmgr.NodeID) string {
	switch {
	case n.Format.FormatPeer != nil:
		return n.Format.FormatPeer(id)
	case id == "" || id == "." || id == ".." || strings.HasPrefix(string(id), "0x"):
		return "0x" + hex.EncodeToString([]byte(id))
	default:
		return id.String()
	}
}

// Parse returns the peer that has a name: what ParsePeer makes of it, or without that the
// name itself, or the bytes behind "0x". The error says what was expected.
func (n Names) Parse(name string) (connmgr.NodeID, error) {
	if n.Format.ParsePeer != nil {
		id, err := n.Format.ParsePeer(name)
		if err != nil {
			return "", fmt.Errorf("connmgr: peer %q: want the name of a peer: %w", short(name), err)
		}
		return id, nil
	}
	if name == "" {
		return "", errors.New(`connmgr: peer "": want a name; that of the peer with the empty ID is 0x`)
	}
	digits, ok := strings.CutPrefix(name, "0x")
	if !ok {
		return connmgr.NodeID(name), nil
	}
	id, err := hex.DecodeString(digits)
	if err != nil {
		return "", fmt.Errorf("connmgr: peer %q: want an even number of hexadecimal digits behind 0x: %w", short(name), err)
	}
	return connmgr.NodeID(id), nil
}

// maxShort bounds a text of others in errors and in lines for people, in bytes.
const maxShort = 80

// short returns a text, or its beginning with "…" behind it.
func short(text string) string {
	if len(text) <= maxShort {
		return text
	}
	cut := maxShort
	for cut > maxShort-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
