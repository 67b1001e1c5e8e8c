package apiload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file reads event streams, and compares what came with what happened.

// StreamResult is what became of the streams.
type StreamResult struct {
	// Read is the streams that were read, and Delivered the events that came in all of
	// them together.
	Read, Delivered int
	// Wrongs is the streams that did not deliver what they should have, and Wrong says so
	// of the first of them.
	Wrongs int
	Wrong  []string
}

// streams is readers and those who never read.
type streams struct {
	readers []*reader
	silent  []io.Closer
	client  *http.Client
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// wish is which events a reader wants: of some types, or of all; of a peer, or of all.
type wish struct {
	types []api.EventType
	peer  string
}

// wishFor returns what the i-th reader wants: most want everything, as the page does.
func wishFor(i int, peers []string) wish {
	switch i % 10 {
	case 5:
		return wish{types: []api.EventType{api.Connected, api.Disconnected}}
	case 6:
		return wish{types: []api.EventType{api.PeerClosed, api.TrimEnded}}
	case 7:
		return wish{types: []api.EventType{api.Denied}}
	case 8:
		return wish{types: []api.EventType{api.RulesChanged, api.LimitsChanged}}
	case 9:
		return wish{peer: peers[i/10%watchedPeers]}
	}
	return wish{}
}

// watchedPeers is how many peers have streams of their own.
const watchedPeers = 5

func (w wish) query(since uint64) string {
	q := url.Values{"since": {strconv.FormatUint(since, 10)}}
	for i, t := range w.types {
		if i == 0 {
			q.Set("types", string(t))
		} else {
			q.Set("types", q.Get("types")+","+string(t))
		}
	}
	if w.peer != "" {
		q.Set("peer", w.peer)
	}
	return "/v1/events?" + q.Encode()
}

// openStreams opens all streams. They begin behind the event with an ID.
func (l *load) openStreams(ctx context.Context, since uint64) (*streams, error) {
	s := &streams{client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	ctx, s.cancel = context.WithCancel(ctx)
	for i := range l.cfg.Streams {
		r := &reader{wish: wishFor(i, l.caller.peers), decodes: i%10 == 0 && i < 20, last: since, begun: time.Now()}
		if err := s.open(ctx, l.node, r, since); err != nil {
			s.close()
			return nil, fmt.Errorf("open the %d. event stream: %w", i+1, err)
		}
		s.readers = append(s.readers, r)
	}
	for range l.cfg.Silent {
		conn, err := l.node.openSilent(ctx, since)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("open an event stream that is never read: %w", err)
		}
		s.silent = append(s.silent, conn)
	}
	return s, nil
}

func (s *streams) open(ctx context.Context, n *node, r *reader, since uint64) error {
	req, err := get(ctx, n.url+r.wish.query(since))
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return fmt.Errorf("status %s", resp.Status)
	}
	s.wg.Go(func() {
		defer resp.Body.Close()
		err := r.read(resp.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = err
	})
	return nil
}

// close ends the streams. Closing twice is the same as once.
func (s *streams) close() {
	s.cancel()
	s.wg.Wait()
	for _, c := range s.silent {
		_ = c.Close()
	}
	s.client.CloseIdleConnections()
}

// openSilent opens a stream that is never read. The connection has little room for what
// is on its way, so that the node notices soon.
func (n *node) openSilent(ctx context.Context, since uint64) (io.Closer, error) {
	conn, err := n.dialAPI(ctx, narrowDialer())
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, n.head("GET", wish{}.query(since))+"\r\n"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// reader reads a stream of events.
type reader struct {
	wish    wish
	decodes bool // it takes a look into the events, which takes time
	begun   time.Time

	mu    sync.Mutex // guards all following fields
	last  uint64     // ID
	seen  history
	wrong string // the first thing that was not as it should be
	ended error
}

// read reads until the stream ends.
func (r *reader) read(body io.Reader) error {
	in := bufio.NewReaderSize(body, 16<<10)
	var f frame
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("the stream ended: %w", err)
		}
		if line = line[:len(line)-1]; len(line) > 0 {
			f.add(line)
			continue
		}
		if f.event != "" {
			r.note(&f)
		}
		f.reset()
	}
}

// frame is an event as it comes over the wire.
type frame struct {
	id, event string
	data      []byte
}

func (f *frame) add(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(": "))
	switch string(name) {
	case "id":
		f.id = string(value)
	case "event":
		f.event = string(value)
	case "data":
		f.data = append(f.data, value...)
	}
}

func (f *frame) reset() { f.id, f.event, f.data = "", "", f.data[:0] }

func (r *reader) note(f *frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fail := func(format string, args ...any) {
		if r.wrong == "" {
			r.wrong = fmt.Sprintf(format, args...)
		}
	}
	id, err := strconv.ParseUint(f.id, 10, 64)
	everything := len(r.wish.types) == 0 && r.wish.peer == ""
	switch {
	case err != nil:
		fail("the event %q has ID %q: %s", f.event, f.id, f.data)
	case id <= r.last:
		fail("event %d came after %d", id, r.last)
	case everything && id != r.last+1:
		fail("event %d came after %d, which leaves a gap", id, r.last)
	}
	r.last = id
	kind := api.EventType(f.event)
	if !r.decodes {
		r.seen.add(kind, 0)
		return
	}
	var e api.Event
	if err := json.Unmarshal(f.data, &e); err != nil || e.ID != id || e.Type != kind {
		fail("the data of event %d, %s, are %s (%v)", id, kind, f.data, err)
	}
	r.seen.add(kind, hashOf(kind, e.Peer, e.At))
}

// compare waits until all events that happened have come, and says what did not.
func (s *streams) compare(ctx context.Context, happened EventResult) StreamResult {
	res := StreamResult{Read: len(s.readers)}
	_ = until(ctx, func() bool {
		for _, r := range s.readers {
			if r.missing(happened) {
				return false
			}
		}
		return true
	})
	for i, r := range s.readers {
		res.Delivered += r.count()
		if wrong := r.judge(happened); wrong != "" {
			if res.Wrongs++; res.Wrongs <= wrongsKept {
				res.Wrong = append(res.Wrong, fmt.Sprintf("stream %d (types %v, peer %q): %s", i, r.wish.types, r.wish.peer, wrong))
			}
		}
	}
	return res
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.total()
}

// missing reports whether events are still to come.
func (r *reader) missing(happened EventResult) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended == nil && r.wrong == "" && r.seen.total() < happened.wanted(r.wish)
}

// judge says what is wrong with a stream, "" if nothing is.
func (r *reader) judge(happened EventResult) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch want := happened.wanted(r.wish); {
	case r.wrong != "":
		return r.wrong
	case r.ended != nil:
		return r.ended.Error()
	case r.seen.total() != want:
		return fmt.Sprintf("%d events came (%v), want %d (of %v)", r.seen.total(), r.seen.counts, want, happened.history.counts)
	case r.decodes && r.seen.chain != happened.history.chain:
		return "as many events came as happened, but not the same ones in the same order"
	}
	return ""
}
