package connmgrfx_test

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrfx"
	"github.com/dep2p/connmgr/connmgrtest"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
)

// These tests look at what the module takes from an app and what it gives.

// logTo returns a logger and the text that it has written.
func logTo() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})), &text
}

// expectError builds an app and expects an error that has all of the words.
func expectError(t *testing.T, options fx.Option, words ...string) {
	t.Helper()
	err := fx.New(connmgrfx.Module, fx.NopLogger, options).Err()
	if err == nil {
		t.Fatalf("the app can be built, expected an error with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the app's error is %q, expected that it has %q", err, word)
		}
	}
}

func asHost(host connmgr.Host) fx.Option {
	return fx.Supply(fx.Annotate(host, fx.As(new(connmgr.Host))))
}

func TestTheGraphIsComplete(t *testing.T) {
	if err := fx.ValidateApp(connmgrfx.Module, fx.NopLogger); err != nil {
		t.Errorf("the module needs something that nobody provides: %v", err)
	}
}

func TestAnAppThatProvidesNothingGetsTheDefaults(t *testing.T) {
	var m *connmgr.Manager
	newApp(t, fx.Populate(&m))
	want := connmgr.Limits{
		LowWater:  connmgr.DefaultLowWater,
		HighWater: connmgr.DefaultHighWater,
		HardLimit: connmgr.DefaultHighWater * 3 / 2,
	}
	if got := m.Limits(); got != want {
		t.Errorf("the limits are %+v, expected the defaults %+v", got, want)
	}
}

func TestTheConfigurationOfTheAppIsUsed(t *testing.T) {
	var m *connmgr.Manager
	newApp(t, fx.Populate(&m), fx.Supply(connmgr.Config{LowWater: 3, HighWater: 7, HardLimit: math.MaxInt}))
	want := connmgr.Limits{LowWater: 3, HighWater: 7, HardLimit: math.MaxInt}
	if got := m.Limits(); got != want {
		t.Errorf("the limits are %+v, expected the app's %+v", got, want)
	}
}

func TestTheHostIsAskedAndClosesConnections(t *testing.T) {
	provided, configured := connmgrtest.NewHost(), connmgrtest.NewHost()
	withHost := eager
	withHost.Host = configured
	for _, c := range []struct {
		name string
		host *connmgrtest.Host
		from fx.Option
	}{
		{"of the app", provided, fx.Options(fx.Supply(eager), asHost(provided))},
		{"of the configuration", configured, fx.Supply(withHost)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m *connmgr.Manager
			newApp(t, fx.Populate(&m), c.from)
			connectFive(c.host, "peer")
			m.TrimOpenConns(t.Context())
			if got := c.host.Len(); got != 1 {
				t.Errorf("%d connections of the host are open after a trim, expected 1", got)
			}
		})
	}
}

// otherHost is a host of another type, to be told apart in an error.
type otherHost struct{ connmgr.Host }

func TestTwoHostsAreAnErrorThatNamesBoth(t *testing.T) {
	cfg := connmgr.Config{Host: otherHost{}}
	expectError(t, fx.Options(fx.Supply(cfg), asHost(connmgrtest.NewHost())),
		"connmgr: two hosts", "Config.Host is a connmgrfx_test.otherHost", "provides a *connmgrtest.Host")
}

func TestTheLoggerOfTheConfigurationGoesBeforeThatOfTheApp(t *testing.T) {
	appLogger, appText := logTo()
	ownLogger, ownText := logTo()
	own := connmgr.Config{Logger: ownLogger}
	for _, c := range []struct {
		name             string
		options          fx.Option
		writes, isSilent *bytes.Buffer
	}{
		{"the app's", fx.Supply(appLogger), appText, ownText},
		{"both", fx.Supply(own, appLogger), ownText, appText},
	} {
		t.Run(c.name, func(t *testing.T) {
			appText.Reset()
			ownText.Reset()
			var m *connmgr.Manager
			newApp(t, fx.Populate(&m), c.options)
			m.TrimOpenConns(t.Context())
			if !strings.Contains(c.writes.String(), "connmgr: trim") || c.isSilent.Len() > 0 {
				t.Errorf("the app's log is %q and the configuration's %q, expected the trim in only one", appText, ownText)
			}
		})
	}
}

func TestABadConfigurationIsNamedByTheErrorOfTheApp(t *testing.T) {
	expectError(t, fx.Supply(connmgr.Config{LowWater: 500, HighWater: 4}), "connmgr: LowWater 500 is above HighWater 4")
}

func TestTagsAndProtectionsAreThoseOfTheManager(t *testing.T) {
	var (
		m           *connmgr.Manager
		tags        *connmgr.TagStore
		protections *connmgr.ProtectStore
	)
	newApp(t, fx.Populate(&m, &tags, &protections))
	m.TagPeer("ada", "useful", 7)
	if got := tags.Sum("ada"); got != 7 {
		t.Errorf("the tag store's sum is %d for a peer tagged with 7 at the manager, expected 7", got)
	}
	protections.Protect("ada", "friend")
	if !m.IsProtected("ada", "friend") {
		t.Error("a peer protected in the protect store is not protected for the manager, expected that it is")
	}
}

func TestAHostThatNeedsTheManagerIsAnError(t *testing.T) {
	expectError(t, fx.Provide(func(*connmgr.Manager) connmgr.Host { return connmgrtest.NewHost() }), "cycle")
}

// Fx takes an optional value for absent if its constructor lacks something. The
// package's documentation says so, and how to find out.
func TestAskingForTheHostReportsWhatItLacks(t *testing.T) {
	type transport struct{}
	needy := fx.Provide(func(transport) connmgr.Host { return connmgrtest.NewHost() })
	newApp(t, needy) // no error
	expectError(t, fx.Options(needy, fx.Invoke(func(connmgr.Host) {})), "missing", "transport")
}

func TestNewWorksWithoutTheModule(t *testing.T) {
	lc := fxtest.NewLifecycle(t)
	r, err := connmgrfx.New(connmgrfx.Params{Lifecycle: lc, Config: eager})
	if err != nil {
		t.Fatalf("New returns %v, expected a manager", err)
	}
	lc.RequireStart()
	lc.RequireStop()
	if err := r.Manager.Close(); err != nil {
		t.Errorf("Close after the stop returns %v, expected nil", err)
	}
	if _, err := connmgrfx.New(connmgrfx.Params{}); err == nil || !strings.Contains(err.Error(), "Lifecycle") {
		t.Errorf("New without a lifecycle returns %v, expected an error that names it", err)
	}
}
