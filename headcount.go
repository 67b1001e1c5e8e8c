package connmgr

import "sync/atomic"

// This file counts the connections that have a place in one atomic word, the inbound ones
// in its upper half and all of them in its lower half. So the door checks the limits
// on both and takes a place in one step, and nobody else comes in between.

type headcount struct{ word atomic.Uint64 }

// one returns what a connection adds to the word. What is not outbound counts as
// inbound, also if the host does not know.
func one(dir Direction) uint64 {
	if dir == DirOutbound {
		return 1
	}
	return 1<<32 | 1
}

func (h *headcount) add(dir Direction)    { h.word.Add(one(dir)) }
func (h *headcount) remove(dir Direction) { h.word.Add(-one(dir)) }

// all returns the number of connections.
func (h *headcount) all() int { return int(uint32(h.word.Load())) }

// inbound returns the number of inbound connections.
func (h *headcount) inbound() int { return int(h.word.Load() >> 32) }

// admit counts a connection unless it is one too many.
func (h *headcount) admit(dir Direction, most places) Outcome {
	for {
		old := h.word.Load()
		switch {
		case int(uint32(old)) >= most.hard:
			return OverHardLimit
		case dir != DirOutbound && int(old>>32) >= most.inbound:
			return OverInboundLimit
		case h.word.CompareAndSwap(old, old+one(dir)):
			return Passed
		}
	}
}
