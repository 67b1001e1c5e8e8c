package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// This file tests how long is waited, on the clock of testing/synctest: the node is at
// the other end of a pipe.

// pipes is a listener to which a client dials without a network.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// servePipe is serve in a bubble of synctest.
func servePipe(t *testing.T, f http.HandlerFunc) *Client {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(p) }()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		p.conns <- far
		return near, nil
	}
	t.Cleanup(func() {
		c.Close()
		close(p.done)
		_ = server.Close()
	})
	return c
}

// trickle writes a piece at a time, with a pause before each.
func trickle(w http.ResponseWriter, r *http.Request, pause time.Duration, pieces ...string) {
	for _, piece := range pieces {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, piece)
	}
	_ = http.NewResponseController(w).Flush()
}

func TestAStreamMaySayNothingForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		comments := make([]string, 240)
		for i := range comments {
			comments[i] = ": \n\n"
		}
		connections := 0
		c := servePipe(t, func(w http.ResponseWriter, r *http.Request) {
			if connections++; connections > 1 { // it should not have come back: the end
				comments = nil
			}
			w.Header().Set("Content-Type", "text/event-stream")
			trickle(w, r, 15*time.Second, append(comments, frames(7))...)
			<-r.Context().Done()
		})
		begun, enough := time.Now(), errors.New("enough")
		err := c.Watch(t.Context(), Watch{Since: new(uint64)}, func(e Event) error {
			if e.ID != 7 {
				t.Errorf("got event %d, want 7", e.ID)
			}
			return enough
		})
		if took := time.Since(begun); !errors.Is(err, enough) || connections != 1 || took < time.Hour {
			t.Errorf("after %v and %d connections it ended with %v; want the event after an hour of comments, on the first connection", took, connections, err)
		}
	})
}

func TestAStreamThatIsSilentIsGivenUpAfterThreeComments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipe(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			trickle(w, r, 15*time.Second, ": \n\n")
			<-r.Context().Done()
		})
		begun, ctx, cancel := time.Now(), t.Context(), context.CancelFunc(nil)
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		var why error
		_ = c.Watch(ctx, Watch{Since: new(uint64), Lost: func(err error) { why = err; cancel() }}, func(Event) error { return nil })
		if took := time.Since(begun); why == nil || !strings.Contains(why.Error(), "no answer within 50s") || took != 65*time.Second {
			t.Errorf("after %v it was lost with %v; want that nothing came for 50s", took, why)
		}
	})
}

func TestAListMayTakeItsTimeAsLongAsItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		for i := range 100 {
			lines = append(lines, fmt.Sprintf("10.0.0.%d\n", i))
		}
		c := servePipe(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			trickle(w, r, DefaultTimeout-time.Second, lines...)
		})
		var got bytes.Buffer
		if err := c.ExportRules(t.Context(), nil, &got); err != nil || got.String() != strings.Join(lines, "") {
			t.Errorf("%d bytes of the list came, and the error %v; want all of it", got.Len(), err)
		}
	})
}

func TestADocumentHasToComeAsAWholeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipe(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			trickle(w, r, 20*time.Second, "{", "}")
		})
		begun := time.Now()
		_, err := c.Status(t.Context())
		if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "no answer within 30s") || took != DefaultTimeout {
			t.Errorf("after %v the error is %v, want it after 30s", took, err)
		}
	})
}
