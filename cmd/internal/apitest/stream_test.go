package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file follows the stream of events, and holds each message against the description.

// stream is a stream that is being followed.
type stream struct {
	w     *world
	call  call
	rec   *httptest.ResponseRecorder
	leave context.CancelFunc
	done  chan struct{}
}

// open follows the stream of events. slow, if it is not nil, holds up what is written
// after the header until it is closed.
func (w *world) open(c call, slow <-chan struct{}) *stream {
	w.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	c.op, c.context = "streamEvents", ctx
	s := &stream{w, c, httptest.NewRecorder(), leave, make(chan struct{})}
	r := c.request(w.t, w.seen.operations[c.op])
	go func() {
		defer close(s.done)
		w.handler.ServeHTTP(slowWriter{s.rec, slow}, r)
	}()
	synctest.Wait()
	return s
}

type slowWriter struct {
	*httptest.ResponseRecorder
	slow <-chan struct{}
}

func (w slowWriter) Write(p []byte) (int, error) {
	if w.slow != nil {
		<-w.slow
	}
	return w.ResponseRecorder.Write(p)
}

// end leaves the stream, and returns the events that came.
func (s *stream) end() []api.Event {
	s.w.t.Helper()
	synctest.Wait()
	s.leave()
	<-s.done
	s.w.check(s.call, s.w.seen.operations[s.call.op], answer{s.rec.Code, s.rec.Header(), s.rec.Body.Bytes()})
	if s.rec.Code != http.StatusOK {
		return nil
	}
	return s.w.messages(s.rec.Body.String())
}

// messages reads a stream as a browser does, and checks each message.
func (w *world) messages(text string) (events []api.Event) {
	w.t.Helper()
	for _, block := range strings.SplitAfter(text, "\n\n") {
		message := make(map[string]any)
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			if name != "" { // a comment, or the end of the message
				message[name] = strings.TrimPrefix(value, " ")
			}
		}
		if _, isRetry := message["retry"]; isRetry || len(message) == 0 {
			continue
		}
		asJSON, err := json.Marshal(message)
		if err != nil {
			w.t.Fatal(err)
		}
		w.seen.holds(w.t, "EventMessage", asJSON)
		data, _ := message["data"].(string)
		w.seen.holds(w.t, "Event", []byte(data))
		e := into[api.Event](w.t, answer{body: []byte(data)})
		if id, has := message["id"]; has != (e.ID != 0) || has && id != strconv.FormatUint(e.ID, 10) || message["event"] != string(e.Type) {
			w.t.Errorf("a message has the id %v and the type %v, want those of the event in it: %s", id, message["event"], data)
		}
		events = append(events, e)
	}
	return events
}

// tellStreams follows what happens, in all ways that are described.
func tellStreams(t *testing.T, seen *coverage, names naming) {
	w := newWorld(t, seen, names, func(_ *connmgr.Config, c *connmgrhttp.Config) { c.MaxStreams = 2 })
	all := w.open(call{}, nil)
	w.connect("alice", from("192.0.2.1:4001"))
	synctest.Wait()
	some := w.open(call{query: "types=limits,rules"}, nil)
	w.do(call{op: "streamEvents", want: 503})
	w.do(call{op: "changeLimits", body: `{"low_water": 1, "hard_limit": null}`, want: 200})
	w.do(call{op: "block", body: `{"target": "192.0.2.1", "for_seconds": 1}`, want: 200})
	_ = w.gate.InterceptAccept(addrPort("192.0.2.1:4002"))
	w.do(call{op: "trim", want: 200})
	w.pass(time.Minute) // comments
	var kinds []api.EventType
	for _, e := range some.end() {
		kinds = append(kinds, e.Type)
	}
	if want := []api.EventType{api.LimitsChanged, api.RulesChanged, api.RulesChanged}; !slices.Equal(kinds, want) {
		t.Errorf("of limits and rules came %v, want %v: new limits, a rule, and its end", kinds, want)
	}
	whole := all.end()
	came := make(map[api.EventType]int)
	for _, e := range whole {
		came[e.Type]++
	}
	for _, kind := range api.EventTypes() {
		if came[kind] == 0 {
			t.Errorf("no event %q came in the stream, want each type once: %v", kind, came)
		}
	}

	// From an event on, said in both ways.
	after := strconv.FormatUint(whole[0].ID, 10)
	for _, c := range []call{
		{query: "since=" + after},
		{header: map[string]string{"Last-Event-ID": after}},
		{query: "since=" + after + "&peer=" + url.QueryEscape(w.name("alice"))},
		{query: "since=0"},
	} {
		if got := w.open(c, nil).end(); len(got) == 0 {
			t.Errorf("%s: nothing came, want what is remembered", &c)
		}
	}

	// Parameters, as in tellParameters.
	for _, p := range seen.operations["streamEvents"].parameters {
		good, bad := sampleValues(p.Value.Schema.Value)
		with := func(value string) call {
			if p.Value.In == "header" {
				return call{op: "streamEvents", header: map[string]string{p.Value.Name: value}}
			}
			return call{op: "streamEvents", query: p.Value.Name + "=" + url.QueryEscape(value)}
		}
		for _, v := range good {
			if s := w.open(with(v), nil); s.rec.Code != http.StatusOK {
				t.Errorf("%s: status %d, want it answered: %s", &s.call, s.rec.Code, s.rec.Body)
			} else {
				s.end()
			}
		}
		for _, v := range bad {
			c := with(v)
			c.follows, c.want = refused, 400
			if p.Value.In == "header" { // what a browser sends there is not refused, see the description
				continue
			}
			w.do(c)
		}
	}

	// A reader who is too slow.
	slow := make(chan struct{})
	late := w.open(call{}, slow)
	for i := range 6000 {
		_ = w.gate.InterceptAccept(addrPort(fmt.Sprintf("192.0.2.1:%d", 1000+i)))
		w.connect("busy").Drop()
	}
	synctest.Wait()
	close(slow)
	<-late.done
	if got := late.end(); len(got) == 0 || got[len(got)-1].Type != api.Lost {
		t.Errorf("a reader who was too slow got %d events, want the last to be %q", len(got), api.Lost)
	}
}
