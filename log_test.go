package connmgr_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests read the log: one line per trim that closes something, a warning
// when a shortfall begins, a fault once, and otherwise silence.

// logBook keeps the lines that a logger writes at level Info and above.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	return len(line), nil
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// take returns the lines written since the last call.
func (b *logBook) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	return lines
}

// expect checks that as many lines as given were written since the last call,
// each with all the words (separated by a blank) of its string.
func (b *logBook) expect(t testing.TB, when string, want ...string) {
	t.Helper()
	got := b.take()
	if len(got) != len(want) {
		t.Errorf("%s, %d lines were logged, want %d:\n%s", when, len(got), len(want), strings.Join(got, ""))
		return
	}
	for i, words := range want {
		for word := range strings.FieldsSeq(words) {
			if !strings.Contains(got[i], word) {
				t.Errorf("%s, line %d is %q, want %q in it", when, i, got[i], word)
			}
		}
	}
}

func TestOneLineForATrimThatClosesSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(10, 20)
		cfg.Logger = book.logger()
		m, host := newNode(t, cfg)
		connectMany(host, 20)
		advance(time.Hour)
		book.expect(t, "while nothing was to do")
		trim(t, m)
		book.expect(t, "after a trim", `level=INFO closed_peers=10 closed_conns=10 total=20 counted=20 target=10 trigger=manual`)
		trim(t, m)
		book.expect(t, "after a trim that closed nothing")
		for i := range 11 {
			host.Connect(peerID(100 + i))
		}
		synctest.Wait()
		book.expect(t, "after an automatic trim", `level=INFO trigger="high closed_peers=11`)
	})
}

func TestAShortfallIsWarnedOfOnceUntilItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(2, 4)
		cfg.Logger = book.logger()
		m, host := newNode(t, cfg)
		for i := range 5 {
			m.Protect(peerID(i), "x")
		}
		connectMany(host, 5)
		advance(time.Hour)
		book.expect(t, "in an hour of protected connections above high water",
			`level=WARN closed_peers=0 shortfall=3 cause=protected`)

		host.Disconnect(peerID(0))
		host.Disconnect(peerID(1))
		host.Disconnect(peerID(2))
		trim(t, m)
		book.expect(t, "when the shortfall was over")
		for i := range 3 {
			host.Connect(peerID(i))
		}
		advance(time.Hour)
		book.expect(t, "when it came back", `level=WARN shortfall=3`)
	})
}

func TestGraceAloneIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(2, 6)
		cfg.GracePeriod = 5 * time.Second
		cfg.Logger = book.logger()
		_, host := newNode(t, cfg)
		connectMany(host, 7)
		synctest.Wait()
		book.expect(t, "with all in grace, which ends by itself")
		advance(5 * time.Second)
		book.expect(t, "after grace", `level=INFO closed_peers=5 in_grace=0`)
	})
}

func TestFaultsOfConnectionsAreLoggedOnceAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		cfg := tight(0, 100)
		cfg.Logger = book.logger()
		m, host := newNode(t, cfg)
		connectMany(host, 3, connmgrtest.FailOnClose(errors.New("no way")))
		host.Connect("panics", connmgrtest.PanicOnClose("boom"))
		trim(t, m)
		lines := strings.Join(book.take(), "")
		if n := strings.Count(lines, "level=WARN"); n != 1 {
			t.Errorf("%d warnings for four connections that would not close, want 1:\n%s", n, lines)
		}
		if n := strings.Count(lines, "failed=4"); n != 1 {
			t.Errorf("the trim's own line does not say failed=4:\n%s", lines)
		}
		trim(t, m)
		book.expect(t, "when the same connections would not close again")
		if s := m.Stats(); s.CloseErrors != 8 || s.Panics != 2 {
			t.Errorf("close errors %d, panics %d; want 8 and 2", s.CloseErrors, s.Panics)
		}
	})
}

// moody is a connection whose Stat panics when it likes.
type moody struct {
	*connmgrtest.Conn
	angry *atomic.Bool
}

func (c moody) Stat() connmgr.ConnStat {
	if c.angry.Load() {
		panic("boom")
	}
	return c.Conn.Stat()
}

func TestAConnectionThatCannotBeAskedCountsAsIdle(t *testing.T) {
	var book logBook
	cfg := tight(1, 100)
	cfg.ActiveBonus = 10
	cfg.Logger = book.logger()
	m := newManager(t, cfg)
	angry := new(atomic.Bool)
	m.Connected("moody", moody{connmgrtest.NewConn("moody", connmgrtest.Streams(5)), angry})
	m.Connected("calm", connmgrtest.NewConn("calm", connmgrtest.Streams(1)))
	angry.Store(true)
	for range 2 {
		if e, _ := m.Explain("moody", connmgr.TriggerManual); e.ActiveBonus != 0 {
			t.Errorf("Explain gives a bonus of %d for streams that nobody could count", e.ActiveBonus)
		}
	}
	book.expect(t, "after two panics", "level=ERROR boom")
	if res := trim(t, m); len(res.Closed) != 1 || res.Closed[0].Peer != "moody" {
		t.Errorf("closed %v, want the connection that panics", closedPeers(res))
	}
	if s := m.Stats(); s.Panics < 3 {
		t.Errorf("Stats.Panics = %d, want every one counted", s.Panics)
	}
}

func TestBinaryIDsDoNotGarbleTheLog(t *testing.T) {
	var book logBook
	cfg := tight(0, 100)
	cfg.Logger = book.logger()
	m, host := newNode(t, cfg)
	host.Connect("\x1b[2J\n", connmgrtest.FailOnClose(errors.New("no way")))
	trim(t, m)
	if lines := strings.Join(book.take(), ""); !strings.Contains(lines, "peer=0x1b5b324a0a ") {
		t.Errorf("the log does not have the ID in hexadecimal:\n%s", lines)
	}
}

func TestWithoutLoggerTheDefaultOneIsUsed(t *testing.T) {
	var book logBook
	before := slog.Default()
	slog.SetDefault(book.logger())
	defer slog.SetDefault(before)
	m, err := connmgr.New(tight(0, 100))
	if err != nil {
		t.Fatal(err)
	}
	defer closeManager(t, m)
	m.Connected("p", connmgrtest.NewConn("p"))
	trim(t, m)
	book.expect(t, "after a trim", "closed_peers=1")
}

// grumpy is a handler of a logger that panics.
type grumpy struct{ slog.Handler }

func (grumpy) Enabled(context.Context, slog.Level) bool  { return true }
func (grumpy) Handle(context.Context, slog.Record) error { panic("no more") }

func TestALoggerThatPanicsIsCounted(t *testing.T) {
	cfg := tight(1, 100)
	cfg.Logger = slog.New(grumpy{slog.DiscardHandler})
	m, host := newNode(t, cfg)
	connectMany(host, 3, connmgrtest.FailOnClose(errors.New("no way")))
	connectMany(host, 3)
	if res := trim(t, m); len(res.Closed) == 0 {
		t.Error("the trim closed nothing")
	}
	if s := m.Stats(); s.Panics < 2 {
		t.Errorf("Stats.Panics = %d, want those of two lines", s.Panics)
	}
}
