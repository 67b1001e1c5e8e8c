package connmgr

import (
	"context"
	"time"
)

// This file decides when to trim without being asked.

// retrySpacing is the least time between two trims that the end of a grace
// period sets off, as a share of the grace period: newcomers that came one after
// another leave their grace one after another, and a trim for each would be
// wasteful.
const retrySpacing = 10

// A trim looks at every peer. With a hard limit close to high water it frees a few
// connections only, and strangers could cause one with each that they open. So
// after a trim of the hard limit that freed less than a tenth, the next one waits
// until it can free that, or for a moment.
const (
	hardWorthwhile = 10
	hardFew        = 16 // of a small limit, a tenth is not worth a trim
	hardSpacing    = 100 * time.Millisecond
)

// trimInBackground trims when there are too many connections, and sweeps old
// tags, until Close.
func (m *Manager) trimInBackground() {
	s := schedule{silence: m.cfg.SilencePeriod, grace: m.cfg.GracePeriod}
	s.nextTick = m.cfg.Clock.Now().Add(s.silence)
	for {
		select {
		case <-m.stop:
			return
		case <-m.wakeUp:
		case <-m.cfg.Clock.After(s.wait(m.cfg.Clock.Now())):
		}
		now := m.cfg.Clock.Now()
		tick := s.takeTick(now)
		if tick {
			_ = m.refresh() // logged and counted
			m.gater.sweep()
		}
		last, number := m.trims.record.lastTrim()
		s.observe(last, number)
		if trigger, ok := s.due(now, m.ConnCount(), m.Limits(), tick); ok {
			res, _ := m.trim(context.Background(), trigger)
			s.trimmed(m.cfg.Clock.Now(), &res, m.Limits())
		}
	}
}

// schedule says when an automatic trim is due. It has no clock of its own.
type schedule struct {
	silence, grace time.Duration

	nextTick time.Time
	// quietUntil is when the silence after the last automatic trim ends.
	quietUntil time.Time
	// graceEnds is when a newcomer that kept the last trim from its target leaves
	// its grace period; zero if none did. It does not wait for the silence.
	graceEnds time.Time
	observed  uint64    // the number of the trim that graceEnds is from
	lastGrace time.Time // when the last trim ended that an end of grace set off
	// A trim of the hard limit that could not get below it left hardLeft
	// connections. With no more than those there is nothing new to try before
	// hardQuietUntil. With more there is, from hardSoonest on.
	hardLeft                    int
	hardQuietUntil, hardSoonest time.Time
}

// wait returns how long nothing is due, unless there are new connections.
func (s *schedule) wait(now time.Time) time.Duration {
	next := s.nextTick
	for _, t := range []time.Time{s.quietUntil, s.graceEnds, s.hardQuietUntil, s.hardSoonest} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	if !s.graceEnds.IsZero() && !s.graceEnds.After(now) {
		return 0
	}
	return max(0, next.Sub(now))
}

// takeTick reports whether a tick is due, and sets the next one.
func (s *schedule) takeTick(now time.Time) bool {
	if now.Before(s.nextTick) {
		return false
	}
	s.nextTick = now.Add(s.silence)
	return true
}

// due says whether to trim now, and why.
func (s *schedule) due(now time.Time, conns int, l Limits, tick bool) (Trigger, bool) {
	graceEnded := !s.graceEnds.IsZero() && !now.Before(s.graceEnds)
	if graceEnded {
		s.graceEnds = time.Time{}
	}
	switch {
	case s.hardDue(now, conns, l.HardLimit):
		return TriggerHardLimit, true
	case conns <= l.HighWater:
		return 0, false
	case graceEnded:
		return TriggerGrace, true
	case now.Before(s.quietUntil):
		return 0, false
	case tick:
		return TriggerTick, true
	default:
		return TriggerHighWater, true
	}
}

// trimmed notes that an automatic trim has ended.
func (s *schedule) trimmed(now time.Time, res *TrimResult, l Limits) {
	s.quietUntil = now.Add(s.silence)
	switch {
	case res.Trigger == TriggerGrace:
		s.lastGrace = now
	case res.Trigger != TriggerHardLimit:
	case len(res.Closed) == 0 || res.Total-res.Freed > l.HardLimit:
		s.hardLeft, s.hardQuietUntil = res.Total-res.Freed, s.quietUntil
		s.hardSoonest = now.Add(min(hardSpacing, s.silence))
	default:
		s.hardLeft, s.hardQuietUntil = 0, time.Time{}
		if s.hardSoonest = now; res.Freed < res.Total/hardWorthwhile {
			s.hardSoonest = now.Add(min(hardSpacing, s.silence))
		}
	}
}

// hardDue says whether the hard limit asks for a trim.
func (s *schedule) hardDue(now time.Time, conns, limit int) bool {
	base := max(limit, s.hardLeft)
	worthwhile := max(base/hardWorthwhile, hardFew)
	switch {
	case conns <= limit:
		return false
	case conns-base > worthwhile: // a trim is worth it, however soon
		return true
	case conns > base:
		return !now.Before(s.hardSoonest)
	default:
		return !now.Before(s.hardQuietUntil)
	}
}

// observe takes note of the last trim, whoever asked for it: if grace kept it
// from its target, another is due when the grace of the oldest newcomer ends.
func (s *schedule) observe(last TrimResult, number uint64) {
	if number == s.observed {
		return
	}
	s.observed = number
	if s.graceEnds = last.GraceEnds; last.Cause&CauseGrace == 0 {
		s.graceEnds = time.Time{}
	} else if soonest := s.lastGrace.Add(s.grace / retrySpacing); s.graceEnds.Before(soonest) {
		s.graceEnds = soonest
	}
}
