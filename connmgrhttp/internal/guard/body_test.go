package guard_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/guard"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file tests how much is read of a body, and of which types.

const bodyLimit = 1 << 10

// readBody answers with the size of the body.
func readBody(w http.ResponseWriter, r *http.Request) {
	body, err := guard.Body(r, bodyLimit, "text/plain", "application/json")
	if p, ok := errors.AsType[*api.Problem](err); ok {
		problem.Write(w, *p)
		return
	}
	fmt.Fprintf(w, "%d bytes", len(body))
}

// countingListener counts what is read of its connections.
type countingListener struct {
	net.Listener
	read atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn.(*net.TCPConn), &l.read}, nil
}

type countingConn struct {
	*net.TCPConn
	read *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func TestOfAGigabyteAlmostNothingIsRead(t *testing.T) {
	const gigabyte = 1 << 30
	post := "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\n"
	chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
	for _, test := range []struct {
		name, head, piece, refused string
		next                       http.HandlerFunc
	}{
		{"announced", post + fmt.Sprintf("Content-Length: %d\n\n", gigabyte), strings.Repeat("x", 1<<16), "too-large", readBody},
		{"in chunks", post + "Transfer-Encoding: chunked\n\n", chunk, "too-large", readBody},
		{"announced, to a GET", fmt.Sprintf("GET /v1/status HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n", gigabyte), strings.Repeat("x", 1<<16), "too-large", readBody},
		{"in chunks, to a DELETE", "DELETE /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nTransfer-Encoding: chunked\n\n", chunk, "too-large", readBody},
		{"to a stranger's Host", "POST /v1/rules HTTP/1.1\nHost: evil.example\nTransfer-Encoding: chunked\n\n", chunk, "misdirected", readBody},
		{"in chunks, and nobody reads", post + "Transfer-Encoding: chunked\n\n", chunk, "", func(http.ResponseWriter, *http.Request) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &countingListener{Listener: inner}
			s := open(t, l, guard.Config{}, test.next)
			conn := s.dial(t)
			sent := make(chan int64)
			go func() {
				var n int64
				_, err := io.WriteString(conn, strings.ReplaceAll(test.head, "\n", "\r\n"))
				for err == nil && n < gigabyte {
					var m int
					m, err = io.WriteString(conn, test.piece)
					n += int64(m)
				}
				sent <- n
			}()
			resp, body := readAnswer(t, conn)
			if test.refused != "" {
				wantRefused(t, resp, body, test.refused)
			}
			if !resp.Close {
				t.Error("the connection is kept open, want it closed")
			}
			if n := <-sent; n >= gigabyte {
				t.Error("the whole gigabyte was sent, want the server to hang up before")
			}
			// What net/http reads of a body to be able to keep the connection.
			if n := l.read.Load(); n > 1<<20 {
				t.Errorf("%d bytes were read, want less than a mebibyte", n)
			}
		})
	}
}

func TestWhoAsksBeforeSendingIsToldNotTo(t *testing.T) {
	s := open(t, nil, guard.Config{}, readBody)
	resp, body := s.ask(t, fmt.Sprintf("POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: %d\nExpect: 100-continue\n\n", bodyLimit+1))
	wantRefused(t, resp, body, "too-large") // and not a 100 before
}

func TestABodyIsReadUpToItsLimit(t *testing.T) {
	s := open(t, nil, guard.Config{}, readBody)
	for _, size := range []int{0, 1, bodyLimit - 1, bodyLimit, bodyLimit + 1} {
		for _, chunked := range []bool{false, true} {
			content := strings.Repeat("x", size)
			raw := "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nConnection: close\n"
			switch {
			case !chunked:
				raw += fmt.Sprintf("Content-Length: %d\n\n%s", size, content)
			case size > 0:
				raw += fmt.Sprintf("Transfer-Encoding: chunked\n\n%x\n%s\n0\n\n", size, content)
			default:
				raw += "Transfer-Encoding: chunked\n\n0\n\n"
			}
			resp, body := s.ask(t, raw)
			if size > bodyLimit {
				wantRefused(t, resp, body, "too-large")
				continue
			}
			if want := fmt.Sprintf("%d bytes", size); body != want {
				t.Errorf("%d bytes, chunked %v: the answer is %q, want %q", size, chunked, body, want)
			}
		}
	}
}

func TestABodyIsOfATypeThatIsRead(t *testing.T) {
	s := open(t, nil, guard.Config{}, readBody)
	for _, test := range []struct {
		headers string
		read    bool
	}{
		{"Content-Type: text/plain\n", true},
		{"Content-Type: Application/JSON\n", true},
		{"Content-Type: application/json; charset=UTF-8\n", true},
		{"Content-Type: application/json;v=1\nContent-Encoding: identity\n", true},
		{"", false},
		{"Content-Type: \n", false},
		{"Content-Type: application/x-www-form-urlencoded\n", false},
		{"Content-Type: multipart/form-data; boundary=x\n", false},
		{"Content-Type: text/html\n", false},
		{"Content-Type: application/json2\n", false},
		{"Content-Type: application/json, text/html\n", false},
		{"Content-Type: application/json; charset=utf-16\n", false},
		{"Content-Type: application/json; charset=utf-8; charset=utf-7\n", false},
		{"Content-Type: application/json\nContent-Type: application/json\n", false},
		{"Content-Type: application/json\nContent-Encoding: gzip\n", false},
		{"Content-Type: application/json\nContent-Encoding: identity\nContent-Encoding: gzip\n", false},
	} {
		resp, body := s.ask(t, "POST /v1/rules HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: 2\n"+test.headers+"\n{}")
		if test.read {
			if resp.StatusCode != 200 || body != "2 bytes" {
				t.Errorf("%q: the answer is %d %s, want 200 and 2 bytes", test.headers, resp.StatusCode, body)
			}
			continue
		}
		wantRefused(t, resp, body, "unsupported-media-type")
	}
}

func TestABodyThatEndsTooEarlyIsRefused(t *testing.T) {
	s := open(t, nil, guard.Config{}, readBody)
	for name, rest := range map[string]string{
		"announced": "Content-Length: 10\n\nabc",
		"chunked":   "Transfer-Encoding: chunked\n\n10\nabc",
		"no chunk":  "Transfer-Encoding: chunked\n\nhello\n",
	} {
		conn := s.dial(t)
		raw := "POST /v1/rules HTTP/1.1\nHost: localhost\nContent-Type: text/plain\n" + rest
		if _, err := io.WriteString(conn, strings.ReplaceAll(raw, "\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, body := readAnswer(t, conn)
		if p := wantRefused(t, resp, body, "bad-request"); !strings.Contains(p.Detail, "did not arrive whole") {
			t.Errorf("%s: the detail is %q, want it to say that the body did not arrive whole", name, p.Detail)
		}
	}
}

func TestARequestForAReadMayHaveASmallBody(t *testing.T) {
	s := open(t, nil, guard.Config{}, readBody)
	for _, method := range []string{"GET", "DELETE", "OPTIONS"} {
		resp, body := s.ask(t, method+" /v1/status HTTP/1.1\nHost: localhost\nConnection: close\nContent-Type: text/plain\nContent-Length: 2\n\n{}")
		if resp.StatusCode != 200 || body != "2 bytes" {
			t.Errorf("%s: the answer is %d %s, want 200 and 2 bytes", method, resp.StatusCode, body)
		}
	}
}

func TestAHandlerThatDoesNotCountReadsLittleOfAStrayBody(t *testing.T) {
	read := make(chan int64, 1)
	s := open(t, nil, guard.Config{}, func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			t.Error("the whole body was read, want an error")
		}
		read <- n
	})
	_, _ = s.ask(t, "DELETE /v1/rules HTTP/1.1\nHost: localhost\nConnection: close\nTransfer-Encoding: chunked\n\n2000\n"+strings.Repeat("x", 0x2000)+"\n0\n\n")
	if n := <-read; n != 4<<10 {
		t.Errorf("%d bytes were read, want 4096", n)
	}
}

func TestADocumentIsReadFromARequest(t *testing.T) {
	s := open(t, nil, guard.Config{}, func(w http.ResponseWriter, r *http.Request) {
		var doc struct {
			Low int `json:"low"`
		}
		body, err := guard.Body(r, bodyLimit, "application/json")
		if err == nil {
			err = guard.Decode(body, &doc)
		}
		if p, ok := errors.AsType[*api.Problem](err); ok {
			problem.Write(w, *p)
			return
		}
		fmt.Fprintf(w, "low is %d", doc.Low)
	})
	post := "POST /v1/limits HTTP/1.1\nHost: localhost\nConnection: close\nContent-Type: application/json\n"
	if _, body := s.ask(t, post+"Content-Length: 10\n\n{\"low\": 3}"); body != "low is 3" {
		t.Errorf("the answer is %q, want low is 3", body)
	}
	resp, body := s.ask(t, post+"Content-Length: 12\n\n{\"low\": \"3\"}")
	if p := wantRefused(t, resp, body, "unprocessable"); p.Field != "low" || p.Line != 1 {
		t.Errorf("the problem is at line %d, field %q, want line 1, low", p.Line, p.Field)
	}
	resp, body = s.ask(t, post+"Content-Length: 8\n\n{\"low\": ")
	wantRefused(t, resp, body, "bad-request")
	resp, body = s.ask(t, post+"Content-Length: 2000\n\n{\"low\": ")
	wantRefused(t, resp, body, "too-large")
	resp, body = s.ask(t, strings.Replace(post, "application/json", "text/plain", 1)+"Content-Length: 10\n\n{\"low\": 3}")
	wantRefused(t, resp, body, "unsupported-media-type")
}
