package connmgr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
)

// This file carries out the commands of a story; scenario_test.go says what they
// are.

// story is a manager and the network around it.
type story struct {
	began time.Time
	m     *connmgr.Manager
	trims *connmgr.Subscription
	peers map[string]*storyPeer // connected ones
}

type storyPeer struct {
	since time.Time
	conns []*storyConn
	told  bool // it is printed that a trim closed it
}

// storyConn is a connection of a network that tells the manager of its end.
type storyConn struct {
	story   *story
	peer    connmgr.NodeID
	stat    connmgr.ConnStat
	streams atomic.Int64
	closed  atomic.Bool
}

func (c *storyConn) RemotePeer() connmgr.NodeID { return c.peer }

func (c *storyConn) Stat() connmgr.ConnStat {
	stat := c.stat
	stat.Streams = int(c.streams.Load())
	return stat
}

func (c *storyConn) CloseWithReason(connmgr.Reason) error {
	if c.closed.CompareAndSwap(false, true) {
		go c.story.m.Disconnected(c.peer, c)
	}
	return nil
}

func (s *story) end() {
	if s.m != nil {
		_ = s.m.Close()
	}
}

// run carries out a command and returns what it prints.
func (s *story) run(text string) (output string, err error) {
	c := parseStoryCommand(text)
	switch {
	case s.m == nil && c.verb != "config":
		return "", fmt.Errorf("%q before %q", c.verb, "config")
	case s.m != nil && c.verb == "config":
		return "", fmt.Errorf("%q again", c.verb)
	}
	asked := false
	switch c.verb {
	case "config":
		err = s.config(c)
	case "connect":
		err = s.connect(c)
	case "streams":
		err = s.streams(c)
	case "disconnect":
		err = s.eachConn(c, func(conn *storyConn) { _ = conn.CloseWithReason(connmgr.KeptNothingToDo) })
	case "tag":
		err = s.tag(c)
	case "untag":
		err = s.eachPeer(c, "tag", s.m.UntagPeer)
	case "protect":
		err = s.eachPeer(c, "for", s.m.Protect)
	case "unprotect":
		err = s.eachPeer(c, "for", func(id connmgr.NodeID, tag string) { s.m.Unprotect(id, tag) })
	case "wait":
		err = s.wait(c)
	case "trim":
		asked = true
		_, err = s.m.Trim(context.Background())
	case "force":
		asked = true
		_, err = s.m.ForceTrim(context.Background())
	case "limits":
		l := s.m.Limits()
		if err = errors.Join(c.number("low", &l.LowWater), c.number("high", &l.HighWater), c.number("hard", &l.HardLimit)); err == nil {
			err = s.m.SetLimits(l)
		}
	case "explain":
		output, err = s.explain(c)
	case "connected":
		output = fmt.Sprintf("%d open: %s\n", s.m.ConnCount(), compressNames(slices.Collect(maps.Keys(s.peers))))
	default:
		return "", fmt.Errorf("there is no command %q", c.verb)
	}
	if err == nil {
		err = c.checkAllUsed()
	}
	if err != nil {
		return "", err
	}
	trims, err := s.settle(asked)
	return output + trims, err
}

func (s *story) config(c *storyCommand) error {
	cfg := connmgr.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if budget, ok := c.option("budget"); ok {
		switch budget {
		case "all":
		case "trimmable":
			cfg.Budget = connmgr.BudgetTrimmable
		default:
			return fmt.Errorf("budget=%q is neither all nor trimmable", budget)
		}
	}
	for key, d := range map[string]*time.Duration{"grace": &cfg.GracePeriod, "silence": &cfg.SilencePeriod} {
		if text, ok := c.option(key); ok {
			var err error
			if *d, err = time.ParseDuration(text); err != nil {
				return fmt.Errorf("%s=%q is not a duration", key, text)
			}
			if *d == 0 {
				*d = connmgr.Zero
			}
		}
	}
	fields := map[string]*int{
		"low": &cfg.LowWater, "high": &cfg.HighWater, "hard": &cfg.HardLimit,
		"outbound": &cfg.OutboundBonus, "active": &cfg.ActiveBonus,
	}
	for key, n := range fields {
		_, given := c.options[key]
		if err := c.number(key, n); err != nil {
			return err
		}
		if given && *n == 0 {
			*n = connmgr.Zero
		}
	}
	if err := c.checkAllUsed(); err != nil {
		return err
	}
	m, err := connmgr.New(cfg)
	if err != nil {
		return err
	}
	s.m, s.trims = m, m.Subscribe(1<<16)
	return nil
}

func (s *story) connect(c *storyCommand) error {
	stat := connmgr.ConnStat{Direction: connmgr.DirInbound}
	if c.word("out") {
		stat.Direction = connmgr.DirOutbound
	} else {
		c.word("in")
	}
	streams, conns := 0, 1
	if err := c.number("streams", &streams); err != nil {
		return err
	}
	if err := c.number("conns", &conns); err != nil {
		return err
	}
	names, err := c.peers()
	for _, name := range names {
		p := s.peers[name]
		if p == nil {
			p = &storyPeer{since: time.Now()}
			s.peers[name] = p
		}
		for range conns {
			conn := &storyConn{story: s, peer: connmgr.NodeID(name), stat: stat}
			conn.streams.Store(int64(streams))
			p.conns = append(p.conns, conn)
			s.m.Connected(conn.peer, conn)
			synctest.Wait() // or how many a trim sees would be a matter of luck
		}
	}
	return err
}

// eachConn calls f for every connection of the command's peers.
func (s *story) eachConn(c *storyCommand, f func(*storyConn)) error {
	names, err := c.peers()
	for _, name := range names {
		p := s.peers[name]
		if p == nil {
			return fmt.Errorf("%s is not connected", name)
		}
		for _, conn := range p.conns {
			f(conn)
		}
	}
	return err
}

func (s *story) streams(c *storyCommand) error {
	n := -1
	if err := c.number("n", &n); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("%q needs a number, like n=3", c.verb)
	}
	return s.eachConn(c, func(conn *storyConn) { conn.streams.Store(int64(n)) })
}

func (s *story) tag(c *storyCommand) error {
	names, err := c.peers()
	if err == nil && len(c.options) == 0 {
		err = fmt.Errorf("%q needs a tag, like dht=5", c.verb)
	}
	for _, tag := range slices.Sorted(maps.Keys(c.options)) {
		var value int
		if err := c.number(tag, &value); err != nil {
			return err
		}
		for _, name := range names {
			s.m.TagPeer(connmgr.NodeID(name), tag, value)
		}
	}
	return err
}

// eachPeer calls f for the command's peers with the text of an option.
func (s *story) eachPeer(c *storyCommand, key string, f func(connmgr.NodeID, string)) error {
	text, ok := c.option(key)
	if !ok {
		return fmt.Errorf("%q needs a tag, like %s=dht", c.verb, key)
	}
	names, err := c.peers()
	for _, name := range names {
		f(connmgr.NodeID(name), text)
	}
	return err
}

func (s *story) wait(c *storyCommand) error {
	if len(c.words) > 0 {
		if d, err := time.ParseDuration(c.words[0]); err == nil && d > 0 {
			c.words = c.words[1:]
			<-time.After(d)
			return nil
		}
	}
	return fmt.Errorf("%q needs a duration, like 20s", c.verb)
}

func (s *story) explain(c *storyCommand) (output string, err error) {
	names, err := c.peers()
	for _, name := range names {
		e, known := s.m.Explain(connmgr.NodeID(name), connmgr.TriggerManual)
		switch v := e.Verdict; {
		case !known:
			output += fmt.Sprintf("%s is unknown\n", name)
		case v.Conns == 0:
			output += fmt.Sprintf("%s is not connected: tags %d\n", name, e.TagSum)
		case v.Reason.Closed():
			output += fmt.Sprintf("%s would go as number %d: score %d, %s\n", name, v.Rank, v.Score, v.Reason)
		default:
			output += fmt.Sprintf("%s would stay: score %d, %s\n", name, v.Score, v.Reason)
		}
	}
	return output, err
}

// settle waits until the manager has done what it is to do at this moment, and
// returns the trims that ended since the last time. One that was not asked for
// and closed nobody is left out.
func (s *story) settle(asked bool) (output string, err error) {
	synctest.Wait()
	for len(s.trims.Events()) > 0 {
		if trim, ok := (<-s.trims.Events()).(connmgr.EventTrim); ok && (asked || len(trim.Closed) > 0) {
			output += s.describe(trim.TrimResult)
		}
	}
	conns := 0
	for name, p := range s.peers {
		p.conns = slices.DeleteFunc(p.conns, func(c *storyConn) bool { return c.closed.Load() })
		if conns += len(p.conns); len(p.conns) == 0 {
			delete(s.peers, name)
		}
	}
	if n := s.m.ConnCount(); n != conns {
		err = fmt.Errorf("the manager counts %d connections, the network %d", n, conns)
	}
	if s.trims.Dropped() > 0 {
		err = errors.New("too many events for one command")
	}
	return output, err
}

// describe prints a trim.
func (s *story) describe(trim connmgr.TrimResult) string {
	var b strings.Builder
	left := trim.Total - trim.Freed
	fmt.Fprintf(&b, "trim (%v) at %v: %d connections, %d counted, target %d, freed %d; %d left",
		trim.Trigger, trim.Started.Sub(s.began), trim.Total, trim.Counted, trim.Target, trim.Freed, left)
	if trim.Shortfall > 0 {
		fmt.Fprintf(&b, ", short by %d: %v", trim.Shortfall, trim.Cause)
	}
	b.WriteString("\n")

	alike := make(map[string][]string)
	for name, p := range s.peers {
		if !p.told {
			alike[s.likeness(name)] = append(alike[s.likeness(name)], name)
		}
	}
	for i := 0; i < len(trim.Closed); {
		v := trim.Closed[i]
		like := s.likeness(string(v.Peer))
		var names []string
		for ; i < len(trim.Closed) && s.likeness(string(trim.Closed[i].Peer)) == like; i++ {
			names = append(names, string(trim.Closed[i].Peer))
			s.peers[string(trim.Closed[i].Peer)].told = true
		}
		some := compressNames(names)
		if len(names) < len(alike[like]) {
			some = fmt.Sprintf("%d of %s", len(names), compressNames(alike[like]))
		}
		fmt.Fprintf(&b, "  closed %s: score %d, %v\n", some, v.Score, v.Reason)
	}
	return b.String()
}

// likeness is all that orders a peer before the keyed hash does.
func (s *story) likeness(name string) string {
	p := s.peers[name]
	streams, outbound := 0, false
	for _, c := range p.conns {
		streams += int(c.streams.Load())
		outbound = outbound || c.stat.Direction == connmgr.DirOutbound
	}
	id := connmgr.NodeID(name)
	return fmt.Sprint(p.since, len(p.conns), streams, outbound, s.m.Tags().Sum(id), s.m.IsProtected(id, ""))
}
