package node

import (
	"errors"
	"net"
	"os"
	"strings"
)

// This file tells systemd how the process is, as sd_notify(3) does.

// Notify sends a state such as "READY=1" to the service manager that started the process.
// Without one it does nothing.
func Notify(states ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // net knows that @ is abstract
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(strings.Join(states, "\n")))
	return errors.Join(err, conn.Close())
}
