package apiload

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This file is what the system has to be asked for in ways of its own.

// notReadShows says that the node notices soon when a stream is not read.
const notReadShows = true

// narrowDialer makes connections with little room for what is on its way. Over loopback
// the sender's side has megabytes by default, which follow from the size of a segment.
func narrowDialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536)
			}
		})
		if failed != nil {
			return failed
		}
		return err
	}}
}

// cpuTime is how long processors have worked for this process; 0 if that is not known.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
