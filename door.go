package connmgr

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// This file enforces the limits of limits.go. What comes from one prefix is counted
// here; all connections, inbound ones and those of one peer are counted in the table
// of peers, which a connection enters when it passes the last checkpoint, before the
// host reports it. So there is no moment at which two newcomers get one place.

// door is the limits and what they count.
type door struct {
	limits atomic.Pointer[GateLimits]

	mu sync.Mutex // guards all following fields
	// prefixes is one for each of limits.PerPrefix.
	prefixes []perPrefix
	// counted is the connections in prefixes, with their address.
	counted map[Conn]netip.Addr
}

// perPrefix is what comes from each prefix of one length.
type perPrefix struct {
	limit PrefixLimit
	conns map[netip.Prefix]int // none is 0
	rate  *rate                // nil if there is no limit
}

// refusal is a limit that says no.
type refusal struct {
	outcome Outcome
	limit   float64
	prefix  netip.Prefix
	until   instant // 0 if nobody knows
}

// setLimits puts limits in force. Nothing is counted then.
func (d *door) setLimits(l GateLimits) {
	l.PerPrefix = slices.Clone(l.PerPrefix)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prefixes = make([]perPrefix, len(l.PerPrefix))
	for i, p := range l.PerPrefix {
		c := perPrefix{limit: p, conns: make(map[netip.Prefix]int)}
		if p.Rate > 0 {
			c.rate = newRate(p.Rate, p.Burst)
		}
		d.prefixes[i] = c
	}
	d.counted = make(map[Conn]netip.Addr)
	d.limits.Store(&l)
}

// count counts a connection that is there already.
func (d *door) count(conn Conn, addr netip.Addr) {
	if addr = d.limits.Load().limitedAddr(addr); !addr.IsValid() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.counted[conn]; !known {
		d.countLocked(conn, addr)
	}
}

// limitedAddr returns the address by which a newcomer is limited, the invalid one if
// it is not limited by address.
func (l *GateLimits) limitedAddr(addr netip.Addr) netip.Addr {
	if len(l.PerPrefix) == 0 {
		return netip.Addr{}
	}
	return l.strangersAddr(addr)
}

// strangersAddr returns the address that stands for a network of strangers, the invalid
// one if it does not: it is exempt. One behind NAT64 stands for the IPv4 address inside,
// since otherwise all of them would share one prefix.
func (l *GateLimits) strangersAddr(addr netip.Addr) netip.Addr {
	addr = CanonicalAddr(addr)
	if inside, ok := embedded4(addr); ok {
		addr = inside
	}
	if l.ExemptPrivate && isPrivate(addr) {
		return netip.Addr{}
	}
	return addr
}

// knock decides whether a newcomer from an address may begin: it is not one too many
// from its prefixes, nor too soon after others. It counts against the rate.
func (d *door) knock(addr netip.Addr, now instant) *refusal {
	if addr = d.limits.Load().limitedAddr(addr); !addr.IsValid() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.fullLocked(addr); r != nil {
		return r
	}
	for i := range d.prefixes {
		c := &d.prefixes[i]
		if prefix, ok := c.limit.prefix(addr); ok && c.rate != nil {
			if next := c.rate.next(prefix, now); next > now {
				return &refusal{OverRate, c.limit.Rate, prefix, next}
			}
		}
	}
	for i := range d.prefixes {
		c := &d.prefixes[i]
		if prefix, ok := c.limit.prefix(addr); ok && c.rate != nil {
			c.rate.take(prefix, now)
		}
	}
	return nil
}

// enter counts a connection from an address, unless it is one too many.
func (d *door) enter(conn Conn, addr netip.Addr) *refusal {
	if addr = d.limits.Load().limitedAddr(addr); !addr.IsValid() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.counted[conn]; known {
		return nil
	}
	if r := d.fullLocked(addr); r != nil {
		return r
	}
	d.countLocked(conn, addr)
	return nil
}

func (d *door) fullLocked(addr netip.Addr) *refusal {
	for i := range d.prefixes {
		c := &d.prefixes[i]
		if prefix, ok := c.limit.prefix(addr); ok && c.limit.MaxConns > 0 && c.conns[prefix] >= c.limit.MaxConns {
			return &refusal{OverPrefixLimit, float64(c.limit.MaxConns), prefix, 0}
		}
	}
	return nil
}

func (d *door) countLocked(conn Conn, addr netip.Addr) {
	d.counted[conn] = addr
	for i := range d.prefixes {
		if prefix, ok := d.prefixes[i].limit.prefix(addr); ok {
			d.prefixes[i].conns[prefix]++
		}
	}
}

// leave takes a connection that enter counted out of the count.
func (d *door) leave(conn Conn) {
	if len(d.limits.Load().PerPrefix) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	addr, ok := d.counted[conn]
	if !ok {
		return
	}
	delete(d.counted, conn)
	for i := range d.prefixes {
		c := &d.prefixes[i]
		if prefix, ok := c.limit.prefix(addr); ok {
			if c.conns[prefix]--; c.conns[prefix] <= 0 {
				delete(c.conns, prefix)
			}
		}
	}
}

// tracked returns the number of prefixes remembered.
func (d *door) tracked() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.prefixes {
		c := &d.prefixes[i]
		n += len(c.conns)
		if c.rate != nil {
			n += c.rate.len()
		}
	}
	return n
}

// admit lets an inbound connection into the table, or says what is in its way. A
// trusted one is not limited.
func (g *Gater) admit(who *subject, dir Direction, conn Conn) *refusal {
	slot := connSlot{conn: conn, direction: directionOf(ConnStat{Direction: dir}), opened: g.m.table.now(), phase: phaseArriving}
	if who.trusted {
		slot.trusted = true
		g.m.table.admit(who.peer, slot, places{hard: math.MaxInt, inbound: math.MaxInt, perPeer: math.MaxInt})
		return nil
	}
	if r := g.tryAdmit(who, slot); r == nil || !g.room.recount(g.m) {
		return r
	}
	return g.tryAdmit(who, slot) // those that have long been gone don't count any more
}

func (g *Gater) tryAdmit(who *subject, slot connSlot) *refusal {
	limits := g.door.limits.Load()
	if r := g.door.enter(slot.conn, who.addr.Addr()); r != nil {
		return r
	}
	most := places{
		hard:    g.m.limits.Load().HardLimit,
		inbound: orNoLimit(limits.MaxInbound),
		perPeer: orNoLimit(limits.MaxPerPeer),
	}
	outcome := g.m.table.admit(who.peer, slot, most)
	if outcome.isFull() {
		outcome = g.makeRoom(who.peer, slot, most, outcome)
	}
	if outcome == Passed {
		if g.door.limits.Load() != limits { // whoever changed them may not have seen it
			g.door.count(slot.conn, who.addr.Addr())
		}
		return nil
	}
	g.door.leave(slot.conn)
	limit := map[Outcome]int{OverHardLimit: most.hard, OverInboundLimit: most.inbound, OverPeerLimit: most.perPeer}[outcome]
	return &refusal{outcome: outcome, limit: float64(limit)}
}

// places is how many connections there may be.
type places struct{ hard, inbound, perPeer int }

// admit gives a connection its place in the table, unless it would be one too many.
// A connection that the table knows already passes.
func (r *registry) admit(peer NodeID, slot connSlot, most places) Outcome {
	return r.arrive(peer, slot, most.perPeer, func() Outcome { return r.heads.admit(slot.direction, most) })
}

// takeOver is admit for a connection to which another one has left its place.
func (r *registry) takeOver(peer NodeID, slot connSlot, most places) Outcome {
	taken := false
	outcome := r.arrive(peer, slot, most.perPeer, func() Outcome { taken = true; return Passed })
	if !taken { // it is not needed, or not allowed to
		r.heads.remove(DirInbound)
	}
	return outcome
}

// arrive puts a connection into the table if count agrees, which is called under the
// shard's lock.
func (r *registry) arrive(peer NodeID, slot connSlot, perPeer int, count func() Outcome) Outcome {
	s, hash, rec := r.lockPlace(peer)
	defer s.mu.Unlock()
	if rec != nil && rec.state == recordConnected {
		if rec.slot(slot.conn) != nil {
			return Passed
		}
		held := 0
		rec.eachConn(func(slot *connSlot) {
			if slot.hasPlace() {
				held++
			}
		})
		if held >= perPeer {
			return OverPeerLimit
		}
	}
	// Counted as away first, so that the number of open ones is never too high.
	r.away.addTo(s.number, 1)
	if outcome := count(); outcome != Passed {
		r.away.addTo(s.number, -1)
		return outcome
	}
	if rec == nil {
		rec = s.createLocked(peer, hash)
	}
	r.insertLocked(s, rec, slot)
	s.counts.arriving++
	return Passed
}

// Release gives back the place of a connection that passed InterceptUpgraded and was
// then given up by the host, or refused by another gater, without having been
// reported as connected. Without it the place is given back half a minute later.
// For a connection that has been reported, and for one not known, it does nothing.
func (g *Gater) Release(peer NodeID, conn Conn) {
	if conn == nil {
		return
	}
	arriving := func(slot *connSlot) bool { return slot.phase == phaseArriving }
	if gone, _ := g.m.table.disconnectIf(peer, conn, arriving); gone {
		g.door.leave(conn)
	}
}

// Limits returns the limits at the door.
func (g *Gater) Limits() GateLimits {
	l := *g.door.limits.Load()
	l.PerPrefix = slices.Clone(l.PerPrefix)
	return l
}

// SetLimits changes the limits at the door while the gate is in use. It closes
// nothing: connections beyond the new limits stay, and keep others out. Those that
// know their address (see [AddrConn]) count against the new limits per prefix. If the
// limits are out of range it returns an error that names the field, and nothing is
// changed.
func (g *Gater) SetLimits(l GateLimits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	g.door.setLimits(l)
	if len(l.PerPrefix) == 0 {
		return nil
	}
	set, now := g.rules.Load(), g.moment()
	for _, peer := range g.m.table.connectedPeers() {
		for _, slot := range g.m.table.heldSlots(peer) {
			who := subject{peer: peer, hasPeer: true, addr: g.m.remoteAddr(slot.conn)}
			if _, trusted := set.judge(&who, &now); trusted || slot.direction == DirOutbound {
				continue
			}
			g.door.count(slot.conn, who.addr.Addr())
			if !g.m.table.has(peer, slot.conn) { // it left before it was counted
				g.door.leave(slot.conn)
			}
		}
	}
	return nil
}
