package connmgrfx_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrfx"
	"github.com/dep2p/connmgr/connmgrtest"
	"go.uber.org/fx"
	"go.uber.org/goleak"
)

// These tests follow the manager through the life of an app: made, started,
// stopped, and what happens when one of these goes wrong.

// eager is a configuration that trims from three connections to one at once.
var eager = connmgr.Config{
	LowWater:    1,
	HighWater:   2,
	GracePeriod: connmgr.Zero,
	Logger:      slog.New(slog.DiscardHandler),
}

// newApp builds a real app and stops it when the test ends, so that a test that
// fails leaves nothing running.
func newApp(t *testing.T, options ...fx.Option) *fx.App {
	t.Helper()
	app := fx.New(connmgrfx.Module, fx.NopLogger, fx.Options(options...))
	if err := app.Err(); err != nil {
		t.Fatalf("the app cannot be built: %v", err)
	}
	t.Cleanup(func() { _ = app.Stop(context.WithoutCancel(t.Context())) })
	return app
}

func start(t *testing.T, app *fx.App) {
	t.Helper()
	if err := app.Start(t.Context()); err != nil {
		t.Fatalf("the app does not start: %v", err)
	}
}

func stop(t *testing.T, app *fx.App) {
	t.Helper()
	if err := app.Stop(t.Context()); err != nil {
		t.Fatalf("the app does not stop cleanly: %v", err)
	}
}

// connectFive opens a connection to each of five peers whose IDs begin with the
// group. That is more than eager allows.
func connectFive(host *connmgrtest.Host, group string) {
	for i := range 5 {
		host.Connect(connmgr.NodeID(fmt.Sprintf("%s-%d", group, i)))
	}
}

// expectOpen waits for the background work that is due, on the clock of a
// synctest bubble, and expects a number of open connections.
func expectOpen(t *testing.T, host *connmgrtest.Host, want int, when string) {
	t.Helper()
	<-time.After(time.Minute)
	synctest.Wait()
	if got := host.Len(); got != want {
		t.Fatalf("%s: %d connections are open, expected %d", when, got, want)
	}
}

// failing is a part of the app whose start fails. It starts after the manager.
func failing(err error) fx.Option {
	return fx.Invoke(func(lc fx.Lifecycle) {
		lc.Append(fx.StartHook(func() error { return err }))
	})
}

func TestTheManagerTrimsFromStartToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost()
		app := newApp(t, fx.Supply(eager), fx.Invoke(func(m *connmgr.Manager) { host.Notify(m) }))

		connectFive(host, "early")
		expectOpen(t, host, 5, "before the start")
		start(t, app)
		expectOpen(t, host, 1, "after the start")
		connectFive(host, "timely")
		expectOpen(t, host, 1, "while the app runs")
		stop(t, app)
		connectFive(host, "late")
		expectOpen(t, host, 6, "after the stop")
	})
}

func TestTheManagerOutlivesTheContextOfTheStart(t *testing.T) {
	for name, end := range map[string]func(cancel context.CancelFunc){
		"cancelled": func(cancel context.CancelFunc) { cancel() },
		"timed out": func(context.CancelFunc) { <-time.After(2 * fx.DefaultTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := connmgrtest.NewHost()
				app := newApp(t, fx.Supply(eager), fx.Invoke(func(m *connmgr.Manager) { host.Notify(m) }))
				ctx, cancel := context.WithTimeout(t.Context(), fx.DefaultTimeout)
				defer cancel()
				if err := app.Start(ctx); err != nil {
					t.Fatalf("the app does not start: %v", err)
				}

				end(cancel)
				if ctx.Err() == nil {
					t.Fatal("the context of the start has not ended, expected that it has")
				}
				connectFive(host, "peer")
				expectOpen(t, host, 1, "after the context of the start has ended")
			})
		})
	}
}

func TestAManagerThatNobodyAsksForRunsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := connmgrtest.NewHost() // notifies nobody
		app := newApp(t, fx.Supply(eager, fx.Annotate(host, fx.As(new(connmgr.Host)))))
		start(t, app)
		connectFive(host, "peer")
		expectOpen(t, host, 1, "in an app that only provides a host")
	})
}

func TestTheHostStartsBeforeTheManagerAndStopsAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *connmgr.Manager
		host := connmgrtest.NewHost()
		app := newApp(t, fx.Supply(eager), fx.Populate(&m), fx.Provide(func(lc fx.Lifecycle) connmgr.Host {
			lc.Append(fx.StartStopHook(
				func() error {
					connectFive(host, "peer")
					<-time.After(time.Minute)
					if host.Len() != 5 {
						return errors.New("the manager trims while the host starts, expected that it does not")
					}
					return nil
				},
				func() error {
					if _, err := m.Trim(t.Context()); !errors.Is(err, connmgr.ErrClosed) {
						return errors.New("the manager is open while the host stops, expected that it is closed")
					}
					return nil
				}))
			return host
		}))
		start(t, app)
		expectOpen(t, host, 1, "after the start")
		stop(t, app)
	})
}

func TestAnAppThatIsOnlyBuiltRunsNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	host := connmgrtest.NewHost()
	newApp(t, fx.Supply(eager), fx.Invoke(func(m *connmgr.Manager) { host.Notify(m) }))
	connectFive(host, "peer")
}

func TestAnAppThatCannotBeBuiltRunsNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	broken := errors.New("broken")
	app := fx.New(connmgrfx.Module, fx.NopLogger, fx.Invoke(func(*connmgr.Manager) error { return broken }))
	if err := app.Start(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("the start returns %v, expected the error of the part that is broken", err)
	}
}

func TestAnAppThatHasStoppedRunsNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	app := newApp(t)
	start(t, app)
	if goleak.Find() == nil {
		t.Error("nothing runs in an app that has started, expected the manager's background work")
	}
	stop(t, app)
}

func TestAnAppThatFailsToStartClosesTheManager(t *testing.T) {
	defer goleak.VerifyNone(t)
	var m *connmgr.Manager
	broken := errors.New("broken")
	app := newApp(t, fx.Populate(&m), failing(broken))
	if err := app.Start(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("the start returns %v, expected the error of the part that is broken", err)
	}
	if _, err := m.Trim(t.Context()); !errors.Is(err, connmgr.ErrClosed) {
		t.Errorf("a trim after the failed start returns %v, expected ErrClosed", err)
	}
}

// Fx runs no hook after the context of the start has ended, not even at Stop. The
// package's documentation says so, and what to do.
func TestCloseEndsTheManagerOfACancelledStart(t *testing.T) {
	defer goleak.VerifyNone(t)
	var m *connmgr.Manager
	ctx, cancel := context.WithCancel(t.Context())
	app := newApp(t, fx.Populate(&m), fx.Invoke(func(lc fx.Lifecycle) {
		lc.Append(fx.StartHook(func() error { cancel(); return ctx.Err() }))
	}))
	if err := app.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the start returns %v, expected the error of its context", err)
	}
	stop(t, app)
	if goleak.Find() == nil {
		t.Error("Fx has stopped the manager, expected that it does not: the documentation can be mended")
	}
	if err := m.Close(); err != nil {
		t.Errorf("Close returns %v, expected nil", err)
	}
}

func TestAManagerDoesNotStartTwice(t *testing.T) {
	defer goleak.VerifyNone(t)
	check := func(t *testing.T, app *fx.App) {
		t.Helper()
		err := app.Start(t.Context())
		if !errors.Is(err, connmgr.ErrClosed) || !strings.Contains(err.Error(), "build a new app") {
			t.Errorf("the second start returns %v, expected ErrClosed and what to do", err)
		}
	}
	t.Run("after a stop", func(t *testing.T) {
		app := newApp(t)
		start(t, app)
		stop(t, app)
		check(t, app)
	})
	t.Run("after a failed start", func(t *testing.T) {
		app := newApp(t, failing(errors.New("broken")))
		if err := app.Start(t.Context()); err == nil {
			t.Fatal("the first start returns nil, expected the error of the part that is broken")
		}
		check(t, app)
	})
	t.Run("but after a start that failed before it", func(t *testing.T) {
		fails := true
		app := newApp(t, fx.Provide(func(lc fx.Lifecycle) connmgr.Host {
			lc.Append(fx.StartHook(func() error {
				if fails {
					return errors.New("broken")
				}
				return nil
			}))
			return connmgrtest.NewHost()
		}))
		if err := app.Start(t.Context()); err == nil {
			t.Fatal("the first start returns nil, expected the host's error")
		}
		fails = false
		start(t, app)
		stop(t, app)
	})
}

func TestStopReturnsTheErrorOfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *connmgr.Manager
		app := newApp(t, fx.Supply(eager), fx.Populate(&m))
		start(t, app)
		for _, peer := range []connmgr.NodeID{"ada", "bob", "cyn"} {
			conn := connmgrtest.NewConn(peer, connmgrtest.HangOnClose())
			t.Cleanup(conn.Release)
			m.Connected(peer, conn)
		}
		<-time.After(time.Minute) // the trim is over, and has given two of them up
		if err := app.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "2 peers") {
			t.Errorf("the stop returns %v, expected the error of Close with the 2 peers that hang", err)
		}
	})
}
