package connmgr

import (
	"hash/maphash"
	"iter"
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/gaissmai/bart"
)

// This file keeps rules so that a decision takes no lock, allocates nothing, and looks
// at a handful of places in memory, however many rules there are. Readers see an
// immutable set behind an atomic pointer; rules_edit.go makes the next set from it,
// which shares all but the changed parts.

// ruleSet is an immutable set of rules. The zero value is empty.
type ruleSet struct {
	prefixes *bart.Table[*ruleNode] // nil if empty
	peers    *peerRules             // nil if empty
	ports    map[uint16]*ruleNode
	// allowedPeers is the number of allow rules about peers: while there are any,
	// nobody can be refused by a limit before we know who it is.
	allowedPeers int
	count        int
	// nextExpiry is the earliest end of a rule in Unix nanoseconds, or earlier;
	// neverExpires if no rule ends.
	nextExpiry int64
}

const neverExpires = 1<<63 - 1

// ruleNode is one rule about a target, and the further ones about the same. The
// target is not in it: it is where the node is found. So the rules of a list of
// which all have the same origin and reason can share one node. Nodes are immutable.
type ruleNode struct {
	effect  Effect
	expires int64 // Unix nanoseconds; neverExpires
	reason  unique.Handle[string]
	origin  unique.Handle[string]
	next    *ruleNode
}

// peerRules is a map of peers in parts, so that a change copies one part only: of
// a million peers, a thousand.
type peerRules [peerRuleParts]map[NodeID]*ruleNode

const peerRuleParts = 1024

var peerRuleSeed = maphash.MakeSeed()

func (p *peerRules) part(id NodeID) *map[NodeID]*ruleNode {
	return &p[maphash.String(peerRuleSeed, string(id))%peerRuleParts]
}

// moment is the time of one decision. The clock is asked at most once, and only if a
// rule that matters expires.
type moment struct {
	clock Clock
	nano  int64
}

func (m *moment) unixNano() int64 {
	if m.nano == 0 {
		m.nano = m.clock.Now().UnixNano()
	}
	return m.nano
}

// rule returns a node as a rule about a target.
func (n *ruleNode) rule(t Target) Rule {
	r := Rule{Effect: n.effect, Target: t, Reason: n.reason.Value(), Origin: n.origin.Value()}
	if n.expires != neverExpires {
		r.Expires = time.Unix(0, n.expires)
	}
	return r
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return neverExpires
	}
	return t.UnixNano()
}

// decide returns the rule that decides among those about one target, nil if there
// is none: a deny wins over an allow.
func (n *ruleNode) decide(now *moment) *ruleNode {
	var allow *ruleNode
	for ; n != nil; n = n.next {
		switch {
		case n.expires != neverExpires && n.expires <= now.unixNano():
		case n.effect == Deny:
			return n
		default:
			allow = n
		}
	}
	return allow
}

// forPeer returns the rule that decides about a peer, nil if there is none.
func (s *ruleSet) forPeer(id NodeID, now *moment) *ruleNode {
	if s.peers == nil {
		return nil
	}
	return (*s.peers.part(id))[id].decide(now)
}

// forPort returns the rule that decides about a port.
func (s *ruleSet) forPort(port uint16, now *moment) *ruleNode {
	if len(s.ports) == 0 {
		return nil
	}
	return s.ports[port].decide(now)
}

// forAddr returns the rule that decides about a canonical address, nil if there is
// none: that of the most specific prefix that has one.
func (s *ruleSet) forAddr(addr netip.Addr, now *moment) *ruleNode {
	if s.prefixes == nil {
		return nil
	}
	node, found := s.prefixes.Lookup(addr)
	if !found {
		return nil
	}
	if decided := node.decide(now); decided != nil {
		return decided
	}
	// All rules of the most specific prefix have expired and wait for the sweep.
	_, decided := s.findAddr(addr, now)
	return decided
}

// findAddr is forAddr with the prefix, and slower.
func (s *ruleSet) findAddr(addr netip.Addr, now *moment) (netip.Prefix, *ruleNode) {
	if s.prefixes == nil || !addr.IsValid() {
		return netip.Prefix{}, nil
	}
	for prefix, node := range s.prefixes.Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
		if decided := node.decide(now); decided != nil {
			return prefix, decided
		}
	}
	return netip.Prefix{}, nil
}

// all yields all rules, expired ones too: peers in no particular order, then
// prefixes in the order of their addresses, then ports in order.
func (s *ruleSet) all() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		for t, n := range s.targets() {
			for ; n != nil; n = n.next {
				if !yield(n.rule(t)) {
					return
				}
			}
		}
	}
}

// targets yields all targets, each with its rules.
func (s *ruleSet) targets() iter.Seq2[Target, *ruleNode] {
	return func(yield func(Target, *ruleNode) bool) {
		if s.peers != nil {
			for _, part := range s.peers {
				for id, n := range part {
					if !yield(PeerTarget(id), n) {
						return
					}
				}
			}
		}
		if s.prefixes != nil {
			for prefix, n := range s.prefixes.AllSorted() {
				if !yield(Target{kind: targetPrefix, prefix: prefix}, n) {
					return
				}
			}
		}
		ports := make([]uint16, 0, len(s.ports))
		for port := range s.ports {
			ports = append(ports, port)
		}
		slices.Sort(ports)
		for _, port := range ports {
			if !yield(PortTarget(port), s.ports[port]) {
				return
			}
		}
	}
}

// find returns the rules about exactly a target.
func (s *ruleSet) find(t Target) *ruleNode {
	switch t.kind {
	case targetPeer:
		if s.peers != nil {
			return (*s.peers.part(t.peer))[t.peer]
		}
	case targetPrefix:
		if s.prefixes != nil {
			n, _ := s.prefixes.Get(t.prefix)
			return n
		}
	case targetPort:
		return s.ports[t.port]
	case targetNone:
	}
	return nil
}

// same returns the rule of the same effect, target and origin, or nil.
func (s *ruleSet) same(r Rule) *ruleNode {
	for n := s.find(r.Target); n != nil; n = n.next {
		if n.effect == r.Effect && n.origin.Value() == r.Origin {
			return n
		}
	}
	return nil
}
