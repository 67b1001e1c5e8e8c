package connmgr_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests change rules while the gate is in use, let them expire, and list them.

func add(t testing.TB, g *connmgr.Gater, rules ...connmgr.Rule) {
	t.Helper()
	if err := g.Add(context.Background(), rules...); err != nil {
		t.Errorf("Add: %v", err)
	}
}

func replace(t testing.TB, g *connmgr.Gater, origin string, rules ...connmgr.Rule) connmgr.RuleDiff {
	t.Helper()
	diff, err := g.Replace(context.Background(), origin, rules)
	if err != nil {
		t.Errorf("Replace: %v", err)
	}
	return diff
}

// gateWithStore makes a manager with background work, whose rules a fake store keeps.
func gateWithStore(t testing.TB, saved ...connmgr.Rule) (*connmgr.Manager, *connmgrtest.Store) {
	t.Helper()
	store := connmgrtest.NewStore(saved...)
	cfg := connmgr.Config{HighWater: 1 << 30}
	cfg.Gate.Store = store
	t.Cleanup(func() {
		if err := store.Misuse(); err != nil {
			t.Error(err)
		}
	})
	return newManager(t, cfg), store
}

// with returns a rule with an expiry and an origin.
func with(r connmgr.Rule, end time.Time, origin string) connmgr.Rule {
	r.Expires, r.Origin = end, origin
	return r
}

func from(r connmgr.Rule, origin string) connmgr.Rule { return with(r, time.Time{}, origin) }

// listed returns rules as text, one a line, in order of the text.
func listed(rules []connmgr.Rule) string {
	lines := make([]string, 0, len(rules))
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// expectInForce checks that the gate has exactly these rules.
func expectInForce(t testing.TB, g *connmgr.Gater, want ...connmgr.Rule) {
	t.Helper()
	if got, want := listed(slices.Collect(g.Rules())), listed(want); got != want {
		t.Errorf("in force:\n%s\nwant:\n%s", got, want)
	}
}

func TestARuleEndsAtItsMoment(t *testing.T) {
	var passes connmgr.Target
	const peer, at = connmgr.NodeID("alice"), "10.1.2.3"
	host, narrow, wide := addr(at), prefix("10.1.2.0/24"), prefix("10.0.0.0/8")
	for _, tt := range []struct {
		name          string
		ends, others  []connmgr.Rule
		before, after connmgr.Target
	}{
		{"a peer", []connmgr.Rule{deny(connmgr.PeerTarget(peer))}, nil, connmgr.PeerTarget(peer), passes},
		{"an address", []connmgr.Rule{deny(host)}, nil, host, passes},
		{"a prefix", []connmgr.Rule{deny(wide)}, nil, wide, passes},
		{"a port", []connmgr.Rule{deny(connmgr.PortTarget(4001))}, nil, connmgr.PortTarget(4001), passes},
		{"a deny before a wider one", []connmgr.Rule{deny(narrow)}, []connmgr.Rule{deny(wide)}, narrow, wide},
		{"a deny before a wider allow", []connmgr.Rule{deny(narrow)}, []connmgr.Rule{allow(wide)}, narrow, passes},
		{"a hole", []connmgr.Rule{allow(host)}, []connmgr.Rule{deny(wide)}, passes, wide},
		{"two holes at once", []connmgr.Rule{allow(host), allow(narrow)}, []connmgr.Rule{deny(wide)}, passes, wide},
		{"a deny beside an allow", []connmgr.Rule{deny(host)}, []connmgr.Rule{from(allow(host), "x"), deny(wide)}, host, passes},
		{"an allow beside a deny", []connmgr.Rule{allow(host)}, []connmgr.Rule{deny(host)}, host, host},
		{"one of two denies", []connmgr.Rule{from(deny(host), "x")}, []connmgr.Rule{deny(host)}, host, host},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, _ := gateWithStore(t)
			g := m.Gater()
			end := time.Now().Add(time.Hour + time.Second/3) // not at a tick
			for _, r := range tt.ends {
				r.Expires = end
				add(t, g, r)
			}
			add(t, g, tt.others...)
			expect := func(when string, want connmgr.Target) {
				t.Helper()
				decides := connmgr.Target{}
				if err, ok := g.InterceptAddrDial(peer, addrPort(at)).(*connmgr.DeniedError); ok { //nolint:errorlint // it is one
					decides = err.Rule.Target
				}
				if decides != want {
					t.Errorf("%s: %s the rule about %v decides, want %v", tt.name, when, decides, want)
				}
			}
			advance(time.Until(end) - 1)
			expect("a nanosecond before its end,", tt.before)
			<-time.After(1)
			expect("at its end,", tt.after)
			expectInForce(t, g, tt.others...)
			advance(time.Hour)
			expect("after a sweep,", tt.after)
		})
	}
}

func TestExpiredRulesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		after := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
		stays := []connmgr.Rule{with(deny(connmgr.PeerTarget("later")), after(600), ""), allow(prefix("10.0.0.0/8"))}
		m, store := gateWithStore(t, append(stays, with(deny(connmgr.PeerTarget("saved")), after(2), ""))...)
		g, sub := m.Gater(), m.Subscribe(10)
		add(t, g, with(deny(connmgr.PeerTarget("a")), after(3), ""), with(deny(prefix("10.1.0.0/16")), after(3), "x"), with(allow(connmgr.PortTarget(1)), after(3), ""))
		add(t, g, with(deny(connmgr.PeerTarget("again")), after(3), "")) // and then longer:
		again := with(deny(connmgr.PeerTarget("again")), after(500), "")
		add(t, g, again)
		stays = append(stays, again)
		advance(time.Minute)
		if n := g.Stats().Rules; n != 7 {
			t.Errorf("after a minute %d rules are in memory, want 7", n)
		}
		advance(9 * time.Minute)
		if n := g.Stats().Rules; n != 3 {
			t.Errorf("minutes after their end %d rules are in memory, want 3: the expired ones forgotten", n)
		}
		expectInForce(t, g, stays...)
		if got, want := listed(store.Rules()), listed(stays); got != want {
			t.Errorf("the store has\n%s\nwant\n%s", got, want)
		}
		var gone []connmgr.Rule
		for range 3 { // what was added
			<-sub.Events()
		}
		for len(sub.Events()) > 0 {
			e, ok := (<-sub.Events()).(connmgr.EventRules)
			if !ok || !e.Expired {
				t.Errorf("told %+v, want rules that have expired", e)
			}
			for _, c := range e.Changes {
				gone = append(gone, c.Rule)
				if !c.Remove {
					t.Errorf("told of %v as if it came", c.Rule)
				}
			}
		}
		if len(gone) != 4 {
			t.Errorf("subscribers were told that these have expired:\n%s\nwant the 4", listed(gone))
		}
		advance(24 * time.Hour)
		expectInForce(t, g, stays[1])
	})
}

func TestAddingAgainChangesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		g := m.Gater()
		for _, target := range []connmgr.Target{connmgr.PeerTarget("alice"), prefix("10.0.0.0/8"), connmgr.PortTarget(4001)} {
			refused := func() bool { return g.InterceptAddrDial("alice", addrPort("10.0.0.1")) != nil }
			add(t, g, with(deny(target), time.Now().Add(time.Minute), ""), deny(target)) // the later counts
			expectInForce(t, g, deny(target))
			for i, d := range []time.Duration{time.Hour, 2 * time.Hour, time.Minute, 0, 0, time.Second} {
				want := deny(target)
				want.Reason = fmt.Sprint("reason ", i)
				if d > 0 {
					want.Expires = time.Now().Add(d)
				}
				add(t, g, want)
				expectInForce(t, g, want)
				if got := listed(store.Rules()); got != want.String() {
					t.Errorf("the store has %s, want %v", got, want)
				}
				if !refused() {
					t.Errorf("%v is not refused after a block for %v", target, d)
				}
			}
			advance(time.Second)
			if refused() {
				t.Errorf("%v is refused after the end of the last block, 1 s", target)
			}
			advance(2 * time.Minute)
		}
	})
}

func TestUnblockTakesOutAllThatDeniesATarget(t *testing.T) {
	for _, target := range []connmgr.Target{connmgr.PeerTarget("alice"), addr("10.1.2.3"), prefix("10.1.2.0/24"), connmgr.PortTarget(4001)} {
		m, store := gateWithStore(t)
		g := m.Gater()
		end := time.Now().Add(time.Hour)
		other := deny(connmgr.PeerTarget("bob"))
		add(t, g, from(deny(target), "list"), with(deny(target), end, "watchdog"), allow(target), other)
		if err := g.Block(context.Background(), target, 0, "by hand"); err != nil {
			t.Fatal(err)
		}
		if g.InterceptAddrDial("alice", addrPort("10.1.2.3")) == nil {
			t.Errorf("%v is not refused", target)
		}
		if n, err := g.Unblock(context.Background(), target); n != 3 || err != nil {
			t.Errorf("Unblock(%v) = %d, %v; want 3, nil", target, n, err)
		}
		if err := g.InterceptAddrDial("alice", addrPort("10.1.2.3")); err != nil {
			t.Errorf("right after Unblock: %v", err)
		}
		expectInForce(t, g, allow(target), other)
		if got, want := listed(store.Rules()), listed([]connmgr.Rule{allow(target), other}); got != want {
			t.Errorf("the store has\n%s\nwant\n%s", got, want)
		}
		if n, err := g.Unblock(context.Background(), target); n != 0 || err != nil {
			t.Errorf("Unblock(%v) again = %d, %v; want 0, nil", target, n, err)
		}
	}
	g := gateWith(t, deny(prefix("10.0.0.0/8")))
	if n, err := g.Unblock(context.Background(), addr("10.0.0.1")); n != 0 || err != nil || g.InterceptAccept(addrPort("10.0.0.1")) == nil {
		t.Errorf("Unblock of an address in a denied prefix = %d, %v; want 0, nil, and the prefix still denied", n, err)
	}
}

func TestRemoveTakesOutTheSameRuleAlone(t *testing.T) {
	target := prefix("10.0.0.0/8")
	kept := []connmgr.Rule{from(deny(target), "b"), from(allow(target), "a"), deny(prefix("10.0.0.0/9")), deny(connmgr.PeerTarget("p"))}
	g := gateWith(t, append(kept, from(deny(target), "a"))...)
	for _, want := range []int{1, 0} {
		again := with(deny(target), time.Now().Add(-time.Hour), "a") // expiry and reason mean nothing
		again.Reason = "whatever"
		n, err := g.Remove(context.Background(), again, deny(connmgr.PeerTarget("q")), from(deny(target), "c"), connmgr.Rule{}, connmgr.Rule{Effect: 99, Target: target}, again)
		if n != want || err != nil {
			t.Errorf("Remove = %d, %v; want %d, nil", n, err, want)
		}
		expectInForce(t, g, kept...)
	}
}

func TestReplaceChangesOneOriginAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := gateWithStore(t)
		g := m.Gater()
		end := time.Now().Add(time.Hour)
		others := []connmgr.Rule{deny(prefix("10.0.0.0/8")), from(deny(addr("10.0.0.1")), "another"), from(allow(connmgr.PeerTarget("goes")), "another")}
		add(t, g, others...)
		a, b, goes := addr("10.0.0.1"), connmgr.PeerTarget("b"), connmgr.PeerTarget("goes")
		port := connmgr.PortTarget(25)

		// The rules' own origin may be left out, and of two the later counts.
		if got, want := replace(t, g, "list", deny(a), deny(b), from(deny(goes), "list"), with(deny(port), end, ""), deny(port)), (connmgr.RuleDiff{Added: 4}); got != want {
			t.Errorf("the first time: %+v, want %+v", got, want)
		}
		expectInForce(t, g, append(others, from(deny(a), "list"), from(deny(b), "list"), from(deny(goes), "list"), from(deny(port), "list"))...)

		saves := len(store.Saved())
		list := []connmgr.Rule{deny(a), with(deny(b), end, ""), deny(port), with(deny(addr("10.9.9.9")), time.Now(), ""), allow(goes)}
		if got, want := replace(t, g, "list", list...), (connmgr.RuleDiff{Added: 1, Changed: 1, Removed: 1, Kept: 2}); got != want {
			t.Errorf("the second time: %+v, want %+v", got, want)
		}
		after := append(others, from(deny(a), "list"), with(deny(b), end, "list"), from(deny(port), "list"), from(allow(goes), "list"))
		expectInForce(t, g, after...)
		if got, want := listed(store.Rules()), listed(after); got != want {
			t.Errorf("the store has\n%s\nwant\n%s", got, want)
		}
		if saved := store.Saved()[saves:]; len(saved) != 1 || len(saved[0]) != 3 {
			t.Errorf("saved %v, want at once the one added, the one changed and the one removed, and not those kept", saved)
		}

		saves = store.SaveCalls()
		if got, want := replace(t, g, "list", list...), (connmgr.RuleDiff{Kept: 4}); got != want {
			t.Errorf("the third time: %+v, want %+v", got, want)
		}
		if n := store.SaveCalls() - saves; n != 0 {
			t.Errorf("a list that has not changed was saved %d times", n)
		}
		if got, want := replace(t, g, "list"), (connmgr.RuleDiff{Removed: 4}); got != want {
			t.Errorf("in the end: %+v, want %+v", got, want)
		}
		expectInForce(t, g, others...)
	})
}

func TestRulesAreListedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := gateWithStore(t)
		g := m.Gater()
		inOrder := []connmgr.Rule{
			deny(connmgr.PeerTarget("alice")),
			deny(prefix("0.0.0.0/0")), allow(prefix("10.0.0.0/8")), deny(addr("10.0.0.0")), deny(prefix("10.1.0.0/16")), deny(prefix("128.0.0.0/1")), deny(prefix("192.0.2.0/24")),
			deny(prefix("::/0")), deny(prefix("2001:db8::/32")), allow(prefix("2001:db8::/48")), deny(addr("2001:db8::1")),
			deny(connmgr.PortTarget(0)), deny(connmgr.PortTarget(80)), deny(connmgr.PortTarget(65535)),
		}
		for _, i := range []int{7, 12, 1, 0, 9, 13, 3, 11, 8, 2, 5, 10, 6, 4} {
			add(t, g, inOrder[i])
		}
		add(t, g, with(deny(prefix("10.0.0.0/9")), time.Now().Add(time.Second), ""))
		seen := g.Rules() // of this moment
		<-time.After(time.Second)
		later := g.Rules()
		if _, err := g.Remove(context.Background(), inOrder[3:]...); err != nil {
			t.Fatal(err)
		}
		if got := slices.Collect(later); !slices.EqualFunc(got, inOrder, sameRule) {
			t.Errorf("listed\n%v, want\n%v", got, inOrder)
		}
		if n := len(slices.Collect(seen)); n != len(inOrder)+1 {
			t.Errorf("a list from before the expiry has %d rules, want %d", n, len(inOrder)+1)
		}
		n := 0
		for range later { // may be left, and used again
			if n++; n == 2 {
				break
			}
		}
		expectInForce(t, g, inOrder[:3]...)
	})
}

func TestOfBadRulesNoneIsApplied(t *testing.T) {
	good := deny(connmgr.PeerTarget("good"))
	long := strings.Repeat("x", 1025)
	for want, bad := range map[string]connmgr.Rule{
		"rule to deny has no valid peer, prefix or port":   {},
		"effect is 7, must be Deny (0) or Allow (1)":       {Effect: 7, Target: connmgr.PeerTarget("p")},
		"expires in the year 1969, must be between 1970":   with(deny(connmgr.PeerTarget("p")), time.Unix(0, -1), ""),
		"expires in the year 2262, must be between 1970":   with(deny(connmgr.PeerTarget("p")), time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC), ""),
		`reason "a\nb" has a line break, must be one line`: {Target: connmgr.PeerTarget("p"), Reason: "a\nb"},
		`origin "a\rb" has a line break, must be one line`: {Target: connmgr.PeerTarget("p"), Origin: "a\rb"},
		"reason has 1025 bytes, must have at most 1024":    {Target: connmgr.PeerTarget("p"), Reason: long},
		"origin has 1025 bytes, must have at most 1024":    {Target: prefix("10.0.0.0/8"), Origin: long},
	} {
		m, store := gateWithStore(t)
		err := m.Gater().Add(context.Background(), good, bad)
		_, err2 := m.Gater().Replace(context.Background(), bad.Origin, []connmgr.Rule{good, bad})
		_, err3 := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Rules: []connmgr.Rule{good, bad}}})
		_, err4 := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Store: connmgrtest.NewStore(good, bad)}})
		for i, err := range []error{err, err2, err3, err4} {
			if err == nil || !strings.HasPrefix(err.Error(), "connmgr: ") || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in the error", []string{"Add", "Replace", "Config.Gate.Rules", "a store"}[i], err, want)
			}
		}
		expectInForce(t, m.Gater())
		if store.SaveCalls() != 0 {
			t.Error("something was saved")
		}
	}
	g := gateWith(t)
	if err := g.Add(context.Background(), good, with(deny(connmgr.PeerTarget("p")), time.Now(), "")); err == nil || !strings.Contains(err.Error(), "expired already") {
		t.Errorf("Add of an expired rule: %v, want an error", err)
	}
	if _, err := g.Replace(context.Background(), "list", []connmgr.Rule{good, from(good, "another")}); err == nil || !strings.Contains(err.Error(), `"another"`) || !strings.Contains(err.Error(), `"list"`) {
		t.Errorf("Replace with a rule of another origin: %v, want an error that names both", err)
	}
	if err := g.Block(context.Background(), connmgr.PeerTarget("p"), -1, ""); err == nil || !strings.Contains(err.Error(), "-1ns") {
		t.Errorf("Block for less than no time: %v, want an error with the duration", err)
	}
	if err := g.Block(context.Background(), connmgr.PeerTarget("p"), math.MaxInt64, ""); err == nil {
		t.Error("Block for 292 years was accepted")
	}
	expectInForce(t, g)
}
