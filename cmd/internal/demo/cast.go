package demo

import (
	"math/rand/v2"
	"strings"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file says who plays what. The tags and their values are those that the
// parts of real nodes use: the DHT, gossip, bitswap's users, lotus.

// role is what a node is to the guarded one.
type role struct {
	name string
	// share of the crowd, in percent; at least one node gets each role as long as
	// there are enough.
	percent int
	// tag and value, if any.
	tag   string
	value int
	// gossip says that the value is bumped up by a decaying tag.
	gossip bool
	// protect is the tag of a protection, if any.
	protect string
	// streams is how many streams the node keeps open.
	streams int
}

const mesh = "blocks" // the gossip topic

// roles are given out in this order; who is left over is plain.
var roles = []role{
	{name: "pinned by the operator", percent: 4, protect: "pinned"},
	{name: "bad score", percent: 4, tag: "badblock", value: -1000},
	{name: "gossip mesh", percent: 5, tag: "pubsub-deliveries:" + mesh, value: 15, gossip: true, protect: "pubsub:" + mesh},
	{name: "user's own", percent: 3, tag: "user-connect", value: 100},
	{name: "kbucket", percent: 10, tag: "kbucket", value: 5},
	{name: "relay hop", percent: 5, tag: "relay-v2-hop", value: 2},
	{name: "open streams", percent: 8, streams: 2},
}

var plain = role{name: "plain"}

// castRoles gives every node its role, at random but for the first: it is the
// pinned one that will drop and return.
func castRoles(nodes crowd, rng *rand.ChaCha8) {
	var parts []role
	for _, r := range roles {
		for range max(1, len(nodes)*r.percent/100) {
			parts = append(parts, r)
		}
	}
	for len(parts) < len(nodes) {
		parts = append(parts, plain)
	}
	parts = parts[:len(nodes)]
	rest := parts[1:]
	rand.New(rng).Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for i, n := range nodes {
		n.role = parts[i]
	}
}

// stage tells the manager what the other parts of a real node would tell it.
type stage struct {
	cm         *connmgrlibp2p.ConnManager
	deliveries connmgr.DecayingTag
}

func newStage(cm *connmgrlibp2p.ConnManager) (*stage, error) {
	deliveries, err := cm.RegisterDecayingTag("pubsub-deliveries:"+mesh, 0, connmgr.DecayFixed(1), connmgr.BumpSumBounded(0, 15))
	if err != nil {
		return nil, err
	}
	return &stage{cm: cm, deliveries: deliveries}, nil
}

// enter tags and protects a node as its role demands.
func (s *stage) enter(id peer.ID, r role) error {
	if r.protect != "" {
		s.cm.Protect(id, r.protect)
	}
	switch {
	case r.gossip:
		for range r.value { // one delivery after another
			if err := s.deliveries.Bump(id, 1); err != nil {
				return err
			}
		}
	case r.tag != "":
		s.cm.TagPeer(id, r.tag, r.value)
	}
	return nil
}

// addrsFor returns the addresses that a transport can dial.
func addrsFor(transport string, addrs []ma.Multiaddr) (out []ma.Multiaddr) {
	for _, a := range addrs {
		if strings.Contains(a.String(), "/quic-v1") == (transport == "quic") {
			out = append(out, a)
		}
	}
	return out
}
