package connmgr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// A program brings rules of its own at each start. Where the same rule is saved, the
// one that ends later counts, so that what somebody saved is not lost with it.
func TestARuleOfTheProgramDoesNotEndASavedOne(t *testing.T) {
	forGood := denyPeer("spammer")
	forNow := func() connmgr.Rule { return with(forGood, time.Now().Add(time.Minute), forGood.Origin) }
	for what, there := range map[string]func() (saved, brought connmgr.Rule){
		"saved for good":   func() (saved, brought connmgr.Rule) { return forGood, forNow() },
		"brought for good": func() (saved, brought connmgr.Rule) { return forNow(), forGood },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				saved, brought := there()
				store := connmgrtest.NewStore(saved)
				cfg := tight(100, 200)
				cfg.Gate = connmgr.GateConfig{Store: store, Rules: []connmgr.Rule{brought}}
				m, _ := newNode(t, cfg)
				advance(time.Hour)
				if !refuses(m, "spammer") {
					t.Error("an hour later the peer passes, though one of the two rules never ends")
				}
				if what == "saved for good" && len(store.Rules()) != 1 {
					t.Errorf("the store has %v, want the rule that was saved", store.Rules())
				}
			})
		})
	}
}
