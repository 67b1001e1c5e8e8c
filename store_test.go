package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests restart managers on one store, and have the store fail, hang and panic.

func denyPeer(name string) connmgr.Rule { return deny(connmgr.PeerTarget(connmgr.NodeID(name))) }

// refuses reports whether the gate refuses a peer.
func refuses(m *connmgr.Manager, peer connmgr.NodeID) bool {
	return m.Gater().InterceptPeerDial(peer) != nil
}

// expectStored checks that the store has what is in force.
func expectStored(t testing.TB, m *connmgr.Manager, store *connmgrtest.Store) {
	t.Helper()
	var inForce []connmgr.Rule
	for r := range m.Gater().Rules() {
		inForce = append(inForce, r)
	}
	if got, want := listed(store.Rules()), listed(inForce); got != want {
		t.Errorf("the store has\n%s\nwant what is in force:\n%s", got, want)
	}
	if n := m.Gater().Stats().UnsavedRules; n != 0 {
		t.Errorf("UnsavedRules = %d, want 0", n)
	}
}

func TestRulesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		end := time.Now().Add(time.Hour)
		add(t, m.Gater(), with(deny(prefix("10.0.0.0/8")), end, "list"), allow(addr("10.0.0.1")), denyPeer("gone"))
		if err := m.Gater().Block(context.Background(), connmgr.PeerTarget("alice"), 0, "spam"); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Gater().Unblock(context.Background(), connmgr.PeerTarget("gone")); err != nil {
			t.Fatal(err)
		}
		before := listed(store.Rules())
		closeManager(t, m)

		again := func() *connmgr.Manager {
			cfg := connmgr.Config{}
			cfg.Gate.Store = store
			cfg.Gate.Rules = []connmgr.Rule{denyPeer("brought by the program")}
			return newManager(t, cfg)
		}
		m = again()
		expectDenied(t, m.Gater(), "10.0.0.2", prefix("10.0.0.0/8"))
		expectDenied(t, m.Gater(), "10.0.0.1", connmgr.Target{})
		if !refuses(m, "alice") || refuses(m, "gone") || !refuses(m, "brought by the program") {
			t.Error("after a restart the rules are not those from before and those of the program")
		}
		if store.LoadCalls() != 2 || listed(store.Rules()) != before {
			t.Errorf("%d loads, and the store has\n%s\nwant 2, and what it had: the program's rules are not saved", store.LoadCalls(), listed(store.Rules()))
		}
		closeManager(t, m)

		<-time.After(time.Hour) // while the node is down, a rule ends
		m = again()
		expectDenied(t, m.Gater(), "10.0.0.2", connmgr.Target{})
		advance(time.Minute)
		if strings.Contains(listed(store.Rules()), "10.0.0.0/8") {
			t.Error("a rule that ended while the node was down is in the store for ever")
		}
	})
}

func TestAStoreThatCannotBeLoadedKeepsTheManagerFromStarting(t *testing.T) {
	broken := errors.New("rules.db: page 7 is corrupt")
	store := connmgrtest.NewStore(denyPeer("alice"))
	store.FailLoad(broken)
	m, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Store: store}})
	if m != nil || !errors.Is(err, broken) || !strings.HasPrefix(fmt.Sprint(err), "connmgr: loading rules: ") {
		t.Errorf("New = %v, %v; want no manager, and the store's error with what it is about", m, err)
	}
}

func TestARuleThatCannotBeSavedIsInForceAndSavedLater(t *testing.T) {
	full := errors.New("disk full")
	for _, tt := range []struct {
		name string
		fail func(*connmgrtest.Store)
		want string
	}{
		{"fails", func(s *connmgrtest.Store) { s.FailSaves(full) }, "disk full"},
		{"panics", func(s *connmgrtest.Store) { s.PanicSaves("boom") }, "panic: boom"},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, store := gateWithStore(t, denyPeer("old"))
			g := m.Gater()
			tt.fail(store)
			expectError := func(what string, err error) {
				t.Helper()
				if err == nil || !errors.Is(err, connmgr.ErrNotSaved) || !strings.HasPrefix(err.Error(), "connmgr: the rules are in force, but not saved: they could not be: ") || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("a store that %s: %s returns %v, want an error that says so and wraps the store's", tt.name, what, err)
				}
				if tt.name == "fails" && !errors.Is(err, full) {
					t.Errorf("%s: %v does not wrap the store's error", what, err)
				}
			}
			expectError("Add", g.Add(context.Background(), denyPeer("a"), denyPeer("b")))
			_, err := g.Remove(context.Background(), denyPeer("old"))
			expectError("Remove", err)
			_, err = g.Replace(context.Background(), "list", []connmgr.Rule{denyPeer("c")})
			expectError("Replace", err)
			_, err = g.Unblock(context.Background(), connmgr.PeerTarget("b"))
			expectError("Unblock", err)
			if !refuses(m, "a") || refuses(m, "b") || !refuses(m, "c") || refuses(m, "old") {
				t.Errorf("a store that %s: what could not be saved is not in force", tt.name)
			}
			if n := g.Stats().UnsavedRules; n != 4 {
				t.Errorf("a store that %s: UnsavedRules = %d, want 4: a, c, and that b and old are gone", tt.name, n)
			}
			if got := listed(store.Rules()); got != "deny peer old" {
				t.Errorf("a store that %s has\n%s", tt.name, got)
			}

			store.FailSaves(nil)
			add(t, g, denyPeer("d")) // takes the others along
			expectStored(t, m, store)

			tt.fail(store)
			expectError("Add", g.Add(context.Background(), denyPeer("e")))
			store.FailSaves(nil)
			advance(connmgr.DefaultSilencePeriod) // nobody changes anything
			expectStored(t, m, store)
			saves := store.SaveCalls()
			advance(time.Hour)
			if n := store.SaveCalls() - saves; n != 0 {
				t.Errorf("when all was saved, Save was called %d times more", n)
			}
		})
	}
}

func TestAFailingStoreIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		store := connmgrtest.NewStore()
		cfg := connmgr.Config{Logger: book.logger()}
		cfg.Gate.Store = store
		m := newManager(t, cfg)
		for range 2 {
			store.FailSaves(errors.New("disk full"))
			_ = m.Gater().Add(context.Background(), denyPeer("a"), denyPeer("b"))
			book.expect(t, "when the caller got the error")
			advance(time.Hour)
			book.expect(t, "in an hour of failing", "level=ERROR disk full")
			if n := m.Gater().Stats().UnsavedRules; n != 2 {
				t.Errorf("UnsavedRules = %d, want 2", n)
			}
			store.FailSaves(nil)
			advance(time.Hour)
			book.expect(t, "when it works again")
			expectStored(t, m, store)
			if _, err := m.Gater().Remove(context.Background(), denyPeer("a"), denyPeer("b")); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWhoDoesNotWaitForTheStoreIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		store.HangSaves()
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := m.Gater().Add(ctx, denyPeer("alice"))
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, connmgr.ErrNotSaved) || !strings.HasPrefix(err.Error(), "connmgr: the rules are in force, but not saved, as far as is known: ") {
			t.Errorf("Add = %v, want an error that says so and wraps the context's", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Add took %v, want until the end of its context, 1 s", took)
		}
		if !refuses(m, "alice") {
			t.Error("the rule is not in force")
		}
		// Others are not saved meanwhile, but in force at once, and saved together.
		done := make(chan error, 3)
		for i := range 3 {
			go func() { done <- m.Gater().Add(context.Background(), denyPeer(fmt.Sprint(i))) }()
		}
		synctest.Wait()
		if len(done) != 0 || !refuses(m, "0") || !refuses(m, "1") || !refuses(m, "2") || store.SaveCalls() != 1 {
			t.Errorf("%d calls returned, %d saves; want none, 1, and all rules in force", len(done), store.SaveCalls())
		}
		store.Release()
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("Add: %v", err)
			}
		}
		if n := store.SaveCalls(); n != 2 {
			t.Errorf("Save was called %d times, want twice: once for the three that came while it hung", n)
		}
		expectStored(t, m, store)
	})
}

// What the store does when it fails nobody knows; it has to hear of the removal.
func TestARuleThatAPanicMayHaveSavedIsRemovedFromTheStore(t *testing.T) {
	m, store := gateWithStore(t)
	other := connmgrtest.NewStore() // what is on the disk in fact
	store.OnSave(func(changes []connmgr.RuleChange) error {
		_, _ = other.Load(context.Background())
		_ = other.Save(context.Background(), changes)
		panic("after the data was written")
	})
	_ = m.Gater().Add(context.Background(), denyPeer("alice"))
	store.OnSave(func(changes []connmgr.RuleChange) error { return other.Save(context.Background(), changes) })
	if _, err := m.Gater().Remove(context.Background(), denyPeer("alice")); err != nil {
		t.Error(err)
	}
	if got := listed(other.Rules()); got != "" {
		t.Errorf("a rule that was removed comes back with the next restart: %s", got)
	}
}

// The store has the rule as it was before, for good.
func TestARuleThatEndedWhileTheStoreFailedDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t, denyPeer("alice"))
		store.FailSaves(errors.New("disk full"))
		if err := m.Gater().Add(context.Background(), with(denyPeer("alice"), time.Now().Add(time.Minute), "")); err == nil {
			t.Error("Add: nil, want the store's error")
		}
		advance(10 * time.Minute)
		store.FailSaves(nil)
		advance(10 * time.Minute)
		if got := listed(store.Rules()); got != "" || refuses(m, "alice") {
			t.Errorf("a rule that has ended comes back with the next restart: %s", got)
		}
	})
}

func TestCloseWaitsForARunningSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		store.HangSaves()
		added := make(chan error, 2)
		go func() { added <- m.Gater().Add(context.Background(), denyPeer("a")) }()
		synctest.Wait()
		go func() { added <- m.Gater().Add(context.Background(), denyPeer("b")) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- m.Close() }()
		<-time.After(time.Second)
		if len(closed) != 0 {
			t.Error("Close returned before what is being saved was saved")
		}
		store.Release()
		for _, err := range []error{<-added, <-added, <-closed} {
			if err != nil {
				t.Error(err)
			}
		}
		expectStored(t, m, store)
	})
}

func TestCloseDoesNotWaitForeverForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := connmgrtest.NewStore()
		m, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Store: store}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		store.HangSaves()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.Gater().Add(ctx, denyPeer("a"))
		start := time.Now()
		if err := m.Close(); err == nil || time.Since(start) > 3*time.Second {
			t.Errorf("Close = %v after %v, want an error after a second or two", err, time.Since(start))
		}
		store.Release()
	})
}

func TestRulesWorkAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t, denyPeer("old"))
		g := m.Gater()
		conn := connmgrtest.NewConn("a")
		m.Connected("a", conn)
		closeManager(t, m)
		add(t, g, denyPeer("a"), with(denyPeer("short"), time.Now().Add(time.Second), ""))
		if _, err := g.Unblock(context.Background(), connmgr.PeerTarget("old")); err != nil {
			t.Error(err)
		}
		if diff := replace(t, g, "list", deny(prefix("10.0.0.0/8"))); diff.Added != 1 {
			t.Errorf("Replace = %+v, want one added", diff)
		}
		expectStored(t, m, store)
		if !refuses(m, "a") || refuses(m, "old") || !g.Lookup("a", addrPort("10.0.0.1")).Denied() {
			t.Error("rules changed after Close are not in force")
		}
		if !conn.Open() {
			t.Error("a closed manager closed a connection")
		}
		store.FailSaves(errors.New("disk full"))
		if err := g.Add(context.Background(), denyPeer("b")); err == nil || !refuses(m, "b") {
			t.Errorf("Add = %v to a store that fails; want its error, and the rule in force", err)
		}
		<-time.After(time.Second)
		if refuses(m, "short") || g.Stats().UnsavedRules != 1 {
			t.Errorf("refuses a rule that has ended: %v; UnsavedRules %d; want false, 1", refuses(m, "short"), g.Stats().UnsavedRules)
		}
	})
}

func TestAContextEndsTheWaitAfterCloseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		closeManager(t, m)
		store.HangSaves()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		returned := make(chan error, 1)
		go func() { returned <- m.Gater().Add(ctx, denyPeer("a")) }()
		advance(time.Minute)
		if len(returned) == 0 {
			t.Error("a minute after the end of its context, Add still waits for a store that hangs")
		}
		store.Release()
		synctest.Wait()
	})
}
