package connmgr

import (
	"maps"
	"unique"

	"github.com/gaissmai/bart"
)

// This file makes the next set of rules: with one change in microseconds, however
// many rules there are, or with many changes at once.

// ruleEdit is a set of rules being made. Nobody reads it yet.
type ruleEdit struct {
	set ruleSet
	// private says that nothing is shared with the set in force, so that all can be
	// changed in place. Making it so costs a copy of everything.
	private bool
	// peersOwned and portsOwned say that the outer layer of these is private already.
	peersOwned, portsOwned bool

	last ruleNode  // what the last rule put in was made from
	made *ruleNode // the node for it
}

// manyChanges is from when on a copy of everything is cheaper than changing one
// path after another: a share of the rules there are.
const manyChanges = 16

// edit begins the next set. changes is about how many changes there will be.
func (s *ruleSet) edit(changes int) *ruleEdit {
	e := &ruleEdit{set: *s}
	if changes > 64 && changes > s.count/manyChanges {
		e.ownEverything()
	}
	return e
}

func (e *ruleEdit) ownEverything() {
	e.private = true
	if e.set.prefixes != nil {
		e.set.prefixes = e.set.prefixes.Clone()
	}
	if e.set.peers != nil {
		e.ownPeers()
		for i, part := range e.set.peers {
			e.set.peers[i] = maps.Clone(part)
		}
	}
	e.ownPorts()
}

func (e *ruleEdit) ownPeers() {
	if !e.peersOwned {
		parts := new(peerRules)
		if e.set.peers != nil {
			*parts = *e.set.peers
		}
		e.set.peers, e.peersOwned = parts, true
	}
}

func (e *ruleEdit) ownPorts() {
	if !e.portsOwned {
		e.set.ports, e.portsOwned = maps.Clone(e.set.ports), true
	}
}

// put adds a rule, in place of the same one if there is one, and reports whether
// that changed anything.
func (e *ruleEdit) put(r Rule) (changed bool) {
	n := ruleNode{
		effect:  r.Effect,
		expires: unixNano(r.Expires),
		reason:  unique.Make(r.Reason),
		origin:  unique.Make(r.Origin),
	}
	e.change(r.Target, func(list *ruleNode) *ruleNode {
		rest, found := list.without(n.effect, n.origin)
		if found != nil && found.expires == n.expires && found.reason == n.reason {
			return list
		}
		changed = true
		if found == nil {
			e.counted(r.Target, n.effect, +1)
		}
		e.set.nextExpiry = min(e.set.nextExpiry, n.expires)
		if n.next = rest; e.made == nil || n != e.last {
			e.last, e.made = n, new(n)
		}
		return e.made
	})
	return changed
}

// remove takes out the rule of an effect, target and origin, and reports whether
// it was there.
func (e *ruleEdit) remove(effect Effect, t Target, origin string) (removed bool) {
	from := unique.Make(origin)
	e.change(t, func(list *ruleNode) *ruleNode {
		rest, found := list.without(effect, from)
		if found == nil {
			return list
		}
		removed = true
		e.counted(t, effect, -1)
		return rest
	})
	return removed
}

func (e *ruleEdit) counted(t Target, effect Effect, n int) {
	e.set.count += n
	if t.kind == targetPeer && effect == Allow {
		e.set.allowedPeers += n
	}
}

// without returns the list without the rule of an effect and origin, and that
// rule, nil if it is not there. What stands behind it is shared.
func (n *ruleNode) without(effect Effect, origin unique.Handle[string]) (rest, found *ruleNode) {
	if n == nil {
		return nil, nil
	}
	if n.effect == effect && n.origin == origin {
		return n.next, n
	}
	tail, found := n.next.without(effect, origin)
	if found == nil {
		return n, nil
	}
	copied := *n
	copied.next = tail
	return &copied, found
}

// change replaces the rules about a target by what f makes of them; nil is none.
func (e *ruleEdit) change(t Target, f func(*ruleNode) *ruleNode) {
	switch t.kind {
	case targetPrefix:
		if e.set.prefixes == nil {
			e.set.prefixes = new(bart.Table[*ruleNode])
		}
		modify := func(list *ruleNode, _ bool) (*ruleNode, bool) {
			list = f(list)
			return list, list == nil
		}
		if e.private {
			e.set.prefixes.Modify(t.prefix, modify)
		} else {
			e.set.prefixes = e.set.prefixes.ModifyPersist(t.prefix, modify)
		}
		if e.set.prefixes.Size() == 0 {
			e.set.prefixes = nil
		}
	case targetPeer:
		e.ownPeers()
		part := e.set.peers.part(t.peer)
		if !e.private {
			*part = maps.Clone(*part)
		}
		setOrDelete(part, t.peer, f((*part)[t.peer]))
	case targetPort:
		e.ownPorts()
		setOrDelete(&e.set.ports, t.port, f(e.set.ports[t.port]))
	case targetNone:
	}
}

func setOrDelete[K comparable](m *map[K]*ruleNode, key K, list *ruleNode) {
	switch {
	case list == nil:
		delete(*m, key)
	case *m == nil:
		*m = map[K]*ruleNode{key: list}
	default:
		(*m)[key] = list
	}
}
