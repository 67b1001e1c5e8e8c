package connmgr_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr"
)

// Whoever has a wide prefix can come from more narrow ones than are remembered. That must
// not make the gate forget those that have used up their burst.
func TestAFloodOfPrefixesGivesNobodyANewBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, rated(connmgr.PrefixLimit{IPv6: 56, Rate: 1, Burst: 60}))
		from := func(n int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 2: byte(n >> 24), 3: byte(n >> 16), 4: byte(n >> 8), 5: byte(n), 15: 1}), 4001)
		}
		for range 60 {
			if err := l.g.InterceptAccept(from(0)); err != nil {
				t.Fatalf("within its burst: %v", err)
			}
		}
		for i := range 300_000 {
			if err := l.g.InterceptAccept(from(i + 1)); err != nil {
				t.Fatalf("the first connection from prefix %d: %v", i, err)
			}
			if i%10_000 == 0 && l.g.InterceptAccept(from(0)) == nil {
				t.Fatalf("after connections from %d other prefixes, one that has used up its burst has a new one", i)
			}
		}
		if n := l.g.Stats().TrackedPrefixes; n > 1<<16 {
			t.Errorf("%d prefixes are remembered, want at most 65,536", n)
		}
	})
}
