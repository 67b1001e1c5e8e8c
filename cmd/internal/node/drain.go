package node

import (
	"context"
	"fmt"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// This file ends a node in order, within a deadline.

// Close drains the node: nobody is let in or dialled any more, the API ends with its
// streams, the host closes its connections, then the manager and the file of rules are
// closed. All of it takes the configuration's drain timeout at most. An error names what
// was still at work then, or would not close; the process had better end.
func (n *Node) Close() error {
	timeout := n.cfg.DrainTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	began := time.Now()
	n.log.Info("draining", "connections", n.cm.Core().ConnCount(), "within", timeout.String())

	n.door.shut.Store(true)
	if l, ok := n.host.Network().(interface{ ListenClose(...ma.Multiaddr) }); ok {
		go l.ListenClose(n.host.Network().ListenAddresses()...) // the host's Close waits for it
	}
	var failed error
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"dialling", func() error { n.keep.close(); return nil }},
		{"API", n.api.drain},
		{"host", n.host.Close},
		{"manager", n.cm.Close},
		{"rules", n.closeStore},
	} {
		var err error
		if !within(ctx, func() { err = step.do() }) {
			return fmt.Errorf("connmgr: drain timeout of %v exceeded while closing: %s", timeout, step.name)
		}
		if err != nil {
			n.log.Error("closing", "part", step.name, "err", err)
			failed = fmt.Errorf("connmgr: closing %s: %w", step.name, err)
		}
		n.log.Debug("closed", "part", step.name, "after", since(began))
	}
	if failed == nil {
		n.log.Info("drained", "took", since(began))
	}
	return failed
}

func (n *Node) closeStore() error {
	if n.store == nil {
		return nil
	}
	return n.store.Close()
}
