package demo

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file asks, from outside, whether the promises were kept. What the nodes of
// the crowd say about their own connections counts; the manager is asked only for
// scores and reasons.

// Report is the outcome of a demo.
type Report struct {
	Peers     int        `json:"peers"`
	LowWater  int        `json:"low_water"`
	HighWater int        `json:"high_water"`
	Grace     string     `json:"grace"`
	Seed      uint64     `json:"seed"`
	Transport string     `json:"transport"`
	Seconds   float64    `json:"seconds"`
	Connected int        `json:"connected"`
	Trims     []trimLine `json:"trims"`
	Nodes     []Fate     `json:"nodes"`
	Promises  []Promise  `json:"promises"`
}

// Fate is what became of one node.
type Fate struct {
	Node      string `json:"node"`
	Peer      string `json:"peer"`
	Role      string `json:"role"`
	Transport string `json:"transport"`
	// Connected is the node's own word.
	Connected bool `json:"connected"`
	// Protected says whether the guarded node was told to protect it.
	Protected bool `json:"protected"`
	// Established says whether it is connected and beyond its grace period.
	Established bool `json:"established"`
	// Returned says whether it dropped its connection and came back.
	Returned bool `json:"returned,omitempty"`
	// Score is the score that decided: when it was closed, or else now.
	Score int `json:"score"`
	// Reason is why it stayed or went.
	Reason string `json:"reason"`
	// Trim is the number of the trim that closed it; 0 if none did.
	Trim int `json:"trim,omitempty"`

	closedEarlyAt time.Duration // its age if it was closed within its grace period
	// settled is from when on the manager had to count and rank it: its grace
	// period was over and it had all its tags.
	settled time.Time
	// trimStarted is when the trim that closed it began to plan.
	trimStarted time.Time
}

// Promise is something the connection manager promises, and whether it was kept.
type Promise struct {
	Promise string `json:"promise"`
	Kept    bool   `json:"kept"`
	// Detail says what was found, or who suffered.
	Detail string `json:"detail"`
}

// judge questions the crowd.
func (d *performance) judge(ctx context.Context) (Report, error) {
	// A connection that was closed here takes a moment to be gone there.
	agreeErr := until(ctx, d.agree, 5*time.Second)
	// A trim is told of when its last connection has been closed.
	told := func() bool {
		went := d.trimmed()
		return !slices.ContainsFunc(d.crowd, func(n *node) bool {
			_, trimmed := went[connmgr.NodeID(n.id())]
			return !trimmed && !n.connected(d.guarded.ID())
		})
	}
	_ = until(ctx, told, 2*time.Second) // if it stays untold, a promise is broken
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
	}
	if n := d.events.Dropped(); n > 0 {
		return Report{}, fmt.Errorf("%d events were lost, so there is no telling who went and why", n)
	}
	r := Report{
		Peers: d.opts.Peers, LowWater: d.opts.Low, HighWater: d.opts.High, Grace: d.opts.Grace.String(),
		Seed: d.opts.Seed, Transport: d.opts.Transport, Connected: d.outside(),
	}
	plan := d.cm.Core().DryRun(connmgr.TriggerManual)
	kept := make(map[connmgr.NodeID]connmgr.Verdict)
	for v := range plan.Verdicts() {
		kept[v.Peer] = v
	}
	went := d.trimmed()
	for _, n := range d.crowd {
		r.Nodes = append(r.Nodes, d.fate(n, kept, went))
	}
	r.Promises = promises(r.Nodes, d.opts, d.cm.Core().ConnCount(), agreeErr == nil)
	return r, nil
}

// trimmed is a verdict that a trim carried out.
type trimmed struct {
	connmgr.Verdict
	trim    int
	started time.Time
}

// trimmed returns who was closed by the trims so far.
func (d *performance) trimmed() map[connmgr.NodeID]trimmed {
	went := make(map[connmgr.NodeID]trimmed)
	d.screen.mu.Lock()
	defer d.screen.mu.Unlock()
	for _, t := range d.program {
		for _, v := range t.closed {
			went[v.Peer] = trimmed{v, t.Number, t.started}
		}
	}
	return went
}

// agree reports whether the guarded node and every node of the crowd say the same
// about their connection.
func (d *performance) agree() bool {
	return !slices.ContainsFunc(d.crowd, func(n *node) bool {
		info, _ := d.cm.Core().PeerInfo(connmgr.NodeID(n.id()))
		inside := slices.ContainsFunc(info.Conns, func(c connmgr.ConnInfo) bool { return !c.Closing })
		return n.connected(d.guarded.ID()) != inside
	})
}

// outside counts the nodes that say they are connected.
func (d *performance) outside() (connected int) {
	for _, n := range d.crowd {
		if n.connected(d.guarded.ID()) {
			connected++
		}
	}
	return connected
}

func (d *performance) fate(n *node, kept map[connmgr.NodeID]connmgr.Verdict, went map[connmgr.NodeID]trimmed) Fate {
	id := connmgr.NodeID(n.id())
	f := Fate{
		Node: n.name, Peer: peer.ID(id).String(), Role: n.role.name, Transport: n.transport,
		Connected: n.connected(d.guarded.ID()),
		Protected: n.role.protect != "", // as it was told to, whatever it remembers
		Returned:  n.returned,
		settled:   n.settled,
	}
	if v, ok := kept[id]; ok {
		f.Score = v.Score
		f.Established = v.Reason != connmgr.KeptInGrace
		switch {
		case v.Reason == connmgr.KeptProtected, v.Reason == connmgr.KeptInGrace:
			f.Reason = v.Reason.String()
		case d.compared:
			f.Reason = connmgr.KeptAboveCut.String() // in the last trim
		default:
			f.Reason = connmgr.KeptNothingToDo.String()
		}
	} else if t, ok := went[id]; ok {
		f.Score, f.Reason, f.Trim, f.trimStarted = t.Score, t.Reason.String(), t.trim, t.started
	} else if f.Connected {
		f.Reason = "unknown to the connection manager"
	} else {
		f.Reason = "lost its connection, but not to a trim"
	}
	if age, early := n.closedEarly(d.opts.Grace); early {
		f.closedEarlyAt = age
	}
	return f
}

// promises says of each promise whether it was kept.
func promises(nodes []Fate, opts Options, inside int, agreed bool) []Promise {
	connected, protected := 0, 0
	var lostProtected, early, lost []string
	for i := range nodes {
		f := &nodes[i]
		if f.Connected {
			connected++
		}
		if f.Protected {
			protected++
			if !f.Connected {
				lostProtected = append(lostProtected, f.Node)
			}
		}
		if f.closedEarlyAt > 0 {
			early = append(early, fmt.Sprintf("%s after %v", f.Node, f.closedEarlyAt.Round(time.Millisecond)))
		}
		if !f.Connected && f.Trim == 0 {
			lost = append(lost, f.Node)
		}
	}
	high := fmt.Sprintf("%d, high water %d", connected, opts.High)
	stuck := connected > opts.High && connected == protected-len(lostProtected)
	if stuck {
		high += ", all of them protected"
	}
	return []Promise{
		{
			Promise: "every protected peer is still connected",
			Kept:    len(lostProtected) == 0,
			Detail:  orList(lostProtected, fmt.Sprintf("%d of %d", protected-len(lostProtected), protected)),
		},
		orderPromise(nodes),
		{
			Promise: "connections are at or below high water, unless only protected ones are left",
			Kept:    connected <= opts.High || stuck,
			Detail:  high,
		},
		{
			Promise: "nobody was closed within its grace period",
			Kept:    len(early) == 0,
			Detail:  orList(early, fmt.Sprintf("grace %v", opts.Grace)),
		},
		{
			Promise: "nobody lost its connection but to a trim",
			Kept:    len(lost) == 0,
			Detail:  orList(lost, fmt.Sprintf("%d trimmed", len(nodes)-connected)),
		},
		{
			Promise: "the node and its peers agree on who is connected",
			Kept:    agreed,
			Detail:  fmt.Sprintf("the peers say %d, the node says %d", connected, inside),
		},
	}
}

// orderPromise says whether each trim closed the lowest-ranked. Those that stayed
// count if they had settled when the trim began; whoever settled later was none of
// its business.
func orderPromise(nodes []Fate) Promise {
	p := Promise{Promise: "nobody went who scored higher than an unprotected established peer that stayed", Kept: true}
	best := make(map[int]*Fate) // that went, by trim
	for i := range nodes {
		f := &nodes[i]
		if b := best[f.Trim]; f.Trim > 0 && !f.Connected && (b == nil || f.Score > b.Score) {
			best[f.Trim] = f
		}
	}
	if len(best) == 0 {
		p.Detail = "nobody went"
		return p
	}
	p.Detail = "no unprotected established peer stayed"
	narrowest := math.MaxInt // of the distances between worst and best
	for _, trim := range slices.Sorted(maps.Keys(best)) {
		b := best[trim]
		var worst *Fate // that stayed, even if a later trim closed it
		for i := range nodes {
			f := &nodes[i]
			stayed := f.Connected && f.Established || f.Trim > trim
			if stayed && !f.Protected && !f.settled.After(b.trimStarted) && (worst == nil || f.Score < worst.Score) {
				worst = f
			}
		}
		if worst != nil && worst.Score-b.Score < narrowest {
			narrowest = worst.Score - b.Score
			p.Kept = narrowest >= 0
			p.Detail = fmt.Sprintf("trim %d: best that went: %d (%s), worst that stayed: %d (%s)", trim, b.Score, b.Node, worst.Score, worst.Node)
		}
	}
	return p
}

func orList(names []string, otherwise string) string {
	if len(names) == 0 {
		return otherwise
	}
	return strings.Join(names, ", ")
}

// err names the broken promises.
func (r *Report) err() error {
	var broken []string
	for _, p := range r.Promises {
		if !p.Kept {
			broken = append(broken, fmt.Sprintf("%s (%s)", p.Promise, p.Detail))
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrPromiseBroken, strings.Join(broken, "; "))
}
