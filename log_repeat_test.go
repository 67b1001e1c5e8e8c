package connmgr_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests leave a node alone with connections that would not close. It tries
// them again on every tick; the log hears of it when something changes.

func TestConnectionsThatNeverCloseAreNotLoggedOnEveryTick(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var book logBook
			cfg := tight(0, 2)
			cfg.Logger = book.logger()
			m, host := newNodeOrHosted(t, cfg, hosted)
			conns := connectMany(host, 3, connmgrtest.FailOnClose(errors.New("no way")))
			synctest.Wait()
			book.expect(t, "after the first trim", "level=WARN no way", "level=INFO failed=3")
			advance(time.Hour)
			book.expect(t, "in an hour in which nothing changed")
			if n := m.Stats().CloseErrors; n < 3*300 {
				t.Errorf("CloseErrors = %d, want them tried again on every tick, and counted", n)
			}

			conns = append(conns, host.Connect("one more", connmgrtest.FailOnClose(errors.New("no way"))))
			advance(time.Hour)
			book.expect(t, "in an hour with one more", "level=INFO failed=4")
			conns[0].SetOnClose(nil)
			advance(time.Hour)
			book.expect(t, "when one gave way", "level=INFO closed_peers=1 failed=3")
			host.Disconnect("one more")
			advance(time.Hour)
			book.expect(t, "when there are no more than high water")
		})
	}
}

func TestTroubleThatComesBackIsLoggedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(0, 100)
		cfg.Logger = book.logger()
		m, host := newNode(t, cfg)
		for round := range 3 {
			c := host.Connect("p", connmgrtest.FailOnClose(errors.New("no way")))
			trim(t, m)
			want := []string{"level=INFO failed=1"}
			if round == 0 {
				want = append([]string{"level=WARN no way"}, want...)
			}
			book.expect(t, "when a connection would not close", want...)
			trim(t, m)
			book.expect(t, "the second time")
			c.Drop()
			trim(t, m)
			book.expect(t, "when it was gone")
		}
	})
}

func TestWhatHangsIsLoggedByTheTrimThatGaveItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(1, 2)
		cfg.Logger = book.logger()
		_, host := newNode(t, cfg)
		hung := connectMany(host, 3, connmgrtest.HangOnClose())
		advance(time.Hour)
		book.expect(t, "in an hour with connections that hang", "level=INFO hanging=2 closed_peers=0")
		for _, c := range hung {
			c.Release()
		}
		for i := range 3 {
			host.Connect("more " + peerID(i))
		}
		advance(connmgr.DefaultSilencePeriod)
		book.expect(t, "after an ordinary trim", "level=INFO closed_peers=3")
	})
}
