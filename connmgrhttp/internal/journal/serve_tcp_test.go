package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/internal/journal"
)

// These tests read streams over real connections: HTTP/1.1 and HTTP/2 on loopback, where
// buffers of the kernel stand between a server and who does not read.

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("after 20 s: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhoNeverReadsIsDroppedAndNobodyElseNoticesOverTCP(t *testing.T) {
	n := start(t, journal.Options{})
	n.j.SetPatience(2 * time.Second)
	server := httptest.NewUnstartedServer(n)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	var first sync.Once
	server.Config.ConnState = func(c net.Conn, _ http.ConnState) {
		// So that it does not take megabytes to fill what stands between.
		first.Do(func() { _ = c.(*net.TCPConn).SetWriteBuffer(4096) })
	}
	server.Start()
	defer server.Close()
	defer n.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}

	stuck := dial()
	_ = stuck.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := io.WriteString(stuck, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "want a stream", func() bool { return n.j.Streams() == 1 })
	const (
		others = 50
		events = 3000
	)
	var wg sync.WaitGroup
	readers := make([]atomic.Int64, others)
	for i := range readers {
		r := ask(t, dial(), "")
		if got := r.event(); got != "retry: 2000" {
			t.Fatalf("the stream begins with %q", got)
		}
		wg.Go(func() {
			for next := 1; next < events; next++ {
				if got := r.event(); !strings.Contains(got, fmt.Sprintf(`"address":"10.0.0.1:%d"`, next)) {
					t.Errorf("reader %d gets %q, want event %d", i, got, next)
					readers[i].Store(events)
					return
				}
				readers[i].Add(1)
			}
		})
	}
	eventually(t, "want 51 streams", func() bool { return n.j.Streams() == others+1 })
	n.pour(1, events, readers)
	wg.Wait()
	eventually(t, "the one who never reads is not dropped", func() bool { return n.j.LostStreams() == 1 })
	if n.j.Streams() != others || n.j.Dropped() != 0 {
		t.Errorf("%d streams are open and %d events were missed, want %d and 0", n.j.Streams(), n.j.Dropped(), others)
	}
	n.Close()
	eventually(t, "streams are open though the manager is closed", func() bool { return n.j.Streams() == 0 })
}

func TestAStreamOverHTTP2(t *testing.T) {
	n := start(t, journal.Options{})
	n.j.SetPatience(2 * time.Second)
	server := httptest.NewUnstartedServer(n)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.WriteTimeout = time.Second
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer n.Close()
	reused := false
	get := func() *http.Response {
		ctx, cancel := context.WithCancel(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		}))
		t.Cleanup(cancel)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.ProtoMajor != 2 {
			t.Fatalf("the answer is %s, want HTTP/2", resp.Proto)
		}
		return resp
	}
	stuck, good := get(), get()
	if !reused {
		t.Error("the second stream has a connection of its own, want them to share one")
	}
	lines := bufio.NewScanner(good.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return fmt.Sprint("end: ", lines.Err())
	}
	readers := make([]atomic.Int64, 1)
	var wg sync.WaitGroup
	// More than the four megabytes that Go's client takes for a body that nobody reads.
	const events = 16_000
	wg.Go(func() {
		for i := 1; i < events; i++ {
			if got := next(); !strings.Contains(got, fmt.Sprintf(`"address":"10.0.0.1:%d"`, i)) {
				t.Errorf("event %d is %q", i, got)
				readers[0].Store(events)
				return
			}
			readers[0].Add(1)
		}
	})
	n.pour(1, events, readers)
	wg.Wait()
	eventually(t, "the one who never reads is not dropped", func() bool { return n.j.LostStreams() == 1 })
	n.limit(5)
	if got := next(); !strings.Contains(got, `"type":"limits"`) || n.j.Streams() != 1 {
		t.Errorf("after the other was dropped there is %q on %d streams, want the limits on one", got, n.j.Streams())
	}
	n.Close()
	if got := next(); got != "end: <nil>" {
		t.Errorf("when the manager is closed there is %q, want the end", got)
	}
	_ = stuck.Body.Close()
}
