package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/command"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is a new operator's first hour, with real parts only: a process of "connmgr
// run" on loopback, 200 go-libp2p nodes that dial it over TCP and QUIC, and the commands
// that ask it. He finds out why one was closed, protects another, blocks a range, and
// finds the rule again after a restart.

const (
	crowdSize = 200
	townLow   = 60
	townHigh  = 150
)

// banned is the range that the operator blocks; a quarter of the crowd dials from there.
var banned = netip.MustParsePrefix("127.0.2.0/24")

func TestAnOperatorsFirstHour(t *testing.T) {
	dir := t.TempDir()
	configure(t, dir, fmt.Sprintf("watermarks = {low = %d, high = %d, hard-limit = 220, grace = \"1s\", silence = \"1s\"}\n", townLow, townHigh))
	node := newOperated(t, dir)
	crowd := newCrowd(t)

	crowd.dial(node, crowd.all())
	closed := whyWasOneClosed(t, node, crowd)
	anotherIsProtected(t, node, crowd)
	inside, outside := aRangeIsBlocked(t, node, crowd)

	node.signalled(syscall.SIGTERM)
	if status := node.ends(); status != 0 {
		t.Fatalf("exit status %d after SIGTERM, want 0:\n%s", status, node.log.String())
	}
	id := node.id
	node = newOperated(t, dir)
	if node.id != id {
		t.Errorf("after the restart the node is %v, want %v as before", node.id, id)
	}
	theRuleIsThere(t, node)
	theRangeStaysOut(t, node, crowd, inside)
	crowd.dial(node, outside[:3])
	node.until("those outside the range are let in by the node that was restarted", func() bool {
		return outside[:3].connected(node.id) == 3
	})

	// What has happened is remembered until the node ends, and no longer.
	node.ask("explain", closed.ID().String()).fails(command.NotFound, closed.ID().String())
}

// whyWasOneClosed waits until the node is within its watermarks, and asks it about one of
// those who had to go.
func whyWasOneClosed(t *testing.T, node *operated, crowd crowd) member {
	t.Helper()
	node.until("the node trims itself to low water", func() bool {
		s := decode[api.Status](node.ask("status", "--json"))
		return s.Connections.Open <= townHigh && s.ClosedPeers[connmgr.ClosedLowScore] > 0 && s.Connections.Closing == 0
	})
	events := decode[api.EventList](node.ask("events", "--types", "closed", "--limit", "1000", "--json")).Events
	if len(events) < crowdSize-townHigh {
		t.Fatalf("%d peers were closed, want %d at least: %d came, and high water is %d", len(events), crowdSize-townHigh, crowdSize, townHigh)
	}
	was := events[0]
	m := crowd.find(t, was.Peer)
	node.until("the peer that the node says it closed sees that too", func() bool { return !m.connectedTo(node.id) })

	said := node.ask("explain", was.Peer).ok("It is not connected.", was.Text, "HISTORY", "connected, inbound").stdout
	if want := regexp.MustCompile(`(?m)^\S+ ago \(\S+\): closed as number \d+ of a trim \(.+\): low score, 0; 1 connection\.$`); !want.MatchString(said) {
		t.Errorf("explain of a peer that was closed says\n%s\nwant a line like %v", said, want)
	}
	doc := decode[api.PeerDetail](node.ask("explain", was.Peer, "--json"))
	if i := slices.IndexFunc(doc.History, func(e api.Event) bool { return e.Closed != nil }); i < 0 {
		t.Errorf("the history of a peer that was closed does not say so: %+v", doc.History)
	} else if c := doc.History[i].Closed; c.Reason != connmgr.ClosedLowScore || c.Rank < 1 || doc.History[i].ID != was.ID {
		t.Errorf("the history says that the peer was closed for %+v, want low score and a rank, as the event said", c)
	}

	// The page is answered in the same words.
	var page api.PeerDetail
	node.get("v1/peers/"+was.Peer, &page)
	for _, sentence := range page.Why {
		// How long ago it was is later for whoever asked later.
		if _, rest, dated := strings.Cut(sentence, " ago "); dated {
			sentence = rest
		}
		if !strings.Contains(said, sentence) {
			t.Errorf("the page is told %q, and the terminal\n%s", sentence, said)
		}
	}
	if len(page.Why) == 0 {
		t.Error("the page is not told why the peer was closed")
	}
	return m
}

// anotherIsProtected protects who would go next, and trims.
func anotherIsProtected(t *testing.T, node *operated, crowd crowd) {
	t.Helper()
	node.until("all who stay are past their grace", func() bool {
		return decode[api.Plan](node.ask("plan", "--json")).InGrace == 0
	})
	open := decode[api.Status](node.ask("status", "--json")).Connections.Open
	low := open - 10
	node.ask("limits", "set", fmt.Sprintf("low=%d", low)).ok()
	plan := decode[api.Plan](node.ask("plan", "--json"))
	if plan.Closes != 10 || len(plan.Peers) != 10 {
		t.Fatalf("a trim would close %d peers, want 10: %d connections are open, and low water is %d", plan.Closes, open, low)
	}
	i := slices.IndexFunc(plan.Peers, func(p api.Peer) bool { return !crowd.find(t, p.Peer).in(banned) })
	if i < 0 {
		t.Fatalf("all of the ten who go next dial from %v", banned)
	}
	spared := crowd.find(t, plan.Peers[i].Peer)
	name := spared.ID().String()

	node.ask("protect", name[len(name)-8:]).ok(name + " is protected")
	trim := decode[api.Trim](node.ask("trim", "--json"))
	if trim.Closed != 10 || trim.Trigger != connmgr.TriggerManual {
		t.Errorf("the %v trim closed %d peers, want a manual one that closes 10", trim.Trigger, trim.Closed)
	}
	gone := members{}
	for _, p := range trim.Peers {
		gone = append(gone, crowd.find(t, p.Peer))
	}
	if slices.ContainsFunc(gone, func(m member) bool { return m.ID() == spared.ID() }) {
		t.Errorf("the trim says that it closed %s, which is protected", name)
	}
	node.until("those whom the trim closed are disconnected", func() bool { return gone.connected(node.id) == 0 })
	if !spared.connectedTo(node.id) {
		t.Errorf("%s was protected, and is not connected after the trim", name)
	}
	node.ask("explain", name).ok("It stays: it is protected (operator).", "PROTECTED")
}

// aRangeIsBlocked blocks a range, and returns who is in it and who is not, of those that
// were connected before.
func aRangeIsBlocked(t *testing.T, node *operated, crowd crowd) (inside, outside members) {
	t.Helper()
	for _, m := range crowd.all() {
		switch {
		case !m.connectedTo(node.id):
		case m.in(banned):
			inside = append(inside, m)
		default:
			outside = append(outside, m)
		}
	}
	if len(outside) < 3 {
		t.Fatalf("%d peers outside of %v are connected, want some", len(outside), banned)
	}
	// Whom the trims left there is up to them, and the rule shall meet both transports.
	for _, kind := range []string{"tcp", "quic"} {
		i := slices.IndexFunc(crowd.all(), func(m member) bool {
			return m.in(banned) && m.kind == kind && !m.connectedTo(node.id)
		})
		m := crowd.all()[i]
		crowd.dial(node, members{m})
		inside = append(inside, m)
	}
	node.until("the node knows the peers in the range by their addresses", func() bool {
		return decode[api.PeerList](node.ask("peers", "--address", banned.String(), "--json")).Matched == len(inside)
	})

	node.ask("block", banned.String(), "--for", "24h", "--reason", "port scans").
		ok("in force: deny "+banned.String()+" until ", "(port scans)", fmt.Sprintf("closed %d peers", len(inside)))
	node.until("those in the range are disconnected", func() bool { return inside.connected(node.id) == 0 })
	if n := outside.connected(node.id); n != len(outside) {
		t.Errorf("%d of %d peers outside of %v are connected after the block, want all", n, len(outside), banned)
	}
	node.ask("explain", inside[0].ID().String()).ok("It is not connected.", "closed for a rule: ")
	theRangeStaysOut(t, node, crowd, inside)
	if n := outside.connected(node.id); n != len(outside) {
		t.Errorf("%d of %d peers outside of %v are connected after others were refused, want all", n, len(outside), banned)
	}
	return inside, outside
}

// theRangeStaysOut lets peers of the range dial, and wants each refused by the rule.
func theRangeStaysOut(t *testing.T, node *operated, crowd crowd, inside members) {
	t.Helper()
	before := decode[api.Status](node.ask("status", "--json")).Gate.Checks[connmgr.AtAccept][connmgr.DeniedAddr]
	crowd.dial(node, inside) // a refusal may come after the dialler's handshake: its word is not asked for
	node.until("peers in the range are refused", func() bool {
		checks := decode[api.Status](node.ask("status", "--json")).Gate.Checks[connmgr.AtAccept]
		return checks[connmgr.DeniedAddr]-before >= uint64(len(inside)) && inside.connected(node.id) == 0
	})
	list := decode[api.PeerList](node.ask("peers", "--address", banned.String(), "--json"))
	if list.Matched != 0 {
		t.Errorf("%d peers from %v are connected, want none: %+v", list.Matched, banned, list.Peers)
	}
	node.ask("events", "--types", "denied", "--limit", "1").ok("refused at accept: 127.0.2.", "denied by "+banned.String(), "(port scans)")
}

// theRuleIsThere lists the rules.
func theRuleIsThere(t *testing.T, node *operated) {
	t.Helper()
	node.ask("rules", "list").ok(banned.String(), "port scans")
	rules := decode[api.RuleList](node.ask("rules", "list", "--json"))
	if rules.Total != 1 || len(rules.Rules) != 1 {
		t.Fatalf("after the restart there are %d rules, want 1: %+v", rules.Total, rules.Rules)
	}
	r := rules.Rules[0]
	if r.Target != banned.String() || r.Effect != connmgr.Deny || r.Reason != "port scans" {
		t.Errorf("after the restart the rule is %+v, want deny %v for port scans", r, banned)
	}
	if left := time.Until(*cmp.Or(r.Expires, new(time.Time))); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("after the restart the rule ends in %v, want a little less than 24h", left)
	}
}

// operated is a running node, and where it can be reached.
type operated struct {
	*process
	t     *testing.T
	api   string
	id    peer.ID
	addrs map[string]multiaddr.Multiaddr // by transport
}

func newOperated(t *testing.T, dir string) *operated {
	t.Helper()
	node := &operated{process: startRun(t, dir), t: t, addrs: map[string]multiaddr.Multiaddr{}}
	node.api = strings.TrimSuffix(strings.TrimPrefix(node.page(), "http://"), "/")
	for _, found := range regexp.MustCompile(`msg=listening address=(\S+)`).FindAllStringSubmatch(node.log.String(), -1) {
		info, err := peer.AddrInfoFromString(found[1])
		if err != nil {
			t.Fatal(err)
		}
		kind := "tcp"
		if strings.Contains(found[1], "/quic-v1") {
			kind = "quic"
		}
		node.id, node.addrs[kind] = info.ID, info.Addrs[0]
	}
	if len(node.addrs) != 2 {
		t.Fatalf("the node listens at %v, want TCP and QUIC", node.addrs)
	}
	return node
}

func (n *operated) ask(args ...string) result {
	n.t.Helper()
	return runCommand(n.t, append(args, "--api", n.api)...)
}

func (n *operated) get(path string, doc any) {
	n.t.Helper()
	resp, err := http.Get(n.page() + path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(doc); err != nil || resp.StatusCode != http.StatusOK {
		n.t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
	}
}

// until waits for something to become true.
func (n *operated) until(what string, is func() bool) {
	n.t.Helper()
	deadline := time.NewTimer(runPatience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			n.t.Fatalf("after %v it is not so that %s:\n%s", runPatience, what, n.log.String())
		}
	}
}

// member is a node of the crowd. It only dials, over one transport and from one address.
type member struct {
	host.Host
	from netip.Addr
	kind string
}

func (m member) in(p netip.Prefix) bool { return p.Contains(m.from) }

func (m member) connectedTo(id peer.ID) bool {
	return m.Network().Connectedness(id) == network.Connected
}

type members []member

func (ms members) connected(id peer.ID) (n int) {
	for _, m := range ms {
		if m.connectedTo(id) {
			n++
		}
	}
	return n
}

type crowd map[peer.ID]member

// newCrowd makes the nodes: half of them dial over QUIC, and a quarter from each of four
// ranges.
func newCrowd(t *testing.T) crowd {
	t.Helper()
	c := crowd{}
	for i := range crowdSize {
		m := member{from: netip.AddrFrom4([4]byte{127, 0, byte(1 + i%4), byte(1 + i/4)}), kind: "tcp"}
		transport := libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(multiaddr.Multiaddr) (tcp.ContextDialer, error) {
			return &net.Dialer{LocalAddr: &net.TCPAddr{IP: m.from.AsSlice()}}, nil
		}))
		if i/4%2 == 1 {
			m.kind, transport = "quic", libp2p.Transport(libp2pquic.NewTransport)
		}
		h, err := libp2p.New(libp2p.NoListenAddrs, transport,
			libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.OverrideListenUDP(func(network string, _ *net.UDPAddr) (net.PacketConn, error) {
				return net.ListenUDP(network, &net.UDPAddr{IP: m.from.AsSlice()})
			})),
			libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableMetrics(), libp2p.Ping(false))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		m.Host = h
		c[h.ID()] = m
	}
	return c
}

// all returns the crowd in the order of addresses.
func (c crowd) all() (ms members) {
	for _, m := range c {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b member) int { return a.from.Compare(b.from) })
	return ms
}

func (c crowd) find(t *testing.T, name string) member {
	t.Helper()
	id, err := peer.Decode(name)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := c[id]
	if !ok {
		t.Fatalf("the node speaks of %s, whom nobody knows", name)
	}
	return m
}

// dial lets peers dial the node, some at a time, and waits for all of them. Whether a
// dialler believes that it is connected is for the caller to look at.
func (c crowd) dial(node *operated, ms members) {
	var all sync.WaitGroup
	turns := make(chan struct{}, 4*runtime.NumCPU())
	for _, m := range ms {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(node.t.Context(), runPatience)
			defer cancel()
			m.Peerstore().ClearAddrs(node.id) // a node that was restarted has other ports
			_ = m.Connect(ctx, peer.AddrInfo{ID: node.id, Addrs: []multiaddr.Multiaddr{node.addrs[m.kind]}})
		})
	}
	all.Wait()
}
