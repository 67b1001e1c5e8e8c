package apiload

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file holds the reader of streams against streams that are not as they should be.

var noon = time.Date(2026, 12, 24, 12, 0, 0, 123, time.UTC)

// event is an event as a stream has it.
func event(id uint64, kind api.EventType, peer string) string {
	data, err := json.Marshal(api.Event{ID: id, Type: kind, Peer: peer, At: noon})
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", id, kind, data)
}

// happened is what a subscription says of a connection of alice that came and went.
func happened() EventResult {
	var e EventResult
	e.history.add(api.Connected, hashOf(api.Connected, "alice", noon))
	e.history.add(api.Disconnected, hashOf(api.Disconnected, "alice", noon))
	e.byPeer = map[string]int{"alice": 2, "bob": 0}
	return e
}

func TestAReaderSeesWhatIsWrongWithAStream(t *testing.T) {
	came, went := event(8, api.Connected, "alice"), event(9, api.Disconnected, "alice")
	all, alice := wish{}, wish{peer: "alice"}
	for _, c := range []struct {
		name   string
		wish   wish
		stream string
		want   string // part of what is wrong; "" is nothing
	}{
		{"as it should be", all, "retry: 2000\n\n" + came + ": \n\n" + went, ""},
		{"some types", wish{types: []api.EventType{api.Disconnected}}, went, ""},
		{"one peer", alice, came + went, ""},
		{"a peer that did nothing", wish{peer: "bob"}, "", ""},
		{"an event is missing", all, came, "1 events came"},
		{"an event of some types is missing", wish{types: []api.EventType{api.Disconnected}}, "", "0 events came"},
		{"an event of a peer is missing", alice, went, "1 events came"},
		{"an event too many", alice, came + went + event(10, api.Denied, "alice"), "3 events came"},
		{"a gap", all, came + event(10, api.Disconnected, "alice"), "leaves a gap"},
		{"a gap at the beginning", all, went, "leaves a gap"},
		{"an event twice", alice, came + came, "event 8 came after 8"},
		{"back in time", alice, went + came, "event 8 came after 9"},
		{"another order", all, event(8, api.Disconnected, "alice") + event(9, api.Connected, "alice"), "not the same ones"},
		{"another peer", all, came + event(9, api.Disconnected, "bob"), "not the same ones"},
		{"another type inside", all, came + strings.Replace(went, "event: dis", "event: ", 1), "the data of event 9"},
		{"the reader was too slow", all, came + "event: lost\ndata: {}\n\n", `the event "lost" has ID ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &reader{wish: c.wish, decodes: c.wish.peer == "" && c.wish.types == nil, last: 7}
			_ = r.read(strings.NewReader(c.stream)) // the end of the text is none of the stream
			got := r.judge(happened())
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

func TestAStreamThatEndedIsWrong(t *testing.T) {
	r := &reader{wish: wish{peer: "bob"}, last: 7}
	r.ended = r.read(strings.NewReader(""))
	if got := r.judge(happened()); !strings.Contains(got, "the stream ended") {
		t.Errorf("it says %q of a stream that ended, want that", got)
	}
}
