package connmgrlibp2p_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	golibp2p "github.com/libp2p/go-libp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peerstore"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	swarmt "github.com/libp2p/go-libp2p/p2p/net/swarm/testing"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
)

// This file is about beginnings and ends on real hosts: who closes whom, what is
// left behind, and whether a relay's tag lives as long as it should.

const fewDialers = 5

// TestAHostOfNewClosesTheNetworkFirst shows the order in a host that libp2p.New
// made: the manager still hears of the end of every connection.
func TestAHostOfNewClosesTheNetworkFirst(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		cm := newManager(t, 10, 20)
		guarded := newGuarded(t, cm, listen)
		connectDialers(t, guarded, fewDialers)
		wantCount(t, guarded, cm, fewDialers)
		closeHost(t, guarded)
		if got := cm.GetInfo().ConnCount; got != 0 {
			t.Errorf("ConnCount is %d after the host was closed, want 0", got)
		}
		wantClosedForGood(t, cm)
	})
}

// TestABasicHostClosesTheManagerFirst shows the order in a host that was put
// together by hand: the ends of the connections come too late.
func TestABasicHostClosesTheManagerFirst(t *testing.T) {
	for name, disable := range map[string]swarmt.Option{"TCP": swarmt.OptDisableQUIC, "QUIC": swarmt.OptDisableTCP} {
		t.Run(name, func(t *testing.T) {
			newSwarm := func(opts ...swarmt.Option) *swarm.Swarm {
				return swarmt.GenSwarm(t, append(opts, disable, swarmt.OptDisableWebRTC, swarmt.OptDisableWebTransport)...)
			}
			cm := newManager(t, 10, 20)
			guarded, err := basichost.NewHost(newSwarm(), &basichost.HostOpts{ConnManager: cm})
			if err != nil {
				t.Fatal(err)
			}
			guarded.Start()
			for range fewDialers {
				dialer := newSwarm(swarmt.OptDialOnly)
				t.Cleanup(func() { _ = dialer.Close() })
				dialer.Peerstore().AddAddrs(guarded.ID(), guarded.Network().ListenAddresses(), peerstore.TempAddrTTL)
				if _, err := dialer.DialPeer(t.Context(), guarded.ID()); err != nil {
					t.Fatal(err)
				}
			}
			wantCount(t, guarded, cm, fewDialers)
			closeHost(t, guarded)
			if got := cm.Core().Stats().LateNotifications; got != fewDialers {
				t.Errorf("%d notifications came after Close of the manager, want %d", got, fewDialers)
			}
			wantClosedForGood(t, cm)
		})
	}
}

func TestAManagerMayBeClosedBeforeItsHost(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		cm := newManager(t, 1, 2, connmgrlibp2p.WithGracePeriod(0))
		guarded := newGuarded(t, cm, listen)
		wantClosedForGood(t, cm)
		crowd := connectDialers(t, guarded, fewDialers)
		eventually(t, "the host goes on without its manager", func() bool {
			return len(guarded.Network().Conns()) == fewDialers
		})
		cm.TrimOpenConns(t.Context())
		for i, d := range crowd {
			if connTo(t, d, guarded).IsClosed() {
				t.Errorf("dialer %d was closed by a manager that is closed", i)
			}
		}
		closeHost(t, guarded)
	})
}

// closeHost closes a host, which must not hang.
func closeHost(t *testing.T, h host.Host) {
	t.Helper()
	within(t, "Close of the host", func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close of the host: %v", err)
		}
	})
}

// wantClosedForGood closes a manager, perhaps once more, and waits until none of
// its goroutines is left.
func wantClosedForGood(t *testing.T, cm *connmgrlibp2p.ConnManager) {
	t.Helper()
	if err := cm.Close(); err != nil {
		t.Errorf("Close of the manager: %v", err)
	}
	eventually(t, "the goroutines of a closed manager are gone", func() bool { return managerGoroutines() == "" })
}

// managerGoroutines returns the stacks of goroutines in which the core runs.
func managerGoroutines() string {
	buf := make([]byte, 1<<22)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "github.com/dep2p/connmgr.(") {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

// TestGoroutinesOfAManagerAreFound shows that the search finds what it is for.
func TestGoroutinesOfAManagerAreFound(t *testing.T) {
	cm := newManager(t, 1, 2)
	mustRegister(t, cm, "tag", time.Hour, libp2p.DecayNone(), libp2p.BumpOverwrite())
	eventually(t, "the goroutines of a running manager are found", func() bool { return managerGoroutines() != "" })
	wantClosedForGood(t, cm)
}

// TestARelaysReservationTagDiesWithTheLastConnection runs go-libp2p's relay. It
// tags who holds a reservation, and when the holder goes it leaves it to the
// manager to forget the tag.
func TestARelaysReservationTagDiesWithTheLastConnection(t *testing.T) {
	onEachTransport(t, func(t *testing.T, listen string) {
		const tag, value = "relay-reservation", 10
		cm := newManager(t, 10, 20)
		relay := newGuarded(t, cm, listen, golibp2p.EnableRelayService(), golibp2p.ForceReachabilityPublic())
		holder := newDialer(t)
		if err := connect(t, holder, relay); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the relay grants a reservation", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := client.Reserve(ctx, holder, *host.InfoFromHost(relay))
			return err == nil // the service may not have started yet
		})
		tagged := func() bool {
			info := cm.GetTagInfo(holder.ID())
			return info != nil && info.Tags[tag] == value
		}
		if !tagged() {
			t.Fatalf("GetTagInfo is %+v with a reservation, want %s=%d", cm.GetTagInfo(holder.ID()), tag, value)
		}

		// A second connection of the same peer, past its own host, which would not
		// open one.
		addr := connTo(t, holder, relay).RemoteMultiaddr()
		dialing := holder.Network().(*swarm.Swarm).TransportForDialing(addr)
		second, err := dialing.Dial(t.Context(), addr, relay.ID())
		if err != nil {
			t.Fatal(err)
		}
		connsAre := func(n int) func() bool {
			return func() bool { return cm.GetInfo().ConnCount == n }
		}
		eventually(t, "the manager counts two connections", connsAre(2))
		if err := holder.Network().ClosePeer(relay.ID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the manager counts one", connsAre(1))
		if !tagged() {
			t.Errorf("GetTagInfo is %+v with one of two connections left, want %s=%d", cm.GetTagInfo(holder.ID()), tag, value)
		}
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the manager counts none", connsAre(0))
		if info := cm.GetTagInfo(holder.ID()); info != nil {
			t.Errorf("GetTagInfo is %+v after the last connection, want nil", info)
		}
	})
}
