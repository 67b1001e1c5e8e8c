package connmgr

import "math"

// This file guesses how high those rank that a trim will close, by planning for a sample
// of the peers. A trim that closes a tenth then keeps little more than that tenth in mind:
// it writes, sorts and forgets so much less, and most peers cost it one comparison.

// samples is how many peers guessBound looks at.
const samples = 2048

// guessBound looks at a few peers and guesses behind whom nobody has to go, even if slack
// times as many have to, and how many are before, so that a trim need not keep everybody
// in mind. Nil means everybody. A bad guess costs time, not correctness; see lane.enough.
func (m *Manager) guessBound(p *planner, now instant, slack int) (bound *key, before int) {
	open := m.table.open()
	every := open / samples
	most := max(0, open-p.policy.LowWater) * slack // connections that may have to go
	if every < 4 || most > open || p.policy.OutboundFloor > 0 {
		return nil, open
	}
	t := &p.sample
	t.reset(p.policy, p.trigger, nil, samples)
	skip := 0
	for i := range m.table.shards {
		skip = m.table.sampleShard(t, &m.table.shards[i], skip, every, now)
	}
	bound, before = p.boundAfter(most/every, m.look(t))
	return bound, before * every
}

// sampleShard adds every so-manieth peer of a shard to a tally, after skipping some. It
// returns how many to skip in the next one.
func (r *registry) sampleShard(t *tally, s *shard, skip, every int, now instant) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var f peerFacts
	for ; skip < int(s.used); skip += every {
		if rec := s.at(ref(skip + 1)); rec.state == recordConnected && r.factsLocked(s, rec, now, &f) {
			f.at = s.handle(ref(skip+1), rec)
			t.add(&f)
		}
	}
	return skip - int(s.used)
}

// boundAfter returns behind whom a sample of a crowd has so many connections, and some to
// be on the safe side, and how many peers it takes to find out; nil and all of them if it
// does not have so many.
func (p *planner) boundAfter(conns int, look look) (bound *key, peers int) {
	// How many a sample has of those that are meant varies by the root of their number.
	conns += 4*int(math.Sqrt(float64(conns))) + 8
	l := &p.sample.established
	if l.conns <= conns {
		return nil, len(l.keys)
	}
	taken := l.take(&order{}, conns, look)
	return &taken[len(taken)-1], l.asked
}
