package connmgrlibp2p

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file says how peers are named in lists of rules.

// ListFormat returns the format of lists in which peers are named as go-libp2p names
// them: 12D3KooW…, Qm…, or as a CID. A node ID that is no peer ID is written in
// hexadecimal behind "0x".
func ListFormat() connmgr.ListFormat {
	return connmgr.ListFormat{ParsePeer: parsePeer, FormatPeer: formatPeer}
}

func parsePeer(name string) (connmgr.NodeID, error) {
	if digits, ok := strings.CutPrefix(name, "0x"); ok {
		id, err := hex.DecodeString(digits)
		return connmgr.NodeID(id), err
	}
	id, err := peer.Decode(name)
	if err != nil {
		return "", fmt.Errorf("no peer ID: %w", err)
	}
	return connmgr.NodeID(id), nil
}

func formatPeer(id connmgr.NodeID) string {
	name := peer.ID(id).String()
	if back, err := peer.Decode(name); err == nil && connmgr.NodeID(back) == id {
		return name
	}
	return "0x" + hex.EncodeToString([]byte(id))
}
