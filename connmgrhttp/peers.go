package connmgrhttp

import (
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file lists peers with their verdicts: all of them filtered, sorted and cut into
// pages, or those whom a trim would close.

const (
	defaultPage = 100
	maxPage     = 1000
)

// getPeers returns a page of the connected peers.
func (h *handler) getPeers(r *http.Request) (any, error) {
	q := readQuery(r)
	trigger := planTrigger(q)
	keep := h.readPeerFilter(q)
	by := q.choice("sort", byNext, byScore, byAge, byStreams, byConns, byPeer)
	descending := q.choice("order", "asc", "desc") == "desc"
	offset := q.number("offset", 0, 0, math.MaxInt32)
	limit := q.number("limit", defaultPage, 1, maxPage)
	if err := q.finish(); err != nil {
		return nil, err
	}
	p, err := h.plans.get(r.Context(), trigger)
	if err != nil {
		return nil, err
	}
	doc := api.PeerList{
		At: wire.UTC(p.plan.At), Trigger: trigger, Total: len(p.peers),
		Offset: offset, Limit: limit, Peers: []api.Peer{},
	}
	order := p.order(by)
	for i := range order {
		at := order[i]
		if descending {
			at = order[len(order)-1-i]
		}
		c := &candidate{h: h, p: p, at: at}
		if !keep(c) {
			continue
		}
		if doc.Matched++; doc.Matched > offset && len(doc.Peers) < limit {
			doc.Peers = append(doc.Peers, c.document())
		}
		if i%1024 == 0 && r.Context().Err() != nil {
			return nil, refuse(problem.Unavailable, "", "the request ended before all peers had been looked at")
		}
	}
	return doc, nil
}

// getPlan returns what a trim would do now.
func (h *handler) getPlan(r *http.Request) (any, error) {
	q := readQuery(r)
	trigger := planTrigger(q)
	limit := q.number("limit", defaultPage, 0, maxPage)
	if err := q.finish(); err != nil {
		return nil, err
	}
	p, err := h.plans.get(r.Context(), trigger)
	if err != nil {
		return nil, err
	}
	doc := api.Plan{
		PlanFigures: figures(&p.plan), Closes: p.plan.Closes(),
		Peers: []api.Peer{}, Kept: make(map[connmgr.Reason]int),
	}
	for i := range p.peers { // those who go come first, in order
		switch j := &p.peers[i]; {
		case !j.Reason.Closed():
			doc.Kept[j.Reason]++
		case i < limit:
			doc.Peers = append(doc.Peers, (&candidate{h: h, p: p, at: int32(i)}).document())
		}
	}
	return doc, nil
}

// planTrigger reads for what a plan is to be made.
func planTrigger(q *query) connmgr.Trigger {
	var trigger connmgr.Trigger
	q.word("trigger", &trigger)
	if !trigger.Trims() {
		q.refuse("trigger", "trigger %v makes no plan", trigger)
	}
	return trigger
}

// candidate is a peer of a plan. What the plan does not have is asked for when it is
// needed, and once.
type candidate struct {
	h    *handler
	p    *planned
	at   int32
	have bool
	info connmgr.PeerInfo
}

func (c *candidate) judged() *judged { return &c.p.peers[c.at] }

// details returns what the manager knows about the peer now; nothing if it has left.
func (c *candidate) details() *connmgr.PeerInfo {
	if !c.have {
		c.info, _ = c.h.m.PeerInfo(c.judged().ID)
		c.have = true
	}
	return &c.info
}

func (c *candidate) document() api.Peer {
	return peerDocument(c.h.names.Peer(c.judged().ID), c.p, c.judged(), c.details())
}

// peerDocument tells of a peer as the plan saw it.
func peerDocument(name string, p *planned, j *judged, info *connmgr.PeerInfo) api.Peer {
	doc := api.Peer{
		Peer:        name,
		Verdict:     api.Verdict{Closed: j.Reason.Closed(), Reason: j.Reason, Rank: j.Rank},
		Score:       j.Score,
		TagSum:      j.TagSum,
		Tags:        info.Tags,
		Protections: orEmpty(info.Protections),
		Connections: int(j.PeerState.Conns),
		Outbound:    int(j.Outbound),
		Streams:     int(j.Streams),
		Trusted:     j.Trusted,
		Addresses:   []string{},
	}
	if doc.Tags == nil {
		doc.Tags = map[string]int{}
	}
	if j.Outbound > 0 {
		doc.OutboundBonus = p.policy.OutboundBonus
	}
	if j.Streams > 0 {
		doc.ActiveBonus = p.policy.ActiveBonus
	}
	if !j.Since.IsZero() {
		doc.Since = new(wire.UTC(j.Since))
		doc.AgeSeconds = max(0, p.plan.At.Sub(j.Since).Seconds())
	}
	if ends := j.Since.Add(p.policy.GracePeriod); ends.After(p.plan.At) {
		doc.GraceEnds = new(wire.UTC(ends))
	}
	for _, addr := range addresses(info) {
		doc.Addresses = append(doc.Addresses, addr.String())
	}
	return doc
}

// addresses returns where a peer's connections come from or go to, each once.
func addresses(info *connmgr.PeerInfo) (addrs []netip.AddrPort) {
	for _, c := range info.Conns {
		if addr := remoteAddr(c.Conn); addr.IsValid() && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func remoteAddr(c connmgr.Conn) netip.AddrPort {
	if c, ok := c.(connmgr.AddrConn); ok {
		return c.RemoteAddrPort()
	}
	return netip.AddrPort{}
}

// readPeerFilter reads which peers are wanted. The cheap conditions come first.
func (h *handler) readPeerFilter(q *query) func(*candidate) bool {
	var conditions []func(*candidate) bool
	want := func(given bool, f func(*candidate) bool) {
		if given {
			conditions = append(conditions, f)
		}
	}
	direction := q.choice("direction", "", "inbound", "outbound")
	want(direction != "", func(c *candidate) bool { return (c.judged().Outbound > 0) == (direction == "outbound") })
	var reason connmgr.Reason
	want(q.word("reason", &reason), func(c *candidate) bool { return c.judged().Reason == reason })
	closed := q.flag("closed")
	want(closed != nil, func(c *candidate) bool { return c.judged().Reason.Closed() == *closed })
	protected := q.flag("protected")
	want(protected != nil, func(c *candidate) bool { return c.judged().Protected == *protected })
	least, most := q.optional("min_score"), q.optional("max_score")
	want(least != nil, func(c *candidate) bool { return c.judged().Score >= *least })
	want(most != nil, func(c *candidate) bool { return c.judged().Score <= *most })

	tag, given := q.text("tag")
	want(given, func(c *candidate) bool { _, has := c.details().Tags[tag]; return has })
	protection, given := q.text("protection")
	want(given, func(c *candidate) bool { return slices.Contains(c.details().Protections, protection) })
	prefix, given := q.prefix("address")
	want(given, func(c *candidate) bool {
		return slices.ContainsFunc(addresses(c.details()), func(a netip.AddrPort) bool {
			return prefix.Contains(connmgr.CanonicalAddr(a.Addr()))
		})
	})
	text, _ := q.text("q")
	text = strings.ToLower(text)
	want(text != "", func(c *candidate) bool {
		return strings.Contains(strings.ToLower(c.p.names()[c.at]), text) ||
			slices.ContainsFunc(addresses(c.details()), func(a netip.AddrPort) bool { return strings.Contains(a.String(), text) })
	})
	return func(c *candidate) bool {
		return !slices.ContainsFunc(conditions, func(holds func(*candidate) bool) bool { return !holds(c) })
	}
}

// figures is a plan without its peers.
func figures(p *connmgr.Plan) api.PlanFigures {
	return wire.Figures(p.Figures, p.At, p.Trigger, p.GraceEnds)
}

// orEmpty returns a slice that is [] in JSON when it is empty, not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
