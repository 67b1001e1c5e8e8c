package connmgrlibp2p_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basic "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	ma "github.com/multiformats/go-multiaddr"
)

// This file holds what the tests share: managers to compare, fake connections,
// and ways to wait. Tests that depend on time run inside testing/synctest, where
// an hour costs nothing.

// manager is what go-libp2p's manager and ours have in common.
type manager interface {
	libp2p.ConnManager
	libp2p.Decayer
	ForceTrim()
}

var (
	_ manager = (*basic.BasicConnMgr)(nil)
	_ manager = (*connmgrlibp2p.ConnManager)(nil)
)

// newManager makes a manager of ours that ends with the test and does not log.
func newManager(t *testing.T, low, high int, opts ...connmgrlibp2p.Option) *connmgrlibp2p.ConnManager {
	t.Helper()
	quiet := connmgrlibp2p.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	cm, err := connmgrlibp2p.NewConnManager(low, high, append([]connmgrlibp2p.Option{quiet}, opts...)...)
	if err != nil {
		t.Fatalf("NewConnManager(%d, %d): %v", low, high, err)
	}
	t.Cleanup(func() {
		if err := cm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return cm
}

// wantRefused fails the test if a manager can be made like that, and returns the
// error.
func wantRefused(t *testing.T, what string, low, high int, opts ...connmgrlibp2p.Option) error {
	t.Helper()
	cm, err := connmgrlibp2p.NewConnManager(low, high, opts...)
	if err == nil {
		t.Errorf("%s: no error, want one; the limits became %+v", what, cm.Core().Limits())
		_ = cm.Close()
		return nil
	}
	if !strings.HasPrefix(err.Error(), "connmgr: ") {
		t.Errorf("%s: the error is %q, want it to begin with %q", what, err, "connmgr: ")
	}
	return err
}

// newBasic makes go-libp2p's own manager, for a subtest that shows what ours does
// otherwise. It ends with the test.
func newBasic(t *testing.T, low, high int, opts ...basic.Option) *basic.BasicConnMgr {
	t.Helper()
	cm, err := basic.NewConnManager(low, high, opts...)
	if err != nil {
		t.Fatalf("go-libp2p's NewConnManager(%d, %d): %v", low, high, err)
	}
	t.Cleanup(func() { _ = cm.Close() })
	return cm
}

// twin names the subtest in which go-libp2p's own manager is tried. If it fails,
// go-libp2p has changed, and docs/migration.md must change with it.
const twin = "BasicConnMgr is different"

// fakeConn is a connection without a network. What is not overridden here must
// not be called.
type fakeConn struct {
	network.Conn
	peer      peer.ID
	addr      string
	direction network.Direction
	streams   int
	// gone is told of the closing, as a network would; nil means that the news
	// never comes.
	gone network.Notifiee
	// onClose and onStat run at the start of these methods; nil means nothing.
	onClose, onStat func()

	closed    atomic.Bool
	code      atomic.Uint32 // given to CloseWithError
	statCalls atomic.Int64
}

func (c *fakeConn) RemotePeer() peer.ID { return c.peer }

func (c *fakeConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast(c.addr) }

func (c *fakeConn) Stat() network.ConnStats {
	c.statCalls.Add(1)
	if c.onStat != nil {
		c.onStat()
	}
	return network.ConnStats{Stats: network.Stats{Direction: c.direction}, NumStreams: c.streams}
}

func (c *fakeConn) CloseWithError(code network.ConnErrorCode) error {
	if c.onClose != nil {
		c.onClose()
	}
	c.code.Store(uint32(code))
	if !c.closed.Swap(true) && c.gone != nil {
		c.gone.Disconnected(nil, c)
	}
	return nil
}

// dial connects a peer to a manager. The functions change the connection before
// the manager hears of it.
func dial(cm libp2p.ConnManager, p peer.ID, change ...func(*fakeConn)) *fakeConn {
	c := &fakeConn{peer: p, addr: "/ip4/192.0.2.1/tcp/4001", direction: network.DirInbound, gone: cm.Notifee()}
	for _, f := range change {
		f(c)
	}
	cm.Notifee().Connected(nil, c)
	return c
}

// dialMany connects n peers whose names begin with a word.
func dialMany(cm libp2p.ConnManager, word string, n int, change ...func(*fakeConn)) []*fakeConn {
	conns := make([]*fakeConn, n)
	for i := range conns {
		conns[i] = dial(cm, peerNumber(word, i), change...)
	}
	return conns
}

func peerNumber(word string, i int) peer.ID { return peer.ID(fmt.Sprintf("%s-%05d", word, i)) }

// outbound makes a connection one that we opened.
func outbound(c *fakeConn) { c.direction = network.DirOutbound }

// silent makes a connection whose end is never notified.
func silent(c *fakeConn) { c.gone = nil }

// countClosed returns how many of the connections are closed.
func countClosed(conns []*fakeConn) (n int) {
	for _, c := range conns {
		if c.closed.Load() {
			n++
		}
	}
	return n
}

// wantClosed fails the test unless so many of the connections are closed.
func wantClosed(t *testing.T, what string, conns []*fakeConn, want int) {
	t.Helper()
	if got := countClosed(conns); got != want {
		t.Errorf("%s: %d of %d connections are closed, want %d", what, got, len(conns), want)
	}
}

// trim asks for a trim and waits for it.
func trim(t *testing.T, cm libp2p.ConnManager) {
	t.Helper()
	cm.TrimOpenConns(t.Context())
}

// passTime lets time pass in a synctest bubble, and lets everything happen that
// is due by then.
func passTime(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// patience is how long a test outside a bubble waits for what must happen.
const patience = 20 * time.Second

// within fails the test if f does not return in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: did not return within %v", what, patience)
	}
}

// eventually polls until a condition holds, and fails the test if it does not in
// time. It is for what a real network does; a bubble needs none of it.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// mustRegister makes a decaying tag.
func mustRegister(t *testing.T, d libp2p.Decayer, name string, interval time.Duration, decay libp2p.DecayFn, bump libp2p.BumpFn) libp2p.DecayingTag {
	t.Helper()
	tag, err := d.RegisterDecayingTag(name, interval, decay, bump)
	if err != nil {
		t.Fatalf("RegisterDecayingTag(%q): %v", name, err)
	}
	return tag
}

// mustBump bumps a decaying tag.
func mustBump(t *testing.T, tag libp2p.DecayingTag, p peer.ID, delta int) {
	t.Helper()
	if err := tag.Bump(p, delta); err != nil {
		t.Fatalf("Bump of %q for %q: %v", tag.Name(), string(p), err)
	}
}

// valueOf returns the sum of a peer's tags, 0 for an unknown peer.
func valueOf(cm libp2p.ConnManager, p peer.ID) int {
	if info := cm.GetTagInfo(p); info != nil {
		return info.Value
	}
	return 0
}
