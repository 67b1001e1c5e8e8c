package connmgr

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// This file trims by force when memory runs out: the live heap is held against
// GOMEMLIMIT, or the container's limit. The live heap, not memory in use, since
// Go's collector uses what it is allowed to before it collects.

const memoryCheckInterval = time.Second

const (
	metricLiveHeap = "/gc/heap/live:bytes"
	metricGCCycles = "/gc/cycles/total:gc-cycles"
	metricMemLimit = "/gc/gomemlimit:bytes"
)

// memoryGauge measures the pressure on memory.
type memoryGauge struct {
	share     float64 // of the limit, above which there is pressure
	container uint64  // the container's limit; 0 if there is none
	samples   []metrics.Sample
	// trimmedAt is the collection before the last forced trim. Until the next one
	// the live heap does not show what the trim freed.
	trimmedAt uint64
}

// newMemoryGauge fails if there is no limit to hold the heap against.
func newMemoryGauge(share float64) (*memoryGauge, error) {
	g := &memoryGauge{
		share:     share,
		container: containerMemoryLimit(os.DirFS("/")),
		samples:   []metrics.Sample{{Name: metricLiveHeap}, {Name: metricGCCycles}, {Name: metricMemLimit}},
	}
	if _, _, limit := g.read(); limit == 0 {
		return nil, fmt.Errorf("connmgr: MemoryHighWater is %v, but there is no memory limit: set GOMEMLIMIT, or run in a container that has one", share)
	}
	return g, nil
}

// read returns the live heap and the limit in bytes, and the number of
// collections so far. The limit is 0 if there is none.
func (g *memoryGauge) read() (live, cycles, limit uint64) {
	metrics.Read(g.samples)
	limit = g.samples[2].Value.Uint64()
	if limit == 0 || limit >= math.MaxInt64 {
		limit = g.container
	}
	return g.samples[0].Value.Uint64(), g.samples[1].Value.Uint64(), limit
}

// pressure reports whether it is time for a forced trim.
func (g *memoryGauge) pressure() (live, limit uint64, pressed bool) {
	live, cycles, limit := g.read()
	if limit == 0 || float64(live) <= g.share*float64(limit) || cycles == g.trimmedAt {
		return live, limit, false
	}
	g.trimmedAt = cycles
	return live, limit, true
}

// watchMemory trims by force under memory pressure, until Close.
func (m *Manager) watchMemory() {
	warned := false
	for {
		select {
		case <-m.stop:
			return
		case <-m.cfg.Clock.After(memoryCheckInterval):
		}
		live, limit, pressed := m.memory.pressure()
		switch {
		case !pressed:
		case m.ConnCount() > m.Limits().LowWater:
			warned = false
			_, _ = m.ForceTrim(context.Background())
		case !warned:
			warned = true
			m.log(slog.LevelWarn, "connmgr: memory is short, but there are too few connections to blame them",
				"live_heap_bytes", live, "limit_bytes", limit, "connections", m.ConnCount(), "low_water", m.Limits().LowWater)
		}
	}
}

// containerMemoryLimit returns the tightest memory limit of the control groups
// that this process is in, in bytes; 0 if there is none. Both versions of
// control groups are understood. root is the file system's root.
func containerMemoryLimit(root fs.FS) uint64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	var limit uint64
	consider := func(file string) {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		// "max" in version 2, and about 2^63 in version 1, say that there is none.
		if err == nil && n > 0 && n < 1<<60 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy-ID:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var base, file string
		switch {
		case parts[1] == "":
			base, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+parts[1]+",", ",memory,"):
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// Every group on the way up limits as well.
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			consider(path.Join(base, dir, file))
			if dir == "/" {
				break
			}
		}
	}
	return limit
}
