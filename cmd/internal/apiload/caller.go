package apiload

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file makes requests, on a schedule that does not wait for answers: how long one
// took is counted from when it was due, so that a server that stops for a second is seen
// to be late with the thousand requests of that second, and not with one.

// caller makes requests of all kinds.
type caller struct {
	cfg    Config
	node   *node
	peers  []string
	client *http.Client
	// dice has each kind as often as its weight says.
	dice      []int
	tally     []callTally // by kind
	took, cpu time.Duration
	cut       atomic.Int64 // requests that were cut off
	cutWrong  string       // why no more are, if that is not on purpose
}

// callTally is what became of the requests of a kind.
type callTally struct {
	due     histogram // how long they took since they were due
	sent    histogram // and since they were sent
	mu      sync.Mutex
	wrong   []string // the first few that were not answered as they should
	wrongs  int
	refused int // those that the node had no time for
}

// wrongsKept is how many wrong answers are shown.
const wrongsKept = 3

func newCaller(cfg Config, n *node, c *crowd) *caller {
	a := &caller{cfg: cfg, node: n, tally: make([]callTally, len(kinds))}
	for _, m := range c.members {
		a.peers = append(a.peers, m.host.ID().String())
	}
	for k := range kinds {
		a.dice = append(a.dice, slices.Repeat([]int{k}, kinds[k].weight)...)
	}
	a.client = &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: cfg.Clients, MaxIdleConnsPerHost: cfg.Clients, DisableCompression: true,
	}}
	return a
}

// disconnect closes the connections that wait for the next request.
func (a *caller) disconnect() { a.client.CloseIdleConnections() }

// Calls is what became of the requests.
type Calls struct {
	// Wanted is the requests due, and Made those that were made, answered or not. A machine
	// that is too slow makes fewer.
	Wanted, Made int
	// Took is how long it took until the last one was answered, and CPU how long
	// processors worked meanwhile, for both sides of everything; 0 if that is not known.
	Took, CPU time.Duration
	// Cut is the requests, beside these, that were cut off on purpose.
	Cut int
	// All is of all kinds, and Kinds of each, the most frequent first.
	All   CallKind
	Kinds []CallKind
}

// CallKind is what became of the requests of a kind.
type CallKind struct {
	Name string
	// Due is how long they took since they were due, and Sent since they were sent.
	Due, Sent Quantiles
	// Wrongs is the answers that were not as they should be, and Wrong the first of them.
	Wrongs int
	Wrong  []string
	// Refused is the answers that the node had no time.
	Refused int
}

// tooLate is how many times as long as they are due for requests are made, on a machine
// that is too slow for them. Those that are late by more are left out.
const tooLate = 3

// run makes the requests, and returns when all are answered.
func (a *caller) run(ctx context.Context) error {
	cutting, stopCutting := context.WithCancel(ctx)
	var cutters sync.WaitGroup
	cutters.Go(func() { a.cutOff(cutting) })
	defer cutters.Wait()
	defer stopCutting()

	var (
		next    atomic.Int64
		workers sync.WaitGroup
		started = time.Now()
		worked  = cpuTime()
		total   = a.cfg.requests()
	)
	for i := range a.cfg.Clients {
		rng := rand.New(rand.NewPCG(a.cfg.Seed, uint64(i)))
		workers.Go(func() {
			w := &asked{rng: rng, cfg: a.cfg, peers: a.peers}
			for n := next.Add(1) - 1; n < int64(total); n = next.Add(1) - 1 {
				due := started.Add(time.Duration(float64(n) / float64(a.cfg.Rate) * float64(time.Second)))
				if pause(ctx, time.Until(due)) != nil || time.Since(started) > tooLate*a.cfg.For {
					return
				}
				a.call(ctx, w, a.dice[rng.IntN(len(a.dice))], due)
			}
		})
	}
	workers.Wait()
	a.took, a.cpu = time.Since(started), cpuTime()-worked
	return ctx.Err()
}

// warmUp makes a request of each kind.
func (a *caller) warmUp(ctx context.Context) error {
	w := &asked{rng: rand.New(rand.NewPCG(a.cfg.Seed, 1<<32)), cfg: a.cfg, peers: a.peers}
	for k := range kinds {
		if err := a.ask(ctx, w, &kinds[k]); err != nil {
			return fmt.Errorf("%s: %w", kinds[k].name, err)
		}
	}
	return nil
}

// call makes a request that was due at a time, and notes what became of it.
func (a *caller) call(ctx context.Context, w *asked, k int, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	err := a.ask(ctx, w, &kinds[k])
	t := &a.tally[k]
	t.due.add(time.Since(due))
	t.sent.add(time.Since(sent))
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(err, errRefused) {
		t.refused++
		return
	}
	if t.wrongs++; t.wrongs <= wrongsKept {
		t.wrong = append(t.wrong, err.Error())
	}
}

// errRefused is the one refusal that is right: the node says that it has no time, and when
// to ask again.
var errRefused = errors.New("not at the moment")

// ask makes a request, and returns an error if the answer is not as it should be.
func (a *caller) ask(ctx context.Context, w *asked, k *kind) error {
	r := k.make(w)
	req, err := http.NewRequestWithContext(ctx, r.method, a.node.url+r.path, strings.NewReader(r.body))
	if err != nil {
		return err
	}
	if r.body == "" {
		req.Body = http.NoBody
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // which fails if it is cut short
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", r.method, r.path, err)
	case isRefusal(resp, body):
		return fmt.Errorf("%s %s: %w", r.method, r.path, errRefused)
	case resp.StatusCode != cmp.Or(k.status, http.StatusOK):
		return fmt.Errorf("%s %s: status %d, want %d: %.300s", r.method, r.path, resp.StatusCode, cmp.Or(k.status, http.StatusOK), body)
	case len(body) == 0:
		return fmt.Errorf("%s %s: the answer is empty", r.method, r.path)
	case k.check != nil:
		if err := k.check(w, body); err != nil {
			return fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
	return nil
}

func isRefusal(resp *http.Response, body []byte) bool {
	var p api.Problem
	return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" &&
		json.Unmarshal(body, &p) == nil && p.Type == api.ProblemUnavailable
}

// status asks for the status, beside the load.
func (a *caller) status(ctx context.Context) (*api.Status, error) {
	var s api.Status
	return &s, a.getJSON(ctx, "/v1/status", &s)
}

func (a *caller) getJSON(ctx context.Context, path string, into any) error {
	req, err := get(ctx, a.node.url+path)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// calls returns what became of the requests.
func (a *caller) calls() Calls {
	out := Calls{
		Wanted: a.cfg.requests(), Took: a.took, CPU: a.cpu, Cut: int(a.cut.Load()),
		All: CallKind{Name: "all"},
	}
	var due, sent histogram
	for k := range kinds {
		t := &a.tally[k]
		due.addAll(&t.due)
		sent.addAll(&t.sent)
		out.All.Wrongs += t.wrongs
		out.All.Refused += t.refused
		out.Kinds = append(out.Kinds, CallKind{kinds[k].name, t.due.quantiles(), t.sent.quantiles(), t.wrongs, t.wrong, t.refused})
	}
	slices.SortStableFunc(out.Kinds, func(x, y CallKind) int { return cmp.Compare(y.Due.Count, x.Due.Count) })
	out.All.Due, out.All.Sent = due.quantiles(), sent.quantiles()
	out.Made = out.All.Due.Count
	return out
}
