package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file tests that a watch misses nothing that the node remembers, whatever becomes
// of its connection.

// script is a node that does something else at each connection to its stream.
type script struct {
	newest int // what "recent" says
	acts   []func(w http.ResponseWriter, r *http.Request)
	from   []string // the Last-Event-ID of each connection
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/recent") {
		list := ""
		if s.newest > 0 {
			list = fmt.Sprintf(`{"id":%d,"type":"trim"}`, s.newest)
		}
		writeJSON(w, `{"events":[`+list+`]}`)
		return
	}
	s.from = append(s.from, r.Header.Get("Last-Event-ID")+r.URL.RawQuery)
	if len(s.from) > len(s.acts) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"title":"the script has ended"}`)
		return
	}
	s.acts[len(s.from)-1](w, r)
}

// events is a connection on which events come, which then breaks.
func events(ids ...int) func(http.ResponseWriter, *http.Request) {
	return stream(frames(ids...))
}

func frames(ids ...int) string {
	var b strings.Builder
	b.WriteString("retry: 2000\n\n: \n\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "id: %d\nevent: trim\ndata: {\"id\":%d,\"type\":\"trim\",\"at\":\"2026-11-22T00:00:00Z\",\"text\":\"event %d\"}\n\n", id, id, id)
	}
	return b.String()
}

func stream(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, text)
	}
}

func fails(status int, kind, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// play watches a script until it ends, and returns what was seen, one word each.
func play(t *testing.T, s *script, w Watch) (seen []string, err error) {
	t.Helper()
	c := serve(t, Options{}, s.ServeHTTP)
	c.backoff = func(int) time.Duration { return 0 }
	w.Lost = func(err error) {
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("the connection was lost with the error %q", err)
		}
		seen = append(seen, "lost")
	}
	w.Resumed = func() { seen = append(seen, "resumed") }
	w.Behind = func() { seen = append(seen, "behind") }
	err = c.Watch(t.Context(), w, func(e Event) error {
		seen = append(seen, fmt.Sprint(e.ID))
		return nil
	})
	return seen, err
}

func TestAWatchGoesOnAfterTheLastEventItSaw(t *testing.T) {
	for _, c := range []struct {
		title  string
		newest int
		acts   []func(http.ResponseWriter, *http.Request)
		seen   string
		from   string
	}{
		{
			"the node ends the stream", 4,
			[]func(http.ResponseWriter, *http.Request){events(5, 6), events(7)},
			"5 6 lost resumed 7 lost", "4 6 7",
		},
		{
			"nothing has happened yet", 0,
			[]func(http.ResponseWriter, *http.Request){events(1)},
			"1 lost", "0 1",
		},
		{
			"no event comes before the connection is lost", 4,
			[]func(http.ResponseWriter, *http.Request){events(), events(5)},
			"lost resumed 5 lost", "4 4 5",
		},
		{
			"the node is away for a while", 4,
			[]func(http.ResponseWriter, *http.Request){
				events(5), fails(502, "text/html", "<h1>Bad Gateway</h1>"),
				fails(503, "application/problem+json", `{"title":"too many streams"}`), events(6),
			},
			"5 lost resumed 6 lost", "4 5 5 5 6",
		},
		{
			"it was too slow", 4,
			[]func(http.ResponseWriter, *http.Request){
				stream(frames(5) + "event: lost\ndata: {\"type\":\"lost\"}\n\n"), events(6, 7),
			},
			"5 behind 6 7 lost", "4 5 7",
		},
		{
			"an event is garbage", 4,
			[]func(http.ResponseWriter, *http.Request){stream(frames(5) + "data: \x1b[31m\n\n"), events(6)},
			"5 lost resumed 6 lost", "4 5 6",
		},
		{
			"an event is half there", 4,
			[]func(http.ResponseWriter, *http.Request){stream(frames(5) + "id: 6\ndata: {\"id\":6}\n"), events(6)},
			"5 lost resumed 6 lost", "4 5 6",
		},
	} {
		s := &script{newest: c.newest, acts: c.acts}
		seen, err := play(t, s, Watch{})
		if got := strings.Join(seen, " "); got != c.seen {
			t.Errorf("%s: saw %q, want %q", c.title, got, c.seen)
		}
		if got := strings.Join(s.from, " "); got != c.from {
			t.Errorf("%s: connected after the events %q, want %q", c.title, got, c.from)
		}
		var status *StatusError
		if !errors.As(err, &status) || !status.Refused() {
			t.Errorf("%s: ended with %v, want the refusal at the end of the script", c.title, err)
		}
	}
}

func TestAWatchAsksForWhatIsWanted(t *testing.T) {
	s := &script{newest: 9, acts: []func(http.ResponseWriter, *http.Request){events()}}
	_, _ = play(t, s, Watch{Types: []string{"trim", "closed"}, Peer: "a b", Since: new(uint64(3))})
	want := []string{"3peer=a+b&types=trim%2Cclosed", "3peer=a+b&types=trim%2Cclosed"}
	if !slices.Equal(s.from, want) {
		t.Errorf("asked %q, want %q", s.from, want)
	}
}

func TestAWatchThatCannotBeginEnds(t *testing.T) {
	for title, act := range map[string]func(http.ResponseWriter, *http.Request){
		"a web page":       fails(200, "text/html", "<html>"),
		"too many streams": fails(503, "application/problem+json", `{"title":"too many streams"}`),
		"no such API":      fails(404, "text/plain", "404 page not found"),
	} {
		s := &script{acts: []func(http.ResponseWriter, *http.Request){act, events(1)}}
		if seen, err := play(t, s, Watch{}); err == nil || len(s.from) != 1 || len(seen) > 0 {
			t.Errorf("%s: connected %d times, saw %q, ended with %v; want the error at once", title, len(s.from), seen, err)
		}
	}
}

func TestAWatchEndsWithWhoeverWatches(t *testing.T) {
	enough := errors.New("enough")
	s := &script{acts: []func(http.ResponseWriter, *http.Request){events(1, 2, 3)}}
	c := serve(t, Options{}, s.ServeHTTP)
	var seen []uint64
	err := c.Watch(t.Context(), Watch{}, func(e Event) error {
		if seen = append(seen, e.ID); e.ID == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(seen, []uint64{1, 2}) {
		t.Errorf("saw %v and ended with %v, want 1 and 2 and the error of the caller", seen, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	s = &script{acts: []func(http.ResponseWriter, *http.Request){events(1)}}
	c = serve(t, Options{}, s.ServeHTTP)
	c.backoff = func(int) time.Duration { return time.Hour }
	err = c.Watch(ctx, Watch{Lost: func(error) { cancel() }}, func(Event) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("while it waited to connect again it ended with %v, want that of the context", err)
	}
}

func TestPausesBetweenAttemptsGrowAndStayBounded(t *testing.T) {
	last := time.Duration(0)
	for attempt := range 100 {
		d := backoff(attempt)
		if d < last || d > 10*time.Second || d <= 0 {
			t.Fatalf("attempt %d waits %v after %v, want no less and at most 10s", attempt, d, last)
		}
		last = d
	}
	if first := backoff(0); first > time.Second {
		t.Errorf("the first attempt waits %v, want less than a second: a restart takes no longer", first)
	}
	if got := wantedPause(&StatusError{RetryAfter: 5 * time.Second}); got != 5*time.Second {
		t.Errorf("a node that asks for 5s gets %v", got)
	}
}
