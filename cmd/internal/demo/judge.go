package demo

import (
	"context"
	"fmt"
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
	// Protected says whether the guarded node protects it.
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
	agree := func() bool { return d.outside() == d.cm.Core().ConnCount() }
	agreeErr := until(ctx, agree, 5*time.Second)
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
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
	went := make(map[connmgr.NodeID]trimmed)
	d.screen.mu.Lock()
	for _, t := range d.program {
		for _, v := range t.closed {
			went[v.Peer] = trimmed{v, t.Number}
		}
	}
	d.screen.mu.Unlock()
	for _, n := range d.crowd {
		r.Nodes = append(r.Nodes, d.fate(n, kept, went))
	}
	r.Promises = promises(r.Nodes, d.opts, d.cm.Core().ConnCount(), agreeErr == nil)
	return r, nil
}

// trimmed is a verdict that a trim carried out.
type trimmed struct {
	connmgr.Verdict
	trim int
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
		Protected: d.cm.IsProtected(n.id(), ""),
		Returned:  n.returned,
	}
	if v, ok := kept[id]; ok {
		f.Score = v.Score
		f.Reason = v.Reason.String()
		f.Established = v.Reason != connmgr.KeptInGrace
		if len(went) > 0 && v.Reason == connmgr.KeptNothingToDo {
			f.Reason = connmgr.KeptAboveCut.String() // of the last trim
		}
	} else if t, ok := went[id]; ok {
		f.Score, f.Reason, f.Trim = t.Score, t.Reason.String(), t.trim
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
	var lostProtected, early []string
	var best, worst *Fate // the best that went, the worst that stayed
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
		switch {
		case f.Trim > 0 && !f.Connected && (best == nil || f.Score > best.Score):
			best = f
		case f.Connected && f.Established && !f.Protected && (worst == nil || f.Score < worst.Score):
			worst = f
		}
	}
	order := Promise{Promise: "nobody went who scored higher than an unprotected established peer that stayed", Kept: true}
	switch {
	case best == nil:
		order.Detail = "nobody went"
	case worst == nil:
		order.Detail = "no unprotected established peer stayed"
	default:
		order.Kept = best.Score <= worst.Score
		order.Detail = fmt.Sprintf("best that went: %d (%s), worst that stayed: %d (%s)", best.Score, best.Node, worst.Score, worst.Node)
	}
	return []Promise{
		{
			Promise: "every protected peer is still connected",
			Kept:    len(lostProtected) == 0,
			Detail:  orList(lostProtected, fmt.Sprintf("%d of %d", protected-len(lostProtected), protected)),
		},
		order,
		{
			Promise: "connections are at or below high water",
			Kept:    connected <= opts.High,
			Detail:  fmt.Sprintf("%d, high water %d", connected, opts.High),
		},
		{
			Promise: "nobody was closed within its grace period",
			Kept:    len(early) == 0,
			Detail:  orList(early, fmt.Sprintf("grace %v", opts.Grace)),
		},
		{
			Promise: "the node and its peers agree on who is connected",
			Kept:    agreed,
			Detail:  fmt.Sprintf("%d say the peers, %d says the node", connected, inside),
		},
	}
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
