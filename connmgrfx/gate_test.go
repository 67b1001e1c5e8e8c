package connmgrfx_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
	"go.uber.org/fx"
)

// These tests put the gate into an app: rules from a store that the app provides, the
// gater beside the manager, and what goes wrong.

// asStore provides a store of rules as an app does.
func asStore(store connmgr.RuleStore) fx.Option {
	return fx.Provide(func() connmgr.RuleStore { return store })
}

func TestRulesOutliveTheApp(t *testing.T) {
	store := connmgrtest.NewStore()
	prefix := connmgr.PrefixTarget(netip.MustParsePrefix("192.0.2.0/24"))
	var first, second *connmgr.Gater
	app := newApp(t, fx.Supply(eager), asStore(store), fx.Populate(&first))
	start(t, app)
	if err := first.Block(t.Context(), prefix, 0, "port scans"); err != nil {
		t.Fatal(err)
	}
	stop(t, app)

	newApp(t, fx.Supply(eager), asStore(store), fx.Populate(&second))
	err := second.InterceptAccept(netip.MustParseAddrPort("192.0.2.7:4001"))
	if !errors.Is(err, connmgr.ErrConnectionDenied) {
		t.Errorf("in the next app an address that was blocked gets %v, expected ErrConnectionDenied", err)
	}
}

func TestTheGaterIsThatOfTheManager(t *testing.T) {
	var m *connmgr.Manager
	var g *connmgr.Gater
	newApp(t, fx.Supply(eager), fx.Populate(&m, &g))
	if m.Gater() != g {
		t.Error("the app's gater is not that of its manager, so they would not know the same connections")
	}
}

func TestTwoStoresAreAnErrorThatNamesBoth(t *testing.T) {
	cfg := connmgr.Config{Gate: connmgr.GateConfig{Store: otherStore{}}}
	expectError(t, fx.Options(fx.Supply(cfg), asStore(connmgrtest.NewStore())),
		"connmgr: two stores of rules", "Config.Gate.Store is a connmgrfx_test.otherStore", "provides a *connmgrtest.Store")
}

// otherStore is a store of another type, to be told apart in an error.
type otherStore struct{ connmgr.RuleStore }

func TestAnAppWhoseRulesCannotBeLoadedCannotBeBuilt(t *testing.T) {
	store := connmgrtest.NewStore()
	store.FailLoad(errors.New("rules.db: corrupt"))
	expectError(t, asStore(store), "connmgr: loading rules", "rules.db: corrupt")
}
