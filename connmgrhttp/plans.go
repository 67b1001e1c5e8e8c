package connmgrhttp

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file keeps the plan that answers are from. A plan goes through all peers and asks
// every connection for its streams, so however many ask, there is one at work at a time
// for each trigger, and none within a second of the last unless something has changed; who
// asks meanwhile gets the last one, or waits for the one that is being made.

// planLasts is how long a plan serves once it is made. A second is what a reader does not
// notice.
const planLasts = time.Second

// plans is the last plan for each trigger, and the one at work.
type plans struct {
	m     *connmgr.Manager
	names wire.Names

	mu sync.Mutex // guards all following fields
	// changes counts what has been changed through the API.
	changes      uint64
	last, making map[connmgr.Trigger]*planned
}

func newPlans(m *connmgr.Manager, names wire.Names) *plans {
	return &plans{m: m, names: names, last: make(map[connmgr.Trigger]*planned), making: make(map[connmgr.Trigger]*planned)}
}

// planned is a plan, spread out for looking things up.
type planned struct {
	done   chan struct{} // closed when all but what mu guards is there
	plan   connmgr.Plan
	policy connmgr.Policy
	// made is when it was made, by this package's clock, not the manager's, and changes how
	// many changes it has seen.
	made    time.Time
	changes uint64
	peers   []judged
	// cut is the lowest score of those who stay since they rank above the cut.
	cut    int
	hasCut bool

	// names returns the names of all peers. They are worked out when somebody searches or
	// sorts by them: a name costs more than all else that is done with a peer.
	names func() []string

	mu     sync.Mutex // guards all following fields
	sorted map[string][]int32
}

// judged is a peer as the plan saw it, with its verdict.
type judged struct {
	connmgr.PeerState
	connmgr.Verdict
}

// get returns a plan that is at most a second old and not older than the last change made
// through the API before the call. It returns early if ctx ends.
func (c *plans) get(ctx context.Context, trigger connmgr.Trigger) (*planned, error) {
	c.mu.Lock()
	wanted := c.changes
	c.mu.Unlock()
	for {
		p, made := c.current(trigger, wanted)
		if made {
			return p, nil
		}
		select {
		case <-p.done:
			if p.changes >= wanted {
				return p, nil
			}
		case <-ctx.Done():
			return nil, refuse(problem.Unavailable, "", "the request ended before the plan was made")
		}
	}
}

// current returns a plan that has been made and will do, or else the one that is being
// made, which is begun if there is none.
func (c *plans) current(trigger connmgr.Trigger, wanted uint64) (p *planned, made bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.last[trigger]; p != nil && p.changes >= wanted && time.Since(p.made) < planLasts {
		return p, true
	}
	if p := c.making[trigger]; p != nil {
		return p, false
	}
	p = &planned{done: make(chan struct{}), changes: c.changes, sorted: make(map[string][]int32)}
	c.making[trigger] = p
	go c.make(p, trigger)
	return p, false
}

// forget makes the next one who asks get a new plan.
func (c *plans) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
}

// make makes a plan. A connection that does not say how many streams it has holds up the
// plans for this trigger, and nothing else.
func (c *plans) make(p *planned, trigger connmgr.Trigger) {
	defer close(p.done)
	p.plan = c.m.DryRun(trigger)
	p.policy = p.plan.Policy()
	p.names = sync.OnceValue(func() []string {
		list := make([]string, len(p.peers))
		for i := range list {
			list[i] = c.names.Peer(p.peers[i].ID)
		}
		return list
	})
	p.peers = make([]judged, 0, p.plan.Peers())
	for s, v := range p.plan.All() {
		p.peers = append(p.peers, judged{s, v})
		if v.Reason == connmgr.KeptAboveCut && (!p.hasCut || v.Score < p.cut) {
			p.cut, p.hasCut = v.Score, true
		}
	}
	p.made = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.last, func(_ connmgr.Trigger, old *planned) bool { return time.Since(old.made) >= planLasts })
	c.last[trigger] = p
	delete(c.making, trigger)
}

// find returns the peer with an ID.
func (p *planned) find(id connmgr.NodeID) (*judged, bool) {
	for i := range p.peers {
		if p.peers[i].ID == id {
			return &p.peers[i], true
		}
	}
	return nil, false
}

// The ways to sort peers.
const (
	byNext    = "next"
	byScore   = "score"
	byAge     = "age"
	byStreams = "streams"
	byConns   = "connections"
	byPeer    = "peer"
)

// order returns the places in peers, sorted. It is worked out once for a plan and must
// not be changed.
func (p *planned) order(by string) []int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list := p.sorted[by]; list != nil {
		return list
	}
	list := make([]int32, len(p.peers))
	for i := range list {
		list[i] = int32(i)
	}
	compare := p.comparison(by)
	slices.SortFunc(list, func(a, b int32) int {
		return cmp.Or(compare(a, b), cmp.Compare(p.peers[a].ID, p.peers[b].ID))
	})
	p.sorted[by] = list
	return list
}

func (p *planned) comparison(by string) func(a, b int32) int {
	on := func(f func(x, y *judged) int) func(a, b int32) int {
		return func(a, b int32) int { return f(&p.peers[a], &p.peers[b]) }
	}
	score := func(x, y *judged) int { return cmp.Compare(x.Score, y.Score) }
	younger := func(x, y *judged) int { return y.Since.Compare(x.Since) }
	switch by {
	case byScore:
		return on(score)
	case byAge:
		return on(younger)
	case byStreams:
		return on(func(x, y *judged) int { return cmp.Compare(x.Streams, y.Streams) })
	case byConns:
		return on(func(x, y *judged) int { return cmp.Compare(x.PeerState.Conns, y.PeerState.Conns) })
	case byPeer:
		names := p.names()
		return func(a, b int32) int { return cmp.Compare(names[a], names[b]) }
	}
	return on(func(x, y *judged) int { // those who go by their rank, before those who stay
		goes := func(j *judged) int {
			if j.Rank > 0 {
				return j.Rank
			}
			return len(p.peers) + 1
		}
		return cmp.Or(cmp.Compare(goes(x), goes(y)), score(x, y), younger(x, y))
	})
}
