package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file asks at random, while peers come and go: requests are drawn from the
// description itself, some with a mistake, and every answer must be as described.

func TestEveryAnswerToRandomRequestsIsAsDescribed(t *testing.T) {
	const steps = 150
	seen := newCoverage(t)
	for i, names := range namings {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("peers %s/seed %d", names.title, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, seen, names, func(c *connmgr.Config, _ *connmgrhttp.Config) {
						c.LowWater, c.HighWater, c.HardLimit = 5, 12, 15
					})
					r := &random{Rand: rand.New(rand.NewPCG(seed, uint64(i))), w: w}
					for range steps {
						r.happen()
						r.ask()
					}
				})
			})
		}
	}
	ok := 0
	for _, statuses := range seen.statuses {
		if statuses[200] || statuses[201] {
			ok++
		}
	}
	if all := len(seen.operations) - 1; ok != all {
		t.Errorf("%d operations were fulfilled once, want all but the stream: %d", ok, all)
	}
}

type random struct {
	*rand.Rand
	w      *world
	broken bool // the store
}

func pick[T any](r *random, list []T) T { return list[r.IntN(len(list))] }

func (r *random) nick() string { return pick(r, []string{"alice", "bob", "carol", "dave", "erin"}) }

func (r *random) addr() string {
	return pick(r, []string{
		fmt.Sprintf("192.0.2.%d:%d", r.IntN(8), r.IntN(100)), fmt.Sprintf("198.51.100.%d:4001", r.IntN(8)),
		fmt.Sprintf("[2001:db8::%d]:4001", r.IntN(8)), fmt.Sprintf("[::ffff:192.0.2.%d]:4001", r.IntN(8)),
	})
}

// happen lets something happen that does not come from the API.
func (r *random) happen() {
	w, id := r.w, r.w.id(r.nick())
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		options := []connmgrtest.Option{connmgrtest.Direction(connmgr.Direction(r.IntN(3))), connmgrtest.Streams(r.IntN(3))}
		if r.IntN(4) > 0 {
			options = append(options, from(r.addr()))
		}
		w.host.Connect(id, options...)
	case 4:
		w.host.Disconnect(id)
	case 5:
		_ = w.gate.InterceptAccept(addrPort(r.addr()))
		_ = w.gate.InterceptSecured(connmgr.DirInbound, id, addrPort(r.addr()))
	case 6:
		addr := addrPort(r.addr())
		_ = w.gate.InterceptUpgraded(connmgr.DirInbound, id, addr, connmgrtest.NewConn(id, connmgrtest.From(addr)))
	case 7:
		_, _ = w.gate.Report(w.t.Context(), id, float64(r.IntN(60)), "at random")
	case 8:
		r.broken = !r.broken
		if w.store.FailSaves(nil); r.broken {
			w.store.FailSaves(errors.New("at random"))
		}
	case 9:
		w.m.TagPeer(id, "core", r.Int())
	case 10:
		w.pass(time.Duration(r.ExpFloat64() * float64(time.Minute)))
	case 11:
		w.pass(time.Duration(r.IntN(2000)) * time.Millisecond)
	}
}

// ask sends a random request. With a mistake in it, or for something that is not there,
// it may be refused, but not with a 5xx unless the store is broken.
func (r *random) ask() {
	w := r.w
	c := call{op: pick(r, w.seen.ids()), path: make(map[string]string), follows: described}
	if c.op == "streamEvents" { // see tellStreams
		return
	}
	o := w.seen.operations[c.op]
	query := make(url.Values)
	for _, p := range o.parameters {
		switch {
		case p.Value.In == "path":
			c.path[p.Value.Name] = r.text(p.Value.Name)
		case p.Value.Required || r.IntN(4) == 0:
			good, bad := sampleValues(p.Value.Schema.Value)
			switch {
			case len(good) == 0:
				query.Set(p.Value.Name, r.text(p.Value.Name))
			case r.IntN(10) == 0:
				query.Set(p.Value.Name, pick(r, bad))
				c.follows, c.want = refused, 400
			default:
				query.Set(p.Value.Name, pick(r, good))
			}
		}
	}
	if r.IntN(30) == 0 && o.documents(400) {
		query.Set("surprise", "1")
		c.follows, c.want = unchecked, 400
	}
	c.query = query.Encode()
	if o.RequestBody != nil {
		if media := o.RequestBody.Value.Content["application/json"]; media != nil {
			body, err := json.Marshal(r.value("", media.Schema.Value))
			if err != nil {
				w.t.Fatal(err)
			}
			c.body = string(body)
		} else {
			c.body = r.list()
		}
	}
	a := w.do(c)
	switch {
	case a.status == 500 && r.broken:
	case a.status >= 500:
		w.t.Errorf("%s: status %d, want no failure: %s", &c, a.status, a.body)
	}
}

// text returns a text that a parameter or member of a name could have, or not quite.
func (r *random) text(name string) string {
	switch name {
	case "peer":
		return r.w.name(r.nick())
	case "target":
		return pick(r, []string{"192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "port 25", "peer " + r.w.name(r.nick()), "10.0.0.300", "what"})
	case "address":
		return pick(r, []string{"192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::ffff:192.0.2.1", "what"})
	case "expires":
		return time.Now().Add(time.Duration(r.NormFloat64() * float64(time.Hour))).Format(time.RFC3339Nano)
	}
	return pick(r, []string{"a", "core", "b c", "ü/%2F?#", strings.Repeat("x", r.IntN(257)), "two\nlines", "\x00", `"`})
}

// value returns a random value of a schema.
func (r *random) value(name string, s *openapi3.Schema) any {
	switch {
	case len(s.Enum) > 0:
		return pick(r, s.Enum)
	case s.Type.Includes("object"):
		object := make(map[string]any)
		for _, member := range slices.Sorted(maps.Keys(s.Properties)) {
			if slices.Contains(s.Required, member) || r.IntN(3) > 0 {
				object[member] = r.value(member, s.Properties[member].Value)
			}
		}
		return object
	case s.Type.Is("array"):
		list := []any{}
		for range r.IntN(4) {
			list = append(list, r.value(name, s.Items.Value))
		}
		return list
	case s.Type.Is("boolean"):
		return r.IntN(2) == 0
	case s.Type.Includes("integer"):
		if s.Type.Includes("null") && r.IntN(3) == 0 {
			return nil
		}
		most := 40
		if s.Max != nil {
			most = int(min(*s.Max, 1e6))
		}
		return r.IntN(most + 1)
	case s.Type.Is("number"):
		return pick(r, []any{0, 0.5, 1e-9, r.Float64() * 1000, 3155760000})
	}
	return r.text(name)
}

// list returns a random list of rules.
func (r *random) list() string {
	var list strings.Builder
	for range r.IntN(4) {
		list.WriteString(pick(r, []string{"# a comment", "allow ", ""}))
		list.WriteString(r.text("target") + pick(r, []string{"", " # why", " until never", " until 1999-01-01T00:00:00Z"}) + "\n")
	}
	return list.String() + "198.51.100." + strconv.Itoa(r.IntN(256)) + "\n"
}
