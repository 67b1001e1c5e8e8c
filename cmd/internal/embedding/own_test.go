package embedding_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/dep2p/connmgr"
)

// This file is a host of one's own, as docs/embedding.md shows it: a server over TCP whose
// peers say their name in the first line, and would show a key in earnest. It tells the
// manager of its connections and asks the gate at the moments that it has.

// conn is a connection. It is a connmgr.Conn, and a connmgr.AddrConn, so that rules about
// addresses close live connections as well.
type conn struct {
	net.Conn
	peer   connmgr.NodeID
	opened time.Time
}

func (c *conn) RemotePeer() connmgr.NodeID { return c.peer }

// Stat is the live details. This protocol has no streams.
func (c *conn) Stat() connmgr.ConnStat {
	return connmgr.ConnStat{Direction: connmgr.DirInbound, Opened: c.opened}
}

func (c *conn) RemoteAddrPort() netip.AddrPort {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

// CloseWithReason tells the other side why, if it listens within a second.
func (c *conn) CloseWithReason(why connmgr.Reason) error {
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "bye: %v\n", why)
	return c.Close()
}

// server accepts connections and owns them.
type server struct {
	m    *connmgr.Manager
	gate *connmgr.Gater
}

// serve accepts until the listener is closed.
func (s *server) serve(l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			if err := s.handle(c); err != nil {
				fmt.Fprintln(c, err)
			}
		})
	}
}

// handle passes a newcomer through the gate, and serves whom it lets in.
func (s *server) handle(c net.Conn) error {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	if err := s.gate.InterceptAccept(from); err != nil { // before the handshake costs anything
		return err
	}
	in := bufio.NewReader(c)
	name, err := in.ReadString('\n') // the handshake
	if err != nil {
		return err
	}
	peer := connmgr.NodeID(strings.TrimSpace(name))
	if err := s.gate.InterceptSecured(connmgr.DirInbound, peer, from); err != nil {
		return err
	}
	conn := &conn{Conn: c, peer: peer, opened: time.Now()}
	if err := s.gate.InterceptUpgraded(connmgr.DirInbound, peer, from, conn); err != nil {
		return err
	}
	s.m.Connected(peer, conn) // the same value that has passed the gate
	defer s.m.Disconnected(peer, conn)
	fmt.Fprintf(c, "welcome, %s\n", peer)
	_, err = io.Copy(io.Discard, in) // the protocol
	return err
}

// A server of one's own: who is blocked loses his connection, and is refused from then on.
func Example_ownHost() {
	m, err := connmgr.New(connmgr.Config{LowWater: 100, HighWater: 400, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &server{m: m, gate: m.Gater()}
	var wg sync.WaitGroup
	wg.Go(func() { s.serve(l) })
	defer wg.Wait()
	defer l.Close()

	alice := dial(l.Addr(), "alice")
	fmt.Println("alice hears:", alice.line())
	if err := m.Gater().Block(context.Background(), connmgr.PeerTarget("alice"), time.Hour, "spam"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("alice hears:", alice.line())

	said, _, _ := strings.Cut(dial(l.Addr(), "alice").line(), " 127.0.0.1") // and a port
	fmt.Println("alice hears:", said)
	refused := m.Gater().InterceptPeerDial("alice")
	fmt.Println("and is not dialled:", errors.Is(refused, connmgr.ErrPeerBlocked))
	// Output:
	// alice hears: welcome, alice
	// alice hears: bye: blocked
	// alice hears: connmgr: peer blocked: alice
	// and is not dialled: true
}

// client is the other side of a connection.
type client struct{ in *bufio.Reader }

func dial(to net.Addr, name string) *client {
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(c, name)
	return &client{in: bufio.NewReader(c)}
}

func (c *client) line() string {
	text, err := c.in.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text)
}
