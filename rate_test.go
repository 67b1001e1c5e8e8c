package connmgr_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests are about how many new connections may come per second from a prefix: a
// burst, then an even pace, without a drift and without memory for those long gone.

// rated is limits with nothing but rates.
func rated(limits ...connmgr.PrefixLimit) connmgr.GateLimits {
	return connmgr.GateLimits{PerPrefix: limits}
}

// knockUntilRefused asks for one connection after another from an address, and returns
// how many pass and the refusal.
func knockUntilRefused(t *testing.T, g *connmgr.Gater, addr netip.AddrPort, most int) (passed int, no *connmgr.DeniedError) {
	t.Helper()
	for ; passed <= most; passed++ {
		if err := g.InterceptAccept(addr); err != nil {
			return passed, expectRefusal(t, fmt.Sprint("connection ", passed+1), err, connmgr.OverRate)
		}
	}
	t.Fatalf("%d connections at once from %v passed, want no more than %d", passed, addr, most)
	return 0, nil
}

func TestABurstAndThenTheEvenPace(t *testing.T) {
	for _, tt := range []struct {
		rate     float64
		burst    int
		passes   int           // at once
		interval time.Duration // afterwards
	}{
		{5, 10, 10, 200 * time.Millisecond},
		{5, 1, 1, 200 * time.Millisecond},
		{5, 0, 5, 200 * time.Millisecond}, // one second's worth
		{2.5, 0, 2, 400 * time.Millisecond},
		{0.5, 0, 1, 2 * time.Second}, // at least 1
		{0.5, 3, 3, 2 * time.Second},
		{1000, 2, 2, time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimited(t, rated(connmgr.PrefixLimit{IPv4: 24, IPv6: 48, Rate: tt.rate, Burst: tt.burst}))
			advance(time.Hour) // time that has passed before saves up no more than a burst
			passed, no := knockUntilRefused(t, l.g, addr4(1, 1), 20)
			if passed != tt.passes {
				t.Fatalf("rate %v, burst %d: %d passed at once, want %d", tt.rate, tt.burst, passed, tt.passes)
			}
			if want := time.Now().Add(tt.interval); !no.Until.Equal(want) || no.Limit != tt.rate || no.Prefix.String() != "5.0.1.0/24" {
				t.Errorf("rate %v: refused until %v from now, limit %v of %v; want %v, %v of 5.0.1.0/24", tt.rate, time.Until(no.Until), no.Limit, no.Prefix, tt.interval, tt.rate)
			}
			for i := range 25 { // with those refused in between not counted
				advance(tt.interval - time.Millisecond)
				if err := l.g.InterceptAccept(addr4(1, 2)); err == nil {
					t.Errorf("rate %v: connection %d passed a millisecond too soon", tt.rate, i+1)
				}
				advance(time.Millisecond)
				if err := l.g.InterceptAccept(addr4(1, 3)); err != nil {
					t.Errorf("rate %v: connection %d was refused at its time: %v", tt.rate, i+1, err)
				}
			}
			if err := l.g.InterceptAccept(addr4(2, 1)); err != nil {
				t.Errorf("rate %v: another prefix was refused: %v", tt.rate, err)
			}
			advance(time.Duration(tt.passes) * tt.interval)
			if passed, _ := knockUntilRefused(t, l.g, addr4(1, 1), 20); passed != tt.passes {
				t.Errorf("rate %v: %d passed at once after a pause, want a burst of %d again", tt.rate, passed, tt.passes)
			}
		})
	}
}

func TestALimitThatRefusesChargesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The wide one is charged only for those that pass the narrow one, and the other
		// way round, whichever comes first.
		narrow, wide := connmgr.PrefixLimit{IPv4: 32, Rate: 0.01, Burst: 2}, connmgr.PrefixLimit{IPv4: 24, Rate: 0.01, Burst: 5}
		for _, limits := range []connmgr.GateLimits{rated(narrow, wide), rated(wide, narrow)} {
			l := newLimited(t, limits)
			for host, want := range []int{2, 2, 1, 0} {
				passed := 0
				for range 10 {
					if l.g.InterceptAccept(addr4(1, host)) == nil {
						passed++
					}
				}
				if passed != want {
					t.Errorf("%d of 10 from the address number %d of the /24 passed, want %d", passed, host+1, want)
				}
			}
			advance(100 * time.Second) // each has room for one more
			if err := l.g.InterceptAccept(addr4(1, 3)); err != nil {
				t.Errorf("an address that was refused for the others of its /24 has to wait longer than they: %v", err)
			}
		}
	})
}

func TestALimitOfConnectionsThatRefusesChargesNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, rated(connmgr.PrefixLimit{IPv4: 24, MaxConns: 1, Rate: 0.01, Burst: 3}))
		v, err := l.enter(connmgr.DirInbound, "a", addr4(1, 1))
		expectRefusal(t, "the first", err, connmgr.Passed)
		for range 10 {
			_, err := l.enter(connmgr.DirInbound, "b", addr4(1, 2))
			expectRefusal(t, "a second one", err, connmgr.OverPrefixLimit)
		}
		for range 2 {
			v.leave()
			v, err = l.enter(connmgr.DirInbound, "b", addr4(1, 2))
			expectRefusal(t, "one after the other", err, connmgr.Passed)
		}
		v.leave()
		_, err = l.enter(connmgr.DirInbound, "b", addr4(1, 2))
		expectRefusal(t, "the fourth within the burst of 3", err, connmgr.OverRate)
	})
}

func TestTheRateIsAppliedOnceWhoeverIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := rated(connmgr.PrefixLimit{IPv4: 24, Rate: 0.01, Burst: 4})
		friend := connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")}
		l := newLimited(t, limits, friend)
		for i := range 10 { // while somebody is trusted, the rate waits for a name
			if err := l.g.InterceptAccept(addr4(1, 1)); err != nil {
				t.Fatalf("connection %d was refused before its peer was known: %v", i+1, err)
			}
			if err := l.g.InterceptSecured(connmgr.DirInbound, "friend", addr4(1, 1)); err != nil {
				t.Fatalf("a trusted peer was refused: %v", err)
			}
			if err := l.g.InterceptSecured(connmgr.DirOutbound, "stranger", addr4(1, 1)); err != nil {
				t.Fatalf("an outbound connection was refused: %v", err)
			}
		}
		for i := range 6 {
			_, err := l.enter(connmgr.DirInbound, "stranger", addr4(1, 1))
			want := connmgr.Passed
			if i >= 4 {
				want = connmgr.OverRate
			}
			if d := expectRefusal(t, fmt.Sprint("connection ", i+1, " of a stranger"), err, want); d != nil && d.Checkpoint != connmgr.AtSecured {
				t.Errorf("the refusal came at %v, want secured", d.Checkpoint)
			}
		}
	})
}

func TestAFloodOfPrefixesTakesNoMoreMemoryThanAFewDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const prefixes, most = 100_000, 1 << 16
		limits := rated(
			connmgr.PrefixLimit{IPv4: 32, IPv6: 56, Rate: 5, Burst: 10},
			connmgr.PrefixLimit{IPv4: 24, IPv6: 48, MaxConns: 1, Rate: 20, Burst: 40},
		)
		l := newLimited(t, limits)
		for i := range prefixes {
			ip := netip.AddrFrom16([16]byte{0x2a, 0, 1, byte(i >> 16), byte(i >> 8), byte(i)})
			if err := l.g.InterceptAccept(netip.AddrPortFrom(ip, 1)); err != nil {
				t.Fatalf("the first from %v was refused: %v", ip, err)
			}
			if i%10_000 == 0 {
				advance(time.Millisecond)
			}
			if i%1000 != 0 {
				continue
			}
			if n := l.g.Stats().TrackedPrefixes; n > len(limits.PerPrefix)*most {
				t.Fatalf("%d prefixes are tracked after %d, want no more than %d for each limit", n, i, most)
			}
		}
		if n := l.g.Stats().TrackedPrefixes; n < 1000 {
			t.Errorf("%d prefixes are tracked, want those of late to be", n)
		}
		advance(time.Hour)
		for i := range 2 { // in two turns, all that is long gone is forgotten
			if err := l.g.InterceptAccept(addr4(i, 1)); err != nil {
				t.Error(err)
			}
			advance(time.Hour)
		}
		if n := l.g.Stats().TrackedPrefixes; n > 4 {
			t.Errorf("%d prefixes are tracked hours later, want those of the last two connections", n)
		}
	})
}

// bucket is a token bucket as anybody would write it, in nanoseconds of credit.
type bucket struct {
	credit, capacity, price time.Duration
	at                      time.Time
}

func (b *bucket) refill(now time.Time) {
	b.credit = min(b.capacity, b.credit+now.Sub(b.at))
	b.at = now
}

// until returns when the next one may pass, the zero time for now.
func (b *bucket) until(now time.Time) (t time.Time) {
	if b.refill(now); b.credit < b.price {
		t = now.Add(b.price - b.credit)
	}
	return t
}

// TestRatesAreThoseOfTokenBuckets lets random prefixes come at random times, for long
// enough that the table of prefixes is turned over many times.
func TestRatesAreThoseOfTokenBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 3))
			var limits []connmgr.PrefixLimit
			var buckets []map[netip.Prefix]*bucket
			for _, bits := range []int{32, 24, 16}[:1+rng.IntN(3)] {
				limits = append(limits, connmgr.PrefixLimit{IPv4: bits, Rate: float64(int(1) << rng.IntN(6)), Burst: 1 + rng.IntN(8)})
				buckets = append(buckets, make(map[netip.Prefix]*bucket))
			}
			l := newLimited(t, rated(limits...))
			passed, refused := 0, 0
			for range 4000 {
				pause := rng.Int64N(int64(20 * time.Millisecond))
				if rng.IntN(200) == 0 {
					pause *= 200
				}
				<-time.After(time.Duration(pause))
				addr, now := addr4(rng.IntN(4), rng.IntN(4)), time.Now()
				var until time.Time
				var prefix netip.Prefix
				var hit []*bucket
				for i, limit := range limits {
					p, _ := addr.Addr().Prefix(limit.IPv4)
					b := buckets[i][p]
					if b == nil {
						price := time.Duration(float64(time.Second) / limit.Rate)
						b = &bucket{price: price, capacity: time.Duration(limit.Burst) * price, at: now}
						b.credit = b.capacity
						buckets[i][p] = b
					}
					hit = append(hit, b)
					if no := b.until(now); until.IsZero() && !no.IsZero() {
						until, prefix = no, p
					}
				}
				err := l.g.InterceptAccept(addr)
				var d *connmgr.DeniedError
				switch {
				case until.IsZero() && err != nil:
					t.Fatalf("seed %d, %v: refused with %v, want it to pass: limits %+v", seed, addr, err, limits)
				case until.IsZero():
					passed++
					for _, b := range hit {
						b.credit -= b.price
					}
				case !errors.As(err, &d) || d.Prefix != prefix || !d.Until.Equal(until):
					t.Fatalf("seed %d, %v: got %v, want a refusal for %v until %v: limits %+v", seed, addr, err, prefix, until, limits)
				default:
					refused++
				}
			}
			if passed < 100 || refused < 100 {
				t.Errorf("the test is wrong: seed %d: %d passed and %d were refused, want some of both", seed, passed, refused)
			}
		}
	})
}

func TestExtremeRatesAreThoseThatWereAskedForOrErrors(t *testing.T) {
	for _, tt := range []struct {
		limit connmgr.PrefixLimit
		works bool // else New says why not
	}{
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1e-6}, true},
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1e-6, Burst: 10}, true},
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1 << 20, Burst: 100}, true},
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1.0 / 86400, Burst: 200_000}, false}, // centuries in nanoseconds
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1e-6, Burst: 50_000}, false},
		{connmgr.PrefixLimit{IPv4: 32, Rate: 1e-6, Burst: 1 << 20}, false},
	} {
		t.Run(fmt.Sprintf("%.2g per second, burst %d", tt.limit.Rate, tt.limit.Burst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if !tt.works {
					_, err := connmgr.New(connmgr.Config{Gate: connmgr.GateConfig{Limits: rated(tt.limit)}})
					if err == nil || !strings.Contains(err.Error(), "Burst") || !strings.Contains(err.Error(), "Rate") {
						t.Errorf("New: %v, want an error about Burst and Rate", err)
					}
					return
				}
				l := newLimited(t, rated(tt.limit))
				passed, _ := knockUntilRefused(t, l.g, addr4(1, 1), 200)
				if want := max(1, tt.limit.Burst); passed != want {
					t.Errorf("%d passed at once, want %d", passed, want)
				}
				advance(time.Hour)
				if again := l.g.InterceptAccept(addr4(1, 1)) == nil; again != (tt.limit.Rate > 1) {
					t.Errorf("an hour later the next one passes: %v, want %v", again, tt.limit.Rate > 1)
				}
			})
		})
	}
}
