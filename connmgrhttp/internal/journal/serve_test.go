package journal_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// These tests read streams over HTTP: in a bubble over pipes, which have no buffers, so
// that who does not read is felt at once. serve_tcp_test.go has those over real networks.

// ServeHTTP answers with everything that happens, or after the ID in the query.
func (n node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
	if err := n.j.Serve(w, r, journal.Filter{}, after, err == nil); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// pipes is a listener whose connections are pipes.
type pipes chan net.Conn

func (l pipes) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l pipes) Close() error   { close(l); return nil }
func (l pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// serving serves a node over pipes until the test ends.
func serving(n node, s *http.Server) pipes {
	l := make(pipes)
	s.Handler, s.ErrorLog = n, log.New(io.Discard, "", 0)
	go s.Serve(l)
	n.t.Cleanup(func() { s.Close() })
	return l
}

// reader reads a stream over a connection.
type reader struct {
	t testing.TB
	net.Conn
	*bufio.Scanner
	resp *http.Response
}

// get asks for a stream, and reads the header.
func (l pipes) get(t testing.TB, query string) reader {
	t.Helper()
	conn, server := net.Pipe()
	l <- server
	t.Cleanup(func() { conn.Close() })
	return ask(t, conn, query)
}

func ask(t testing.TB, conn net.Conn, query string) reader {
	t.Helper()
	if _, err := io.WriteString(conn, "GET /"+query+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return reader{t, conn, lines, resp}
}

// event returns the lines of the next event or comment.
func (r reader) event() string {
	r.t.Helper()
	var lines []string
	for r.Scan() {
		if r.Text() == "" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, r.Text())
	}
	return fmt.Sprint("end: ", r.Err())
}

func TestAStreamIsServerSentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		l := serving(n, &http.Server{ReadTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: time.Second, ReadHeaderTimeout: time.Second})
		n.host.Connect("alice")
		synctest.Wait()
		id := n.j.Recent(journal.Filter{}, 1)[0].ID
		r := l.get(t, "?since=0")
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
		} {
			if got := r.resp.Header.Get(name); r.resp.StatusCode != 200 || got != want {
				t.Errorf("status %d, header %s is %q, want 200 and %q", r.resp.StatusCode, name, got, want)
			}
		}
		if !r.resp.Close {
			t.Error("the connection is kept for further requests; they would have our deadlines")
		}
		if got := r.event(); got != "retry: 2000" {
			t.Errorf("the stream begins with %q, want when to retry", got)
		}
		want := fmt.Sprintf("id: %d\nevent: connected\ndata: {\"id\":%d,\"type\":\"connected\",\"at\":\"2000-01-01T00:00:00Z\","+
			"\"text\":\"connected, inbound\",\"peer\":\"alice\",\"direction\":\"inbound\"}", id, id)
		if got := r.event(); got != want {
			t.Errorf("the first event is\n%s\nwant\n%s", got, want)
		}
		for range 4 { // much longer than the server's timeouts
			before := time.Now()
			if got := r.event(); got != ": " || time.Since(before) != 15*time.Second {
				t.Errorf("after %v without events there is %q, want a comment after 15 s", time.Since(before), got)
			}
		}
		<-time.After(10 * time.Second)
		n.limit(5)
		if got := r.event(); !strings.HasPrefix(got, fmt.Sprintf("id: %d\nevent: limits\ndata: {", id+1)) {
			t.Errorf("the second event is\n%s\nwant the limits", got)
		}
		before := time.Now()
		if got := r.event(); got != ": " || time.Since(before) != 15*time.Second {
			t.Errorf("%v after an event there is %q, want a comment 15 s after it", time.Since(before), got)
		}

		<-time.After(14 * time.Second) // the deadline of the last write is over
		n.Close()
		if got := r.event(); got != "end: <nil>" {
			t.Errorf("when the manager is closed there is %q, want the proper end of the answer", got)
		}
		synctest.Wait()
		if n.j.Streams() != 0 || n.j.LostStreams() != 0 {
			t.Errorf("%d streams are open, %d lost; want none", n.j.Streams(), n.j.LostStreams())
		}
	})
}

func TestAStreamEndsWhenItsReaderGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		l := serving(n, &http.Server{})
		r := l.get(t, "")
		r.event()
		synctest.Wait()
		if n.j.Streams() != 1 {
			t.Fatalf("%d streams are open, want 1", n.j.Streams())
		}
		r.Close()
		synctest.Wait()
		if n.j.Streams() != 0 || n.j.LostStreams() != 0 {
			t.Errorf("%d streams are open, %d lost; want none: the reader has gone", n.j.Streams(), n.j.LostStreams())
		}
	})
}

func TestWhoDoesNotReadIsDroppedAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		l := serving(n, &http.Server{})
		r := l.get(t, "")
		r.event()
		n.limit(5)
		<-time.After(10*time.Second - time.Millisecond)
		synctest.Wait()
		if n.j.Streams() != 1 {
			t.Error("a reader who does not read is dropped before 10 s are over")
		}
		<-time.After(time.Second)
		synctest.Wait()
		if n.j.Streams() != 0 || n.j.LostStreams() != 1 {
			t.Errorf("%d streams are open and %d lost, want the one reader dropped", n.j.Streams(), n.j.LostStreams())
		}
	})
}

func TestTheEndOfAStreamWaitsForNobodyEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		l := serving(n, &http.Server{})
		r := l.get(t, "")
		r.event()
		synctest.Wait()
		n.Close()
		<-time.After(11 * time.Second)
		synctest.Wait()
		if got := r.event(); got != "end: unexpected EOF" {
			t.Errorf("who does not read for 10 s when the manager is closed gets %q, want the connection closed", got)
		}
	})
}

func TestAReaderWhoWasTooSlowIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		l := serving(n, &http.Server{})
		r := l.get(t, "")
		r.event()
		n.deny(0, 1)
		synctest.Wait() // the server waits for him to take it
		n.deny(0, 10_000)
		<-time.After(5 * time.Second) // he reads on in time, but there was too much
		events, last := 0, ""
		for {
			got := r.event()
			if strings.HasPrefix(got, "end: ") {
				if got != "end: <nil>" {
					t.Errorf("the stream has %q, want a proper end", got)
				}
				break
			}
			events, last = events+1, got
		}
		if !strings.HasPrefix(last, "event: lost\ndata: {\"type\":\"lost\",\"at\":\"2000-01-01T00:00:05Z\",\"text\":\"") || events > 1000 {
			t.Errorf("after %d events the last is %q, want few and that he is lost, without an ID", events, last)
		}
		synctest.Wait()
		if n.j.Streams() != 0 || n.j.LostStreams() != 1 {
			t.Errorf("%d streams are open and %d lost, want the one reader dropped", n.j.Streams(), n.j.LostStreams())
		}
	})
}

func TestOneStreamTooManyIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{MaxStreams: 1})
		n.follow(journal.Filter{}, 0, false)
		w := httptest.NewRecorder()
		err := n.j.Serve(w, httptest.NewRequest(http.MethodGet, "/", nil), journal.Filter{}, 0, false)
		if !errors.Is(err, journal.ErrTooMany) || len(w.Header()) != 0 || w.Body.Len() != 0 || w.Flushed {
			t.Errorf("the stream ends with %v, header %v and body %q; want ErrTooMany and nothing else", err, w.Header(), w.Body)
		}
	})
}

// plain hides what a ResponseWriter can beside its three methods.
type plain struct{ http.ResponseWriter }

// wrapped is what a middleware puts around a ResponseWriter.
type wrapped struct{ plain }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestAStreamNeedsAWriterThatFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		n.limit(5)
		synctest.Wait()
		time.AfterFunc(time.Second, func() { n.Close() })
		r := httptest.NewRequest(http.MethodGet, "/", nil)

		w := httptest.NewRecorder()
		err := n.j.Serve(plain{w}, r, journal.Filter{}, 0, true)
		if !errors.Is(err, http.ErrNotSupported) || len(w.Header()) != 0 || w.Body.Len() != 0 || n.j.Streams() != 0 {
			t.Errorf("without Flush the stream ends with %v, header %v and body %q; want an error and nothing else", err, w.Header(), w.Body)
		}
		w = httptest.NewRecorder()
		if err := n.j.Serve(wrapped{plain{w}}, r, journal.Filter{}, 0, true); err != nil || !w.Flushed || !strings.Contains(w.Body.String(), "event: limits") {
			t.Errorf("with a wrapped writer the stream ends with %v and body %q, want the event", err, w.Body)
		}
	})
}

func TestAHeadRequestGetsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, journal.Options{})
		w := httptest.NewRecorder()
		if err := n.j.Serve(w, httptest.NewRequest(http.MethodHead, "/", nil), journal.Filter{}, 0, true); err != nil || w.Body.Len() != 0 ||
			w.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" || n.j.Streams() != 0 {
			t.Errorf("HEAD gets %v, header %v and body %q; want the header alone", err, w.Header(), w.Body)
		}
	})
}

func TestAnEventIsWrittenOnceForAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var named atomic.Int64
		n := start(t, journal.Options{Names: wire.Names{Format: connmgr.ListFormat{FormatPeer: func(id connmgr.NodeID) string {
			named.Add(1)
			return string(id)
		}}}})
		l := serving(n, &http.Server{})
		now := l.get(t, "")
		now.event()
		const events = 3000
		for i := range events {
			n.host.Connect(connmgr.NodeID(fmt.Sprint("peer-", i)))
		}
		var live []string
		for range events {
			live = append(live, now.event())
		}
		for range 3 {
			again := l.get(t, "?since=0")
			again.event()
			for i, want := range live {
				if got := again.event(); got != want || !strings.HasSuffix(got, fmt.Sprintf(`"peer":"peer-%d","direction":"inbound"}`, i)) {
					t.Fatalf("event %d is\n%s\nfor one who comes later, and was\n%s\nfor one who was there", i, got, want)
				}
			}
		}
		if got := named.Load(); got != events {
			t.Errorf("for %d events on 4 streams, peers were named %d times, want once for each event", events, got)
		}
	})
}
