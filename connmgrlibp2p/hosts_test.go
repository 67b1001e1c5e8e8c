package connmgrlibp2p_test

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
)

// This file puts the drop-in into real go-libp2p hosts on loopback, over TCP and
// over QUIC: one guarded host, and dialers around it.

var transports = map[string]string{
	"TCP":  "/ip4/127.0.0.1/tcp/0",
	"QUIC": "/ip4/127.0.0.1/udp/0/quic-v1",
}

// onEachTransport runs a test over TCP and over QUIC.
func onEachTransport(t *testing.T, test func(t *testing.T, listen string)) {
	t.Helper()
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { test(t, listen) })
	}
}

// newGuarded makes a host that has the manager, and no limits but the manager's.
func newGuarded(t *testing.T, cm libp2p.ConnManager, listen string, opts ...golibp2p.Option) host.Host {
	t.Helper()
	return newHost(t, append([]golibp2p.Option{
		golibp2p.ListenAddrStrings(listen),
		golibp2p.ConnectionManager(cm),
	}, opts...)...)
}

// newDialer makes a host that dials and does not trim.
func newDialer(t *testing.T) host.Host {
	t.Helper()
	return newHost(t, golibp2p.NoListenAddrs, golibp2p.ConnectionManager(libp2p.NullConnMgr{}))
}

func newHost(t *testing.T, opts ...golibp2p.Option) host.Host {
	t.Helper()
	// Whatever the limits of the resource manager, it admits no more than 8
	// connections from one address unless told otherwise. All of ours come from
	// one address.
	everywhere := func(prefix string) []rcmgr.NetworkPrefixLimit {
		return []rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix(prefix), ConnCount: math.MaxInt}}
	}
	limits, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits),
		rcmgr.WithNetworkPrefixLimit(everywhere("0.0.0.0/0"), everywhere("::/0")))
	if err != nil {
		t.Fatal(err)
	}
	opts = append([]golibp2p.Option{golibp2p.ResourceManager(limits), golibp2p.DisableMetrics()}, opts...)
	h, err := golibp2p.New(opts...)
	if err != nil {
		t.Fatalf("making a host: %v", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// connectDialers makes dialers and connects them to a host, several at a time.
func connectDialers(t *testing.T, to host.Host, n int) []host.Host {
	t.Helper()
	dialers, failed := dialAll(t, to, n)
	if failed > 0 {
		t.Fatalf("%d of %d dialers could not connect", failed, n)
	}
	return dialers
}

func dialAll(t *testing.T, to host.Host, n int) (dialers []host.Host, failed int64) {
	t.Helper()
	dialers = make([]host.Host, n)
	var errs atomic.Int64
	for i := range dialers {
		dialers[i] = newDialer(t)
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < n; i += 8 {
				if err := connect(t, dialers[i], to); err != nil {
					t.Logf("dialer %d: %v", i, err)
					errs.Add(1)
				}
			}
		})
	}
	all.Wait()
	return dialers, errs.Load()
}

func connect(t *testing.T, from, to host.Host) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()})
}

// connTo returns a host's connection to another one, open or not.
func connTo(t *testing.T, from, to host.Host) network.Conn {
	t.Helper()
	conns := from.Network().ConnsToPeer(to.ID())
	if len(conns) != 1 {
		t.Fatalf("the dialer has %d connections, want 1", len(conns))
	}
	return conns[0]
}

// wantCount waits until the host and its manager agree on a number of connections.
func wantCount(t *testing.T, h host.Host, cm *connmgrlibp2p.ConnManager, want int) {
	t.Helper()
	eventually(t, "the manager and the network count the same connections", func() bool {
		return len(h.Network().Conns()) == want && cm.GetInfo().ConnCount == want
	})
}

func TestARealHostIsTrimmedToLowWater(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const dialers, low, protected, valued = 40, 12, 3, 4
		cm := newManager(t, low, 100, connmgrlibp2p.WithGracePeriod(0))
		guarded := newGuarded(t, cm, listen)
		crowd := connectDialers(t, guarded, dialers)
		wantCount(t, guarded, cm, dialers)

		conns := make([]network.Conn, dialers)
		for i, d := range crowd {
			conns[i] = connTo(t, d, guarded)
			switch {
			case i < protected:
				cm.Protect(d.ID(), "friend")
				cm.TagPeer(d.ID(), "bad", -100)
			case i < protected+valued:
				cm.TagPeer(d.ID(), "good", 100)
			}
		}
		trim(t, cm)
		if got := cm.GetInfo().ConnCount; got != low {
			t.Errorf("ConnCount is %d right after the trim, want %d", got, low)
		}
		wantCount(t, guarded, cm, low)
		eventually(t, "the dialers have noticed", func() bool { return countOpen(conns) == low })

		for i, c := range conns {
			_, err := c.NewStream(t.Context())
			switch {
			case !c.IsClosed():
				if err != nil {
					t.Errorf("dialer %d, kept: NewStream: %v", i, err)
				}
			case i < protected+valued:
				t.Errorf("dialer %d was closed, want it kept: it is protected or worth more than others", i)
			case !errors.Is(err, &network.ConnError{ErrorCode: network.ConnGarbageCollected, Remote: true}):
				t.Errorf("dialer %d, closed: NewStream: %v, want the remote's ConnGarbageCollected", i, err)
			}
		}
	})
}

func countOpen(conns []network.Conn) (n int) {
	for _, c := range conns {
		if !c.IsClosed() {
			n++
		}
	}
	return n
}

func TestARealHostTrimsByItselfAboveHighWater(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const dialers, low, high = 40, 10, 25
		cm := newManager(t, low, high, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithSilencePeriod(100*time.Millisecond))
		guarded := newGuarded(t, cm, listen)
		// Who is trimmed in the middle of connecting gets an error; few are.
		if _, failed := dialAll(t, guarded, dialers); failed > dialers-high-1 {
			t.Fatalf("%d of %d dialers could not connect", failed, dialers)
		}
		eventually(t, "there was a trim, and the count is within the watermarks", func() bool {
			n, info := len(guarded.Network().Conns()), cm.GetInfo()
			return !info.LastTrim.IsZero() && n == info.ConnCount && low <= n && n <= high
		})
	})
}

// TestTheManagerAgreesWithARealNetworkAfterChurn has dialers come, go and come
// back while trims run.
func TestTheManagerAgreesWithARealNetworkAfterChurn(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		cm := newManager(t, 3, 6, connmgrlibp2p.WithGracePeriod(0), connmgrlibp2p.WithSilencePeriod(20*time.Millisecond))
		guarded := newGuarded(t, cm, listen)
		var all sync.WaitGroup
		for range 10 {
			d := newDialer(t)
			all.Go(func() {
				for i := range 6 {
					// A dialer that is trimmed in the middle of it all gets an error.
					_ = connect(t, d, guarded)
					cm.TagPeer(d.ID(), "tag", i)
					if i%2 == 0 {
						_ = d.Network().ClosePeer(guarded.ID())
					}
				}
				_ = d.Close()
			})
		}
		within(t, "churn", all.Wait)
		wantCount(t, guarded, cm, 0)
		s := cm.Core().Stats()
		if s.Peers != 0 || s.Closing != 0 {
			t.Errorf("%d peers and %d closing connections are left, want none", s.Peers, s.Closing)
		}
		if s.DuplicateConnects != 0 || s.UnknownDisconnects != 0 || s.CloseErrors != 0 || s.Panics != 0 {
			t.Errorf("duplicate connects %d, unknown disconnects %d, close errors %d, panics %d; want none",
				s.DuplicateConnects, s.UnknownDisconnects, s.CloseErrors, s.Panics)
		}
	})
}

func TestARealHostFindsTheDecayerInItsManager(t *testing.T) {
	cm := newManager(t, 10, 20)
	guarded := newGuarded(t, cm, transports["TCP"])
	if decayer, ok := libp2p.SupportsDecay(guarded.ConnManager()); !ok || decayer != libp2p.Decayer(cm) {
		t.Error("SupportsDecay of the host's manager does not find the drop-in")
	}
}
