package connmgrprom_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests are about the two histograms that have to be asked for.

func TestDistributionsAreThereOnlyIfAskedFor(t *testing.T) {
	n := newNode(t, noGrace)
	n.connect(9, "plain")
	n.trim()
	for name := range n.samples() {
		if strings.HasPrefix(name, "connmgr_trim_duration") || strings.HasPrefix(name, "connmgr_peer_score") {
			t.Errorf("%s is exported, though nobody asked for it", name)
		}
	}
}

func TestEachTrimIsInTheHistogramOfDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, noGrace, connmgrprom.WithTrimDurations(0.5, 3, math.Inf(1)))
		n.connect(9, "quick")
		n.trim()
		n.connect(20, "slow", connmgrtest.HangOnClose())
		took := n.trim().Took
		if took < 500*time.Millisecond || took > 3*time.Second {
			t.Fatalf("a trim with connections that hang took %v, want between 0.5 s and 3 s", took)
		}
		synctest.Wait()
		n.expect(samples{
			`connmgr_trim_duration_seconds_bucket{le="0.5"}`:  1,
			`connmgr_trim_duration_seconds_bucket{le="3"}`:    2,
			`connmgr_trim_duration_seconds_bucket{le="+Inf"}`: 2,
			`connmgr_trim_duration_seconds_sum`:               took.Seconds(),
			`connmgr_dropped_events_total`:                    0,
		})
		for i := range 20 {
			for _, c := range n.host.Conns(connmgr.NodeID(fmt.Sprint("slow", i))) {
				c.Release()
			}
		}
	})
}

func TestAClosedCollectorNoLongerListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, noGrace, connmgrprom.WithTrimDurations())
		n.trim()
		synctest.Wait()
		n.collector.Close()
		n.collector.Close()
		n.trim()
		synctest.Wait()
		n.expect(samples{`connmgr_trim_duration_seconds_count`: 1, `connmgr_trims_total{trigger="manual"}`: 2})
	})
}

func TestScoresAreThoseOfThePeersConnectedNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrprom.WithScores(-1, 0, 10, 100))
		n.expect(samples{`connmgr_peer_score_count`: 0})
		n.connect(3, "plain")
		n.connect(2, "out", connmgrtest.Outbound())
		n.TagPeer("plain0", "misbehaved", -50)
		n.TagPeer("out0", "useful", 1000)
		n.TagPeer("absent", "useful", 1000)
		n.expect(samples{
			`connmgr_peer_score_bucket{le="-1"}`:   1,
			`connmgr_peer_score_bucket{le="0"}`:    3,
			`connmgr_peer_score_bucket{le="10"}`:   4,
			`connmgr_peer_score_bucket{le="100"}`:  4,
			`connmgr_peer_score_bucket{le="+Inf"}`: 5,
			`connmgr_peer_score_sum`:               -50 + 10 + 1010,
		})
		n.host.Disconnect("out0")
		n.expect(samples{`connmgr_peer_score_count`: 4, `connmgr_peer_score_sum`: -50 + 10})
	})
}

// slowConn takes a second to say how many streams it has.
type slowConn struct{ *connmgrtest.Conn }

func (c slowConn) Stat() connmgr.ConnStat {
	<-time.After(time.Second)
	return c.Conn.Stat()
}

func TestReadingScoresTakesATwentiethOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrprom.WithScores())
		conn := slowConn{connmgrtest.NewConn("alice")}
		n.Connected("alice", conn)
		asked := conn.StatCalls()
		for began := time.Now(); time.Since(began) < 200*time.Second; {
			n.samples()
			<-time.After(100 * time.Millisecond)
		}
		if times := conn.StatCalls() - asked; times < 5 || times > 11 {
			t.Errorf("in 200 s the connection was asked %d times for a second, want about 10 times", times)
		}
	})
}

func TestAScrapeDoesNotWaitForAnothersReadingOfScores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, connmgr.Config{}, connmgrprom.WithScores())
		n.connect(3, "plain")
		n.samples()
		n.Connected("alice", slowConn{connmgrtest.NewConn("alice")})
		done := make(chan samples)
		go func() { done <- n.samples() }()
		synctest.Wait() // the scrape asks alice's connection now
		began := time.Now()
		n.expect(samples{`connmgr_peers`: 4, `connmgr_peer_score_count`: 3})
		if took := time.Since(began); took != 0 {
			t.Errorf("the second scrape took %v, want no wait for the first", took)
		}
		if got := (<-done)["connmgr_peer_score_count"]; got != 4 {
			t.Errorf("the first scrape found %v scores, want 4", got)
		}
	})
}

func TestBucketsOutOfOrderAreAPanicThatNamesTheOption(t *testing.T) {
	for _, buckets := range [][]float64{{2, 1}, {1, 1}, {math.NaN()}, {math.Inf(1)}} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "connmgr: connmgrprom.WithScores: ") {
					t.Errorf("buckets %v: panics with %q, want one that names WithScores", buckets, got)
				}
			}()
			connmgrprom.NewCollector(newNode(t, noGrace).Manager, connmgrprom.WithScores(buckets...))
		}()
	}
}
