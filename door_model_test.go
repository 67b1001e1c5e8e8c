package connmgr_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// This test does random things at the door, and holds what the gate says and what the
// manager counts against a door as anybody would write it who need not care about speed.

// naiveDoor is that door: a list of connections.
type naiveDoor struct {
	hard    int
	limits  connmgr.GateLimits
	tags    map[connmgr.NodeID]int
	safe    map[connmgr.NodeID]bool // protected
	friends map[connmgr.NodeID]bool // trusted
	blocked map[connmgr.Target]bool
	since   map[connmgr.NodeID]time.Time
	conns   []*naiveConn
}

type naiveConn struct {
	*guest
	peer     connmgr.NodeID
	dir      connmgr.Direction
	addr     netip.Addr
	trusted  bool
	arriving bool
}

func (d *naiveDoor) count(is func(*naiveConn) bool) (n int) {
	for _, c := range d.conns {
		if is(c) {
			n++
		}
	}
	return n
}

func (d *naiveDoor) denies(peer connmgr.NodeID, addr netip.Addr) connmgr.Outcome {
	wide, _ := addr.Prefix(24)
	switch {
	case d.blocked[connmgr.PrefixTarget(wide)]:
		return connmgr.DeniedAddr
	case d.blocked[connmgr.PeerTarget(peer)]:
		return connmgr.DeniedPeer
	}
	return connmgr.Passed
}

// admits says what becomes of an inbound newcomer, and who goes for it.
func (d *naiveDoor) admits(peer connmgr.NodeID, addr netip.Addr, now time.Time) (connmgr.Outcome, connmgr.NodeID) {
	if no := d.denies(peer, addr); no != connmgr.Passed {
		return no, ""
	}
	if d.friends[peer] {
		return connmgr.Passed, ""
	}
	for _, limit := range d.limits.PerPrefix {
		prefix, _ := addr.Prefix(limit.IPv4)
		if d.count(func(c *naiveConn) bool { return c.counts() && prefix.Contains(c.addr) }) >= limit.MaxConns {
			return connmgr.OverPrefixLimit, ""
		}
	}
	if d.count(func(c *naiveConn) bool { return c.peer == peer }) >= d.limits.MaxPerPeer {
		return connmgr.OverPeerLimit, ""
	}
	full := connmgr.Passed
	if len(d.conns) >= d.hard {
		full = connmgr.OverHardLimit
	} else if d.count(func(c *naiveConn) bool { return c.dir == connmgr.DirInbound }) >= d.limits.MaxInbound {
		full = connmgr.OverInboundLimit
	}
	if full == connmgr.Passed {
		return full, ""
	}
	// The lowest-ranked goes, if it goes before the newcomer.
	lowest := connmgr.NodeID("")
	for _, c := range d.conns {
		id := c.peer
		if c.arriving || id == peer || d.safe[id] || d.isOutbound(id) {
			continue
		}
		if lowest == "" || d.compare(id, lowest, d.since[id], d.since[lowest]) < 0 {
			lowest = id
		}
	}
	since := now // one more connection of a peer is as young as any
	if lowest == "" || !d.safe[peer] && d.compare(lowest, peer, d.since[lowest], since) > 0 {
		return full, ""
	}
	return connmgr.Passed, lowest
}

// counts says whether the connection counts against limits per prefix.
func (c *naiveConn) counts() bool { return c.dir == connmgr.DirInbound && !c.trusted }

func (d *naiveDoor) isOutbound(id connmgr.NodeID) bool {
	return d.count(func(c *naiveConn) bool { return c.peer == id && c.dir == connmgr.DirOutbound && !c.arriving }) > 0
}

func (d *naiveDoor) compare(a, b connmgr.NodeID, sinceA, sinceB time.Time) int {
	out := map[bool]int{true: 1}
	return cmp.Or(cmp.Compare(d.tags[a], d.tags[b]), cmp.Compare(out[d.isOutbound(a)], out[d.isOutbound(b)]), sinceB.Compare(sinceA))
}

// remove takes out the connections for which is holds.
func (d *naiveDoor) remove(is func(*naiveConn) bool) {
	d.conns = slices.DeleteFunc(d.conns, is)
}

func TestTheDoorDoesWhatTheModelDoes(t *testing.T) {
	displaced, outcomes := 0, make(map[connmgr.Outcome]int)
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newDoorPair(t, seed)
				for i := range 700 {
					what := p.step()
					advance(time.Millisecond)
					if p.compare(what); t.Failed() {
						t.Fatalf("seed %d, step %d: %s", seed, i, what)
					}
				}
				displaced += p.displaced
				for o, n := range p.outcomes {
					outcomes[o] += n
				}
			})
		})
	}
	for o := connmgr.Passed; o <= connmgr.OverPrefixLimit; o++ {
		if o != connmgr.DeniedPort && outcomes[o] == 0 || displaced < 20 {
			t.Errorf("the test is wrong: %d displaced, outcomes %v; want some of all", displaced, outcomes)
		}
	}
}

// doorPair is a lobby and its model.
type doorPair struct {
	*lobby
	t         *testing.T
	rng       *rand.Rand
	model     naiveDoor
	displaced int
	outcomes  map[connmgr.Outcome]int
}

func newDoorPair(t *testing.T, seed uint64) *doorPair {
	p := &doorPair{t: t, rng: rand.New(rand.NewPCG(seed, 9)), outcomes: make(map[connmgr.Outcome]int)}
	p.model = naiveDoor{
		hard: 20, limits: p.randomLimits(), tags: make(map[connmgr.NodeID]int), safe: map[connmgr.NodeID]bool{"friend": true},
		friends: map[connmgr.NodeID]bool{"friend": true}, blocked: make(map[connmgr.Target]bool), since: make(map[connmgr.NodeID]time.Time),
	}
	cfg := tight(12, p.model.hard)
	cfg.HardLimit = p.model.hard
	cfg.Gate.Limits = p.model.limits
	cfg.Gate.Rules = []connmgr.Rule{{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")}}
	p.lobby = newLobby(t, cfg)
	p.m.Protect("friend", "x") // so that it does not go for others
	return p
}

func (p *doorPair) randomLimits() connmgr.GateLimits {
	return connmgr.GateLimits{MaxInbound: 18, MaxPerPeer: 3, PerPrefix: []connmgr.PrefixLimit{
		{IPv4: 32, MaxConns: 2 + p.rng.IntN(3)},
		{IPv4: 24, MaxConns: 5 + p.rng.IntN(5)},
	}}
}

// pick returns a random connection that is or is not arriving, nil if there is none.
func (p *doorPair) pick(arriving bool) *naiveConn {
	some := slices.DeleteFunc(slices.Clone(p.model.conns), func(c *naiveConn) bool { return c.arriving != arriving })
	if len(some) == 0 {
		return nil
	}
	return some[p.rng.IntN(len(some))]
}

// step does something to both, and says what.
func (p *doorPair) step() string {
	d, rng := &p.model, p.rng
	id := connmgr.NodeID(fmt.Sprint("peer", rng.IntN(25)))
	addr := addr4(rng.IntN(4), rng.IntN(5))
	switch what := rng.IntN(100); {
	case what < 45:
		if rng.IntN(30) == 0 && len(d.conns) < d.hard && d.count(func(c *naiveConn) bool { return c.dir == connmgr.DirInbound }) < d.limits.MaxInbound {
			id = "friend" // it is not refused, so nothing may be too full for it
		}
		return p.knock(connmgr.DirInbound, id, addr)
	case what < 53 && len(d.conns) < d.hard && d.count(func(c *naiveConn) bool { return c.dir == connmgr.DirOutbound }) < 6:
		return p.knock(connmgr.DirOutbound, id, addr)
	case what < 70:
		c := p.pick(true)
		if c == nil {
			return "nothing"
		}
		p.m.Connected(c.peer, c.guest)
		synctest.Wait()
		if c.arriving = false; d.denies(c.peer, c.addr) != connmgr.Passed {
			d.remove(func(o *naiveConn) bool { return !o.arriving && d.denies(o.peer, o.addr) != connmgr.Passed })
		}
		return fmt.Sprint("arrived: ", c.peer)
	case what < 80:
		c := p.pick(rng.IntN(4) == 0)
		if c == nil {
			return "nothing"
		}
		if c.arriving && rng.IntN(2) == 0 {
			c.giveUp()
		} else {
			c.leave()
		}
		d.remove(func(o *naiveConn) bool { return o == c })
		return fmt.Sprint("left: ", c.peer)
	case what < 88:
		value := rng.IntN(20) - 3
		p.m.TagPeer(id, "a", value)
		d.tags[id] = value
		return fmt.Sprint("tagged: ", id)
	case what < 91:
		if d.safe[id] = !d.safe[id]; d.safe[id] {
			p.m.Protect(id, "x")
		} else {
			p.m.Unprotect(id, "x")
		}
		return fmt.Sprint("protected or not: ", id)
	case what < 93:
		return p.block(id, addr.Addr())
	case what < 95:
		trim(p.t, p.m)
		d.remove(func(c *naiveConn) bool { return !c.arriving && c.gone.Load() })
		return "trim"
	case what < 98 || p.rng.IntN(2) == 0:
		d.limits = p.randomLimits()
		if err := p.g.SetLimits(d.limits); err != nil {
			p.t.Fatal(err)
		}
		for _, c := range d.conns { // one that a rule denies by now is not trusted
			c.trusted = d.friends[c.peer] && d.denies(c.peer, c.addr) == connmgr.Passed
		}
		return fmt.Sprintf("limits %+v", d.limits)
	default:
		advance(time.Minute)
		d.remove(func(c *naiveConn) bool {
			if c.arriving { // the host has given it up, too
				c.gone.Store(true)
				p.count(-1, c.guest.counts...)
			}
			return c.arriving
		})
		return "a minute passes"
	}
}

func (p *doorPair) knock(dir connmgr.Direction, id connmgr.NodeID, addr netip.AddrPort) string {
	d := &p.model
	want, goes := d.denies(id, addr.Addr()), connmgr.NodeID("")
	if dir == connmgr.DirInbound {
		want, goes = d.admits(id, addr.Addr(), time.Now())
	}
	what := fmt.Sprintf("%v %v from %v: want %v, and %q to go", dir, id, addr.Addr(), want, goes)
	before := len(p.closed)
	v, err := p.arrive(dir, id, addr)
	var no *connmgr.DeniedError
	got := connmgr.Passed
	if errors.As(err, &no) {
		got = no.Outcome
	}
	if dir == connmgr.DirOutbound && want == connmgr.DeniedAddr && got == connmgr.DeniedPeer {
		got = want // who is asked before where, if we dial
	}
	p.outcomes[got]++
	if closed := slices.Compact(slices.Clone(p.closed[before:])); got != want || (goes == "") != (len(closed) == 0) || goes != "" && closed[0] != goes {
		p.t.Errorf("%s; got %v, and %v closed", what, got, closed)
		return what
	}
	if goes != "" {
		p.displaced++
		d.remove(func(c *naiveConn) bool { return c.peer == goes && !c.arriving })
	}
	if got != connmgr.Passed {
		return what
	}
	if d.count(func(c *naiveConn) bool { return c.peer == id }) == 0 {
		d.since[id] = time.Now()
	}
	c := &naiveConn{guest: v, peer: id, dir: dir, addr: addr.Addr(), trusted: d.friends[id], arriving: true}
	if d.conns = append(d.conns, c); dir == connmgr.DirOutbound { // it counts when it is reported
		c.arriving = false
		p.m.Connected(id, v)
	}
	return what
}

func (p *doorPair) block(id connmgr.NodeID, addr netip.Addr) string {
	d := &p.model
	wide, _ := addr.Prefix(24)
	target := connmgr.PeerTarget(id)
	if p.rng.IntN(3) == 0 {
		target = connmgr.PrefixTarget(wide)
	}
	if len(d.blocked) > 2 {
		for target = range d.blocked {
			delete(d.blocked, target)
			if _, err := p.g.Unblock(context.Background(), target); err != nil {
				p.t.Error(err)
			}
		}
		return "all unblocked"
	}
	d.blocked[target] = true
	if err := p.g.Block(context.Background(), target, 0, ""); err != nil {
		p.t.Error(err)
	}
	d.remove(func(c *naiveConn) bool { return !c.arriving && d.denies(c.peer, c.addr) != connmgr.Passed })
	return fmt.Sprint("blocked: ", target)
}

// compare looks for a difference.
func (p *doorPair) compare(what string) {
	d, s, g := &p.model, p.m.Stats(), p.g.Stats()
	peers := make(map[connmgr.NodeID][]connmgr.Conn)
	arriving, inbound := 0, 0
	prefixes := make(map[netip.Prefix]bool)
	for _, c := range d.conns {
		peers[c.peer] = append(peers[c.peer], c.guest)
		if c.arriving {
			arriving++
		}
		if c.dir == connmgr.DirInbound {
			inbound++
		}
		for _, limit := range d.limits.PerPrefix {
			if prefix, _ := c.addr.Prefix(limit.IPv4); c.counts() {
				prefixes[prefix] = true
			}
		}
	}
	open := len(d.conns) - arriving
	if s.Conns != open || p.m.ConnCount() != open || g.Arriving != arriving || s.Closing != 0 ||
		s.Inbound != inbound || s.Outbound != len(d.conns)-inbound || s.UnknownDirection != 0 || s.Peers != len(peers) {
		p.t.Errorf("after %s: %d open (%d), %d arriving, %d closing, %d inbound, %d outbound, %d peers; want %d open, %d arriving, none closing, %d inbound, %d outbound, %d peers",
			what, s.Conns, p.m.ConnCount(), g.Arriving, s.Closing, s.Inbound, s.Outbound, s.Peers, open, arriving, inbound, len(d.conns)-inbound, len(peers))
	}
	if g.TrackedPrefixes != len(prefixes) {
		p.t.Errorf("after %s: %d prefixes are tracked, want %d", what, g.TrackedPrefixes, len(prefixes))
	}
	for i := range 25 {
		id := connmgr.NodeID(fmt.Sprint("peer", i))
		info, _ := p.m.PeerInfo(id)
		if len(info.Conns) != len(peers[id]) {
			p.t.Errorf("after %s: %v has %d connections, want %d", what, id, len(info.Conns), len(peers[id]))
		}
		for _, c := range info.Conns {
			if !slices.Contains(peers[id], c.Conn) {
				p.t.Errorf("after %s: %v has a connection that nobody knows", what, id)
			}
		}
	}
}
