package connmgr_test

import (
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr"
)

// Connections that pass the limits can hold the number above them. Then it takes more
// than one that goes to make room for a newcomer that ranks higher.
func TestAsManyGoAsItTakesToMakeRoom(t *testing.T) {
	for what, beyond := range map[string]func(*lobby) error{
		"an outbound connection": func(l *lobby) error { _, err := l.enter(connmgr.DirOutbound, "other", nowhere); return err },
		"a trusted connection":   func(l *lobby) error { _, err := l.enter(connmgr.DirInbound, "friend", nowhere); return err },
	} {
		for _, tt := range []struct {
			protected int
			goes      int // 0 if the newcomer is refused
		}{{0, 2}, {2, 2}, {3, 0}} {
			t.Run(what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := fullHouse(4)
					cfg.ManualStart = true // no trim meddles
					cfg.Gate.Rules = []connmgr.Rule{{Effect: connmgr.Allow, Target: connmgr.PeerTarget("friend")}}
					l := newLobby(t, cfg)
					for i := range 4 {
						l.dialIn(t, peerID(i))
						if i < tt.protected {
							l.m.Protect(peerID(i), "x")
						}
					}
					if err := beyond(l); err != nil {
						t.Fatal(err)
					}
					l.m.TagPeer("new", "a", 1000)
					_, err := l.enter(connmgr.DirInbound, "new", nowhere)
					if n := len(l.closedPeers()); n != tt.goes || (err == nil) != (tt.goes > 0) {
						t.Fatalf("with %d of 4 protected, %d went and the newcomer got %v; want %d to go, or it to be refused", tt.protected, n, err, tt.goes)
					}
					if n, want := l.m.ConnCount(), 5-tt.goes+min(tt.goes, 1); n != want {
						t.Errorf("%d connections are counted, want %d", n, want)
					}
					s := l.m.Stats()
					if s.Closing != 0 || s.HangingPeers != 0 {
						t.Errorf("%d connections are closing, %d hang; want none", s.Closing, s.HangingPeers)
					}
				})
			})
		}
	}
}
