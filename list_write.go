package connmgr

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// This file writes lists of rules.

// listHeader begins every list that is written.
const listHeader = "# Rules of a gate, one a line: [deny|allow] TARGET [until TIME] [# REASON]\n"

// Write writes rules as a list, in their order and each in its simplest form. Where
// the origin changes, a line "#! origin NAME" says so. What is read from it with the
// same format (and an empty Origin) are the same rules.
//
// It stops with an error at a rule that is not valid or could not be read again: one
// about a peer whose name ParsePeer does not turn into the same peer, or one with a
// line longer than 64 KiB. Some of the rules before it may be written already.
func (f ListFormat) Write(w io.Writer, rules iter.Seq[Rule]) error {
	if err := f.check(); err != nil {
		return err
	}
	out := bufio.NewWriter(w) // keeps the first error
	out.WriteString(listHeader)
	var line []byte
	origin := ""
	for r := range rules {
		if err := r.Validate(); err != nil {
			return err
		}
		line = line[:0]
		if r.Origin != origin {
			origin = r.Origin
			line = append(appendText(append(line, "#! origin "...), origin), '\n')
		}
		var err error
		if line, err = f.appendRule(line, r); err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			break
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("connmgr: writing a list: %w", err)
	}
	return nil
}

// appendRule appends the line of a valid rule. What the format gives to rules is left
// out if the rule has it, but a list of allow rules says so in every line: it must not
// turn into its opposite where it is read with another format.
func (f ListFormat) appendRule(b []byte, r Rule) ([]byte, error) {
	start := len(b)
	if r.Effect != Deny || f.Effect != Deny {
		b = append(append(b, r.Effect.String()...), ' ')
	}
	switch r.Target.kind {
	case targetPeer:
		name, err := f.formatPeer(r.Target.peer)
		if err != nil {
			return b, err
		}
		b = appendName(append(b, "peer "...), name)
	case targetPort:
		b = strconv.AppendUint(append(b, "port "...), uint64(r.Target.port), 10)
	case targetPrefix, targetNone:
		if r.Target.prefix.IsSingleIP() {
			b = r.Target.prefix.Addr().AppendTo(b)
		} else {
			b = r.Target.prefix.AppendTo(b)
		}
	}
	switch {
	case !r.Expires.IsZero():
		b = r.Expires.UTC().AppendFormat(append(b, " until "...), time.RFC3339Nano)
	case !f.Expires.IsZero():
		b = append(b, " until never"...)
	}
	if r.Reason != "" || f.Reason != "" {
		b = appendText(append(b, " # "...), r.Reason)
	}
	if len(b)-start > maxListLine {
		return b, fmt.Errorf("connmgr: rule about a peer with an ID of %d bytes: its line would have %d bytes, must have at most %d",
			len(r.Target.peer), len(b)-start, maxListLine)
	}
	return append(b, '\n'), nil
}

// formatPeer returns the name of a peer, if that can be read again.
func (f ListFormat) formatPeer(peer NodeID) (string, error) {
	var name string
	switch {
	case f.FormatPeer != nil:
		name = f.FormatPeer(peer)
	case peer == "" || strings.HasPrefix(string(peer), "0x"):
		name = "0x" + hex.EncodeToString([]byte(peer))
	default:
		name = peer.String()
	}
	back, err := f.parsePeer(name)
	if err != nil {
		return "", fmt.Errorf("connmgr: rule about peer %v: its name %q cannot be read again: %w", peer, name, err)
	}
	if back != peer {
		return "", fmt.Errorf("connmgr: rule about peer %v: its name %q would be read as another peer, %v", peer, name, back)
	}
	return name, nil
}

// parsePeer returns the peer that has a name.
func (f ListFormat) parsePeer(name string) (NodeID, error) {
	if f.ParsePeer != nil {
		return f.ParsePeer(name)
	}
	if digits, ok := strings.CutPrefix(name, "0x"); ok {
		id, err := hex.DecodeString(digits)
		return NodeID(id), err
	}
	return NodeID(name), nil
}
