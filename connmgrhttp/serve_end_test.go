package connmgrhttp

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// This file tests that clients which are slow, or do nothing, do not hold up the end, and
// that it is none of the server's fault. It runs on the clock of testing/synctest.

const large = 10 << 20

func TestAClientThatIsSlowDoesNotMakeTheEndAnError(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	readAll := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the body has arrived, want an error")
		}
		hello(w, r)
	}
	impatient := func(w http.ResponseWriter, r *http.Request) { // sets deadlines for whatever it does
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(time.Hour))
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		_ = control.SetReadDeadline(time.Now().Add(time.Hour))
		_ = control.SetWriteDeadline(time.Now().Add(time.Hour))
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, large))
	}
	for _, test := range []struct {
		name, raw string
		h         http.HandlerFunc
		untaken   bool
	}{
		{"a body that does not arrive", "POST / HTTP/1.1\nHost: localhost\nContent-Length: 50\n\n{", readAll, false},
		{"chunks that do not arrive", "POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n5\na", readAll, false},
		{"a body that does not arrive, and its deadline is put off", "POST / HTTP/1.1\nHost: localhost\nContent-Length: 50\n\n{", impatient, true},
		{"an answer that nobody reads", get, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, large)) }, true},
		{"an answer that nobody reads, and its deadline is put off", get, impatient, true},
		{"a short answer that nobody reads", get, hello, true},
		{"one request after the other", strings.Repeat(get, 40), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1000)) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			log.Reset()
			synctest.Test(t, func(t *testing.T) {
				s := startServing(test.h, maxConns)
				conn := s.dial(t)
				ask(t, conn, test.raw)
				synctest.Wait()
				if !test.untaken {
					go func() { _, _ = io.Copy(io.Discard, conn) }()
				}
				s.wantEnd(t)
			})
			if told := strings.Contains(log.String(), "connections=1"); told != test.untaken {
				t.Errorf("the log is %q, want it to tell of one connection that was cut off: %v", log.String(), test.untaken)
			}
		})
	}
}

// A client that takes a little now and then holds up nothing for longer than the rest.
func TestAClientThatReadsABitDoesNotMakeTheEndAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, large)) }, maxConns)
		conn := s.dial(t)
		ask(t, conn, get)
		go func() {
			for {
				if _, err := io.ReadFull(conn, make([]byte, writeSize)); err != nil {
					return
				}
				<-time.After(lastWriteTime / 2)
			}
		}()
		synctest.Wait()
		start := time.Now()
		s.end()
		if err := <-s.result; err != nil {
			t.Errorf("Serve returned %v, want nil", err)
		}
		if after := time.Since(start); after > drainTime+cutOffTime {
			t.Errorf("Serve returned after %v, want about %v", after, drainTime)
		}
		<-time.After(time.Minute)
	})
}

func TestWhoTakesTheAnswerGetsItWholeAtTheEnd(t *testing.T) {
	for _, size := range []int{1, large} { // what is short is written when the handler has returned
		synctest.Test(t, func(t *testing.T) {
			s := startServing(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }, maxConns)
			conn := s.dial(t)
			ask(t, conn, get)
			synctest.Wait()
			got := make(chan int, 1)
			go func() {
				<-time.After(lastWriteTime / 2)
				body, _ := io.ReadAll(conn)
				got <- bytes.Count(body, []byte{0})
			}()
			s.wantEnd(t)
			if n := <-got; n != size {
				t.Errorf("%d bytes of the answer arrived, want all %d", n, size)
			}
		})
	}
}
