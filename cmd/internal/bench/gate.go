package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
	ma "github.com/multiformats/go-multiaddr"
)

// This file measures gates: checks of addresses, with lists of denied prefixes from
// none to a million.

// gateContender is a gate to measure.
type gateContender struct {
	name string
	// make returns a gate that denies prefixes, and what ends it.
	make func(denied []netip.Prefix) (libp2p.ConnectionGater, func() error, error)
}

var (
	theirGate = gateContender{name: "BasicConnectionGater", make: func(denied []netip.Prefix) (libp2p.ConnectionGater, func() error, error) {
		g, err := conngater.NewBasicConnectionGater(nil)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range denied {
			subnet := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
			if err := g.BlockSubnet(subnet); err != nil {
				return nil, nil, err
			}
		}
		return g, func() error { return nil }, nil
	}}
	ourGate = gateContender{name: "connmgr", make: func(denied []netip.Prefix) (libp2p.ConnectionGater, func() error, error) {
		rules := make([]connmgr.Rule, len(denied))
		for i, p := range denied {
			rules[i] = connmgr.Rule{Effect: connmgr.Deny, Target: connmgr.PrefixTarget(p)}
		}
		g, err := connmgrlibp2p.NewGater(connmgr.GateConfig{Rules: rules})
		if err != nil {
			return nil, nil, err
		}
		return g, g.Close, nil
	}}
)

// gateCheck is a kind of check.
type gateCheck struct {
	key, name string
	inside    bool // the addresses are denied
	crowded   bool // worth asking from several goroutines
	check     func(g libp2p.ConnectionGater, from *caller) (allow bool)
}

func accept(g libp2p.ConnectionGater, from *caller) bool { return g.InterceptAccept(from) }
func dial(g libp2p.ConnectionGater, to *caller) bool     { return g.InterceptAddrDial(to.id, to.addr) }

var gateChecks = []gateCheck{
	{key: "accept/outside", name: "somebody dials us, and may", check: accept, crowded: true},
	{key: "accept/inside", name: "somebody dials us, and may not", check: accept, inside: true},
	{key: "dial/outside", name: "we dial, and may", check: dial},
	{key: "dial/inside", name: "we dial, and may not", check: dial, inside: true},
}

// caller is the other side of a connection that does not exist yet.
type caller struct {
	id   peer.ID
	addr ma.Multiaddr
}

var _ network.ConnMultiaddrs = (*caller)(nil)

func (c *caller) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *caller) LocalMultiaddr() ma.Multiaddr  { return someAddr }

// gateCase is a list of denied prefixes, and checks against it.
type gateCase struct {
	prefixes   int
	kinds      []gateCheck
	goroutines []int
	rounds     int
	// budget is about how long a round may take: with a long list, go-libp2p's gate
	// takes a tenth of a second for one check.
	budget time.Duration
	// oursOnly leaves go-libp2p's gate out.
	oursOnly bool
}

func (c gateCase) key(kind gateCheck, goroutines int) string {
	return fmt.Sprintf("%s/%d/%d", kind.key, c.prefixes, goroutines)
}

// differentCallers is so many that what a gate looks up for one is not at hand from the
// last time.
const differentCallers = 1 << 14

// measure asks both gates.
func (c gateCase) measure(ctx context.Context) ([]row, error) {
	denied := newDenied(c.prefixes)
	gates := make([]libp2p.ConnectionGater, 0, 2)
	for _, who := range []gateContender{theirGate, ourGate} {
		if c.oursOnly && who.name == theirGate.name {
			gates = append(gates, nil)
			continue
		}
		g, end, err := who.make(denied.list)
		if err != nil {
			return nil, err
		}
		defer func() { _ = end() }() // nothing is left to be saved
		gates = append(gates, g)
	}
	var rows []row
	for _, kind := range c.kinds {
		if kind.inside && c.prefixes == 0 {
			continue
		}
		more, err := c.measureKind(ctx, kind, denied.callers(differentCallers, kind.inside), gates)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (c gateCase) measureKind(ctx context.Context, kind gateCheck, callers []*caller, gates []libp2p.ConnectionGater) ([]row, error) {
	var (
		do     = make([]func(from, to int), len(gates))
		calls  = make([]int, len(gates))
		allocs = make([]figure, len(gates))
		wrong  atomic.Int64
	)
	for i, g := range gates {
		if g == nil {
			allocs[i] = notRun
			continue
		}
		do[i] = func(from, to int) {
			allowed := 0
			for n := from; n < to; n++ {
				if kind.check(g, callers[n%len(callers)]) {
					allowed++
				}
			}
			if kind.inside {
				wrong.Add(int64(allowed))
			} else {
				wrong.Add(int64(to - from - allowed))
			}
		}
		calls[i] = fitting(c.budget, do[i])
		allocs[i] = allocations(min(calls[i], 1000), do[i])
	}
	var rows []row
	for _, goroutines := range c.goroutines {
		if goroutines > 1 && !kind.crowded {
			continue
		}
		var sides []func() (figure, error)
		for i := range gates {
			sides = append(sides, func() (figure, error) {
				if gates[i] == nil {
					return notRun, nil
				}
				return perCall(goroutines, max(calls[i], goroutines), do[i]), nil
			})
		}
		all, err := inTurns(ctx, c.rounds, sides...)
		if err != nil {
			return nil, err
		}
		r := newRow(c.key(kind, goroutines), fmt.Sprintf("%s prefixes, %s", thousands(c.prefixes), kind.name))
		r.goroutines = goroutines
		r.compare(all[0], all[1])
		r.theirAllocs, r.ourAllocs = allocs[0], allocs[1]
		rows = append(rows, r)
	}
	if n := wrong.Load(); n > 0 {
		return nil, fmt.Errorf("%s: %d checks went wrong", kind.name, n)
	}
	return rows, nil
}

// fitting returns how many calls fit into a time, at least one.
func fitting(budget time.Duration, do func(from, to int)) int {
	for calls := 1; ; calls *= 2 {
		start := time.Now()
		do(0, calls)
		took := time.Since(start)
		if took > budget/8 || calls > 1<<24 {
			return max(1, int(float64(calls)*float64(budget)/float64(max(took, 1))))
		}
	}
}

// denied is a list of different IPv4 prefixes, of random lengths.
type denied struct {
	list   []netip.Prefix
	set    map[netip.Prefix]struct{}
	random *rand.Rand
}

const shortestDenied, longestDenied = 20, 30

func newDenied(n int) *denied {
	d := &denied{set: make(map[netip.Prefix]struct{}, n), random: rand.New(rand.NewPCG(uint64(n), 4))}
	for len(d.list) < n {
		bits := shortestDenied + d.random.IntN(longestDenied-shortestDenied+1)
		p := netip.PrefixFrom(d.addr(), bits).Masked()
		if _, twice := d.set[p]; !twice {
			d.set[p] = struct{}{}
			d.list = append(d.list, p)
		}
	}
	return d
}

// addr returns a random public-looking address.
func (d *denied) addr() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], d.random.Uint32())
	b[0] = 11 + b[0]%100
	return netip.AddrFrom4(b)
}

// covers asks for every length that there is.
func (d *denied) covers(addr netip.Addr) bool {
	for bits := shortestDenied; bits <= longestDenied; bits++ {
		p, err := addr.Prefix(bits)
		if err != nil {
			return false
		}
		if _, ok := d.set[p]; ok {
			return true
		}
	}
	return false
}

// callers returns callers from random addresses, in denied prefixes or outside all.
func (d *denied) callers(n int, inside bool) []*caller {
	callers := make([]*caller, n)
	for i := range callers {
		addr := d.addr()
		if inside {
			addr = d.within(d.list[d.random.IntN(len(d.list))])
		} else {
			for d.covers(addr) {
				addr = d.addr()
			}
		}
		callers[i] = &caller{id: peerID(i), addr: ma.StringCast(fmt.Sprintf("/ip4/%s/tcp/4001", addr))}
	}
	return callers
}

// within returns a random address of a prefix.
func (d *denied) within(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	host := d.random.Uint32() >> p.Bits()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|host)
	return netip.AddrFrom4(b)
}
