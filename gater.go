package connmgr

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// This file holds the gate: five checkpoints at which a host asks whether a
// connection may go on. rules.go has the rules, limits.go the limits, ladder.go the
// bans that misbehaviour leads to.

// GateConfig says how a manager's [Gater] behaves. The zero value lets everything
// pass up to [Config.HardLimit].
type GateConfig struct {
	// Store keeps rules across restarts; nil means that they end with the process.
	// New loads it, and fails if that does.
	Store RuleStore
	// Rules are in force from the start. They are not saved: the program brings them
	// each time. Where the same rule is saved, the one counts that ends later.
	Rules []Rule
	// Limits are the limits at the door. Default none; see [PublicNodeLimits],
	// [PrivateClusterLimits] and [TestLimits] for sets that belong together.
	Limits GateLimits
	// Ladder turns reports of misbehaviour into bans. Default off.
	Ladder LadderConfig
}

// Gater decides which connections may come about. Every [Manager] has one; get it
// from [Manager.Gater]. A host asks it at five checkpoints, named as go-libp2p names
// them, as far as the host has such moments; one that has only some of them asks at
// those. The earlier a connection is refused, the less it costs.
//
//	            we dial                    somebody dials us
//	who         InterceptPeerDial
//	where       InterceptAddrDial          InterceptAccept
//	both        InterceptSecured           InterceptSecured
//	in full     InterceptUpgraded          InterceptUpgraded
//
// Each returns nil or a [*DeniedError]. Addresses are those of the other side; the
// zero AddrPort stands for one that is unknown or not an IP address, such as that of
// a relayed connection (the relay's address says nothing about the peer behind it).
// Of an address that we dial, the port is judged as well.
//
// Methods may be called from several goroutines at once, and after Close of the
// manager: rules still decide then, but nothing is closed, and no limit of places
// holds. Checks take no lock and allocate nothing; with a million rules they cost a few
// cache misses more than with one. Refusals allocate, and limits take a lock for a
// moment.
type Gater struct {
	m     *Manager
	rules atomic.Pointer[ruleSet]
	// editing is held while the next set of rules is made and put in force.
	editing sync.Mutex
	keeper  ruleKeeper
	door    door
	room    *room
	ladder  *ladder // nil if it is off
	counts  gateCounts
	// nextSweep is the soonest that expired rules are looked for again, in Unix
	// nanoseconds.
	nextSweep atomic.Int64
}

// newGater makes the gate of a manager, with the rules of the store.
func newGater(m *Manager, cfg GateConfig) (*Gater, error) {
	g := &Gater{m: m, keeper: ruleKeeper{m: m, store: cfg.Store}, room: newRoom()}
	g.door.setLimits(cfg.Limits)
	g.ladder = newLadder(cfg.Ladder)
	for _, r := range cfg.Rules {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("%w (in GateConfig.Rules)", err)
		}
	}
	var saved []Rule
	if cfg.Store != nil {
		var err error
		if saved, err = cfg.Store.Load(context.Background()); err != nil {
			return nil, fmt.Errorf("connmgr: loading rules: %w", err)
		}
		for _, r := range saved {
			if err := r.Validate(); err != nil {
				return nil, fmt.Errorf("%w (in the store of rules)", err)
			}
		}
	}
	e := (&ruleSet{nextExpiry: neverExpires}).edit(len(saved) + len(cfg.Rules))
	for _, r := range saved { // those that have expired are left to the sweep
		e.put(r)
	}
	for _, r := range cfg.Rules {
		// Of the same rule, the one counts that ends later, or ending would take away
		// what is saved.
		if known := e.set.same(r); known == nil || known.expires < unixNano(r.Expires) {
			e.put(r)
		}
	}
	g.rules.Store(&e.set)
	g.ladder.remember(&e.set, m.cfg.Clock.Now())
	return g, nil
}

// Gater returns the manager's gate.
func (m *Manager) Gater() *Gater { return m.gater }

// InterceptPeerDial decides whether we may dial a peer.
func (g *Gater) InterceptPeerDial(peer NodeID) error {
	_, no := g.check(AtPeerDial, &subject{peer: peer, hasPeer: true})
	return g.answer(AtPeerDial, no)
}

// InterceptAddrDial decides whether we may dial a peer at an address.
func (g *Gater) InterceptAddrDial(peer NodeID, addr netip.AddrPort) error {
	_, no := g.check(AtAddrDial, &subject{peer: peer, hasPeer: true, addr: addr, dialled: true})
	return g.answer(AtAddrDial, no)
}

// InterceptAccept decides whether somebody who has dialled us may begin a handshake.
// It applies the limits per prefix, unless there are allow rules about peers: then
// it takes the handshake to know whom the limits are about, and InterceptSecured
// applies them. (One that has expired counts until it is forgotten, within minutes.)
func (g *Gater) InterceptAccept(addr netip.AddrPort) error {
	s := &subject{addr: addr}
	set, no := g.check(AtAccept, s)
	if no == nil && set.allowedPeers == 0 {
		no = g.knock(AtAccept, s)
	}
	return g.answer(AtAccept, no)
}

// InterceptSecured decides whether a connection may go on now that it is known who
// the other side is.
func (g *Gater) InterceptSecured(dir Direction, peer NodeID, addr netip.AddrPort) error {
	s := &subject{peer: peer, hasPeer: true, addr: addr, dialled: dir == DirOutbound}
	set, no := g.check(AtSecured, s)
	if no == nil && dir != DirOutbound && set.allowedPeers > 0 {
		no = g.knock(AtSecured, s)
	}
	return g.answer(AtSecured, no)
}

// InterceptUpgraded decides whether a connection that is ready may be used. An
// inbound one has its place from then on, and counts; the host reports it with
// [Manager.Connected], as the same (==) value, or gives the place back with
// [Gater.Release].
//
// At the hard limit, and at the limit of inbound connections, the newcomer is
// refused unless there is an unprotected peer with nothing but inbound connections
// that goes before it in the order of trims (a newcomer counts with the tags that it
// has already; a protected one goes before nobody). That peer is closed first, so the
// call can take as long as a Close, but not much longer than a second. While outbound or
// trusted connections hold the number above a limit, it takes more than one peer to make
// room; either enough of them go, or nobody does.
func (g *Gater) InterceptUpgraded(dir Direction, peer NodeID, addr netip.AddrPort, conn Conn) error {
	s := &subject{peer: peer, hasPeer: true, addr: addr, dialled: dir == DirOutbound}
	_, no := g.check(AtUpgraded, s)
	if no == nil && dir != DirOutbound && conn != nil && !g.m.closed.Load() {
		mustCompare(conn)
		if r := g.admit(s, dir, conn); r != nil {
			no = g.refuse(AtUpgraded, s, r)
		}
	}
	return g.answer(AtUpgraded, no)
}

// subject is a connection as far as a checkpoint knows it.
type subject struct {
	peer    NodeID
	hasPeer bool
	addr    netip.AddrPort
	// dialled says that we chose the port.
	dialled bool
	// trusted says that a rule allows it. It is what check found out.
	trusted bool
}

func (g *Gater) moment() moment { return moment{clock: g.m.cfg.Clock} }

// check judges by the rules, which it returns.
func (g *Gater) check(cp Checkpoint, s *subject) (*ruleSet, *DeniedError) {
	set := g.rules.Load()
	if set.count == 0 {
		return set, nil
	}
	now := g.moment()
	outcome, trusted := set.judge(s, &now)
	if s.trusted = trusted; outcome == Passed {
		return set, nil
	}
	return set, set.denial(cp, outcome, s, &now)
}

// knock applies the limits per prefix.
func (g *Gater) knock(cp Checkpoint, s *subject) *DeniedError {
	if s.trusted || len(g.door.limits.Load().PerPrefix) == 0 {
		return nil
	}
	r := g.door.knock(s.addr.Addr(), g.m.table.now())
	if r != nil && r.outcome == OverPrefixLimit && g.room.recount(g.m) {
		r = g.door.knock(s.addr.Addr(), g.m.table.now())
	}
	if r != nil {
		return g.refuse(cp, s, r)
	}
	return nil
}

// refuse makes the error for a limit that says no.
func (g *Gater) refuse(cp Checkpoint, s *subject, r *refusal) *DeniedError {
	e := &DeniedError{
		Checkpoint: cp, Outcome: r.outcome, Peer: s.peer, HasPeer: s.hasPeer, Addr: s.addr,
		Limit: r.limit, Prefix: r.prefix,
	}
	if r.until != 0 {
		e.Until = g.m.table.time(r.until)
	}
	return e
}

// answer counts what came of a check, and tells subscribers of a refusal.
func (g *Gater) answer(cp Checkpoint, no *DeniedError) error {
	if no == nil {
		g.counts[cp].passed.add(1)
		return nil
	}
	g.counts[cp].denied[no.Outcome].Add(1)
	g.m.events.publish(func() Event { return EventDenied{Err: no, At: g.m.cfg.Clock.Now()} })
	return no
}

// judge applies the rules: a deny of the peer, the address or the port decides. If
// there is none, an allow of one of them makes a connection trusted.
func (s *ruleSet) judge(who *subject, now *moment) (outcome Outcome, trusted bool) {
	if who.hasPeer {
		if n := s.forPeer(who.peer, now); n != nil {
			if n.effect == Deny {
				return DeniedPeer, false
			}
			trusted = true
		}
	}
	if addr := CanonicalAddr(who.addr.Addr()); addr.IsValid() {
		if n := s.judgeAddr(addr, now); n != nil {
			if n.effect == Deny {
				return DeniedAddr, false
			}
			trusted = true
		}
		if who.dialled {
			if n := s.forPort(who.addr.Port(), now); n != nil && n.effect == Deny {
				return DeniedPort, false
			}
		}
	}
	return Passed, trusted
}

// judgeAddr returns the rule that decides about an address, nil if there is none.
// One behind NAT64 is judged by the IPv4 address inside as well.
func (s *ruleSet) judgeAddr(addr netip.Addr, now *moment) *ruleNode {
	n := s.forAddr(addr, now)
	if addr.Is4() || n != nil && n.effect == Deny {
		return n
	}
	if inside, ok := embedded4(addr); ok {
		if other := s.forAddr(inside, now); other != nil && (n == nil || other.effect == Deny) {
			return other
		}
	}
	return n
}

// denial makes the error for an outcome of judge.
func (s *ruleSet) denial(cp Checkpoint, outcome Outcome, who *subject, now *moment) *DeniedError {
	e := &DeniedError{Checkpoint: cp, Outcome: outcome, Peer: who.peer, HasPeer: who.hasPeer, Addr: who.addr}
	ruling := s.lookup(who, now)
	for _, r := range []*Rule{ruling.Peer, ruling.Addr, ruling.Port} {
		if r != nil && r.Effect == Deny {
			e.Rule, e.Until = *r, r.Expires
			break
		}
	}
	return e
}

// Ruling is which rules decide about a peer and an address; nil where there is
// none.
type Ruling struct {
	Peer, Addr, Port *Rule
}

// Denied reports whether one of the rules denies.
func (r Ruling) Denied() bool { return r.has(Deny) }

// Trusted reports whether one of the rules about peer and address allows, and none
// denies: such a connection passes the limits.
func (r Ruling) Trusted() bool {
	r.Port = nil
	return r.has(Allow) && !r.has(Deny)
}

func (r Ruling) has(e Effect) bool {
	for _, rule := range []*Rule{r.Peer, r.Addr, r.Port} {
		if rule != nil && rule.Effect == e {
			return true
		}
	}
	return false
}

// Lookup says which rules decide about a peer at an address. The zero AddrPort
// stands for no address; port 0 for no port in particular.
func (g *Gater) Lookup(peer NodeID, addr netip.AddrPort) Ruling {
	who := &subject{peer: peer, hasPeer: true, addr: addr, dialled: addr.Port() != 0}
	now := g.moment()
	return g.rules.Load().lookup(who, &now)
}

// lookup is judge with the rules themselves, for those who want to know more. Of
// several denies it names the one that ends last.
func (s *ruleSet) lookup(who *subject, now *moment) (r Ruling) {
	last := func(t Target, n *ruleNode) *Rule {
		decides := n.decide(now)
		if decides == nil {
			return nil
		}
		for ; n != nil; n = n.next {
			if n.effect == decides.effect && n.expires > decides.expires {
				decides = n
			}
		}
		rule := decides.rule(t)
		return &rule
	}
	if who.hasPeer {
		t := PeerTarget(who.peer)
		r.Peer = last(t, s.find(t))
	}
	addr := CanonicalAddr(who.addr.Addr())
	if !addr.IsValid() {
		return r
	}
	byPrefix := func(addr netip.Addr) *Rule {
		prefix, _ := s.findAddr(addr, now)
		t := Target{kind: targetPrefix, prefix: prefix}
		return last(t, s.find(t))
	}
	r.Addr = byPrefix(addr)
	if inside, ok := embedded4(addr); ok && (r.Addr == nil || r.Addr.Effect == Allow) {
		if other := byPrefix(inside); other != nil && (r.Addr == nil || other.Effect == Deny) {
			r.Addr = other
		}
	}
	if who.dialled {
		t := PortTarget(who.addr.Port())
		r.Port = last(t, s.find(t))
	}
	return r
}

// Subscribe is [Manager.Subscribe], for those who have the gate alone.
func (g *Gater) Subscribe(buffer int) *Subscription { return g.m.Subscribe(buffer) }

// Stats returns the gate's statistics.
func (g *Gater) Stats() GateStats {
	set := g.rules.Load()
	s := GateStats{Rules: set.count, UnsavedRules: int(g.keeper.unsaved.Load())}
	g.counts.fill(&s)
	s.Displaced = g.room.displaced.Load()
	s.Arriving = g.m.table.counts().arriving
	s.TrackedPrefixes = g.door.tracked()
	s.ReportedPeers = g.ladder.len()
	return s
}
