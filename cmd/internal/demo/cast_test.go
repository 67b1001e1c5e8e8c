package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// castNames returns the roles that a seed gives to so many nodes.
func castNames(peers int, seed byte) []string {
	nodes := make(crowd, peers)
	for i := range nodes {
		nodes[i] = &node{name: fmt.Sprintf("n%03d", i+1)}
	}
	castRoles(nodes, rand.NewChaCha8([32]byte{seed}))
	names := make([]string, peers)
	for i, n := range nodes {
		names[i] = n.role.name
	}
	return names
}

func TestEveryRoleIsPlayedWhenThereAreEnoughNodes(t *testing.T) {
	for _, peers := range []int{len(roles), len(roles) + 1, 120, maxPeers} {
		names := castNames(peers, 1)
		for _, r := range roles {
			count := 0
			for _, name := range names {
				if name == r.name {
					count++
				}
			}
			if want := max(1, peers*r.percent/100); count != want {
				t.Errorf("of %d nodes %d play %q, want %d", peers, count, r.name, want)
			}
		}
	}
}

func TestFirstNodeIsPinnedWhateverTheSeed(t *testing.T) {
	for peers := 1; peers <= 20; peers++ {
		for seed := range byte(5) {
			if names := castNames(peers, seed); names[0] != roles[0].name || roles[0].protect == "" {
				t.Errorf("with %d nodes and seed %d the first one plays %q, want one that is protected, since it leaves its place to return", peers, seed, names[0])
			}
		}
	}
}

func TestSeedDecidesTheRoles(t *testing.T) {
	if a, b := castNames(120, 1), castNames(120, 1); !slices.Equal(a, b) {
		t.Errorf("the same seed gives different roles:\n%v\n%v", a, b)
	}
	if a, b := castNames(120, 1), castNames(120, 2); slices.Equal(a, b) {
		t.Errorf("seeds 1 and 2 give the same roles, want different ones: %v", a)
	}
}

func TestNodesDialTheirOwnTransportAlone(t *testing.T) {
	tcp := ma.StringCast("/ip4/127.0.0.1/tcp/4001")
	quic := ma.StringCast("/ip4/127.0.0.1/udp/4001/quic-v1")
	for transport, want := range map[string]ma.Multiaddr{"tcp": tcp, "quic": quic} {
		got := addrsFor(transport, []ma.Multiaddr{tcp, quic})
		if len(got) != 1 || !got[0].Equal(want) {
			t.Errorf("a node with %s dials %v, want %v alone", transport, got, want)
		}
	}
}
