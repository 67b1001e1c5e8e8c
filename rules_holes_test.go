package connmgr_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// These tests close a hole that an allow rule has made in a denied prefix.

func TestWhatAHoleLetThroughIsClosedWhenTheHoleIs(t *testing.T) {
	hole := connmgr.Rule{Effect: connmgr.Allow, Target: prefix("10.1.0.0/16")}
	for what, end := range map[string]func(*connmgr.Gater){
		"removed": func(g *connmgr.Gater) { _, _ = g.Remove(context.Background(), hole) },
		"replaced": func(g *connmgr.Gater) {
			_, _ = g.Replace(context.Background(), hole.Origin, []connmgr.Rule{deny(prefix("10.0.0.0/8"))})
		},
		"expired": func(*connmgr.Gater) { advance(time.Hour + 2*time.Minute) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, host := newNode(t, tight(100, 200))
				rule := hole
				if what == "expired" {
					rule.Expires = time.Now().Add(time.Hour)
				}
				add(t, m.Gater(), deny(prefix("10.0.0.0/8")), rule)
				inside := host.Connect("inside", connmgrtest.From(comingFrom("10.1.2.3")))
				other := host.Connect("other", connmgrtest.From(comingFrom("11.1.2.3")))
				advance(time.Second)
				if !inside.Open() {
					t.Fatal("the connection from the allowed part of a denied prefix is closed, want it open")
				}
				end(m.Gater())
				synctest.Wait()
				if reason, closed := inside.ClosedFor(); !closed || reason != connmgr.ClosedBlocked {
					t.Errorf("with its rule gone the connection is closed: %v, for %v; want it closed as blocked", closed, reason)
				}
				if !other.Open() {
					t.Error("a connection from elsewhere was closed")
				}
			})
		})
	}
}
