package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
)

// This file plays with real nodes and cheats behind the manager's back, to see
// that the crowd notices.

// small is a crowd in which every role is played. Nobody is trimmed on its own.
func small() Options {
	return Options{Peers: 12, Low: 3, High: 12, Transport: "both", Seed: 1}
}

// cheated plays until everybody is connected, cheats, and returns the promises
// that the crowd then says are broken.
func cheated(t *testing.T, opts Options, cheat func(*performance)) []Promise {
	t.Helper()
	d, err := setUp(t.Context(), opts, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch()
	}()
	defer func() {
		d.tearDown()
		<-watched
	}()
	if err := d.bring(t.Context(), d.crowd); err != nil {
		t.Fatal(err)
	}
	cheat(d)
	report, err := d.judge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return broken(report.Promises)
}

// first returns the first node of a role.
func (d *performance) first(role string) *node {
	return d.crowd[slices.IndexFunc(d.crowd, func(n *node) bool { return n.role.name == role })]
}

// awaitGone waits until the manager knows that a node's connection is gone.
func awaitGone(t *testing.T, d *performance, n *node) {
	t.Helper()
	gone := func() bool {
		info, _ := d.cm.Core().PeerInfo(connmgr.NodeID(n.id()))
		return len(info.Conns) == 0
	}
	if err := until(t.Context(), gone, 20*time.Second); err != nil {
		t.Fatalf("the manager never noticed that %s is gone: %v", n.name, err)
	}
}

// wantBroken wants exactly one broken promise, about something, that names a node.
func wantBroken(t *testing.T, got []Promise, about, name string) {
	t.Helper()
	if len(got) != 1 || !strings.Contains(got[0].Promise, about) || !strings.Contains(got[0].Detail, name) {
		t.Errorf("broken promises are %+v, want the one about %q alone, naming %s", got, about, name)
	}
}

func TestHonestManagerBreaksNothing(t *testing.T) {
	t.Parallel()
	if got := cheated(t, small(), func(*performance) {}); len(got) > 0 {
		t.Errorf("broken promises are %+v, want none", got)
	}
}

func TestCrowdNoticesThatAProtectionWasForgotten(t *testing.T) {
	t.Parallel()
	got := cheated(t, small(), func(d *performance) {
		n := d.first("pinned by the operator")
		d.cm.Unprotect(n.id(), n.role.protect)
		d.cm.TagPeer(n.id(), "cheat", -5000)
		d.cm.TrimOpenConns(t.Context())
	})
	wantBroken(t, got, "protected", "n001")
}

func TestCrowdNoticesAConnectionThatNoTrimClosed(t *testing.T) {
	t.Parallel()
	var name string
	got := cheated(t, small(), func(d *performance) {
		n := d.first("plain")
		name = n.name
		if err := d.guarded.Network().ClosePeer(n.id()); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, d, n)
	})
	wantBroken(t, got, "trim", name)
}

func TestCrowdNoticesTooManyConnections(t *testing.T) {
	t.Parallel()
	opts := small()
	opts.High = 6
	opts.Grace = time.Minute // nobody can be trimmed
	got := cheated(t, opts, func(*performance) {})
	wantBroken(t, got, "high water", "12, high water 6")
}

func TestCrowdNoticesThatGraceWasIgnored(t *testing.T) {
	t.Parallel()
	opts := small()
	opts.Grace = time.Minute
	got := cheated(t, opts, func(d *performance) { d.cm.ForceTrim() })
	if len(got) == 0 || !slices.ContainsFunc(got, func(p Promise) bool { return strings.Contains(p.Promise, "grace") }) {
		t.Errorf("broken promises are %+v, want the one about grace among them", got)
	}
}

func TestProtectionsAreInPlaceBeforeTheNodesConnect(t *testing.T) {
	t.Parallel()
	opts := small()
	opts.Grace = time.Minute
	late := make(chan string, opts.Peers)
	cheated(t, opts, func(d *performance) {
		// The crowd has come. It goes and comes again, watched.
		d.guarded.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
			for _, n := range d.crowd {
				if n.id() == c.RemotePeer() && n.role.protect != "" && !d.cm.IsProtected(n.id(), n.role.protect) {
					late <- n.name
				}
			}
		}})
		for _, n := range d.crowd {
			if err := n.leave(d.guarded.ID()); err != nil {
				t.Fatal(err)
			}
			awaitGone(t, d, n)
			d.cm.Unprotect(n.id(), n.role.protect)
		}
		if err := d.bring(t.Context(), d.crowd); err != nil {
			t.Fatal(err)
		}
	})
	close(late)
	for name := range late {
		t.Errorf("node %s was connected before it was protected; a trim could have closed it meanwhile", name)
	}
}

// impostor is a connection that no network knows of.
type impostor struct{ peer connmgr.NodeID }

func (c impostor) RemotePeer() connmgr.NodeID           { return c.peer }
func (c impostor) Stat() connmgr.ConnStat               { return connmgr.ConnStat{} }
func (c impostor) CloseWithReason(connmgr.Reason) error { return nil }

func TestCrowdNoticesThatTheManagerMistakesOneNodeForAnother(t *testing.T) {
	t.Parallel()
	got := cheated(t, small(), func(d *performance) {
		core := d.cm.Core()
		// One leaves and the manager believes it is there; another is there and the
		// manager believes it has left. The numbers agree.
		left, there := d.crowd[len(d.crowd)-1], d.first("user's own")
		if err := left.leave(d.guarded.ID()); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, d, left)
		id := connmgr.NodeID(left.id())
		core.Connected(id, impostor{id})
		info, _ := core.PeerInfo(connmgr.NodeID(there.id()))
		core.Disconnected(connmgr.NodeID(there.id()), info.Conns[0].Conn)
	})
	if !slices.ContainsFunc(got, func(p Promise) bool { return strings.Contains(p.Promise, "agree") }) {
		t.Errorf("broken promises are %+v, want the one about agreement among them", got)
	}
}

func TestLateNewsOfTheConnectionThatANodeLeftIsNotAnEarlyClosing(t *testing.T) {
	t.Parallel()
	d, err := setUp(t.Context(), Options{Peers: 1, Low: 1, High: 1, Transport: "tcp"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer d.tearDown()
	if err := d.bring(t.Context(), d.crowd); err != nil {
		t.Fatal(err)
	}
	// Observers that hold up the news. The network asks observers in any order, so
	// many of them come before the node's own with near certainty.
	n := d.crowd[0]
	release := make(chan struct{})
	var last *network.NotifyBundle
	for range 50 {
		last = &network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { <-release }}
		n.host.Network().Notify(last)
	}
	if err := n.leave(d.guarded.ID()); err != nil {
		t.Fatal(err)
	}
	if err := d.bring(t.Context(), d.crowd); err != nil {
		t.Fatal(err)
	}
	close(release)
	n.host.Network().StopNotify(last) // waits until all observers have been told

	if age, early := n.closedEarly(time.Hour); early {
		t.Errorf("the node says that it was closed %v after it returned, want no complaint: it had closed its first connection itself", age)
	}
	if !n.connected(d.guarded.ID()) {
		t.Error("the node is not connected, want it back")
	}
}

func TestRunReturnsABrokenPromiseAfterTheReport(t *testing.T) {
	t.Parallel()
	// High water 0 turns trimming off, which is why the command refuses it.
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		err := Run(t.Context(), Options{Peers: 4, Low: 4, High: 0, Transport: "tcp", JSON: json}, &out)
		if !errors.Is(err, ErrPromiseBroken) || !strings.Contains(err.Error(), "high water 0") {
			t.Errorf("JSON %v: Run returns %v, want a broken promise about high water 0", json, err)
		}
		want := "BROKEN"
		if json {
			want = `"kept": false`
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("JSON %v: the report does not say %s:\n%s", json, want, out.String())
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	opts := small()
	opts.Grace = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	var out cancelAt
	out.cancel, out.mark = cancel, "settle in"
	err := Run(ctx, opts, &out)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run returns %v, want context.Canceled", err)
	}
	if strings.Contains(out.String(), "Promises") {
		t.Errorf("a demo that was interrupted judges itself:\n%s", out.String())
	}
}

// cancelAt keeps what is written to it, and cancels when that contains a mark.
type cancelAt struct {
	bytes.Buffer
	mark   string
	cancel context.CancelFunc
}

func (c *cancelAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.mark)) {
		c.cancel()
	}
	return c.Buffer.Write(p)
}
