package connmgr

import (
	"slices"
	"unique"
)

// This file holds protections: a protected peer is not closed, save by force.
// Protections outlive connections and are not bounded in number, since only the
// program itself makes them; [Stats.ProtectedPeers] shows a leak.

// ProtectStore is the seed's protect store, a view of the manager's table of
// peers. Get it from [Manager.Protections]. Methods may be called from several
// goroutines.
//
// Source: seed, protect store.
type ProtectStore struct{ table *registry }

// protection is a tag under which a peer is protected.
type protection = unique.Handle[string]

// Protect protects a peer under a tag, so that different parts of a program can
// protect the same peer without knowing of one another. The peer need not be
// connected. Protecting twice under one tag is the same as once.
func (s *ProtectStore) Protect(peer NodeID, tag string) {
	name := unique.Make(tag)
	s.table.edit(peer, func(sh *shard, rec *record) {
		held := &rec.needRare().protections
		if len(*held) == 0 {
			sh.counts.protected++
			sh.protected.add(rec.hash, sh.refLocked(rec))
		}
		if !slices.Contains(*held, name) {
			*held = append(*held, name)
		}
	})
}

// Unprotect takes back the protection under a tag and reports whether the peer
// is still protected under another one.
func (s *ProtectStore) Unprotect(peer NodeID, tag string) (protected bool) {
	now := s.table.now()
	defer s.table.forgetIdle()
	sh, rec := s.table.lock(peer)
	defer sh.mu.Unlock()
	if rec == nil || !rec.isProtected() {
		return false
	}
	held := &rec.rare.protections
	if i := slices.Index(*held, unique.Make(tag)); i >= 0 {
		*held = slices.Delete(*held, i, i+1)
	}
	if len(*held) > 0 {
		return true
	}
	*held = nil
	sh.counts.protected--
	sh.protected.remove(rec.hash, sh.refLocked(rec))
	rec.trimRare()
	s.table.settleLocked(sh, rec, now)
	return false
}

// IsProtected reports whether a peer is protected under any tag.
func (s *ProtectStore) IsProtected(peer NodeID) bool {
	sh, rec := s.table.lockProtected(peer)
	defer sh.mu.Unlock()
	return rec != nil
}

// Protections returns the view of the table that the seed calls the protect store.
func (m *Manager) Protections() *ProtectStore { return &ProtectStore{m.table} }

// Protect protects a peer under a tag; see [ProtectStore.Protect].
func (m *Manager) Protect(peer NodeID, tag string) {
	(&ProtectStore{m.table}).Protect(peer, tag)
}

// Unprotect takes back the protection under a tag and reports whether the peer
// is still protected under another one.
func (m *Manager) Unprotect(peer NodeID, tag string) (protected bool) {
	return (&ProtectStore{m.table}).Unprotect(peer, tag)
}

// IsProtected reports whether a peer is protected under a tag; the empty tag
// stands for any.
func (m *Manager) IsProtected(peer NodeID, tag string) bool {
	if tag == "" {
		return (&ProtectStore{m.table}).IsProtected(peer)
	}
	s, rec := m.table.lockProtected(peer)
	defer s.mu.Unlock()
	return rec != nil && slices.Contains(rec.rare.protections, unique.Make(tag))
}

// lockProtected is lock for those who ask for protected peers only. These are few, so
// their index is small and most answers need no look at a record.
func (r *registry) lockProtected(id NodeID) (*shard, *record) {
	s, hash := r.place(id)
	s.mu.Lock()
	return s, s.findIn(&s.protected, id, hash)
}

func (rec *record) isProtected() bool { return rec.rare != nil && len(rec.rare.protections) > 0 }
