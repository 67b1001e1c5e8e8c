package demo

import (
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	libp2pconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
)

// These tests play the chapter at the gate: with the gate in place, and without.

func playAtTheGate(t *testing.T, gater libp2pconnmgr.ConnectionGater) ([]Promise, error) {
	t.Helper()
	g, err := openGate(newScreen(io.Discard, Options{}), rand.NewChaCha8([32]byte{7}), gater)
	t.Cleanup(g.close)
	if err != nil {
		t.Fatal(err)
	}
	return g.play(t.Context())
}

func TestTheGateKeepsItsPromises(t *testing.T) {
	promises, err := playAtTheGate(t, nil)
	if err != nil || len(promises) != 5 {
		t.Errorf("%d promises and the error %v, want 5 and none", len(promises), err)
	}
	for _, p := range promises {
		if !p.Kept {
			t.Errorf("%s: broken (%s)", p.Promise, p.Detail)
		}
	}
}

func TestTheChapterNoticesThatNobodyIsAtTheGate(t *testing.T) {
	promises, err := playAtTheGate(t, connmgrlibp2p.Chain()) // lets everybody pass
	broken := func(p Promise) bool { return !p.Kept }
	if err == nil && !slices.ContainsFunc(promises, broken) {
		t.Errorf("a node without a gate keeps all promises: %+v", promises)
	}
}
