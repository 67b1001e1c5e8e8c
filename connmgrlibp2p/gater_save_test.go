package connmgrlibp2p_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
)

// A ban must not wait for a disk that is full.
func TestABlockThatCannotBeSavedIsInForce(t *testing.T) {
	full := errors.New("the disk is full")
	gater, err := connmgrlibp2p.NewBasicConnectionGater(fullDatastore{datastore.NewMapDatastore(), full})
	if err != nil {
		t.Fatal(err)
	}
	if err := gater.BlockPeer("spammer"); !errors.Is(err, full) {
		t.Errorf("BlockPeer: %v, want the datastore's error", err)
	}
	if gater.InterceptPeerDial("spammer") {
		t.Error("the peer may be dialled, want it to be blocked all the same")
	}
	t.Run("BasicConnectionGater is different", func(t *testing.T) {
		gater, err := conngater.NewBasicConnectionGater(fullDatastore{datastore.NewMapDatastore(), full})
		if err != nil {
			t.Fatal(err)
		}
		if err := gater.BlockPeer("spammer"); err == nil || !gater.InterceptPeerDial("spammer") {
			t.Errorf("BlockPeer: %v, and may be dialled: %v; was an error, and yes", err, gater.InterceptPeerDial("spammer"))
		}
	})
}

// fullDatastore takes no entries.
type fullDatastore struct {
	datastore.Datastore
	err error
}

func (d fullDatastore) Put(context.Context, datastore.Key, []byte) error { return d.err }
