package reference

import "sort"

// This file is the trim algorithm of the seed, line by line.
//
// Source: seed, trim algorithm (Manager.TrimOpenConns), with the tag store's Sum
// and the protect store's IsProtected. The seed calls calculateScore without
// showing it; its body is from the design, words and units ("score").

// Seed is what the seed's manager looks at in a trim.
type Seed struct {
	Connections []SeedConn
	Tags        map[string]map[string]int
	Protects    map[string]map[string]struct{}
	LowWater    int

	OutboundBonus int
	ActiveBonus   int
}

// SeedConn is one connection.
type SeedConn struct {
	RemotePeer string
	Outbound   bool
	Streams    int
}

type peerScore struct {
	peer  string
	score int
}

// TrimOpenConns returns the peers that the seed closes, in the order in which it
// closes them. A peer with several connections can be in there several times,
// since the seed's candidates are connections. Among equal scores the order is
// arbitrary.
func (m *Seed) TrimOpenConns() (closed []string) {
	conns := m.Connections

	if len(conns) <= m.LowWater {
		return nil
	}

	// Collect candidates.
	candidates := make([]peerScore, 0)
	for _, conn := range conns {
		peer := conn.RemotePeer
		if m.isProtected(peer) {
			continue // skip the protected
		}
		candidates = append(candidates, peerScore{
			peer:  peer,
			score: m.calculateScore(peer),
		})
	}

	// Sort by score.
	sort.Slice(candidates, func(i, j int) bool {
		return candidates[i].score < candidates[j].score
	})

	// Close connections with a low score.
	toClose := len(conns) - m.LowWater
	for i := 0; i < toClose && i < len(candidates); i++ {
		closed = append(closed, candidates[i].peer)
	}
	return closed
}

func (m *Seed) isProtected(peer string) bool {
	return len(m.Protects[peer]) > 0
}

func (m *Seed) sum(peer string) int {
	sum := 0
	for _, v := range m.Tags[peer] {
		sum += v
	}
	return sum
}

func (m *Seed) calculateScore(peer string) int {
	score := m.sum(peer)
	outbound, active := false, false
	for _, conn := range m.Connections {
		if conn.RemotePeer == peer {
			outbound = outbound || conn.Outbound
			active = active || conn.Streams > 0
		}
	}
	if outbound {
		score += m.OutboundBonus
	}
	if active {
		score += m.ActiveBonus
	}
	return score
}
