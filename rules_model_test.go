package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file holds the gate against a slow and literal model of its rules: a list, of
// which every question looks at every rule. What happens is spelled by a string of
// bytes; the fuzzer chooses them, or in an ordinary test run a random generator.

// naiveRules is the model.
type naiveRules []connmgr.Rule

func (n *naiveRules) put(r connmgr.Rule) {
	n.remove(r)
	*n = append(*n, r)
}

func (n *naiveRules) remove(r connmgr.Rule) (removed int) {
	before := len(*n)
	*n = slices.DeleteFunc(*n, r.Same)
	return before - len(*n)
}

// inForce returns the rules that have not expired.
func (n naiveRules) inForce() naiveRules {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(n), func(r connmgr.Rule) bool {
		return !r.Expires.IsZero() && !r.Expires.After(now)
	})
}

// plainAddr undoes what makes one address look like another.
func plainAddr(a netip.Addr) netip.Addr {
	if b := a.As16(); a.Is6() && [12]byte(b[:12]) == [12]byte{10: 0xff, 11: 0xff} {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a.WithZone("")
}

// decide returns what the rules for which about is true say, and the one that ends
// last of those that say so: a deny wins.
func (n naiveRules) decide(about func(connmgr.Rule) bool) (decides *connmgr.Rule) {
	for _, r := range n.inForce() {
		if !about(r) {
			continue
		}
		switch {
		case decides == nil || decides.Effect == connmgr.Allow && r.Effect == connmgr.Deny,
			decides.Effect == r.Effect && endsLater(r, *decides):
			decides = &r
		}
	}
	return decides
}

func endsLater(a, b connmgr.Rule) bool {
	return !b.Expires.IsZero() && (a.Expires.IsZero() || a.Expires.After(b.Expires))
}

// decideAddr asks the rules with the longest prefix that has the address in it.
func (n naiveRules) decideAddr(a netip.Addr) *connmgr.Rule {
	longest := -1
	contains := func(r connmgr.Rule) bool {
		p, ok := r.Target.Prefix()
		return ok && p.Contains(a)
	}
	for _, r := range n.inForce() {
		if contains(r) {
			p, _ := r.Target.Prefix()
			longest = max(longest, p.Bits())
		}
	}
	return n.decide(func(r connmgr.Rule) bool {
		p, _ := r.Target.Prefix()
		return contains(r) && p.Bits() == longest
	})
}

// lookup returns which rules decide about a peer, an address, and a port if it is not 0.
func (n naiveRules) lookup(peer connmgr.NodeID, at netip.AddrPort) (r connmgr.Ruling) {
	r.Peer = n.decide(func(r connmgr.Rule) bool { return r.Target == connmgr.PeerTarget(peer) })
	if !at.Addr().IsValid() {
		return r
	}
	a := plainAddr(at.Addr())
	r.Addr = n.decideAddr(a)
	if b := a.As16(); a.Is6() && [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b} {
		inside := n.decideAddr(netip.AddrFrom4([4]byte(b[12:])))
		if r.Addr == nil || r.Addr.Effect == connmgr.Allow && inside != nil && inside.Effect == connmgr.Deny {
			r.Addr = inside
		}
	}
	if at.Port() != 0 {
		r.Port = n.decide(func(r connmgr.Rule) bool { return r.Target == connmgr.PortTarget(at.Port()) })
	}
	return r
}

// rulesPair is a gate and its model.
type rulesPair struct {
	t     *testing.T
	m     *connmgr.Manager
	store *connmgrtest.Store
	naive naiveRules
	rng   *rand.Rand
	fails bool
	log   []string
}

func newRulesPair(t *testing.T, seed uint64) *rulesPair {
	m, store := gateWithStore(t)
	return &rulesPair{t: t, m: m, store: store, rng: rand.New(rand.NewPCG(seed, 6))}
}

func (p *rulesPair) did(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
	if len(p.log) > 200 {
		p.log = p.log[100:]
	}
}

func (p *rulesPair) errorf(format string, args ...any) {
	p.t.Helper()
	for _, line := range p.log {
		p.t.Log(line)
	}
	p.t.Fatalf(format, args...)
}

// The world is small, so that things meet.
var (
	modelOrigins = []string{"", "list", "watchdog"}
	modelPeers   = []connmgr.NodeID{"", "alice", "bob"}
)

// address spells an address of few bits that differ, in one of its dresses.
func address(kind, where byte) netip.Addr {
	four := [4]byte{10, where >> 7, where >> 4 & 7, where & 15}
	six := [16]byte{0x20, 0x01, 0x0d, 0xb8, 7: where >> 4, 15: where & 15}
	switch kind % 8 {
	default:
		return netip.AddrFrom4(four)
	case 3:
		return netip.AddrFrom16(six)
	case 4:
		return netip.AddrFrom16(six).WithZone("eth0")
	case 5:
		return netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: four[0], 13: four[1], 14: four[2], 15: four[3]})
	case 6, 7:
		return netip.AddrFrom16([16]byte{1: 0x64, 2: 0xff, 3: 0x9b, 12: four[0], 13: four[1], 14: four[2], 15: four[3]})
	}
}

// rule spells a rule in four bytes.
func (p *rulesPair) rule(b []byte) connmgr.Rule {
	r := connmgr.Rule{Effect: connmgr.Effect(b[0] & 1), Origin: modelOrigins[b[0]>>1%8%3], Reason: string('a' + rune(b[3]&1))}
	switch b[0] >> 4 {
	case 0, 1, 2:
		r.Target = connmgr.PeerTarget(modelPeers[int(b[1])%len(modelPeers)])
	case 3:
		r.Target = connmgr.PortTarget(uint16(b[1]) % 3)
	default:
		a := address(b[0]>>4, b[1])
		r.Target = connmgr.PrefixTarget(netip.PrefixFrom(a, a.BitLen()-int(b[2])%(a.BitLen()+1)*int(b[2])/255))
	}
	if b[3] >= 64 {
		r.Expires = time.Now().Add(time.Duration(b[3]-63) * time.Second)
	}
	return r
}

const rulesOpBytes = 5

// play does what the bytes spell, and compares gate and model after each step.
func (p *rulesPair) play(data []byte) {
	ctx := context.Background()
	g := p.m.Gater()
	for ; len(data) >= rulesOpBytes; data = data[rulesOpBytes:] {
		op, r := data[0], p.rule(data[1:rulesOpBytes])
		var err error
		removed, want := 0, 0
		countable := len(p.naive) == len(p.naive.inForce()) // else some that have expired are swept, and others not
		switch op % 16 {
		default:
			p.did("add %v", r)
			err = g.Add(ctx, r)
			p.naive.put(r)
		case 7, 8:
			p.did("remove %v", r)
			removed, err = g.Remove(ctx, r)
			want = p.naive.remove(r)
		case 9:
			p.did("unblock %v", r.Target)
			removed, err = g.Unblock(ctx, r.Target)
			for _, origin := range modelOrigins {
				want += p.naive.remove(connmgr.Rule{Target: r.Target, Origin: origin})
			}
		case 10, 11:
			var rules []connmgr.Rule
			for n := int(op >> 4); n > 0 && len(data) > rulesOpBytes+4; n-- {
				data = data[4:]
				more := p.rule(data[1:rulesOpBytes])
				more.Origin = r.Origin
				rules = append(rules, more)
			}
			p.did("replace %q by %v", r.Origin, rules)
			_, err = g.Replace(ctx, r.Origin, rules)
			p.naive = slices.DeleteFunc(p.naive, func(old connmgr.Rule) bool { return old.Origin == r.Origin })
			for _, r := range rules {
				p.naive.put(r)
			}
		case 12, 13, 14:
			d := time.Duration(data[1]) * time.Second / 2
			p.did("wait %v", d)
			advance(d)
		case 15:
			p.fails = !p.fails
			p.did("the store fails: %v", p.fails)
			if p.store.FailSaves(nil); p.fails {
				p.store.FailSaves(errors.New("disk full"))
			}
		}
		if err != nil && !p.fails {
			p.errorf("error: %v", err)
		}
		if removed != want && countable {
			p.errorf("%d were removed, want %d", removed, want)
		}
		for range 4 {
			b := [4]byte{byte(p.rng.Uint32()), byte(p.rng.Uint32()), byte(p.rng.Uint32()), byte(p.rng.Uint32())}
			p.ask(modelPeers[int(b[0])%len(modelPeers)], netip.AddrPortFrom(address(b[1], b[2]), uint16(b[3])%3))
		}
	}
	p.compare()
}

// ask asks gate and model the same question.
func (p *rulesPair) ask(peer connmgr.NodeID, at netip.AddrPort) {
	p.t.Helper()
	g := p.m.Gater()
	want := p.naive.lookup(peer, at)
	got := g.Lookup(peer, at)
	for i, w := range []*connmgr.Rule{want.Peer, want.Addr, want.Port} {
		h := []*connmgr.Rule{got.Peer, got.Addr, got.Port}[i]
		if (h == nil) != (w == nil) || h != nil && (h.Effect != w.Effect || h.Target != w.Target || !h.Expires.Equal(w.Expires)) {
			p.errorf("%v at %v: Lookup says %v, want %v", peer, at, h, w)
		}
	}
	p.expect(peer, at, g.InterceptPeerDial(peer), want.Peer)
	p.expect(peer, at, g.InterceptAccept(at), want.Addr)
	p.expect(peer, at, g.InterceptSecured(connmgr.DirInbound, peer, at), want.Peer, want.Addr)
	if at.Port() != 0 { // Lookup takes that for no port
		p.expect(peer, at, g.InterceptAddrDial(peer, at), want.Peer, want.Addr, want.Port)
		p.expect(peer, at, g.InterceptUpgraded(connmgr.DirOutbound, peer, at, nil), want.Peer, want.Addr, want.Port)
	}
}

// expect checks that the first of the rules that denies has refused a connection.
func (p *rulesPair) expect(peer connmgr.NodeID, at netip.AddrPort, got error, rules ...*connmgr.Rule) {
	p.t.Helper()
	for _, r := range rules {
		if r == nil || r.Effect == connmgr.Allow {
			continue
		}
		var denied *connmgr.DeniedError
		if !errors.As(got, &denied) || denied.Rule.Target != r.Target || !denied.Until.Equal(r.Expires) {
			p.errorf("%v at %v: %v, want refused by %v", peer, at, got, r)
		}
		return
	}
	if got != nil {
		p.errorf("%v at %v: %v, want nil", peer, at, got)
	}
}

// compare compares all rules, and those in the store once it has caught up.
func (p *rulesPair) compare() {
	p.t.Helper()
	if got, want := listed(slices.Collect(p.m.Gater().Rules())), listed(p.naive.inForce()); got != want {
		p.errorf("in force:\n%s\nwant:\n%s", got, want)
	}
	p.store.FailSaves(nil)
	advance(connmgr.DefaultSilencePeriod)
	if got, want := listed(naiveRules(p.store.Rules()).inForce()), listed(p.naive.inForce()); got != want {
		p.errorf("stored:\n%s\nwant:\n%s", got, want)
	}
	advance(10 * time.Minute) // all that ends has ended, and been swept
	want := p.naive.inForce()
	if got, want := listed(p.store.Rules()), listed(want); got != want {
		p.errorf("in the end stored:\n%s\nwant:\n%s", got, want)
	}
	if s := p.m.Gater().Stats(); s.Rules != len(want) || s.UnsavedRules != 0 {
		p.errorf("%d rules in memory and %d unsaved, want %d and 0", s.Rules, s.UnsavedRules, len(want))
	}
}

func FuzzRules(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomOps(rand.New(rand.NewPCG(seed, 7)), 20))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) { newRulesPair(t, uint64(len(data))).play(data) })
	})
}

func randomOps(rng *rand.Rand, ops int) []byte {
	data := make([]byte, ops*rulesOpBytes)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func TestTheGateJudgesAsItsModelDoes(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			rng := rand.New(rand.NewPCG(seed, 8))
			newRulesPair(t, seed).play(randomOps(rng, 200))
		})
	}
}

// Here the world is wide, and questions are about the edges of what there are rules for.
func TestTheGateJudgesManyRulesAsItsModelDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRulesPair(t, 1)
		var rules []connmgr.Rule
		for range 300 {
			var b [16]byte
			for i := range b {
				b[i] = byte(p.rng.Uint32())
			}
			a := netip.AddrFrom16(b)
			if p.rng.IntN(2) == 0 {
				a = netip.AddrFrom4([4]byte{b[0] & 3, b[1], b[2], b[3]})
			} else if p.rng.IntN(2) == 0 && len(rules) > 0 { // inside another
				if outer, ok := rules[p.rng.IntN(len(rules))].Target.Prefix(); ok {
					a = outer.Addr()
				}
			}
			r := connmgr.Rule{Effect: connmgr.Effect(p.rng.IntN(2)), Target: connmgr.PrefixTarget(netip.PrefixFrom(a, p.rng.IntN(a.BitLen()+1)))}
			if p.rng.IntN(3) == 0 {
				r.Expires = time.Now().Add(time.Duration(1+p.rng.IntN(1000)) * time.Second)
			}
			rules = append(rules, r)
			p.naive.put(r)
		}
		p.did("replace by %v", rules)
		replace(t, p.m.Gater(), "", rules...)
		for range 1000 {
			prefix, _ := rules[p.rng.IntN(len(rules))].Target.Prefix()
			first := prefix.Addr()
			for _, a := range []netip.Addr{first, first.Prev()} {
				p.ask("", netip.AddrPortFrom(a, 1))
			}
			<-time.After(time.Second)
		}
	})
}
