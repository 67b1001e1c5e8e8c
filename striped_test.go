package connmgr

import (
	"sync"
	"testing"
	"unsafe"
)

func TestAStripedNumberLosesNothing(t *testing.T) {
	var s striped
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 5000 {
				s.add(3)
				s.addTo(g+i, -1)
				s.sum()
			}
		})
	}
	all.Wait()
	if got, want := s.sum(), int64(8*5000*2); got != want {
		t.Errorf("the sum is %d, want %d", got, want)
	}
}

func TestAStripedNumberIsSpreadOverCacheLines(t *testing.T) {
	var s striped
	for range 1000 {
		s.add(1)
	}
	for i := range s {
		if s[i].n.Load() == 0 {
			t.Errorf("after 1000 additions, part %d of %d has none", i, stripes)
		}
	}
	if apart := unsafe.Sizeof(s[0]); apart%64 != 0 {
		t.Errorf("parts are %d bytes apart, want whole cache lines of 64", apart)
	}
	s = striped{}
	s.addTo(3, 1)
	s.addTo(3+stripes, 1)
	if got := s[3].n.Load(); got != 2 {
		t.Errorf("part 3 has %d, want 2", got)
	}
}

// A connection on its way in or out has its place, but is not open.
func TestOpenAboveCountsOpenConnectionsOnly(t *testing.T) {
	m := newMany(t, Config{GracePeriod: Zero})
	for i := range 3 {
		m.connect(manyID(i), DirInbound)
	}
	if !m.table.openAbove(2) || m.table.openAbove(3) {
		t.Errorf("with 3 open connections, above 2: %v, above 3: %v; want true, false", m.table.openAbove(2), m.table.openAbove(3))
	}
	closing := m.conns[0]
	s, rec := m.table.lock(closing.peer)
	m.table.beginCloseLocked(s, rec, nil)
	s.mu.Unlock()
	if m.table.openAbove(2) || !m.table.openAbove(1) {
		t.Errorf("with 2 open connections and one that is closing, above 2: %v, above 1: %v; want false, true", m.table.openAbove(2), m.table.openAbove(1))
	}
	m.table.endClose(closing.peer, closing, nil)
	if got := m.table.open(); got != 2 || m.table.away.sum() != 0 {
		t.Errorf("%d are open and %d away when its Close has returned, want 2 and 0", got, m.table.away.sum())
	}
}
