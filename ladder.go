package connmgr

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// This file turns reports of misbehaviour into bans, step by step: reports add up to
// a score that decays; a first threshold disconnects, a second one bans for a time,
// and each further ban takes longer. Bans are rules like any other, with an origin of
// their own, so they are saved, listed and lifted as all rules are.

// Report tells of misbehaviour of a peer, with a weight that is added to its score,
// and a reason, which becomes that of a ban. It returns where the peer stands then.
//
// If the score reaches a threshold, the peer is disconnected or banned before Report
// returns. Peers that an allow rule is about, by ID or by the address of a connection
// that they have, are not reported; nor are banned ones. With the ladder off it does
// nothing. Errors are about the weight and the reason, and about saving a ban; see
// [Gater.Add].
func (g *Gater) Report(ctx context.Context, peer NodeID, weight float64, reason string) (Standing, error) {
	if !(weight > 0) || math.IsInf(weight, 0) {
		return Standing{}, fmt.Errorf("connmgr: report of %v: weight is %v, must be positive and finite", peer, weight)
	}
	l := g.ladder
	if l == nil {
		return Standing{}, nil
	}
	ban := Rule{Effect: Deny, Target: PeerTarget(peer), Reason: reason, Origin: LadderOrigin}
	if err := ban.Validate(); err != nil {
		return Standing{}, err
	}
	if g.trusts(peer) {
		return Standing{}, nil
	}
	addrs := g.bannedWith(peer)
	now := g.m.cfg.Clock.Now()
	step := l.report(peer, weight, addrs, now, g.banInForce)
	var changes []RuleChange
	if step.ban {
		ban.Expires = step.standing.BannedUntil
		changes = append(changes, RuleChange{Rule: ban})
	}
	for _, of := range step.addrs {
		changes = append(changes, RuleChange{Rule: Rule{
			Effect: Deny, Target: PrefixTarget(of.prefix), Expires: of.until,
			Reason: fmt.Sprintf("more than %d banned peers", l.cfg.MaxPeersPerAddr), Origin: LadderOrigin,
		}})
	}
	for _, id := range step.lifted {
		changes = append(changes, RuleChange{Rule: Rule{Effect: Deny, Target: PeerTarget(id), Origin: LadderOrigin}, Remove: true})
	}
	var err error
	if len(changes) > 0 {
		_, err = g.applyThen(ctx, changes, func() {
			if step.ban {
				l.banned(peer)
			}
		})
	}
	if step.disconnect {
		if e := g.m.evictPeer(peer, ClosedMisbehaved, func(Conn, Direction) bool { return true }); e != nil {
			g.m.evict(TriggerReport, e)
		}
	}
	return step.standing, err
}

// banInForce reports whether a peer's ban is: somebody may have lifted it.
func (g *Gater) banInForce(peer NodeID) bool {
	return g.rules.Load().same(Rule{Effect: Deny, Target: PeerTarget(peer), Origin: LadderOrigin}) != nil
}

// Standing returns where a peer stands on the ban ladder, and false if it has never
// been reported, or that is forgotten.
func (g *Gater) Standing(peer NodeID) (Standing, bool) {
	l := g.ladder
	if l == nil {
		return Standing{}, false
	}
	now := g.m.cfg.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.peers[peer]
	if r == nil {
		return Standing{}, false
	}
	standing := l.standing(r, now)
	if !l.isBanned(peer, r, now, g.banInForce) {
		standing.BannedUntil = time.Time{}
	}
	return standing, true
}

// bannedWith returns the prefixes by which the addresses of a peer's connections are
// banned.
func (g *Gater) bannedWith(peer NodeID) (prefixes []netip.Prefix) {
	limits := g.door.limits.Load()
	for _, slot := range g.m.table.heldSlots(peer) {
		addr := limits.strangersAddr(g.m.remoteAddr(slot.conn).Addr())
		if !addr.IsValid() {
			continue
		}
		prefix, _ := addr.Prefix(min(addr.BitLen(), 64))
		if !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// ladder remembers the reported peers.
type ladder struct {
	cfg LadderConfig

	mu    sync.Mutex // guards all following fields
	peers map[NodeID]*reported
	// from is the banned peers by their addresses. Bans that have ended or were lifted
	// are found out when they are counted.
	from map[netip.Prefix]map[NodeID]struct{}
	// bannedAddrs is until when addresses are banned. There are no more than MaxPeers.
	bannedAddrs map[netip.Prefix]time.Time
}

// reported is a peer of which there are reports.
type reported struct {
	score float64
	at    time.Time // when the score was that
	bans  int
	until time.Time // when the last ban ends or ended
	addrs []netip.Prefix
	// begins says that the ban is decided but may not be in force yet.
	begins bool
}

func newLadder(cfg LadderConfig) *ladder {
	if cfg.off() {
		return nil
	}
	return &ladder{
		cfg:         cfg,
		peers:       make(map[NodeID]*reported),
		from:        make(map[netip.Prefix]map[NodeID]struct{}),
		bannedAddrs: make(map[netip.Prefix]time.Time),
	}
}

// remember takes over the bans of an earlier run. How many each peer had before is
// not known: one.
func (l *ladder) remember(set *ruleSet, now time.Time) {
	if l == nil {
		return
	}
	for r := range set.all() {
		if r.Origin != LadderOrigin || r.Effect != Deny || r.Expired(now) {
			continue
		}
		if id, ok := r.Target.Peer(); ok && len(l.peers) < l.cfg.MaxPeers {
			l.peers[id] = &reported{at: now, bans: 1, until: r.Expires}
		}
		if prefix, ok := r.Target.Prefix(); ok && len(l.bannedAddrs) < l.cfg.MaxPeers {
			l.bannedAddrs[prefix] = r.Expires
		}
	}
}

// ladderStep is what a report leads to.
type ladderStep struct {
	standing        Standing
	disconnect, ban bool
	addrs           []addrBan // that come with the ban
	lifted          []NodeID  // whose bans there is no room for
}

type addrBan struct {
	prefix netip.Prefix
	until  time.Time
}

// report adds to a peer's score. inForce says whether a ban is in force.
func (l *ladder) report(peer NodeID, weight float64, addrs []netip.Prefix, now time.Time, inForce func(NodeID) bool) (step ladderStep) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.peers[peer]
	if r == nil {
		r = &reported{at: now}
		l.peers[peer] = r
	}
	if l.isBanned(peer, r, now, inForce) {
		step.standing = l.standing(r, now)
		return step
	}
	if now.Before(r.until) { // lifted
		r.until = now
	}
	if !now.Before(r.until.Add(l.cfg.MaxBan)) {
		r.bans = 0
	}
	r.score, r.at = min(l.scoreOf(r, now)+weight, maxScore), now
	switch {
	case l.cfg.BanAt > 0 && r.score >= l.cfg.BanAt:
		step.ban, r.begins = true, true
		r.score = 0
		r.until = now.Add(l.nextBan(r.bans))
		r.bans++
		step.addrs = l.banFrom(peer, r, addrs, now, inForce)
	case l.cfg.DisconnectAt > 0 && r.score >= l.cfg.DisconnectAt:
		step.disconnect = true
	}
	if len(l.peers) > l.cfg.MaxPeers {
		step.lifted = l.makeRoom(peer, now)
	}
	step.standing = l.standing(r, now)
	return step
}

// banned notes that the ban of a peer is in force.
func (l *ladder) banned(peer NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.peers[peer]; r != nil {
		r.begins = false
	}
}

func (l *ladder) isBanned(peer NodeID, r *reported, now time.Time, inForce func(NodeID) bool) bool {
	return now.Before(r.until) && (r.begins || inForce(peer))
}

// nextBan returns how long a ban takes after a number of earlier ones.
func (l *ladder) nextBan(bans int) time.Duration {
	d := l.cfg.FirstBan
	for range bans {
		if d >= l.cfg.MaxBan/2 {
			return l.cfg.MaxBan
		}
		d *= 2
	}
	return d
}

// banFrom notes from where a banned peer comes, and returns which addresses are to be
// banned with it.
func (l *ladder) banFrom(peer NodeID, r *reported, addrs []netip.Prefix, now time.Time, inForce func(NodeID) bool) (bans []addrBan) {
	l.forgetAddrs(peer, r)
	r.addrs = addrs
	for _, prefix := range addrs {
		here := l.from[prefix]
		if here == nil {
			here = make(map[NodeID]struct{})
			l.from[prefix] = here
		}
		here[peer] = struct{}{}
		ban := addrBan{prefix: prefix}
		for id := range here {
			other := l.peers[id]
			if !l.isBanned(id, other, now, inForce) {
				l.forgetAddrs(id, other)
			} else if other.until.After(ban.until) {
				ban.until = other.until
			}
		}
		_, already := l.bannedAddrs[prefix]
		if len(here) > l.cfg.MaxPeersPerAddr && (already || len(l.bannedAddrs) < l.cfg.MaxPeers) {
			bans = append(bans, ban)
			l.bannedAddrs[prefix] = ban.until
		}
	}
	return bans
}

func (l *ladder) forgetAddrs(peer NodeID, r *reported) {
	for _, prefix := range r.addrs {
		delete(l.from[prefix], peer)
		if len(l.from[prefix]) == 0 {
			delete(l.from, prefix)
		}
	}
	r.addrs = nil
}

func (l *ladder) scoreOf(r *reported, now time.Time) float64 {
	return r.score * math.Exp2(-float64(now.Sub(r.at))/float64(l.cfg.HalfLife))
}

func (l *ladder) standing(r *reported, now time.Time) Standing {
	s := Standing{Score: l.scoreOf(r, now), Bans: r.bans}
	switch {
	case now.Before(r.until):
		s.BannedUntil = r.until
	case !now.Before(r.until.Add(l.cfg.MaxBan)):
		s.Bans = 0
	}
	return s
}

// makeRoom forgets an eighth of the peers, the good ones first, but not the one given
// nor those whose ban begins, and returns those that were banned.
func (l *ladder) makeRoom(but NodeID, now time.Time) (banned []NodeID) {
	type entry struct {
		id    NodeID
		bans  int
		until time.Time
		score float64
	}
	all := make([]entry, 0, len(l.peers))
	for id, r := range l.peers {
		if id != but && !r.begins {
			all = append(all, entry{id, r.bans, r.until, l.scoreOf(r, now)})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.bans, b.bans), a.until.Compare(b.until), cmp.Compare(a.score, b.score), cmp.Compare(a.id, b.id))
	})
	for _, e := range all[:min(len(all), l.cfg.MaxPeers/8+1)] {
		if now.Before(e.until) {
			banned = append(banned, e.id)
		}
		l.forgetAddrs(e.id, l.peers[e.id])
		delete(l.peers, e.id)
	}
	return banned
}

// sweep forgets peers of which there is nothing left to remember.
func (l *ladder) sweep(now time.Time) {
	if l == nil {
		return
	}
	least := max(l.cfg.BanAt, l.cfg.DisconnectAt) / 100
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.bannedAddrs, func(_ netip.Prefix, until time.Time) bool { return !now.Before(until) })
	for id, r := range l.peers {
		if now.Before(r.until) {
			continue
		}
		l.forgetAddrs(id, r)
		if l.scoreOf(r, now) < least && !now.Before(r.until.Add(l.cfg.MaxBan)) {
			delete(l.peers, id)
		}
	}
}

func (l *ladder) len() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.peers)
}
