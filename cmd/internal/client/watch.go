package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file follows what happens at a node, over restarts of the node and breaks of the
// network, without missing anything that the node still remembers.

// streamSilence is how long a stream may be silent: the node writes a comment every 15
// seconds.
const streamSilence = 50 * time.Second

// steady is how long a connection must have lasted for the next attempts to begin with
// short pauses again.
const steady = 10 * time.Second

// backoff is how long to wait before the first and later attempts to connect again.
func backoff(attempt int) time.Duration {
	return min(250*time.Millisecond<<min(attempt, 6), 10*time.Second)
}

// Event is an event as it came, and what every event has.
type Event struct {
	Raw  json.RawMessage `json:"-"`
	ID   uint64          `json:"id"`
	Type api.EventType   `json:"type"`
	At   time.Time       `json:"at"`
	Text string          `json:"text"`
	Peer string          `json:"peer"`
}

// parseEvent reads one, and passes over what it does not know.
func parseEvent(raw []byte) (Event, error) {
	e := Event{Raw: append(json.RawMessage(nil), raw...)}
	return e, json.Unmarshal(raw, &e)
}

// Watch says what to watch, and who wants to know how it goes.
type Watch struct {
	// Types are the kinds of events; none is all. Peer is whom they are about; "" is
	// everybody.
	Types []string
	Peer  string
	// Since is the ID of the event after which to begin; nil is now.
	Since *uint64
	// Lost is told once when the connection is lost, with why; Resumed when it is there
	// again. Behind is told that this reader was too slow for the node, which then
	// dropped it; what the node still remembers comes. Nil is nobody.
	Lost    func(error)
	Resumed func()
	Behind  func()
}

// Watch calls each for one event after the other until it returns an error, which is
// returned, or the context ends. At the first connection every error is returned; later
// only refusals are, and other errors make it connect again after a while.
func (c *Client) Watch(ctx context.Context, w Watch, each func(Event) error) error {
	s := watching{client: c, Watch: w, each: each}
	if w.Since != nil {
		s.last = *w.Since
	} else if err := s.fromNow(ctx); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		err := s.stream(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.stopped != nil:
			return s.stopped
		case s.began.IsZero(), isRefusal(err):
			return err
		}
		if s.connected {
			if s.connected = false; time.Since(s.began) > steady {
				attempt = 0
			}
			s.tell(err)
		}
		pause := time.NewTimer(max(c.backoff(attempt), wantedPause(err)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// watching is a Watch under way.
type watching struct {
	Watch
	client    *Client
	each      func(Event) error
	last      uint64    // the ID of the last event seen
	began     time.Time // of the last connection; zero before the first
	connected bool
	lost      bool  // Lost was told, and Resumed was not yet
	stopped   error // what each returned
}

// errBehind is the end of a stream that was read too slowly.
var errBehind = errors.New("events were read too slowly")

// tell tells that the connection is lost, and why.
func (s *watching) tell(err error) {
	if errors.Is(err, errBehind) {
		if s.Behind != nil {
			s.Behind()
		}
		return
	}
	if s.lost = true; s.Lost != nil {
		s.Lost(err)
	}
}

// fromNow sets last to the newest event, so that nothing is missed from then on.
func (s *watching) fromNow(ctx context.Context) error {
	answer, err := s.client.RecentEvents(ctx, nil, "", 1)
	if err != nil {
		return err
	}
	var list struct {
		Events []struct {
			ID uint64 `json:"id"`
		} `json:"events"`
	}
	if err := json.Unmarshal(answer.raw, &list); err != nil {
		return s.client.foreign("its list of events is not understood: " + clean(err.Error()))
	}
	if len(list.Events) > 0 {
		s.last = list.Events[0].ID
	}
	return nil
}

// stream connects once, and returns why that ended.
func (s *watching) stream(ctx context.Context) error {
	c := s.client
	r := request{
		method: http.MethodGet, path: path("events"), query: eventQuery(s.Types, s.Peer), accept: mediaEvents,
		header: http.Header{"Last-Event-Id": {strconv.FormatUint(s.last, 10)}},
	}
	res, err := c.send(ctx, r, c.silence)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	s.connected, s.began = true, time.Now()
	if s.lost && s.Resumed != nil {
		s.Resumed()
	}
	s.lost = false
	messages := newMessageReader(res.Body)
	for {
		m, err := messages.next()
		switch {
		case errors.Is(err, errEventTooLarge):
			return c.foreign(err.Error())
		case errors.Is(err, io.EOF):
			return &UnreachableError{Address: c.where.name, Begun: true, Err: errors.New("the node ended the stream")}
		case err != nil:
			return c.broken(err)
		case api.EventType(m.kind) == api.Lost:
			return errBehind
		}
		e, err := parseEvent(m.data)
		if err != nil {
			return c.foreign("it sent an event that is not understood: " + clean(err.Error()))
		}
		if e.ID != 0 {
			s.last = e.ID
		}
		if s.stopped = s.each(e); s.stopped != nil {
			return s.stopped
		}
	}
}

// isRefusal reports whether asking again is no use.
func isRefusal(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Problem.Status < 500
}

// wantedPause is how long the node asks to wait.
func wantedPause(err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) {
		return min(status.RetryAfter, time.Minute)
	}
	return 0
}

// Events returns the events of a list, each as it came, in the order of the list.
func Events(a Answer[api.EventList]) ([]Event, error) {
	var list struct {
		Events []json.RawMessage `json:"events"`
	}
	err := json.Unmarshal(a.raw, &list)
	events := make([]Event, 0, len(list.Events))
	for _, raw := range list.Events {
		if err == nil {
			var e Event
			e, err = parseEvent(raw)
			events = append(events, e)
		}
	}
	if err != nil {
		return nil, &AnswerError{Address: a.from, Reason: "its list of events is not understood: " + clean(err.Error())}
	}
	return events, nil
}
