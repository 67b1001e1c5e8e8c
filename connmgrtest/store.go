package connmgrtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dep2p/connmgr"
)

// This file holds the fake store of rules: what is in it, how it misbehaves, and
// whether it was called as a store may be called.

var _ connmgr.RuleStore = (*Store)(nil)

// Store is a fake [connmgr.RuleStore] that keeps rules in memory. Make one with
// [NewStore]. Give the same one to a second manager to see what a restart finds.
type Store struct {
	mu      sync.Mutex // guards all following fields
	rules   []connmgr.Rule
	loading error
	onSave  func([]connmgr.RuleChange) error
	hang    chan struct{} // closed by Release; nil if Save does not hang
	calls   int           // under way
	loads   int
	saves   int
	saved   [][]connmgr.RuleChange
	misuse  error
}

// NewStore returns a store that has some rules already.
func NewStore(rules ...connmgr.Rule) *Store {
	return &Store{rules: slices.Clone(rules)}
}

// FailLoad makes Load return an error; nil ends that.
func (s *Store) FailLoad(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading = err
}

// FailSaves makes Save return an error and save nothing; nil ends that, and what
// [Store.OnSave] and [Store.PanicSaves] set as well.
func (s *Store) FailSaves(err error) {
	if err == nil {
		s.OnSave(nil)
		return
	}
	s.OnSave(func([]connmgr.RuleChange) error { return err })
}

// PanicSaves makes Save panic with a value and save nothing, until FailSaves(nil).
func (s *Store) PanicSaves(value any) {
	s.OnSave(func([]connmgr.RuleChange) error { panic(value) })
}

// OnSave makes Save call f first. If f returns an error, that is returned and
// nothing is saved. f may do anything but call the manager.
func (s *Store) OnSave(f func([]connmgr.RuleChange) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onSave = f
}

// HangSaves makes Save hang until [Store.Release].
func (s *Store) HangSaves() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang == nil {
		s.hang = make(chan struct{})
	}
}

// Release lets a Save that hangs go on, and later ones not hang. Releasing twice is
// the same as once.
func (s *Store) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang != nil {
		close(s.hang)
		s.hang = nil
	}
}

// Load returns the rules, in the order in which they were first saved.
func (s *Store) Load(context.Context) ([]connmgr.Rule, error) {
	s.enter()
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return slices.Clone(s.rules), s.loading
}

// Save makes the changes: it hangs if it has to, calls the hook of [Store.OnSave] if
// there is one, and if that does not fail the changes are in the store.
func (s *Store) Save(_ context.Context, changes []connmgr.RuleChange) error {
	s.enter()
	defer s.leave()
	s.mu.Lock()
	s.saves++
	hang, hook := s.hang, s.onSave
	s.checkLocked(changes)
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if hook != nil {
		if err := hook(changes); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = append(s.saved, slices.Clone(changes))
	s.applyLocked(changes)
	return nil
}

// applyLocked looks for the rules of few changes one by one, and makes an index for
// many.
func (s *Store) applyLocked(changes []connmgr.RuleChange) {
	find := func(r connmgr.Rule) int { return slices.IndexFunc(s.rules, r.Same) }
	if len(changes) > 16 {
		index := make(map[connmgr.Rule]int, len(s.rules))
		for i, r := range s.rules {
			index[identity(r)] = i
		}
		find = func(r connmgr.Rule) int {
			if i, ok := index[identity(r)]; ok {
				return i
			}
			return -1
		}
	}
	removed := make(map[int]bool)
	for _, c := range changes {
		switch i := find(c.Rule); {
		case c.Remove && i >= 0:
			removed[i] = true
		case c.Remove:
		case i >= 0:
			s.rules[i] = c.Rule
		default:
			s.rules = append(s.rules, c.Rule) // no later change is about the same rule
		}
	}
	if len(removed) > 0 {
		i := -1
		s.rules = slices.DeleteFunc(s.rules, func(connmgr.Rule) bool { i++; return removed[i] })
	}
}

// identity returns a rule without what a change of it changes.
func identity(r connmgr.Rule) connmgr.Rule {
	return connmgr.Rule{Effect: r.Effect, Target: r.Target, Origin: r.Origin}
}

// Rules returns the rules in the store, in the order in which they were first saved.
func (s *Store) Rules() []connmgr.Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rules)
}

// Saved returns the changes that were saved, one slice for each Save that succeeded.
func (s *Store) Saved() [][]connmgr.RuleChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.saved)
}

// LoadCalls returns how often Load was called.
func (s *Store) LoadCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

// SaveCalls returns how often Save was called, those calls included that hang, failed
// or panicked.
func (s *Store) SaveCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

// Misuse returns an error if the store was ever called as [connmgr.RuleStore] says
// that it is not: two methods at once, Save before Load or without a change, or two
// changes about the same rule.
func (s *Store) Misuse() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.misuse
}

func (s *Store) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.calls > 1 {
		s.misuse = errors.New("connmgrtest: two methods of the store were called at once")
	}
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
}

func (s *Store) checkLocked(changes []connmgr.RuleChange) {
	if s.loads == 0 {
		s.misuse = errors.New("connmgrtest: Save was called before Load")
	}
	if len(changes) == 0 {
		s.misuse = errors.New("connmgrtest: Save was called without a change")
	}
	seen := make(map[connmgr.Rule]bool, len(changes))
	for _, c := range changes {
		if id := identity(c.Rule); seen[id] {
			s.misuse = fmt.Errorf("connmgrtest: Save was called with two changes about the same rule, %v", c.Rule)
		} else {
			seen[id] = true
		}
	}
}
