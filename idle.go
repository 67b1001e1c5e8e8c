package connmgr

import "time"

// This file bounds what the table remembers of peers that are not connected: a list of
// idle ones in each shard, the one idle the longest first, and a sweep for what is too
// old.

// idleLocked puts a record at the end of the idle list.
func (r *registry) idleLocked(s *shard, rec *record, now instant) {
	i := s.refLocked(rec)
	rec.state, rec.since = recordIdle, now
	rec.prev, rec.next = s.idleLast, 0
	if s.idleLast != 0 {
		s.at(s.idleLast).next = i
	} else {
		s.idleFirst = i
		s.idleSince.Store(int64(now))
	}
	s.idleLast = i
	r.idle.Add(1)
}

// forgetIdle forgets the peers idle the longest until there are no more idle ones
// than the limit. It is called without a lock.
func (r *registry) forgetIdle() {
	for r.idle.Load() > int64(r.limits.idlePeers) {
		s := &r.shards[0]
		for i := range r.shards {
			if other := &r.shards[i]; other.idleSince.Load() < s.idleSince.Load() {
				s = other
			}
		}
		s.mu.Lock()
		if s.idleFirst != 0 {
			r.forgetLocked(s, s.at(s.idleFirst))
			s.counts.evicted++
		}
		s.mu.Unlock()
	}
}

// unidleLocked takes a record out of the idle list.
func (r *registry) unidleLocked(s *shard, rec *record) {
	if rec.prev != 0 {
		s.at(rec.prev).next = rec.next
	} else {
		s.idleFirst = rec.next
		s.idleSince.Store(nobodyIdle)
		if rec.next != 0 {
			s.idleSince.Store(int64(s.at(rec.next).since))
		}
	}
	if rec.next != 0 {
		s.at(rec.next).prev = rec.prev
	} else {
		s.idleLast = rec.prev
	}
	rec.prev, rec.next = 0, 0
	r.idle.Add(-1)
}

// sweep forgets idle peers whose time is over and those whose last tag decayed,
// and lets connections count again that were closed long ago and are still there.
// It returns connections that the gate let in long ago and that never arrived.
func (r *registry) sweep() (lost []peerConn) {
	now := r.now()
	for s := range r.eachShardLocked {
		for i := s.idleFirst; i != 0; {
			rec := s.at(i)
			i = rec.next
			ttl := r.limits.earlyTTL
			if rec.connectedOnce {
				ttl = r.limits.retention
			}
			expired := time.Duration(now-rec.since) >= ttl
			if !expired && rec.tagsLen() > 0 {
				continue
			}
			if expired {
				s.counts.expired++
			}
			r.forgetLocked(s, rec)
		}
		if s.counts.closing+s.counts.arriving == 0 {
			continue
		}
		for _, rec := range s.recordsLocked {
			rec.eachConn(func(slot *connSlot) {
				if slot.phase == phaseArriving && now >= slot.opened.plus(arrivingPatience) {
					lost = append(lost, peerConn{rec.id, slot.conn})
				}
				r.isOpenLocked(s, slot, now)
			})
		}
	}
	return lost
}
