package connmgr_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// Connections that come and go at the door are counted in two steps. Whoever reads in
// between must neither see fewer than none nor make a table of that size.
func TestFewerThanNoneAreNeverCounted(t *testing.T) {
	m, _ := newNode(t, tight(1000, 2000))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := connmgr.NodeID(fmt.Sprint(i, n%3))
				c := connmgrtest.NewConn(id)
				if m.Gater().InterceptUpgraded(connmgr.DirInbound, id, nowhere, c) == nil {
					m.Gater().Release(id, c)
				}
			}
		})
	}
	for range 3000 {
		if n := m.ConnCount(); n < 0 {
			t.Fatalf("ConnCount is %d", n)
		}
		m.DryRun(connmgr.TriggerManual)
	}
	close(stop)
	all.Wait()
}
