package bench

import (
	"context"
	"fmt"
	"runtime"
)

// This file measures what a peer takes in memory: one connection, two tags. The
// connections and the bytes of the IDs belong to the node, and are not counted.

func measureMemory(ctx context.Context, peers int) ([]row, error) {
	bytesRow := newRow(fmt.Sprintf("memory/%d", peers), fmt.Sprintf("a peer, of %s", thousands(peers)))
	bytesRow.unit = bytesOfMemory
	crowd := newCrowd(peers)
	for i, who := range contenders {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before := heap()
		var start, end runtime.MemStats
		runtime.ReadMemStats(&start)
		m, err := who.filled(peers, crowd, func(i int) int { return i })
		if err != nil {
			return nil, err
		}
		runtime.ReadMemStats(&end)
		after := heap()
		size := (after - before) / figure(peers)
		allocs := figure(end.Mallocs-start.Mallocs) / figure(peers)
		if i == 0 {
			bytesRow.theirs, bytesRow.theirAllocs = size, allocs
		} else {
			bytesRow.ours, bytesRow.ourAllocs = size, allocs
		}
		if err := m.Close(); err != nil {
			return nil, err
		}
		runtime.KeepAlive(crowd)
	}
	return []row{bytesRow}, nil
}
