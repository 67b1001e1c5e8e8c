package connmgr_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file is a manager as anybody would write it who need not care about speed:
// maps, loops and sorting. model_random_test.go lets it run beside the real one.

type model struct {
	limits        connmgr.Limits
	grace         time.Duration
	outbound      int // bonus
	active        int // bonus
	peers         map[connmgr.NodeID]*modelPeer
	decaying      map[string]*modelDecay
	trims, closed uint64
}

type modelPeer struct {
	since       time.Time
	conns       []*connmgrtest.Conn
	tags        map[string]int
	values      map[string]int // of decaying tags
	added       map[string]time.Time
	protections map[string]bool
}

type modelDecay struct {
	tag   *connmgr.DecayingTag
	decay func(int) int // to zero or below means removed
	next  time.Time
}

func (m *model) peer(id connmgr.NodeID) *modelPeer {
	if m.peers[id] == nil {
		m.peers[id] = &modelPeer{
			tags: map[string]int{}, values: map[string]int{}, added: map[string]time.Time{}, protections: map[string]bool{},
		}
	}
	return m.peers[id]
}

// forget drops the peers about whom nothing is known.
func (m *model) forget() {
	maps.DeleteFunc(m.peers, func(_ connmgr.NodeID, p *modelPeer) bool {
		return len(p.conns) == 0 && len(p.tags) == 0 && len(p.values) == 0 && len(p.protections) == 0
	})
}

func (m *model) connect(c *connmgrtest.Conn, now time.Time) {
	p := m.peer(c.RemotePeer())
	if len(p.conns) == 0 {
		p.since = now
	}
	p.conns = append(p.conns, c)
}

func (m *model) disconnect(c *connmgrtest.Conn) {
	p := m.peer(c.RemotePeer())
	p.conns = slices.DeleteFunc(p.conns, func(have *connmgrtest.Conn) bool { return have == c })
	m.forget()
}

func (m *model) bump(id connmgr.NodeID, name string, value int, now time.Time) {
	p := m.peer(id)
	if _, has := p.values[name]; !has {
		p.added[name] = now
	}
	p.values[name] = value
}

func (m *model) removeDecaying(name string) {
	for _, p := range m.peers {
		delete(p.values, name)
	}
	m.forget()
}

// decayUntil makes values decay as often as they have to until a time.
func (m *model) decayUntil(now time.Time) {
	for name, d := range m.decaying {
		for ; !d.next.After(now); d.next = d.next.Add(d.tag.Interval()) {
			for _, p := range m.peers {
				if value, has := p.values[name]; has && p.added[name].Before(d.next) {
					if p.values[name] = d.decay(value); p.values[name] <= 0 {
						delete(p.values, name)
					}
				}
			}
		}
	}
	m.forget()
}

func (p *modelPeer) sum() (sum int) {
	for _, v := range p.tags {
		sum += v
	}
	for _, v := range p.values {
		sum += v
	}
	return sum
}

func (p *modelPeer) streams() (n int) {
	for _, c := range p.conns {
		n += c.Stat().Streams
	}
	return n
}

func (p *modelPeer) isOutbound() bool {
	return slices.ContainsFunc(p.conns, func(c *connmgrtest.Conn) bool { return c.Stat().Direction == connmgr.DirOutbound })
}

func (m *model) score(p *modelPeer) int {
	score := p.sum()
	if p.isOutbound() {
		score += m.outbound
	}
	if p.streams() > 0 {
		score += m.active
	}
	return score
}

// firstToGo is rule 5 of planning, but for its last resort: the model's peers
// never connect at the same time.
func (m *model) firstToGo(a, b connmgr.NodeID) int {
	p, q := m.peers[a], m.peers[b]
	no := func(b bool) int { return map[bool]int{true: 1}[b] }
	return cmp.Or(
		cmp.Compare(m.score(p), m.score(q)),
		cmp.Compare(no(p.streams() > 0), no(q.streams() > 0)),
		cmp.Compare(no(p.isOutbound()), no(q.isOutbound())),
		cmp.Compare(p.streams(), q.streams()),
		q.since.Compare(p.since),
	)
}

// plan returns who has to go, the first to go first, with reasons.
func (m *model) plan(now time.Time, trigger connmgr.Trigger) (goes []string) {
	force := trigger == connmgr.TriggerForce
	var established, newcomers, friends []connmgr.NodeID
	total, counted := 0, 0
	for id, p := range m.peers {
		if len(p.conns) == 0 {
			continue
		}
		total += len(p.conns)
		inGrace := now.Sub(p.since) < m.grace && !force
		if !inGrace {
			counted += len(p.conns)
		}
		switch {
		case len(p.protections) > 0:
			friends = append(friends, id)
		case inGrace:
			newcomers = append(newcomers, id)
		default:
			established = append(established, id)
		}
	}
	freed := 0
	take := func(from []connmgr.NodeID, target int, reason connmgr.Reason) {
		slices.SortFunc(from, m.firstToGo)
		for _, id := range from {
			if target <= 0 {
				return
			}
			goes = append(goes, fmt.Sprint(id, ": ", reason))
			freed += len(m.peers[id].conns)
			target -= len(m.peers[id].conns)
		}
	}
	switch target := counted - m.limits.LowWater; {
	case force:
		take(established, target, connmgr.ClosedForced)
		take(friends, target-freed, connmgr.ClosedForcedProtected)
	default:
		take(established, target, connmgr.ClosedLowScore)
	}
	if trigger == connmgr.TriggerHardLimit && total-freed > m.limits.HardLimit {
		take(newcomers, total-freed-m.limits.HighWater, connmgr.ClosedHardLimit)
	}
	return goes
}

// apply notes that a trim has closed peers.
func (m *model) apply(closed []connmgr.Verdict) {
	m.trims++
	for _, v := range closed {
		m.closed++
		m.peers[v.Peer].conns = nil
	}
	m.forget()
}

func (m *model) total() (n int) {
	for _, p := range m.peers {
		n += len(p.conns)
	}
	return n
}
