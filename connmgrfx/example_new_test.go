package connmgrfx_test

import (
	"fmt"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrfx"
	"go.uber.org/fx"
)

// A second manager has a configuration and a name of its own.
func ExampleNew() {
	newRelayManager := func(lc fx.Lifecycle) (*connmgr.Manager, error) {
		r, err := connmgrfx.New(connmgrfx.Params{
			Lifecycle: lc,
			Config:    connmgr.Config{LowWater: 10, HighWater: 20},
		})
		return r.Manager, err
	}
	var peers, relays *connmgr.Manager
	app := fx.New(
		connmgrfx.Module,
		fx.Provide(fx.Annotate(newRelayManager, fx.ResultTags(`name:"relays"`))),
		fx.Populate(&peers, fx.Annotate(&relays, fx.ParamTags(`name:"relays"`))),
		fx.NopLogger,
	)
	if err := app.Err(); err != nil {
		panic(err)
	}
	fmt.Println("peers: ", peers.Limits().HighWater)
	fmt.Println("relays:", relays.Limits().HighWater)
	// Output:
	// peers:  400
	// relays: 20
}
