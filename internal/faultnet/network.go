// Package faultnet injects faults into the connections between clients and a Redis server, inside
// the process of a test. It does not need ports, and works inside a bubble of testing/synctest.
// Package redistest has a proxy for faults between processes.
package faultnet

import (
	"bytes"
	"context"
	"net"
	"sync"
	"syscall"

	"github.com/redisidem/redisidem/lua"
)

// Mode is the state of all connections of a [Network].
type Mode int

// When the network returns to Normal, every connection that has lost data breaks, and clients
// replace it.
const (
	// Normal passes all requests and replies.
	Normal Mode = iota
	// Refuse breaks all connections and refuses new ones.
	Refuse
	// Hang drops requests. They never reach the server, and the connections stay open.
	Hang
	// DropReplies passes requests and drops replies. Requests that only open a connection, such as
	// HELLO, are answered.
	DropReplies
)

// Fault is the fault of a [Network] for one script call.
type Fault int

// The connection breaks when the message is lost.
const (
	// NoFault passes the call and its reply.
	NoFault Fault = iota
	// LoseRequest drops the call before it reaches the server.
	LoseRequest
	// LoseReply passes the call and drops its reply.
	LoseReply
)

// DialFunc opens a connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// errRefused is the default error of refused connections.
var errRefused error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// errLost is the error of a connection that the network broke.
var errLost error = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// Network is a set of connections that fail on demand, either all at once or for single script
// calls. The zero value is ready for use. The exported fields must be set before the first
// connection is made. Methods are safe for concurrent use.
type Network struct {
	// BeforeWrite, if not nil, is called with all bytes that a client is about to send.
	BeforeWrite func(b []byte)
	// OnCall, if not nil, returns the fault of each script call before it is sent. The network
	// calls struck, if not nil, after the fault has happened and before the client notices it.
	// OnCall must not use the network. struck may use it.
	OnCall func(s *lua.Script) (f Fault, struck func())

	mu    sync.Mutex
	mode  Mode
	err   error // of refused connections; nil: errRefused
	conns map[*conn]struct{}
	next  *plannedFault
}

// plannedFault is a fault for the next call of one script.
type plannedFault struct {
	script string
	fault  Fault
	struck func()
}

// Wrap returns a DialFunc whose connections belong to the network. Dialling succeeds even during an
// outage, and the connection fails at its first use. The reason is that go-redis retries a failed
// dial in the background, with long pauses and beyond the life of its client.
func (n *Network) Wrap(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.mu.Lock()
		before := n.mode
		n.mu.Unlock()
		var inner net.Conn
		if before == Refuse || before == Hang {
			inner, _ = net.Pipe()
		} else {
			var err error
			if inner, err = dial(ctx, network, addr); err != nil {
				return nil, err
			}
		}
		return n.add(inner, before), nil
	}
}

// add makes a connection part of the network. The connection is also affected by an outage that
// began or ended while it was dialled.
func (n *Network) add(inner net.Conn, before Mode) *conn {
	c := &conn{Conn: inner, network: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[*conn]struct{})
	}
	n.conns[c] = struct{}{}
	c.deaf = before == Hang || n.mode == Hang
	if before == Refuse || n.mode == Refuse {
		n.sever(c)
	}
	return c
}

// Set changes the mode of the network from now on.
func (n *Network) Set(m Mode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set(m)
}

// RefuseWith is Set(Refuse) with the error that users of the connections receive.
func (n *Network) RefuseWith(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
	n.set(Refuse)
}

func (n *Network) set(m Mode) {
	n.mode = m
	for c := range n.conns {
		switch {
		case m == Refuse, m == Normal && c.deaf:
			n.sever(c)
		case m != Normal:
			c.deaf = true
		}
	}
}

// sever breaks a connection. The caller holds mu.
func (n *Network) sever(c *conn) {
	c.severed = true
	_ = c.Conn.Close()
	delete(n.conns, c)
}

// FailNext plans a fault for the next call of a script on any connection. It replaces an earlier
// plan. The network calls struck, if not nil, after the fault has happened and before the client
// notices it.
func (n *Network) FailNext(s *lua.Script, f Fault, struck func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = &plannedFault{s.Name, f, struck}
}

// Pending reports whether the fault of [Network.FailNext] has not happened yet.
func (n *Network) Pending() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.next != nil
}

// faultOf returns the fault of a script call, and a function to call when it has happened.
func (n *Network) faultOf(s *lua.Script) (f Fault, struck func()) {
	if n.OnCall != nil {
		if f, struck := n.OnCall(s); f != NoFault {
			return f, struck
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.next
	if next == nil || next.script != s.Name {
		return NoFault, nil
	}
	return next.fault, func() {
		n.mu.Lock()
		if n.next == next {
			n.next = nil
		}
		n.mu.Unlock()
		if next.struck != nil {
			next.struck()
		}
	}
}

// conn is one connection. One goroutine writes at a time, and one reads.
type conn struct {
	net.Conn
	network *Network

	unsent []byte // the beginning of a request; the writer keeps it until the rest arrives

	// The network's mu guards these fields.
	severed bool
	deaf    bool   // replies are dropped
	awaited string // the nonce of the call whose reply is to be lost
	struck  func() // to call when it is lost
	arrived []byte // data since the call was sent; the client does not receive it
}

func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// cause returns the error for the user of a connection on which err occurred.
func (c *conn) cause(err error) error {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !c.severed:
		return err
	case n.mode == Refuse && n.err != nil:
		return n.err
	case n.mode == Refuse:
		return errRefused
	}
	return errLost
}

func (c *conn) Write(b []byte) (int, error) {
	n := c.network
	if n.BeforeWrite != nil {
		n.BeforeWrite(b)
	}
	n.mu.Lock()
	severed, swallow := c.severed, n.mode == Hang
	if n.mode == DropReplies && !handshake(b) {
		c.deaf = true
	}
	n.mu.Unlock()
	switch {
	case severed:
		return 0, c.cause(nil)
	case swallow:
		return len(b), nil
	}
	return c.forward(b)
}

// forward sends the requests that b completes, one by one.
func (c *conn) forward(b []byte) (int, error) {
	c.unsent = append(c.unsent, b...)
	for {
		words, length := parseRequest(c.unsent)
		if length == 0 {
			return len(b), nil
		}
		request := c.unsent[:length]
		if script, nonce := scriptCall(words); script != nil {
			f, struck := c.network.faultOf(script)
			switch f {
			case NoFault:
			case LoseRequest:
				c.lose(struck)
				return 0, c.cause(errLost)
			case LoseReply:
				c.network.mu.Lock()
				c.awaited, c.struck = nonce, struck
				c.network.mu.Unlock()
			}
		}
		if _, err := c.Conn.Write(request); err != nil {
			return 0, c.cause(err)
		}
		c.unsent = c.unsent[length:]
	}
}

// lose breaks the connection after a message was lost on it.
func (c *conn) lose(struck func()) {
	if struck != nil {
		struck()
	}
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.network.sever(c)
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		size, err := c.Conn.Read(b)
		if err != nil {
			return size, c.cause(err)
		}
		c.network.mu.Lock()
		severed, deaf, awaited, struck := c.severed, c.deaf, c.awaited, c.struck
		if awaited != "" {
			c.arrived = append(c.arrived, b[:size]...)
		}
		arrived := c.arrived
		c.network.mu.Unlock()
		switch {
		case severed:
			return 0, c.cause(err)
		case awaited != "" && bytes.Contains(arrived, []byte(awaited)):
			c.lose(struck)
			return 0, c.cause(errLost)
		case unknownScript(b[:size]):
			// The server has done nothing. The client needs this reply to send the script's source.
			c.network.mu.Lock()
			c.awaited, c.struck, c.arrived = "", nil, nil
			c.network.mu.Unlock()
			return size, nil
		case awaited == "" && !deaf:
			return size, nil
		}
	}
}

// unknownScript reports whether a reply says that the server does not have a script.
func unknownScript(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-NOSCRIPT")) }

var _ net.Conn = (*conn)(nil)
