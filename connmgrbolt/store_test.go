package connmgrbolt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
)

func TestANewStoreHasNoRules(t *testing.T) {
	wantRules(t, mustOpen(t, newPath(t)))
}

func TestRulesOfEveryKindSurviveARestart(t *testing.T) {
	t.Parallel()
	rules := everyKind()
	wantInFile(t, makeFile(t, rules...), rules...)

	// One by one as well, since a rule alone is written to another place.
	for _, r := range rules {
		wantInFile(t, makeFile(t, r), r)
	}
}

func TestSavedRulesAreThereAtOnce(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, puts(peerRule(1), peerRule(2)))
	wantRules(t, s, peerRule(1), peerRule(2))
}

func TestSavingARuleAgainChangesExpiryAndReason(t *testing.T) {
	s := mustOpen(t, newPath(t))
	r := peerRule(1)
	for i, reason := range []string{"", "first", "a longer second", ""} {
		r.Reason = reason
		r.Expires = time.Unix(int64(i)*1_000_000, 0)
		mustSave(t, s, puts(r))
		wantRules(t, s, r)
	}
	r.Expires = time.Time{}
	mustSave(t, s, puts(r))
	wantRules(t, s, r)
}

func TestRemovedRulesAreGone(t *testing.T) {
	t.Parallel()
	path, rules := newPath(t), everyKind()
	s := mustOpen(t, path)
	mustSave(t, s, puts(rules...))
	for i, r := range rules {
		r.Reason, r.Expires = "another\nreason means nothing", time.Unix(-1, 0)
		mustSave(t, s, removes(r))
		wantRules(t, s, rules[i+1:]...)
	}
	mustClose(t, s)
	wantInFile(t, path)
}

func TestRemovingARuleThatIsNotThereIsNoError(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, puts(peerRule(1)))
	mustSave(t, s, removes(peerRule(2)))
	wantRules(t, s, peerRule(1))
}

func TestOneSavePutsAndRemoves(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, puts(peerRule(1), peerRule(2)))
	mustSave(t, s, append(removes(peerRule(1)), puts(peerRule(3))...))
	wantRules(t, s, peerRule(2), peerRule(3))
}

func TestOfTwoChangesOfOneRuleTheLastDecides(t *testing.T) {
	s := mustOpen(t, newPath(t))
	first, second := peerRule(1), peerRule(1)
	first.Reason, second.Reason = "z", "a"
	mustSave(t, s, puts(first, second))
	wantRules(t, s, second)
	mustSave(t, s, append(puts(first), removes(first)...))
	wantRules(t, s)
	mustSave(t, s, append(removes(first), puts(first)...))
	wantRules(t, s, first)
}

func TestSavingNothingIsNoError(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, nil)
	wantRules(t, s)
}

func TestARuleThatIsNotValidIsRefusedWithAllOthers(t *testing.T) {
	path := newPath(t)
	s := mustOpen(t, path)
	mustSave(t, s, puts(peerRule(1)))
	for what, bad := range map[string]connmgr.Rule{
		"no target":   {},
		"bad effect":  {Effect: 2, Target: connmgr.PortTarget(1)},
		"line break":  {Target: connmgr.PortTarget(1), Reason: "a\nb"},
		"long origin": {Target: connmgr.PortTarget(1), Origin: strings.Repeat("x", 1025)},
		"year 2262":   {Target: connmgr.PortTarget(1), Expires: time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		err := s.Save(context.Background(), puts(peerRule(2), bad, peerRule(3)))
		if err == nil {
			t.Errorf("a rule with %s was saved", what)
			continue
		}
		wantError(t, err, path)
		wantRules(t, s, peerRule(1))
	}
	if err := s.Save(context.Background(), removes(connmgr.Rule{})); err == nil {
		t.Error("a rule about nothing was removed")
	}
}

func TestAContextThatHasEndedStopsLoadAndSave(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, puts(peerRule(1)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Save(ctx, puts(peerRule(2))); !errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want context.Canceled", err)
	}
	if rules, err := s.Load(ctx); !errors.Is(err, context.Canceled) || rules != nil {
		t.Errorf("Load: %v, %v, want context.Canceled", rules, err)
	}
	wantRules(t, s, peerRule(1))
}

// endsLater is a context that ends when it has been asked a number of times.
type endsLater struct {
	context.Context
	asks int
}

func (c *endsLater) Err() error {
	if c.asks--; c.asks < 0 {
		return context.Canceled
	}
	return nil
}

func TestAContextThatEndsInTheMiddleOfALongSaveLeavesTheRulesAsTheyWere(t *testing.T) {
	s := mustOpen(t, newPath(t))
	mustSave(t, s, puts(peerRule(-1)))
	var rules []connmgr.Rule
	for i := range 5000 {
		rules = append(rules, peerRule(i))
	}
	saved := false
	for asks := range 100 {
		err := s.Save(&endsLater{context.Background(), asks}, puts(rules...))
		if saved = err == nil; saved {
			if asks < 8 {
				t.Errorf("the context was asked %d times for 5000 rules, want more", asks)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Save: %v, want context.Canceled", err)
		}
		wantRules(t, s, peerRule(-1))
	}
	if !saved {
		t.Fatal("the rules were never saved")
	}
	wantRules(t, s, append(rules, peerRule(-1))...)
	if _, err := s.Load(&endsLater{context.Background(), 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v, want context.Canceled", err)
	}
}

func TestMethodsErrAfterClose(t *testing.T) {
	path := newPath(t)
	s := mustOpen(t, path)
	mustClose(t, s)
	_, err := s.Load(context.Background())
	wantError(t, err, path, connmgrbolt.ErrClosed)
	wantError(t, s.Save(context.Background(), puts(peerRule(1))), path, connmgrbolt.ErrClosed)
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v, want nil", err)
	}
	if s.Path() != path {
		t.Errorf("Path is %q, want %q", s.Path(), path)
	}
}

func TestMethodsCanBeCalledConcurrently(t *testing.T) {
	path := newPath(t)
	s := mustOpen(t, path)
	var all sync.WaitGroup
	var want []connmgr.Rule
	for i := range 4 {
		for j := range 5 {
			want = append(want, peerRule(10*i+j))
		}
		all.Go(func() {
			for j := range 5 {
				if err := s.Save(context.Background(), puts(peerRule(10*i+j))); err != nil {
					t.Errorf("Save: %v", err)
				}
				if _, err := s.Load(context.Background()); err != nil {
					t.Errorf("Load: %v", err)
				}
			}
		})
	}
	all.Wait()
	wantRules(t, s, want...)
	for range 4 {
		all.Go(func() { mustClose(t, s) })
	}
	all.Wait()
	wantInFile(t, path, want...)
}

// TestRandomChangesLeaveWhatTheyShould holds a store against a map, over restarts:
// whatever bbolt makes of the changes must also pass the check that Open does.
func TestRandomChangesLeaveWhatTheyShould(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			path, want := newPath(t), ruleSet{}
			for range 8 {
				s, err := connmgrbolt.Open(path)
				if err != nil {
					t.Fatalf("Open: %v", err)
				}
				for range 3 {
					mustSave(t, s, randomChanges(rng, want))
					if d := mustLoad(t, s).difference(want); d != "" {
						t.Fatalf("the store has other rules:\n%s", d)
					}
				}
				mustClose(t, s)
			}
		})
	}
}

// randomChanges makes changes, and applies them to the model.
func randomChanges(rng *rand.Rand, model ruleSet) []connmgr.RuleChange {
	var changes []connmgr.RuleChange
	used := map[name]bool{}
	change := func(r connmgr.Rule, remove bool) {
		n := nameOf(r)
		if used[n] {
			return
		}
		used[n] = true
		changes = append(changes, connmgr.RuleChange{Rule: r, Remove: remove})
		if remove {
			delete(model, n)
		} else {
			model[n] = setOf(r)[n]
		}
	}
	if share := []float64{0, 0, 0.1, 0.9, 1}[rng.IntN(5)]; share > 0 {
		for _, r := range model {
			if rng.Float64() < share {
				change(r, true)
			}
		}
	}
	for range []int{0, 1, 5, 800}[rng.IntN(4)] {
		change(randomRule(rng), rng.IntN(10) == 0)
	}
	return changes
}

func randomRule(rng *rand.Rand) connmgr.Rule {
	r := connmgr.Rule{Effect: connmgr.Effect(rng.IntN(2))}
	switch rng.IntN(4) {
	case 0:
		length := rng.IntN(60)
		if rng.IntN(100) == 0 {
			length = rng.IntN(4097)
		}
		id := make([]byte, length)
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		r.Target = connmgr.PeerTarget(connmgr.NodeID(id))
	case 1:
		var a [4]byte
		for i := range a {
			a[i] = byte(rng.Uint32())
		}
		r.Target = connmgr.PrefixTarget(netip.PrefixFrom(netip.AddrFrom4(a), rng.IntN(33)))
	case 2:
		var a [16]byte
		for i := range a {
			a[i] = byte(rng.Uint32())
		}
		r.Target = connmgr.PrefixTarget(netip.PrefixFrom(netip.AddrFrom16(a), rng.IntN(129)))
	default:
		r.Target = connmgr.PortTarget(uint16(rng.Uint32()))
	}
	if rng.IntN(2) == 0 {
		r.Origin = strings.Repeat("o", rng.IntN(200))
	}
	if rng.IntN(2) == 0 {
		r.Reason = strings.Repeat("r", rng.IntN(1025))
	}
	if rng.IntN(2) == 0 {
		r.Expires = time.Unix(0, rng.Int64N(1<<62))
	}
	return r
}

func TestManyRulesAreSavedInOneGo(t *testing.T) {
	t.Parallel()
	const many = 20_000
	path := newPath(t)
	s := mustOpen(t, path)
	rules := make([]connmgr.Rule, many)
	for i := range rules {
		rules[i] = peerRule(i)
		rules[i].Origin = "list"
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(many, func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	mustSave(t, s, puts(rules...))
	wantRules(t, s, rules...)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(many * 100); info.Size() > most {
		t.Errorf("the file has %d bytes for %d rules, want at most %d", info.Size(), many, most)
	}
	mustSave(t, s, append(removes(rules[1:]...), puts(peerRule(-1))...))
	mustClose(t, s)
	wantInFile(t, path, rules[0], peerRule(-1))
}

// wantError fails the test unless an error names the file, begins with the package's
// name, and wraps what it should.
func wantError(t testing.TB, err error, path string, wraps ...error) {
	t.Helper()
	if err == nil {
		t.Error("there is no error")
		return
	}
	if !strings.HasPrefix(err.Error(), "connmgrbolt: "+path+": ") {
		t.Errorf("the error is %q, want one that begins with %q", err, "connmgrbolt: "+path+": ")
	}
	if n := strings.Count(err.Error(), path); n != 1 {
		t.Errorf("the error is %q, and names the file %d times", err, n)
	}
	for _, w := range wraps {
		if !errors.Is(err, w) {
			t.Errorf("the error is %q, want one that wraps %q", err, w)
		}
	}
}
