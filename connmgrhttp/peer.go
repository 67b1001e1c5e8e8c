package connmgrhttp

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// This file tells all that is known about one peer. why.go puts it into sentences.

// historyLength is how many events a peer's history has at most.
const historyLength = 50

// getPeer returns what is known about a peer, connected or not.
func (h *handler) getPeer(r *http.Request) (any, error) {
	q := readQuery(r)
	trigger := planTrigger(q)
	if err := q.finish(); err != nil {
		return nil, err
	}
	id, err := h.peerOf(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p, err := h.plans.get(ctx, trigger)
	if err != nil {
		return nil, err
	}
	info, known := h.m.PeerInfo(id)
	j, connected := p.find(id)
	history := h.journal.Recent(journal.Filter{Peer: id, HasPeer: true}, historyLength)
	standing, reported := h.g.Standing(id)
	rules := h.rulesAbout(id, &info)
	if !known && !connected && !reported && len(history) == 0 && len(rules) == 0 {
		return nil, refuse(problem.NotFound, "", "nothing is known about peer %.200q: it is neither connected nor remembered", h.names.Peer(id))
	}
	if !connected {
		j = &judged{PeerState: connmgr.PeerState{ID: id, Since: info.FirstSeen, TagSum: info.Value, Protected: len(info.Protections) > 0}}
		j.Score = info.Value
	}
	conns, err := h.askConns(ctx, &info, p.plan.At)
	if err != nil {
		return nil, err
	}
	doc := api.PeerDetail{
		Peer:      peerDocument(h.names.Peer(id), p, j, &info),
		Connected: connected,
		Conns:     conns,
		Plan:      figures(&p.plan),
		Rules:     rules,
		History:   orEmpty(history),
	}
	if !connected {
		doc.GraceEnds = nil
	}
	if reported {
		doc.Standing = &api.Standing{Score: standing.Score, Bans: standing.Bans}
		if !standing.BannedUntil.IsZero() {
			doc.Standing.BannedUntil = new(wire.UTC(standing.BannedUntil))
		}
	}
	doc.Why = h.why(&doc, p)
	return doc, nil
}

// peerOf returns the peer that a request is about.
func (h *handler) peerOf(r *http.Request) (connmgr.NodeID, error) {
	id, err := h.names.Parse(r.PathValue("peer"))
	if err != nil {
		return "", refuse(problem.BadRequest, "peer", "%s", said(err))
	}
	return id, nil
}

// rulesAbout returns the rules that decide about a peer at any of its addresses.
func (h *handler) rulesAbout(id connmgr.NodeID, info *connmgr.PeerInfo) []api.Rule {
	var found []connmgr.Rule
	for _, addr := range append(addresses(info), netip.AddrPort{}) {
		ruling := h.g.Lookup(id, addr)
		for _, rule := range []*connmgr.Rule{ruling.Peer, ruling.Addr, ruling.Port} {
			if rule != nil && !slices.Contains(found, *rule) {
				found = append(found, *rule)
			}
		}
	}
	docs := []api.Rule{}
	for _, rule := range found {
		docs = append(docs, h.names.Rule(rule))
	}
	return docs
}

// askConns is conns within a time: connections are not ours, and one may hang. It keeps
// its place among those who ask then, so that hanging ones cannot pile up.
func (h *handler) askConns(ctx context.Context, info *connmgr.PeerInfo, now time.Time) ([]api.Conn, error) {
	if err := h.asking.enter(ctx); err != nil {
		return nil, err
	}
	type answer struct {
		docs  []api.Conn
		panic any
	}
	answered := make(chan answer, 1)
	go func() {
		defer h.asking.leave()
		var a answer
		defer func() {
			a.panic = recover()
			answered <- a
		}()
		a.docs = conns(info, now)
	}()
	select {
	case a := <-answered:
		if a.panic != nil {
			return nil, fmt.Errorf("connmgr: a connection panicked when it was asked: %v", a.panic)
		}
		return a.docs, nil
	case <-ctx.Done():
		return nil, refuse(problem.Unavailable, "", "a connection of the peer did not answer in time")
	}
}

// conns returns a peer's connections, each asked for its streams.
func conns(info *connmgr.PeerInfo, now time.Time) []api.Conn {
	docs := []api.Conn{}
	for _, c := range info.Conns {
		doc := api.Conn{
			Direction: c.Direction, Opened: wire.UTC(c.Opened), AgeSeconds: max(0, now.Sub(c.Opened).Seconds()),
			Streams: max(0, c.Conn.Stat().Streams), State: "open",
		}
		switch {
		case c.Arriving:
			doc.State = "arriving"
		case c.Closing:
			doc.State = "closing"
		}
		if addr := remoteAddr(c.Conn); addr.IsValid() {
			doc.Address = addr.String()
		}
		docs = append(docs, doc)
	}
	return docs
}

// getRecent returns what happened lately, the newest first.
func (h *handler) getRecent(r *http.Request) (any, error) {
	q := readQuery(r)
	filter := h.readEventFilter(q)
	limit := q.number("limit", defaultPage, 1, maxPage)
	if err := q.finish(); err != nil {
		return nil, err
	}
	return api.EventList{Events: orEmpty(h.journal.Recent(filter, limit))}, nil
}

// getEvents streams what happens.
func (h *handler) getEvents(w http.ResponseWriter, r *http.Request) {
	q := readQuery(r)
	filter := h.readEventFilter(q)
	after, given := q.id("since")
	if last := r.Header.Get("Last-Event-ID"); last != "" { // a reader that comes back
		after, given = parseID(last)
	}
	if err := q.finish(); err != nil {
		h.fail(w, r, err)
		return
	}
	if err := h.journal.Serve(w, r, filter, after, given); err != nil {
		h.fail(w, r, err)
	}
}

// readEventFilter reads which events are wanted.
func (h *handler) readEventFilter(q *query) (f journal.Filter) {
	if text, given := q.text("types"); given {
		for _, word := range strings.Split(text, ",") {
			kind := api.EventType(word)
			if !slices.Contains(api.EventTypes(), kind) {
				q.refuse("types", "types has %.100q, want some of %v, with commas between them", word, api.EventTypes())
			}
			f.Types = append(f.Types, kind)
		}
	}
	if name, given := q.text("peer"); given {
		id, err := h.names.Parse(name)
		if err != nil {
			q.refuse("peer", "%s", said(err))
		}
		f.Peer, f.HasPeer = id, true
	}
	return f
}
