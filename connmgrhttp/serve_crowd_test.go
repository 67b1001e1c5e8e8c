package connmgrhttp

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file tests that many connections keep nobody out. It needs no time: it runs on the
// clock of testing/synctest, over pipes.

// The longest waiting go, whatever they wait with: nothing sent, half a request, an answer
// got.
func TestACrowdThatWaitsKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(hello, 3)
		idle, started, fresh := s.dial(t), s.dial(t), s.dial(t)
		ask(t, idle, get)
		answerOf(t, idle) // waits since now, as the last
		ask(t, started, "GET / HT")
		synctest.Wait()
		for i, out := range []net.Conn{started, fresh, idle} {
			conn := s.dial(t)
			ask(t, conn, get)
			if status, _ := answerOf(t, conn); status != 200 {
				t.Errorf("newcomer %d is answered with %d, want 200", i, status)
			}
			wantClosed(t, out, 0, 0)
		}
		s.wantEnd(t)
	})
}

func TestAFloodOfConnectionsDoesNotLockOutTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(hello, 8)
		operator := s.dial(t)
		for range 5 {
			ask(t, operator, get)
			if status, _ := answerOf(t, operator); status != 200 {
				t.Fatalf("the operator is answered with %d, want 200", status)
			}
			for range 100 {
				ask(t, s.dial(t), "G")
			}
			operator = s.dial(t)
		}
		s.wantEnd(t)
	})
}

func TestThoseWhoAreWorkedForAreNotPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		s := startServing(func(w http.ResponseWriter, r *http.Request) {
			<-done
			hello(w, r)
		}, 3)
		var busy []net.Conn
		for range 3 {
			conn := s.dial(t)
			ask(t, conn, get)
			busy = append(busy, conn)
		}
		synctest.Wait()
		turnedAway := s.dial(t)
		resp, err := http.ReadResponse(bufio.NewReader(turnedAway), nil)
		if err != nil {
			t.Fatal(err)
		}
		var p api.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 503 || p.Type != api.ProblemUnavailable || p.Status != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("the fourth is answered with %d %+v %v, want 503, unavailable, with Retry-After", resp.StatusCode, p, err)
		}
		close(done)
		for _, conn := range busy {
			if status, body := answerOf(t, conn); status != 200 || body != "hello" {
				t.Errorf("one that was worked for is answered with %d %q, want 200 hello", status, body)
			}
		}
		late := s.dial(t)
		ask(t, late, get)
		if status, _ := answerOf(t, late); status != 200 {
			t.Errorf("afterwards a newcomer is answered with %d, want 200", status)
		}
		s.wantEnd(t)
	})
}

// What they ask for needs no token: the larger files of the page, say.
func TestACrowdThatDoesNotReadKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/large" {
				_, _ = w.Write(make([]byte, 1<<20))
				return
			}
			hello(w, r)
		}, 3)
		var crowd []net.Conn
		for range 3 {
			conn := s.dial(t)
			ask(t, conn, "GET /large HTTP/1.1\nHost: localhost\n\n")
			crowd = append(crowd, conn)
			<-time.After(100 * time.Millisecond)
		}
		early := s.dial(t)
		if status, _ := answerOf(t, early); status != 503 {
			t.Errorf("while nobody has been blocked for a second, the newcomer is answered with %d, want 503", status)
		}
		<-time.After(blockedTime)
		for i, out := range crowd { // the longest blocked first
			conn := s.dial(t)
			ask(t, conn, get)
			if status, _ := answerOf(t, conn); status != 200 {
				t.Errorf("newcomer %d is answered with %d, want 200", i, status)
			}
			wantClosed(t, out, 0, 0)
			ask(t, conn, "GET /large HTTP/1.1\nHost: localhost\n\n") // and does not read either
			synctest.Wait()
		}
		if status, _ := answerOf(t, s.dial(t)); status != 503 {
			t.Errorf("while all places are taken by others, the newcomer is answered with %d, want 503", status)
		}
		s.wantEnd(t)
	})
}

// The newcomer waits as well, until its request is there; but others are stuck for longer.
func TestWhoHasJustComeIsNotPushedOutByThoseWhoDoNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/large" {
				_, _ = w.Write(make([]byte, 1<<20))
				return
			}
			hello(w, r)
		}, 8)
		crowd := func() {
			ask(t, s.dial(t), "GET /large HTTP/1.1\nHost: localhost\n\n")
		}
		for range 8 {
			crowd()
		}
		<-time.After(2 * time.Second)
		operator := s.dial(t)
		for range 7 {
			crowd()
		}
		ask(t, operator, get)
		if status, _ := answerOf(t, operator); status != 200 {
			t.Errorf("the operator is answered with %d, want 200", status)
		}
		s.wantEnd(t)
	})
}

func TestWhoReadsSlowlyIsNotPushedOut(t *testing.T) {
	const size = 10 * writeSize
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }, 1)
		slow := s.dial(t)
		ask(t, slow, "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n")
		got := 0
		for got < size {
			n, err := io.ReadFull(slow, make([]byte, writeSize/2)) // twice as much as is asked for
			got += n
			if err != nil {
				break
			}
			<-time.After(blockedTime / 2)
			if status, _ := answerOf(t, s.dial(t)); status != 503 {
				t.Errorf("the newcomer is answered with %d, want 503", status)
			}
		}
		if got < size {
			t.Errorf("%d bytes arrived, want all %d", got, size)
		}
		_ = slow.Close()
		s.wantEnd(t)
	})
}

func TestPlacesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnLimiter(2)
		for range 10 {
			a, b := net.Pipe()
			m, out := c.admit(a)
			if m == nil || out != nil {
				t.Fatal("there is no room although all have left")
			}
			m.beginRequest()
			m.beginWrite()
			_ = m.Close()
			m.endWrite(net.ErrClosed)
			m.beginWrite() // net/http may try again
			m.endWrite(net.ErrClosed)
			m.endRequest() // the handler returns after the connection was closed
			_ = m.Close()
			_ = b.Close()
		}
		if len(c.conns) != 0 || c.waiting.Len() != 0 || c.writing.Len() != 0 || c.active != 0 {
			t.Errorf("%d are left, %d of them wait, %d write, and %d requests, want none", len(c.conns), c.waiting.Len(), c.writing.Len(), c.active)
		}
	})
}

// net/http closes so when it hangs up on somebody who is still sending.
func TestAConnectionCanBeClosedInOneDirection(t *testing.T) {
	l, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := newConnLimiter(1).listen(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, conn := range []net.Conn{client, server} {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client reads %d bytes, %v, want the end", n, err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 1 {
		t.Errorf("the server reads %d bytes, %v, want what the client still sends", n, err)
	}
}
