package apiload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// This file is clients that cut off in the middle: of the head of a request, of its body,
// before the answer, in the answer, in a stream. Each is a connection that the node must
// let go of.

// cutEvery is the time between two of them.
const cutEvery = 50 * time.Millisecond

// cutOrigin is that of rules that must never come into force.
const cutOrigin = "cut"

// cuts is the ways to cut off.
var cuts = []func(n *node, c net.Conn) error{
	func(n *node, c net.Conn) error { // in the head
		_, err := io.WriteString(c, n.head("GET", "/v1/peers")+"Accept: applic")
		return err
	},
	func(n *node, c net.Conn) error { // in the body
		_, err := io.WriteString(c, n.head("POST", "/v1/rules/import?origin="+cutOrigin)+"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n192.0.2.1\n")
		return err
	},
	func(n *node, c net.Conn) error { // before the answer
		_, err := io.WriteString(c, n.head("GET", "/v1/peers?limit=1000")+"\r\n")
		return err
	},
	func(n *node, c net.Conn) error { // in the answer
		if _, err := io.WriteString(c, n.head("GET", "/v1/peers?limit=1000")+"\r\n"); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c, 100)
		return err
	},
	func(n *node, c net.Conn) error { // in a stream
		if _, err := io.WriteString(c, n.head("GET", "/v1/events")+"\r\n"); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c, 1000)
		return err
	},
	func(n *node, c net.Conn) error { // after one answer, in the head of the next request
		if _, err := io.WriteString(c, n.head("GET", "/v1/limits")+"\r\n"+n.head("GET", "/v1/limits")); err != nil {
			return err
		}
		_, err := bufio.NewReader(c).ReadString('}')
		return err
	},
}

// cutOff cuts off in all ways in turn, until ctx ends.
func (a *caller) cutOff(ctx context.Context) {
	for i := 0; pause(ctx, cutEvery) == nil; i++ {
		if err := a.cutOnce(ctx, i%len(cuts)); err != nil && ctx.Err() == nil {
			a.cutWrong = fmt.Sprintf("the %d. way to cut off failed: %v", i%len(cuts)+1, err)
			return
		}
		a.cut.Add(1)
	}
}

func (a *caller) cutOnce(ctx context.Context, way int) error {
	conn, err := a.node.dialAPI(ctx, &net.Dialer{})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	return cuts[way](a.node, conn)
}
