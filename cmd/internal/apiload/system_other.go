//go:build !linux

package apiload

import (
	"net"
	"time"
)

// This file is what the system has to be asked for in ways of its own, where it is not
// asked.

// notReadShows says that the node notices soon when a stream is not read. Here it may take
// megabytes of events, so whether it does is not looked at.
const notReadShows = false

func narrowDialer() *net.Dialer { return &net.Dialer{} }

// cpuTime is how long processors have worked for this process; 0 if that is not known.
func cpuTime() time.Duration { return 0 }
