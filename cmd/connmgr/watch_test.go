package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file watches a node, over its restart too.

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// tape is an output that can be waited on.
type tape struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has something in it when there is more text
}

func newTape() *tape { return &tape{more: make(chan struct{}, 1)} }

func (w *tape) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *tape) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// await waits until the text is there.
func (w *tape) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for !strings.Contains(w.String(), text) {
		select {
		case <-w.more:
		case <-late:
			t.Fatalf("after %v there is no %q in\n%s", patience, text, w)
		}
	}
}

// watching is a command that goes on.
type watching struct {
	stdout, stderr *tape
	cancel         context.CancelFunc
	status         chan int
}

func (n *testNode) watch(args ...string) *watching {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	w := &watching{newTape(), newTape(), cancel, make(chan int, 1)}
	go func() {
		w.status <- run(ctx, append(append([]string{"watch"}, args...), "--api", n.api), w.stdout, w.stderr)
	}()
	// It is there when its stream is.
	for deadline := time.Now().Add(patience); ; {
		if doc := decode[api.Status](n.run("status", "--json")); doc.Streams > 0 {
			return w
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("watch has not connected after %v; stderr: %s", patience, w.stderr)
		}
	}
}

// end waits for the command to end, and wants an exit status.
func (w *watching) end(t *testing.T, want int) {
	t.Helper()
	select {
	case got := <-w.status:
		if got != want {
			t.Errorf("watch ended with %d, want %d; stderr: %s", got, want, w.stderr)
		}
	case <-time.After(patience):
		t.Fatalf("watch has not ended after %v", patience)
	}
}

func TestAWatchShowsWhatHappensUntilItIsInterrupted(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.connect(1) // before: not shown
	w := n.watch()
	n.connect(2)
	w.stdout.await(t, "connected     "+peerNamed(2)+"  connected, inbound")
	n.run("close", peerNamed(2)).ok()
	w.stdout.await(t, "closed        "+peerNamed(2)+"  closed by hand")
	n.run("block", "192.0.2.1").ok()
	w.stdout.await(t, "rules         rule set: deny 192.0.2.1\n")
	w.cancel()
	w.end(t, 130)
	if w.stderr.String() != "connmgr: interrupted\n" {
		t.Errorf("stderr is %q, want one line", w.stderr)
	}
	for line := range strings.Lines(w.stdout.String()) {
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", line[:24]); err != nil {
			t.Errorf("the line %q does not begin with a time in UTC: %v", line, err)
		}
		if strings.Contains(line, peerNamed(1)) {
			t.Errorf("it shows what was before: %q", line)
		}
	}
}

func TestAWatchEndsByItself(t *testing.T) {
	n := smallTown(t)
	w := n.watch("--count", "2", "--types", "closed", "--json")
	n.run("trim").ok() // closes three
	w.end(t, 0)
	var ids []uint64
	for line := range strings.Lines(w.stdout.String()) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type != api.PeerClosed || e.Closed.Reason != connmgr.ClosedLowScore {
			t.Errorf("a line is %q, %v; want an event about somebody closed", line, err)
		}
		ids = append(ids, e.ID)
	}
	if len(ids) != 2 || ids[0] >= ids[1] {
		t.Errorf("%d events in the order %v, want 2", len(ids), ids)
	}
	if r := n.run("watch", "--for", "10ms").ok(); r.stdout+r.stderr != "" {
		t.Errorf("a watch in which nothing happens wrote %q and %q", r.stdout, r.stderr)
	}
	// With an ID it goes on behind it, with a number it begins with the latest.
	since := n.run("watch", "--since", jsonNumber(ids[0]), "--types", "closed", "--count", "2").ok()
	if got := strings.Count(since.stdout, "low score"); got != 2 {
		t.Errorf("after the first of three events it shows %d, want 2:\n%s", got, since.stdout)
	}
	recent := n.run("watch", "--recent", "2", "--types", "closed", "--count", "2").ok()
	if recent.stdout != since.stdout {
		t.Errorf("the latest two are\n%s\nwant\n%s", recent.stdout, since.stdout)
	}
	if r := n.run("watch", "--recent", "5", "--peer", shortPeer(peerNamed(3)), "--count", "1").ok("connected"); strings.Contains(r.stdout, peerNamed(5)) {
		t.Errorf("with --peer it shows others:\n%s", r.stdout)
	}
}

func jsonNumber(n uint64) string {
	text, _ := json.Marshal(n)
	return string(text)
}

func TestNothingIsMissedBetweenTheLatestEventsAndTheNextOnes(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	newest := 5
	n.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/recent") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"events":[{"id":%d,"type":"trim","text":"number %d"}]}`, newest, newest)
			newest++ // something happens
			return
		}
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %d\nevent: trim\ndata: {\"id\":%d,\"type\":\"trim\",\"text\":\"number %d\"}\n\n", last+1, last+1, last+1)
	})
	n.listen("127.0.0.1:0")
	n.run("watch", "--recent", "1", "--count", "2").ok("number 5\n", "number 6\n")
}

func TestAWatchOutlivesTheNode(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	w := n.watch()
	n.connect(1)
	w.stdout.await(t, peerNamed(1))
	address := n.api
	n.stop()
	w.stderr.await(t, "connmgr: lost the connection: ")
	n.connect(2) // while nobody can be asked
	n.listen(address)
	w.stderr.await(t, "connmgr: connected to "+address+" again")
	w.stdout.await(t, peerNamed(2))
	n.connect(3)
	w.stdout.await(t, peerNamed(3))
	for i := 1; i <= 3; i++ {
		if got := strings.Count(w.stdout.String(), peerNamed(i)); got != 1 {
			t.Errorf("peer %d is shown %d times, want once", i, got)
		}
	}
	n.stop()
	w.stderr.await(t, "again\nconnmgr: lost the connection: ")
	w.cancel()
	w.end(t, 130)
}

func TestAWatchThatIsRefusedLaterEnds(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	w := n.watch()
	address := n.api
	n.stop()
	locked, err := connmgrhttp.Handler(n.m, nil, connmgrhttp.Config{Token: "a-new-token-since"})
	if err != nil {
		t.Fatal(err)
	}
	n.handler = locked
	n.listen(address)
	w.end(t, 4)
	w.stderr.await(t, "needs a token")
}

func TestEventsAreWhatHasHappened(t *testing.T) {
	n := smallTown(t)
	n.run("trim").ok()
	r := n.run("events", "--types", "closed,trim").ok()
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != 4 || strings.Count(r.stdout, "low score") != 3 || !strings.Contains(lines[3], "trim (manual) closed 3 peers") {
		t.Errorf("the events are\n%s\nwant three closed peers and the trim, the oldest first", r.stdout)
	}
	if got := n.run("events", "--limit", "1", "--types", "trim").ok().stdout; strings.Count(got, "\n") != 1 || !strings.Contains(got, "trim (manual)") {
		t.Errorf("the last trim is %q, want one line", got)
	}
	n.run("events", "--peer", shortPeer(peerNamed(3))).ok(peerNamed(3)).lacks(peerNamed(5))
	doc := decode[api.EventList](n.run("events", "--json", "--types", "connected", "--limit", "3"))
	if len(doc.Events) != 3 || doc.Events[0].ID < doc.Events[2].ID {
		t.Errorf("events --json is %+v, want the API's own list of 3, the newest first", doc)
	}
}
