package connmgr_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests subscribe to what happens.

// tell renders the events that wait in a subscription, without their times.
func tell(s *connmgr.Subscription) string {
	var words []string
	for {
		select {
		case e, ok := <-s.Events():
			if !ok {
				return strings.Join(append(words, "end"), ", ")
			}
			switch e := e.(type) {
			case connmgr.EventConnected:
				words = append(words, fmt.Sprint("+", e.Peer, " ", e.Direction))
			case connmgr.EventDisconnected:
				words = append(words, fmt.Sprint("-", e.Peer))
			case connmgr.EventClosed:
				words = append(words, fmt.Sprint("closed ", e.Peer, " for ", e.Reason, " by ", e.Trigger, " rank ", e.Rank))
			case connmgr.EventTrim:
				words = append(words, fmt.Sprint(e.Trigger, " trim of ", len(e.Closed)))
			case connmgr.EventLimits:
				words = append(words, fmt.Sprint("limits ", e.LowWater, " ", e.HighWater, " ", e.HardLimit))
			default:
				words = append(words, fmt.Sprintf("%T?", e))
			}
		default:
			return strings.Join(words, ", ")
		}
	}
}

func TestSubscribersAreToldEverythingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(1, 2))
		host.Connect("before")
		sub := m.Subscribe(100)
		host.Connect("a", connmgrtest.Outbound())
		m.TagPeer("a", "t", 1)
		host.Disconnect("before")
		host.Connect("b")
		host.Connect("nobody", connmgrtest.LoseConnected()).Drop() // ignored notifications are no events
		trim(t, m)
		if err := m.SetLimits(connmgr.Limits{LowWater: 1, HighWater: 5, HardLimit: 9}); err != nil {
			t.Fatal(err)
		}
		if err := m.SetLimits(connmgr.Limits{LowWater: 7, HighWater: 5, HardLimit: 9}); err == nil {
			t.Fatal("bad limits were accepted")
		}
		trim(t, m)
		want := "+a outbound, -before, +b inbound, -b, closed b for low score by manual rank 1, manual trim of 1, limits 1 5 9, manual trim of 0"
		if got := tell(sub); got != want {
			t.Errorf("the subscriber was told\n\t%s, want\n\t%s", got, want)
		}
		if sub.Dropped() != 0 {
			t.Errorf("Dropped() = %d, want 0", sub.Dropped())
		}
	})
}

func TestEventsCarryTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, host := newNode(t, tight(0, 10))
		sub := m.Subscribe(100)
		start := time.Now()
		step := func(what func()) { what(); advance(time.Second) }
		step(func() { host.Connect("p") })
		step(func() { host.Connect("q").Drop() })
		step(func() { trim(t, m) })
		step(func() { _ = m.SetLimits(m.Limits()) })
		want := []time.Duration{0, time.Second, time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 3 * time.Second}
		for i, w := range want {
			var at time.Time
			switch e := (<-sub.Events()).(type) {
			case connmgr.EventConnected:
				at = e.At
			case connmgr.EventDisconnected:
				at = e.At
			case connmgr.EventClosed:
				at = e.At
			case connmgr.EventTrim:
				at = e.Started
			case connmgr.EventLimits:
				at = e.At
			}
			if !at.Equal(start.Add(w)) {
				t.Errorf("event %d is dated %v after the start, want %v", i, at.Sub(start), w)
			}
		}
	})
}

func TestWhatTheHostSaysIsToldToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost() // sends no notifications
		cfg := tight(10, 20)
		cfg.Host = host
		m := newManager(t, cfg)
		sub := m.Subscribe(100)
		host.Connect("p", connmgrtest.Outbound())
		advance(connmgr.DefaultSilencePeriod)
		host.Disconnect("p")
		advance(connmgr.DefaultSilencePeriod)
		if got, want := tell(sub), "+p outbound, -p"; got != want {
			t.Errorf("the subscriber was told %q, want %q", got, want)
		}
	})
}

func TestASlowReaderLosesEventsAndDelaysNobody(t *testing.T) {
	m, host := newNode(t, connmgr.Config{HighWater: 1000})
	slow, quick, least := m.Subscribe(3), m.Subscribe(1000), m.Subscribe(-5)
	connectMany(host, 100)
	if slow.Dropped() != 97 || quick.Dropped() != 0 || least.Dropped() != 99 {
		t.Errorf("dropped %d, %d, %d; want 97, 0, 99", slow.Dropped(), quick.Dropped(), least.Dropped())
	}
	if got, want := tell(slow), "+peer-00000 inbound, +peer-00001 inbound, +peer-00002 inbound"; got != want {
		t.Errorf("the slow reader got %q, want the first: %q", got, want)
	}
	host.Connect("later")
	if got, want := tell(slow), "+later inbound"; got != want {
		t.Errorf("with room again the slow reader got %q, want %q", got, want)
	}
}

func TestAClosedSubscriptionEnds(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	sub, other := m.Subscribe(10), m.Subscribe(10)
	host.Connect("a")
	sub.Close()
	sub.Close()
	host.Connect("b")
	if got, want := tell(sub), "+a inbound, end"; got != want {
		t.Errorf("the closed subscription has %q, want what came before: %q", got, want)
	}
	if got, want := tell(other), "+a inbound, +b inbound"; got != want {
		t.Errorf("the other one has %q, want %q", got, want)
	}
}

func TestCloseOfTheManagerEndsAllSubscriptions(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	sub := m.Subscribe(10)
	host.Connect("a")
	closeManager(t, m)
	host.Connect("b")
	if got, want := tell(sub), "+a inbound, end"; got != want {
		t.Errorf("the subscription has %q, want %q", got, want)
	}
	late := m.Subscribe(10)
	if got := tell(late); got != "end" {
		t.Errorf("a subscription made after Close has %q, want it to have ended", got)
	}
	late.Close()
	sub.Close()
}

func TestSubscribersComeAndGoWhileMuchHappens(t *testing.T) {
	m, host := newNode(t, tight(5, 10))
	var all sync.WaitGroup
	for g := range 2 {
		all.Go(func() {
			for i := range 300 {
				host.Connect(peerID(g*1000 + i)).Drop()
			}
		})
		all.Go(func() {
			for range 300 {
				sub := m.Subscribe(2)
				select {
				case <-sub.Events():
				default:
				}
				sub.Close()
				for range sub.Events() { // ends
				}
			}
		})
	}
	all.Wait()
}
