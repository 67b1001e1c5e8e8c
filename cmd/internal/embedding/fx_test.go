package embedding_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrfx"
	"github.com/dep2p/connmgr/connmgrhttp"
	"go.uber.org/fx"
)

// This file is an app built with Fx that can be watched and changed, as docs/embedding.md
// shows it.

// adminAddress is where the API listens, so that Fx can tell it from other strings.
type adminAddress string

// serveAdmin serves the API and the page while the app runs.
func serveAdmin(lc fx.Lifecycle, m *connmgr.Manager, g *connmgr.Gater, at adminAddress) error {
	admin, err := connmgrhttp.Handler(m, g, connmgrhttp.Config{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			l, err := connmgrhttp.Listen(string(at), "")
			if err != nil {
				return err
			}
			go func() { ended <- connmgrhttp.Serve(ctx, l, admin) }()
			return nil
		},
		OnStop: func(context.Context) error {
			stop()
			return <-ended
		},
	})
	return nil
}

// An app with a manager, its API and its page.
func Example_fx() {
	address, cleanUp := socket()
	defer cleanUp()

	app := fx.New(
		connmgrfx.Module,
		fx.Supply(connmgr.Config{LowWater: 200, HighWater: 800}),
		fx.Supply(adminAddress(address)), // such as 127.0.0.1:7654
		fx.Invoke(serveAdmin),
		fx.NopLogger,
	)

	if err := app.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Contains(get(address, "/v1/limits"), `"high_water":800`))
	fmt.Println(app.Stop(context.Background()))
	// Output:
	// true
	// <nil>
}
