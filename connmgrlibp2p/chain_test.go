package connmgrlibp2p_test

import (
	"slices"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// This file chains gaters: who is asked, and what happens to the place that one has
// given when another refuses.

// scripted is a gater that answers as it is told and notes that it was asked.
type scripted struct {
	name    string
	refuses bool
	reason  control.DisconnectReason
	asked   *[]string
}

func (s *scripted) answer() bool {
	if s.asked != nil {
		*s.asked = append(*s.asked, s.name)
	}
	return !s.refuses
}

func (s *scripted) InterceptPeerDial(peer.ID) bool               { return s.answer() }
func (s *scripted) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return s.answer() }
func (s *scripted) InterceptAccept(network.ConnMultiaddrs) bool  { return s.answer() }
func (s *scripted) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return s.answer()
}

func (s *scripted) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) {
	return s.answer(), s.reason
}

func TestAChainAsksInOrderUpToTheFirstThatRefuses(t *testing.T) {
	var asked []string
	first := &scripted{name: "first", asked: &asked}
	second := &scripted{name: "second", asked: &asked}
	third := &scripted{name: "third", asked: &asked}
	g := connmgrlibp2p.Chain(first, nil, second, third)
	for _, check := range gateChecks {
		for _, test := range []struct {
			secondRefuses bool
			want          []string
		}{
			{false, []string{"first", "second", "third"}},
			{true, []string{"first", "second"}},
		} {
			asked, second.refuses = nil, test.secondRefuses
			if got := check.ask(g, stranger, strangerHome); got == test.secondRefuses {
				t.Errorf("%s: the chain allows: %v, want %v", check.name, got, !test.secondRefuses)
			}
			if !slices.Equal(asked, test.want) {
				t.Errorf("%s, the second refuses: %v: %q were asked, want %q", check.name, test.secondRefuses, asked, test.want)
			}
		}
	}
}

func TestAChainPassesOnTheReasonOfTheOneThatRefuses(t *testing.T) {
	g := connmgrlibp2p.Chain(&scripted{reason: 1}, &scripted{refuses: true, reason: 7})
	if allow, reason := g.InterceptUpgraded(&fakeConn{}); allow || reason != 7 {
		t.Errorf("InterceptUpgraded is %v with reason %d, want it refused with 7", allow, reason)
	}
}

func TestAChainLeavesOutNil(t *testing.T) {
	var none *connmgrlibp2p.Gater
	var asked []string
	last := &scripted{name: "last", asked: &asked}
	for _, g := range []libp2p.ConnectionGater{
		connmgrlibp2p.Chain(),
		connmgrlibp2p.Chain(nil),
		connmgrlibp2p.Chain(nil, none),
		connmgrlibp2p.Chain(connmgrlibp2p.Chain(none)),
		connmgrlibp2p.Chain(none, last, nil),
	} {
		for _, check := range gateChecks {
			asked = nil
			if !check.ask(g, stranger, strangerHome) {
				t.Errorf("%s: a chain of nothing that refuses refuses", check.name)
			}
		}
	}
	if len(asked) != 1 {
		t.Errorf("behind nil ones %q were asked, want the last one, once", asked)
	}
}

func TestARefusalByAnotherGaterGivesThePlaceBack(t *testing.T) {
	for name, chain := range map[string]func(own, other libp2p.ConnectionGater) libp2p.ConnectionGater{
		"side by side": func(own, other libp2p.ConnectionGater) libp2p.ConnectionGater {
			return connmgrlibp2p.Chain(own, other)
		},
		"nested": func(own, other libp2p.ConnectionGater) libp2p.ConnectionGater {
			return connmgrlibp2p.Chain(connmgrlibp2p.Chain(&scripted{}, own), connmgrlibp2p.Chain(other))
		},
	} {
		for limit, makeGater := range map[string]func(t *testing.T) *connmgrlibp2p.Gater{
			"hard limit": func(t *testing.T) *connmgrlibp2p.Gater {
				return newManager(t, 1, 1, connmgrlibp2p.WithHardLimit(1)).Gater()
			},
			"inbound limit": func(t *testing.T) *connmgrlibp2p.Gater {
				return newGate(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: 1}})
			},
			"limit per peer": func(t *testing.T) *connmgrlibp2p.Gater {
				return newGate(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxPerPeer: 1}})
			},
			"limit per prefix": func(t *testing.T) *connmgrlibp2p.Gater {
				return newGate(t, connmgr.GateConfig{Limits: perAddress(1)})
			},
			"alone, inbound limit": func(t *testing.T) *connmgrlibp2p.Gater {
				return newAlone(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxInbound: 1}})
			},
			"alone, limit per peer": func(t *testing.T) *connmgrlibp2p.Gater {
				return newAlone(t, connmgr.GateConfig{Limits: connmgr.GateLimits{MaxPerPeer: 1}})
			},
			"alone, limit per prefix": func(t *testing.T) *connmgrlibp2p.Gater {
				return newAlone(t, connmgr.GateConfig{Limits: perAddress(1)})
			},
		} {
			t.Run(name+"/"+limit, func(t *testing.T) {
				own, other := makeGater(t), &scripted{refuses: true}
				g := chain(own, other)
				for range 3 {
					c := newLiveConn(stranger, network.DirInbound)
					if allow, _ := g.InterceptUpgraded(c); allow {
						t.Fatal("the chain allows, want it refused by the other gater")
					}
					if s := own.Core().Stats(); s.Arriving != 0 || s.TrackedPrefixes != 0 {
						t.Fatalf("after the refusal Arriving is %d and TrackedPrefixes %d, want 0", s.Arriving, s.TrackedPrefixes)
					}
				}
				other.refuses = false
				if allow, _ := g.InterceptUpgraded(newLiveConn(stranger, network.DirInbound)); !allow {
					t.Errorf("the next connection is refused, want it to get the place: %v", own.Core().Stats().Checks)
				}
				if allow, _ := g.InterceptUpgraded(newLiveConn(stranger, network.DirInbound)); allow {
					t.Error("one more is allowed, want the limit to hold")
				}
			})
		}
	}
}

// perAddress limits the connections from one address.
func perAddress(n int) connmgr.GateLimits {
	return connmgr.GateLimits{PerPrefix: []connmgr.PrefixLimit{{IPv4: 32, IPv6: 128, MaxConns: n}}}
}

func TestWhatAnotherGaterRefusedIsForgotten(t *testing.T) {
	manager, alone := newGate(t, connmgr.GateConfig{}), newAlone(t, connmgr.GateConfig{})
	g := connmgrlibp2p.Chain(manager, alone, &scripted{refuses: true})
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound, network.DirUnknown} {
		c := newLiveConn(stranger, dir)
		if allow, _ := g.InterceptUpgraded(c); allow {
			t.Fatal("the chain allows, want it refused by the last gater")
		}
		if got := manager.Core().Stats().Arriving; got != 0 {
			t.Errorf("%v: the manager's gater still waits for %d connections, want none", dir, got)
		}
		if err := alone.BlockPeer(stranger); err != nil {
			t.Fatal(err)
		}
		if c.closed.Load() {
			t.Errorf("%v: a block closed the refused connection, want the gater to have forgotten it", dir)
		}
		if err := alone.UnblockPeer(stranger); err != nil {
			t.Fatal(err)
		}
	}
}

// TestARefusalLeavesConnectionsInUseAlone has another gater refuse, for whatever
// reason, what the host has in use already.
func TestARefusalLeavesConnectionsInUseAlone(t *testing.T) {
	cm := newManager(t, 10, 10)
	other := &scripted{}
	g := connmgrlibp2p.Chain(cm.Gater(), other)
	c := newLiveConn(stranger, network.DirInbound)
	if allow, _ := g.InterceptUpgraded(c); !allow {
		t.Fatal("refused, want it allowed")
	}
	cm.Notifee().Connected(nil, c)
	other.refuses = true
	if allow, _ := g.InterceptUpgraded(c); allow {
		t.Fatal("allowed, want it refused")
	}
	if got := cm.GetInfo().ConnCount; got != 1 {
		t.Errorf("ConnCount is %d, want 1: the host has not said that the connection is gone", got)
	}
}
