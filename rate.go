package connmgr

import (
	"math"
	"net/netip"
	"time"
)

// This file limits how many new connections come per second from each prefix. For
// each it remembers one number: the time at which, at the even pace of the rate,
// the connections so far would have come to an end (the generic cell rate
// algorithm). A prefix whose time has passed is like one never heard of.

// maxRated bounds the prefixes remembered for one rate. A flood that uses more than
// that within a burst's time makes the table forget those it has heard of least
// lately, but those that have used up their burst last, so that a flood of many is no
// way to begin a new burst for one.
const maxRated = 1 << 16

// rate is a table of prefixes with their times. It is not safe for concurrent use.
type rate struct {
	interval time.Duration // between two connections at the even pace
	burst    time.Duration // how far ahead of the pace a prefix may be
	// current has the prefixes heard of since turned, previous those of the turn
	// before. At least a burst's time passes between two turns, unless there are too
	// many prefixes, so those that a turn drops have nothing left to remember.
	current, previous map[netip.Prefix]instant
	turned            instant
}

func newRate(perSecond float64, burst int) *rate {
	if burst == 0 {
		burst = int(math.Max(1, perSecond))
	}
	interval := time.Duration(float64(time.Second) / perSecond)
	return &rate{
		interval: interval,
		burst:    time.Duration(burst) * interval,
		current:  make(map[netip.Prefix]instant),
	}
}

// next returns when the next connection from a prefix may come; it may now if that
// is not after now.
func (r *rate) next(p netip.Prefix, now instant) instant {
	return r.end(p, now) + instant(r.interval-r.burst)
}

// end returns when the connections of a prefix so far end at the even pace, at least
// now.
func (r *rate) end(p netip.Prefix, now instant) instant {
	end, ok := r.current[p]
	if !ok {
		end = r.previous[p]
	}
	return max(end, now)
}

// take notes a connection.
func (r *rate) take(p netip.Prefix, now instant) {
	end := r.end(p, now) + instant(r.interval)
	if now >= r.turned+instant(r.burst) || len(r.current) >= maxRated/2 {
		// Of the turn before, only those go on that have no burst left; after a burst's
		// time there are none.
		spent := make(map[netip.Prefix]instant)
		for old, end := range r.previous {
			if _, newer := r.current[old]; !newer && end+instant(r.interval-r.burst) > now && len(spent) < maxRated/4 {
				spent[old] = end
			}
		}
		r.previous, r.current, r.turned = r.current, spent, now
	}
	r.current[p] = end
}

func (r *rate) len() int { return len(r.current) + len(r.previous) }
