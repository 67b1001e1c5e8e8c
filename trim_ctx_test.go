package connmgr_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests have connections that do not answer when a trim asks for their
// streams, and look at who waits for that, and how long.

// mute is a connection whose Stat hangs, after a number of answers, until it is
// released.
type mute struct {
	*connmgrtest.Conn
	answers  atomic.Int32
	released chan struct{}
}

func newMute(peer connmgr.NodeID, answers int32) *mute {
	c := &mute{Conn: connmgrtest.NewConn(peer), released: make(chan struct{})}
	c.answers.Store(answers)
	return c
}

func (c *mute) Stat() connmgr.ConnStat {
	if c.answers.Add(-1) < 0 {
		<-c.released
	}
	return c.Conn.Stat()
}

func TestAContextThatEndsDoesNotWaitForAConnectionThatDoesNotAnswer(t *testing.T) {
	for _, when := range []struct {
		what    string
		answers int32
		late    time.Duration // how long after its context a caller may return
	}{
		{"while it is planned", 1, 1100 * time.Millisecond}, // Connected's question alone
		{"just before closing", 2, 200 * time.Millisecond},
	} {
		for _, kind := range []struct {
			name string
			trim func(*connmgr.Manager, context.Context) (connmgr.TrimResult, error)
		}{
			{"Trim", (*connmgr.Manager).Trim},
			{"ForceTrim", (*connmgr.Manager).ForceTrim},
			{"TrimOpenConns", func(m *connmgr.Manager, ctx context.Context) (connmgr.TrimResult, error) {
				m.TrimOpenConns(ctx)
				return connmgr.TrimResult{}, ctx.Err()
			}},
		} {
			synctest.Test(t, func(t *testing.T) {
				cfg := tight(1, 300)
				cfg.ActiveBonus = 20
				m := newManager(t, cfg)
				c := newMute("mute", when.answers)
				m.Connected("mute", c)
				m.TagPeer("other", "a", 1)
				m.Connected("other", connmgrtest.NewConn("other"))

				ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
				defer cancel()
				trim := func(ctx context.Context) (connmgr.TrimResult, error) { return kind.trim(m, ctx) }
				first := begin(ctx, trim)
				second := begin(ctx, m.Trim) // who joins is in no worse a place
				advance(2 * time.Second)
				for i, done := range []<-chan outcome{first, second} {
					select {
					case o := <-done:
						if o.took > time.Second/2+when.late || !errors.Is(o.err, context.DeadlineExceeded) {
							t.Errorf("%s, %s: caller %d got %v after %v, want context.DeadlineExceeded at most %v after 500ms", kind.name, when.what, i+1, o.err, o.took, when.late)
						}
					default:
						t.Errorf("%s, %s: caller %d still waits 1.5 s after its context ended", kind.name, when.what, i+1)
					}
				}
				close(c.released)
				synctest.Wait()
				m.Connected("third", connmgrtest.NewConn("third"))
				m.TagPeer("third", "a", 2)
				if o := <-begin(context.Background(), m.Trim); o.err != nil || o.took != 0 || m.ConnCount() != 1 {
					t.Errorf("%s, %s: when it answers, Trim = %v after %v and %d connections are left; want nil, no time, 1", kind.name, when.what, o.err, o.took, m.ConnCount())
				}
			})
		}
	}
}
