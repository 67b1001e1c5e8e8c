package bench

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"github.com/pbnjay/memory"
)

// This file says on what kind of machine figures were taken. It names no machine.

// machine is what figures depend on.
type machine struct {
	processor string
	cores     int // that the system has
	inUse     int // that Go uses
	memory    uint64
	system    string
	goVersion string
	goLibp2p  string
}

func thisMachine() machine {
	m := machine{
		processor: strings.Join(strings.Fields(cpuid.CPU.BrandName), " "),
		cores:     runtime.NumCPU(),
		inUse:     runtime.GOMAXPROCS(0),
		memory:    memory.TotalMemory(),
		system:    runtime.GOOS + "/" + runtime.GOARCH,
		goVersion: runtime.Version(),
	}
	if m.processor == "" {
		m.processor = "unknown processor"
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/libp2p/go-libp2p" {
				m.goLibp2p = "go-libp2p " + dep.Version
			}
		}
	}
	return m
}

// short fits into the plot.
func (m machine) short() string {
	return fmt.Sprintf("%s, %d cores, %s", m.processor, m.inUse, m.goVersion)
}

func (m machine) String() string {
	parts := []string{
		m.processor,
		fmt.Sprintf("%d cores, GOMAXPROCS %d", m.cores, m.inUse),
		fmt.Sprintf("%.0f GiB of memory", float64(m.memory)/(1<<30)),
		m.system,
		m.goVersion,
	}
	if m.goLibp2p != "" {
		parts = append(parts, m.goLibp2p)
	}
	return strings.Join(parts, ", ")
}
