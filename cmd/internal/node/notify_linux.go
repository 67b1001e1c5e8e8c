package node

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// This file asks for the time as systemd wants it.

// Reloading is the states of a process that reads its configuration again: the service
// manager takes the time to match it with its own request.
func Reloading() []string {
	states := []string{"RELOADING=1"}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		states = append(states, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	}
	return states
}
