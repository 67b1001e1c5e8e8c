package connmgrtest_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests check that the fake store does what its comments say, and that it
// notices who calls it as a store may not be called.

func deny(peer connmgr.NodeID, origin, reason string) connmgr.Rule {
	return connmgr.Rule{Target: connmgr.PeerTarget(peer), Origin: origin, Reason: reason}
}

func put(rules ...connmgr.Rule) (changes []connmgr.RuleChange) {
	for _, r := range rules {
		changes = append(changes, connmgr.RuleChange{Rule: r})
	}
	return changes
}

func remove(r connmgr.Rule) connmgr.RuleChange { return connmgr.RuleChange{Rule: r, Remove: true} }

func expectRules(t *testing.T, s *connmgrtest.Store, want ...connmgr.Rule) {
	t.Helper()
	if got := s.Rules(); !slices.Equal(got, want) {
		t.Errorf("the store has %v, want %v", got, want)
	}
	if loaded, err := s.Load(context.Background()); err != nil || !slices.Equal(loaded, want) {
		t.Errorf("Load returns %v, %v; want %v", loaded, err, want)
	}
}

func TestAStoreKeepsWhatIsSaved(t *testing.T) {
	for _, filler := range []int{0, 100} { // few changes and many take different ways
		s := connmgrtest.NewStore(deny("a", "", ""), deny("b", "", ""))
		expectRules(t, s, deny("a", "", ""), deny("b", "", ""))
		changes := append(put(deny("b", "", "changed"), deny("b", "list", ""), deny("c", "", "")), remove(deny("a", "", "whatever")), remove(deny("unknown", "", "")))
		for i := range filler {
			changes = append(changes, remove(deny(connmgr.NodeID(strings.Repeat("x", i+1)), "", "")))
		}
		if err := s.Save(context.Background(), changes); err != nil {
			t.Fatal(err)
		}
		expectRules(t, s, deny("b", "", "changed"), deny("b", "list", ""), deny("c", "", ""))
		if s.LoadCalls() != 2 || s.SaveCalls() != 1 || len(s.Saved()) != 1 || !slices.Equal(s.Saved()[0], changes) {
			t.Errorf("%d loads, %d saves of %v; want 2, and 1 of %v", s.LoadCalls(), s.SaveCalls(), s.Saved(), changes)
		}
		if err := s.Misuse(); err != nil {
			t.Errorf("Misuse: %v", err)
		}
	}
}

func TestAStoreFailsAndPanicsOnDemand(t *testing.T) {
	no := errors.New("no")
	s := connmgrtest.NewStore(deny("a", "", ""))
	s.FailLoad(no)
	if _, err := s.Load(context.Background()); !errors.Is(err, no) {
		t.Errorf("Load = %v, want the error", err)
	}
	s.FailLoad(nil)
	s.FailSaves(no)
	if err := s.Save(context.Background(), put(deny("b", "", ""))); !errors.Is(err, no) {
		t.Errorf("Save = %v, want the error", err)
	}
	s.PanicSaves("boom")
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("Save panicked with %v, want boom", p)
			}
		}()
		_ = s.Save(context.Background(), put(deny("b", "", "")))
	}()
	expectRules(t, s, deny("a", "", ""))
	s.FailSaves(nil)
	if err := s.Save(context.Background(), put(deny("b", "", ""))); err != nil {
		t.Errorf("Save = %v after FailSaves(nil)", err)
	}
	expectRules(t, s, deny("a", "", ""), deny("b", "", ""))
	if s.SaveCalls() != 3 || len(s.Saved()) != 1 || s.Misuse() != nil {
		t.Errorf("%d saves, %d done, misuse %v; want 3, 1, none", s.SaveCalls(), len(s.Saved()), s.Misuse())
	}
}

func TestAStoreHangsUntilReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := connmgrtest.NewStore()
		_, _ = s.Load(context.Background())
		s.HangSaves()
		s.HangSaves()
		done := make(chan error, 1)
		go func() { done <- s.Save(context.Background(), put(deny("a", "", ""))) }()
		<-time.After(time.Hour)
		if len(s.Rules()) != 0 || s.SaveCalls() != 1 || len(done) != 0 {
			t.Fatalf("rules %v, %d saves, %d returned; want none, 1, 0", s.Rules(), s.SaveCalls(), len(done))
		}
		s.Release()
		s.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		expectRules(t, s, deny("a", "", ""))
	})
}

func TestAStoreNoticesMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			want   string
			misuse func(*connmgrtest.Store)
		}{
			{"before Load", func(s *connmgrtest.Store) { _ = s.Save(context.Background(), put(deny("a", "", ""))) }},
			{"without a change", func(s *connmgrtest.Store) {
				_, _ = s.Load(context.Background())
				_ = s.Save(context.Background(), nil)
			}},
			{"same rule", func(s *connmgrtest.Store) {
				_, _ = s.Load(context.Background())
				_ = s.Save(context.Background(), put(deny("a", "", "x"), deny("a", "", "y")))
			}},
			{"at once", func(s *connmgrtest.Store) {
				_, _ = s.Load(context.Background())
				s.HangSaves()
				go func() { _ = s.Save(context.Background(), put(deny("a", "", ""))) }()
				synctest.Wait()
				_, _ = s.Load(context.Background())
				s.Release()
			}},
		} {
			s := connmgrtest.NewStore()
			if tt.misuse(s); s.Misuse() == nil || !strings.Contains(s.Misuse().Error(), tt.want) {
				t.Errorf("Misuse = %v, want %q in it", s.Misuse(), tt.want)
			}
		}
	})
}

func TestAConnectionKnowsTheAddressItIsGiven(t *testing.T) {
	addr := netip.MustParseAddrPort("192.0.2.1:4001")
	if got := connmgrtest.NewConn("p", connmgrtest.From(addr)).RemoteAddrPort(); got != addr {
		t.Errorf("RemoteAddrPort() = %v, want %v", got, addr)
	}
	if got := connmgrtest.NewConn("p").RemoteAddrPort(); got.IsValid() {
		t.Errorf("RemoteAddrPort() = %v without an address, want the zero AddrPort", got)
	}
}
