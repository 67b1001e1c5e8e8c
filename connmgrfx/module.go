// Package connmgrfx puts a [connmgr.Manager] into an application built with Fx:
// the manager is made with the app, starts with it, and is closed with it.
//
//	fx.New(
//		connmgrfx.Module,
//		fx.Supply(connmgr.Config{LowWater: 200, HighWater: 800}),
//		fx.Provide(fx.Annotate(newNetwork, fx.As(fx.Self()), fx.As(new(connmgr.Host)))),
//		fx.Invoke(func(n *Network, m *connmgr.Manager) { n.Notify(m) }),
//	)
//
// What the app may provide is listed at [Params], and what it gets at [Result].
// Everything the app may provide is optional.
//
// # Hosts
//
// The manager is made from the host, so the host's constructor cannot take the
// manager: Fx would report a cycle. Introduce them to each other in an fx.Invoke,
// as above. In this order the host's hooks surround the manager's: the host
// starts before the manager and stops after it. An app that provides no host, and
// only tells the manager of its connections, is free to do it in either order.
//
// Fx takes an optional value for absent not only if nobody provides it, but also
// if the constructor that does, or one that it needs, lacks something. To have
// that reported, ask for the value: fx.Invoke(func(connmgr.Host) {}).
//
// # Life
//
// Nothing runs in the background until the app starts, so one that cannot be
// built, or fails in an earlier hook, leaves nothing behind; one that fails in a
// later hook closes the manager. The exception is a start that fails because its
// context has ended: then Fx runs no more hooks, not even at Stop, and a program
// that goes on without the app calls [connmgr.Manager.Close].
//
// A closed manager does not start again. So an app that has been stopped, or
// whose start has failed after the manager's hook, fails to start again with
// [connmgr.ErrClosed].
package connmgrfx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dep2p/connmgr"
	"go.uber.org/fx"
)

// Module provides what is in [Result].
//
// It makes the manager even if nothing in the app asks for it: with a
// [connmgr.Host] it does its work without being called, and without one, limits
// that nobody enforces are worse than none. fx.Provide(connmgrfx.New) in the
// place of Module makes the manager only on demand.
//
// Source: seed, Fx module.
var Module = fx.Module("connmgr",
	fx.Provide(New),
	fx.Invoke(keepConnections),
)

// keepConnections makes Fx make the manager. Its name appears in Fx's log.
func keepConnections(*connmgr.Manager) {}

// Params is what [New] takes from the app.
type Params struct {
	fx.In

	// Lifecycle starts and closes the manager. Fx provides it.
	Lifecycle fx.Lifecycle
	// Config is the configuration; without it every field has its default.
	// ManualStart is ignored: the app starts the manager.
	Config connmgr.Config `optional:"true"`
	// Host is the owner of the connections. Without it Config.Host is, which may
	// be nil. To have both is an error.
	Host connmgr.Host `optional:"true"`
	// Rules keeps the gate's rules across restarts. Without it Config.Gate.Store does,
	// which may be nil. To have both is an error. It is loaded when the manager is made;
	// whoever provides it closes it in a stop hook, which runs after the manager's.
	Rules connmgr.RuleStore `optional:"true"`
	// Logger is used unless Config.Logger is set: that one was chosen for the
	// manager, this one for the app.
	Logger *slog.Logger `optional:"true"`
}

// Result is what [New] gives to the app.
type Result struct {
	fx.Out

	// Manager is the manager. Before the app starts and after it has stopped it
	// can be called like any other, but does nothing by itself.
	Manager *connmgr.Manager
	// Gater is Manager.Gater(), for the part of the app that opens and accepts
	// connections, and for those that block or report peers.
	Gater *connmgr.Gater
	// Tags is Manager.Tags(), for parts of the app that only tag peers.
	Tags *connmgr.TagStore
	// Protections is Manager.Protections(), for parts that only protect peers.
	Protections *connmgr.ProtectStore
}

// New makes a manager whose background work runs between the start and the stop
// of the app. It fails if the configuration is out of range, with an error that
// names the field and its value, if there are two hosts or two stores of rules, and if
// the rules cannot be loaded.
//
// [Module] calls it once. An app that wants a second manager calls it in a
// constructor of its own and gives the result a name.
func New(p Params) (Result, error) {
	cfg := p.Config
	switch {
	case p.Lifecycle == nil:
		return Result{}, errors.New("connmgr: Params.Lifecycle is nil: the manager would never start")
	case cfg.Host != nil && p.Host != nil:
		return Result{}, fmt.Errorf("connmgr: two hosts: Config.Host is a %T, and the app provides a %T as connmgr.Host; set only one", cfg.Host, p.Host)
	case cfg.Gate.Store != nil && p.Rules != nil:
		return Result{}, fmt.Errorf("connmgr: two stores of rules: Config.Gate.Store is a %T, and the app provides a %T as connmgr.RuleStore; set only one", cfg.Gate.Store, p.Rules)
	}
	if p.Host != nil {
		cfg.Host = p.Host
	}
	if p.Rules != nil {
		cfg.Gate.Store = p.Rules
	}
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	cfg.ManualStart = true
	m, err := connmgr.New(cfg)
	if err != nil {
		return Result{}, err
	}

	// The hooks leave their contexts alone: a start's ends long before the app
	// does, and Close is bounded by itself.
	p.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			if err := m.Start(); err != nil {
				return fmt.Errorf("connmgr: an app starts its manager once; build a new app: %w", err)
			}
			return nil
		},
		OnStop: func(context.Context) error { return m.Close() },
	})
	return Result{Manager: m, Gater: m.Gater(), Tags: m.Tags(), Protections: m.Protections()}, nil
}
