package connmgrhttp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file tests how Serve begins and ends, and that the slow and the idle hold nothing
// up. What takes time runs on the clock of testing/synctest, over pipes.

// pipeListener is a listener whose connections are pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
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
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	select {
	case l.conns <- server:
	case <-time.After(time.Minute):
		t.Fatal("the connection is not accepted")
	}
	_ = client.SetDeadline(time.Now().Add(time.Hour))
	return client
}

// serving is a Serve that runs.
type serving struct {
	*pipeListener
	end    context.CancelFunc
	result chan error
}

// startServing calls serve, inside a bubble. The test has to end it.
func startServing(h http.HandlerFunc, most int) *serving {
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{pipeListener: newPipeListener(), end: cancel, result: make(chan error, 1)}
	go func() { s.result <- serve(ctx, s.pipeListener, h, most) }()
	return s
}

// wantEnd ends Serve and checks that it returns nil soon.
func (s *serving) wantEnd(t *testing.T) {
	t.Helper()
	start := time.Now()
	s.end()
	if err := <-s.result; err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
	if after := time.Since(start); after > 2*time.Second {
		t.Errorf("Serve returned after %v, want at most 2s", after)
	}
	synctest.Wait()
}

func ask(t *testing.T, conn net.Conn, raw string) {
	t.Helper()
	if _, err := io.WriteString(conn, strings.ReplaceAll(raw, "\n", "\r\n")); err != nil {
		t.Fatalf("cannot send %.40q: %v", raw, err)
	}
}

func answerOf(t *testing.T, conn net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("there is no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer is cut off: %v", err)
	}
	return resp.StatusCode, string(body)
}

// wantClosed checks that a connection is closed at some time from now.
func wantClosed(t *testing.T, conn net.Conn, least, most time.Duration) {
	t.Helper()
	start := time.Now()
	_, err := io.Copy(io.Discard, conn)
	if after := time.Since(start); after < least || after > most || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is closed after %v (%v), want %v to %v", after, err, least, most)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

const get = "GET / HTTP/1.1\nHost: localhost\n\n"

func TestServeServesUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, address := range []string{"127.0.0.1:0", "unix:" + path} {
		l, err := Listen(address, "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- Serve(ctx, l, http.HandlerFunc(hello)) }()
		conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		ask(t, conn, get)
		if status, body := answerOf(t, conn); status != 200 || body != "hello" {
			t.Errorf("%s: the answer is %d %q, want 200 hello", address, status, body)
		}
		cancel()
		if err := <-result; err != nil {
			t.Errorf("%s: Serve returned %v, want nil", address, err)
		}
		if conn, err := net.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s is answered after the end", address)
		}
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is there after the end")
	}
}

func TestServeAfterTheEndClosesTheListener(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := newPipeListener()
	if err := Serve(ctx, l, http.HandlerFunc(hello)); err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
	select {
	case <-l.closed:
	default:
		t.Error("the listener is open")
	}
}

func TestServeNeedsAListenerAndAHandler(t *testing.T) {
	if err := Serve(t.Context(), nil, http.HandlerFunc(hello)); err == nil {
		t.Error("without a listener Serve returns nil")
	}
	if err := Serve(t.Context(), newPipeListener(), nil); err == nil {
		t.Error("without a handler Serve returns nil, want an error and not http.DefaultServeMux")
	}
}

func TestServeSaysThatItsListenerFailed(t *testing.T) {
	l := newPipeListener()
	_ = l.Close()
	if err := Serve(t.Context(), l, http.HandlerFunc(hello)); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("Serve returned %v, want an error that names the address and is %v", err, net.ErrClosed)
	}
}

func TestStreamsEndWithServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "event\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			_, _ = io.WriteString(w, "goodbye\n")
		}, maxConns)
		conn := s.dial(t)
		ask(t, conn, get)
		ended := make(chan string)
		go func() {
			_, body := answerOf(t, conn)
			ended <- body
		}()
		synctest.Wait()
		s.wantEnd(t)
		if body := <-ended; body != "event\ngoodbye\n" {
			t.Errorf("the stream is %q, want it whole", body)
		}
	})
}

func TestRequestsHaveFiveSecondsToReturnAtTheEnd(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		whole bool
	}{{4 * time.Second, true}, {time.Minute, false}} {
		synctest.Test(t, func(t *testing.T) {
			s := startServing(func(w http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				<-time.After(test.takes)
				hello(w, r)
			}, maxConns)
			conn := s.dial(t)
			ask(t, conn, get)
			synctest.Wait()
			start := time.Now()
			s.end()
			answer, _ := io.ReadAll(conn)
			if whole := strings.Contains(string(answer), "hello"); whole != test.whole {
				t.Errorf("a request of %v: its answer is %q, want it: %v", test.takes, answer, test.whole)
			}
			err := <-s.result
			if cutOff := errors.Is(err, context.DeadlineExceeded); cutOff == test.whole || err != nil == test.whole {
				t.Errorf("a request of %v: Serve returned %v", test.takes, err)
			}
			if after := time.Since(start); after > 6*time.Second {
				t.Errorf("a request of %v: Serve returned after %v, want about 5s", test.takes, after)
			}
			<-time.After(time.Hour) // the handler returns in the end
		})
	}
}

func TestThoseWhoWaitDoNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(hello, maxConns)
		fresh, started, idle := s.dial(t), s.dial(t), s.dial(t)
		ask(t, started, "GET / HT")
		ask(t, idle, get)
		answerOf(t, idle)
		synctest.Wait()
		s.wantEnd(t)
		for _, conn := range []net.Conn{fresh, started, idle} {
			wantClosed(t, conn, 0, 0)
		}
	})
}

func TestTheSlowAndTheIdleAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(hello, maxConns)
		silent := s.dial(t)
		wantClosed(t, silent, readHeaderTime, readHeaderTime)

		slow := s.dial(t)
		var sending sync.WaitGroup
		sending.Go(func() {
			for _, c := range "GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + strings.Repeat("x", 100) {
				if _, err := slow.Write([]byte{byte(c)}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		wantClosed(t, slow, readHeaderTime, readHeaderTime)
		sending.Wait()

		idle := s.dial(t)
		ask(t, idle, get)
		answerOf(t, idle)
		wantClosed(t, idle, idleTime, idleTime)
		s.wantEnd(t)
	})
}

func TestHeadersThatAreTooLargeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		s := startServing(func(http.ResponseWriter, *http.Request) { calls.Add(1) }, maxConns)
		for name, raw := range map[string]string{
			"one":       "GET / HTTP/1.1\nHost: localhost\nX: " + strings.Repeat("x", 64<<10),
			"many":      "GET / HTTP/1.1\nHost: localhost\n" + strings.Repeat("X: y\n", 10_000),
			"the first": "GET /" + strings.Repeat("x", 64<<10),
		} {
			conn := s.dial(t)
			go func() { _, _ = io.WriteString(conn, strings.ReplaceAll(raw, "\n", "\r\n")) }()
			if status, _ := answerOf(t, conn); status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: the answer is %d, want 431", name, status)
			}
			_ = conn.Close()
		}
		if calls.Load() > 0 {
			t.Error("the handler was called")
		}
		s.wantEnd(t)
	})
}

func TestTheHandlerAnswersWhatIsForTheServerAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, maxConns)
		conn := s.dial(t)
		ask(t, conn, "OPTIONS * HTTP/1.1\nHost: evil.example\n\n")
		if status, _ := answerOf(t, conn); status != http.StatusTeapot {
			t.Errorf("OPTIONS * is answered with %d, want the handler's 418", status)
		}
		s.wantEnd(t)
	})
}

func TestWhatIsForTheServerAsAWholeIsRefusedWithAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := connmgr.New(connmgr.Config{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := Handler(m, nil, Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := startServing(func(w http.ResponseWriter, r *http.Request) {
			// A pipe has no address.
			ctx := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Net: "unix"})
			h.ServeHTTP(w, r.WithContext(ctx))
		}, maxConns)
		conn := s.dial(t)
		ask(t, conn, "OPTIONS * HTTP/1.1\nHost: localhost\n\n")
		status, body := answerOf(t, conn)
		var p api.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || status != 400 || p.Type != api.ProblemBadRequest || p.Detail == "" {
			t.Errorf("the answer is %d %q, want 400 and a problem", status, body)
		}
		s.wantEnd(t)
		_ = m.Close()
	})
}

func TestAPanicIsReportedAsAnError(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})))
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/abort" {
				panic(http.ErrAbortHandler)
			}
			panic(fmt.Errorf("out of order"))
		}, maxConns)
		for _, path := range []string{"/abort", "/v1/status"} {
			conn := s.dial(t)
			ask(t, conn, "GET "+path+" HTTP/1.1\nHost: localhost\n\n")
			wantClosed(t, conn, 0, 0)
		}
		s.wantEnd(t)
	})
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "out of order") || !strings.Contains(got, "/v1/status") || !strings.Contains(got, "serve_test.go") {
		t.Errorf("the log is\n%s\nwant one error with the path, the panic and the stack", got)
	}
}
