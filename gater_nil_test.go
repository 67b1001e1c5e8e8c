package connmgr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

func TestANilContextNeverEnds(t *testing.T) {
	cfg := tight(100, 200)
	cfg.Gate.Store = connmgrtest.NewStore()
	m, _ := newNode(t, cfg)
	//nolint:staticcheck // a nil context is what this is about
	if err := m.Gater().Block(nil, connmgr.PeerTarget("spammer"), 0, ""); err != nil {
		t.Error(err)
	}
}

func TestABlockDoesNotShortenALongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newNode(t, tight(100, 200))
		target := connmgr.PeerTarget("spammer")
		for _, duration := range []time.Duration{time.Minute, time.Hour, time.Second, 0, time.Minute} {
			if err := m.Gater().Block(t.Context(), target, duration, ""); err != nil {
				t.Fatal(err)
			}
			if duration == time.Second {
				advance(30 * time.Minute)
				if !refuses(m, "spammer") {
					t.Error("a block of a second ended one of an hour")
				}
			}
		}
		advance(24 * time.Hour)
		if !refuses(m, "spammer") {
			t.Error("a block of a minute ended one for good")
		}
	})
}
