package guard_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
)

// This file tests what becomes of those who are slow, on the clock of testing/synctest:
// the connections are pipes.

// pipes serves h over a pipe, and returns its other end.
func pipes(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	l := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conns <- lyingConn{server, l.Addr()}
	s := &http.Server{Handler: guard.New(guard.Config{}).Wrap(h, func(r *http.Request) bool { return r.URL.Path == "/page.js" })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		_ = client.Close()
		_ = s.Close()
		synctest.Wait()
	})
	return client
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7654} }

func send(t *testing.T, conn net.Conn, raw string) {
	t.Helper()
	if _, err := io.WriteString(conn, strings.ReplaceAll(raw, "\n", "\r\n")); err != nil {
		t.Fatalf("cannot send %.30q: %v", raw, err)
	}
}

// trickle sends a byte every ten seconds until the connection is closed.
func trickle(conn net.Conn) {
	for {
		<-time.After(10 * time.Second)
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
	}
}

// closedAfter reads a connection to its end, and returns what came and how long it took.
func closedAfter(t *testing.T, conn net.Conn) (string, time.Duration) {
	t.Helper()
	start := time.Now()
	_ = conn.SetReadDeadline(start.Add(time.Hour))
	body, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is open after an hour")
	}
	return string(body), time.Since(start)
}

func TestABodyHasHalfAMinuteToArrive(t *testing.T) {
	post := "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\n"
	ignore := func(http.ResponseWriter, *http.Request) {}
	for _, test := range []struct {
		name, head, want string
		within           time.Duration
		h                http.HandlerFunc
	}{
		{"announced", post + "Content-Length: 100\n\n", "did not arrive within 30s", 31 * time.Second, readBody},
		{"in chunks", post + "Transfer-Encoding: chunked\n\n64\n", "did not arrive within 30s", 31 * time.Second, readBody},
		{"to a GET", "GET /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 100\n\n", "did not arrive within 30s", 31 * time.Second, readBody},
		{"to a handler that does not read it", post + "Content-Length: 100\n\n", "200 OK", 2 * time.Second, ignore},
		{"to a handler that does not read the chunks", post + "Transfer-Encoding: chunked\n\n64\n", "200 OK", 2 * time.Second, ignore},
		{"of a request that is refused", strings.Replace(post, "localhost", "evil.example", 1) + "Content-Length: 100\n\n", "misdirected", 2 * time.Second, readBody},
		{"in chunks, of a request that is refused", strings.Replace(post, "localhost", "evil.example", 1) + "Transfer-Encoding: chunked\n\n64\n", "misdirected", 2 * time.Second, readBody},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := pipes(t, test.h)
				send(t, conn, test.head)
				var trickling sync.WaitGroup
				trickling.Go(func() { trickle(conn) })
				defer trickling.Wait()
				answer, after := closedAfter(t, conn)
				if !strings.Contains(answer, test.want) {
					t.Errorf("the answer is\n%s\nwant it to have %q", answer, test.want)
				}
				if after > test.within {
					t.Errorf("the connection is closed after %v, want at most %v", after, test.within)
				}
			})
		})
	}
}

func TestWhoIsRefusedLearnsItBeforeTheBodyIsRead(t *testing.T) {
	for name, head := range map[string]string{
		"a stranger's Host":      "POST /v1/rules HTTP/1.1\nHost: evil.example\nContent-Length: 100\n\n",
		"a method nobody knows":  "BREW /v1/rules HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n",
		"too large a body":       "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 100000\n\n",
		"who waits to be told":   "POST /v1/quiet HTTP/1.1\nHost: localhost\nContent-Length: 100\nExpect: 100-continue\n\n",
		"too large a stray body": "DELETE /v1/rules HTTP/1.1\nHost: localhost\nContent-Length: 100000\n\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := pipes(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/quiet" {
					readBody(w, r)
				}
			})
			start := time.Now()
			send(t, conn, head)
			if resp, _ := readAnswer(t, conn); !resp.Close {
				t.Errorf("%s: the connection is kept open for the body, want it closed", name)
			}
			if after := time.Since(start); after > 0 {
				t.Errorf("%s: the answer came after %v, want it at once", name, after)
			}
		})
	}
}

func TestABodyThatIsSlowButInTimeIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipes(t, readBody)
		send(t, conn, "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 3\nConnection: close\n\nab")
		<-time.After(29 * time.Second)
		send(t, conn, "c")
		if _, body := readAnswer(t, conn); body != "3 bytes" {
			t.Errorf("the answer is %q, want 3 bytes", body)
		}
	})
}

// The deadline of the body must not end the request, nor those that follow it.
func TestWorkMayTakeLongerThanTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipes(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := guard.Body(r, bodyLimit, "text/plain")
			if err != nil {
				t.Errorf("the body: %v", err)
			}
			select {
			case <-r.Context().Done():
				t.Error("the request was ended while it was being worked on")
			case <-time.After(10 * time.Minute):
			}
			fmt.Fprintf(w, "done with %s", body)
		})
		answers := bufio.NewReader(conn)
		for _, raw := range []string{
			"POST /v1/trim HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 3\n\nall",
			"POST /v1/trim HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nTransfer-Encoding: chunked\n\n3\nall\n0\n\n",
			"POST /v1/trim HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 3\n\nall",
		} {
			send(t, conn, raw)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "done with all" || err != nil {
				t.Errorf("the answer is %q, %v, want done with all", body, err)
			}
			<-time.After(10 * time.Minute) // the connection is idle
		}
	})
}

func TestAnAnswerHasHalfAMinuteToBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		conn := pipes(t, func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(time.Minute) // work does not count
			start := time.Now()
			for {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					ended <- time.Since(start)
					return
				}
			}
		})
		send(t, conn, "GET /v1/peers HTTP/1.1\nHost: localhost\n\n")
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() { // a little now and then
			for {
				<-time.After(5 * time.Second)
				if _, err := conn.Read(make([]byte, 10)); err != nil {
					return
				}
			}
		})
		if after := <-ended; after != 30*time.Second {
			t.Errorf("writing failed after %v, want 30s", after)
		}
	})
}

// They cost nothing to ask for, so nobody may make them take long.
func TestAnAnswerThatNeedsNoTokenHasFiveSecondsToBeTaken(t *testing.T) {
	for name, raw := range map[string]string{
		"a file of the page": "GET /page.js HTTP/1.1\nHost: localhost\n\n",
		"a refusal":          "GET /v1/peers HTTP/1.1\nHost: evil.example\n\n",
	} {
		for _, wait := range []time.Duration{4900 * time.Millisecond, 5100 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				conn := pipes(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
				send(t, conn, raw)
				<-time.After(wait)
				if n, err := conn.Read(make([]byte, 1)); (n == 1) != (wait < 5*time.Second) {
					t.Errorf("%s: after %v, %d bytes are read, %v; want the answer to be there for 5s", name, wait, n, err)
				}
			})
		}
	}
}

func TestAnEmptyAnswerHasHalfAMinuteToBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipes(t, func(http.ResponseWriter, *http.Request) {})
		send(t, conn, "GET /v1/peers HTTP/1.1\nHost: localhost\n\n")
		<-time.After(31 * time.Second) // without reading
		if _, err := conn.Write([]byte("GET ")); err == nil {
			t.Error("the connection is open after 31s, want it closed")
		}
	})
}

func TestHeadersHaveHalfAMinuteToBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		conn := pipes(t, func(w http.ResponseWriter, _ *http.Request) {
			start := time.Now()
			if err := http.NewResponseController(w).Flush(); err == nil {
				t.Error("flushing to somebody who does not read is no error")
			}
			ended <- time.Since(start)
		})
		send(t, conn, "GET /v1/peers HTTP/1.1\nHost: localhost\n\n")
		if after := <-ended; after != 30*time.Second {
			t.Errorf("flushing failed after %v, want 30s", after)
		}
	})
}

func TestWhoIsSlowToTakeAnAnswerMayAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipes(t, func(w http.ResponseWriter, r *http.Request) {
			if err := r.Context().Err(); err != nil {
				t.Errorf("the request has ended before it began: %v", err)
			}
			readBody(w, r)
		})
		answers := bufio.NewReader(conn)
		for range 3 {
			send(t, conn, "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 3\n\nall")
			<-time.After(20 * time.Second)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "3 bytes" || err != nil {
				t.Errorf("the answer is %q, %v, want 3 bytes", body, err)
			}
		}
	})
}

func TestAStreamThatSetsItsDeadlinesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipes(t, func(w http.ResponseWriter, _ *http.Request) {
			control := http.NewResponseController(w)
			for i := range 10 {
				if err := control.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Errorf("event %d: %v", i, err)
				}
				if _, err := fmt.Fprintf(w, "event %d\n", i); err != nil {
					t.Errorf("event %d: %v", i, err)
				}
				if i%2 == 0 {
					w.(http.Flusher).Flush()
				} else if err := control.Flush(); err != nil {
					t.Errorf("event %d: %v", i, err)
				}
				<-time.After(time.Minute)
			}
		})
		send(t, conn, "GET /v1/events HTTP/1.1\nHost: localhost\nConnection: close\n\n")
		_, body := readAnswer(t, conn)
		if n := strings.Count(body, "event"); n != 10 {
			t.Errorf("%d events arrived, want 10", n)
		}
	})
}

func TestAStreamSeesAReaderThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		conn := pipes(t, func(w http.ResponseWriter, _ *http.Request) {
			start := time.Now()
			control := http.NewResponseController(w)
			for {
				_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second))
				_, _ = w.Write(bytes.Repeat([]byte("x"), 100))
				if control.Flush() != nil {
					ended <- time.Since(start)
					return
				}
			}
		})
		send(t, conn, "GET /v1/events HTTP/1.1\nHost: localhost\n\n")
		if after := <-ended; after != 10*time.Second {
			t.Errorf("the stream ended after %v, want the 10s it has set", after)
		}
	})
}
