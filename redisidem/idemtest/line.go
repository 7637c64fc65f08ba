package idemtest

import (
	"bytes"
	"context"
	"net"
	"sync"
	"syscall"

	"github.com/redisidem/redisidem/lua"
)

// mode is what a line does to all that comes along.
type mode int

const (
	passing mode = iota
	refusing
	hanging
	muted
)

// fate is what a line does to one script call.
type fate int

const (
	pass fate = iota
	loseRequest
	loseReply
)

// errRefused is what those hear who connect while the line refuses.
var errRefused error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// line is what lies between clients and a server: all of their connections. It can be interrupted as a whole, and for single
// calls.
type line struct {
	connect func(context.Context) (net.Conn, error)
	// sending is told before anything is sent; nil: nobody is.
	sending func()
	// watch is asked about each call of a script before it is sent, when it is not nil. What it returns as struck is run when
	// the call's fate has been fulfilled, before its caller learns of it. It must not use the line; struck may.
	watch func(s *lua.Script) (f fate, struck func())

	mu    sync.Mutex
	mode  mode
	err   error // what those hear who are refused
	conns map[*lineConn]struct{}
}

func newLine(connect func(context.Context) (net.Conn, error)) *line {
	return &line{connect: connect, err: errRefused, conns: make(map[*lineConn]struct{})}
}

// dial makes a connection. It always succeeds while the line is interrupted, since clients that cannot even dial try to do so
// in the background, with long pauses and beyond their own end: the connection then fails at its first use instead.
func (l *line) dial(ctx context.Context) (net.Conn, error) { return l.dialWith(ctx, l.connect) }

// dialWith is dial with a way to connect of the caller's own.
func (l *line) dialWith(ctx context.Context, connect func(context.Context) (net.Conn, error)) (net.Conn, error) {
	l.mu.Lock()
	m := l.mode
	l.mu.Unlock()
	var conn net.Conn
	if m == refusing || m == hanging {
		conn, _ = net.Pipe()
	} else {
		var err error
		if conn, err = connect(ctx); err != nil {
			return nil, err
		}
	}
	c := &lineConn{Conn: conn, line: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Whatever happened to the line meanwhile happened to this connection, too.
	c.deaf = m == hanging || l.mode == hanging
	l.conns[c] = struct{}{}
	if m == refusing || l.mode == refusing {
		l.sever(c)
	}
	return c, nil
}

// set changes what the line does from now on.
func (l *line) set(m mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
	for c := range l.conns {
		switch {
		case m == refusing, m == passing && c.deaf:
			l.sever(c)
		case m != passing:
			c.deaf = true
		}
	}
}

// sever breaks a connection. The caller holds mu.
func (l *line) sever(c *lineConn) {
	c.severed = true
	_ = c.Conn.Close()
	delete(l.conns, c)
}

// refuse interrupts the line for good, with an error of the caller's own.
func (l *line) refuse(err error) {
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.set(refusing)
}

// lineConn is one connection. One goroutine writes at a time, and one reads.
type lineConn struct {
	net.Conn
	line *line

	unsent []byte // the beginning of a request, kept by the writer until the rest comes

	// Guarded by line.mu.
	severed bool
	deaf    bool   // no reply is heard any more
	awaited string // the nonce of the call whose reply is to get lost
	struck  func() // for when it has
	heard   []byte // while one is awaited: what came, which nobody got
}

// errLost is what a client hears whose connection a line broke.
var errLost error = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

func (c *lineConn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}

// broken returns the error for the user of a connection on which err occurred.
func (c *lineConn) broken(err error) error {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	switch {
	case !c.severed:
		return err
	case c.line.mode == refusing:
		return c.line.err
	}
	return errLost
}

func (c *lineConn) Write(b []byte) (int, error) {
	l := c.line
	if l.sending != nil {
		l.sending()
	}
	l.mu.Lock()
	severed, swallow := c.severed, l.mode == hanging
	if l.mode == muted && !handshake(b) {
		c.deaf = true
	}
	l.mu.Unlock()
	switch {
	case severed:
		return 0, c.broken(nil)
	case swallow:
		return len(b), nil
	case l.watch == nil:
		n, err := c.Conn.Write(b)
		return n, c.broken(err)
	}
	return c.forward(b)
}

// forward sends the requests that are complete with b, one by one.
func (c *lineConn) forward(b []byte) (int, error) {
	c.unsent = append(c.unsent, b...)
	for {
		words, length := parseRequest(c.unsent)
		if length == 0 {
			return len(b), nil
		}
		request := c.unsent[:length]
		if script, nonce := scriptCall(words); script != nil {
			f, struck := c.line.watch(script)
			switch f {
			case pass:
			case loseRequest:
				c.lose(struck)
				return 0, c.broken(errLost)
			case loseReply:
				c.line.mu.Lock()
				c.awaited, c.struck = nonce, struck
				c.line.mu.Unlock()
			}
		}
		if _, err := c.Conn.Write(request); err != nil {
			return 0, c.broken(err)
		}
		c.unsent = c.unsent[length:]
	}
}

// lose breaks the connection after something got lost on it.
func (c *lineConn) lose(struck func()) {
	if struck != nil {
		struck()
	}
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	c.line.sever(c)
}

func (c *lineConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil {
			return n, c.broken(err)
		}
		c.line.mu.Lock()
		severed, deaf, awaited, struck := c.severed, c.deaf, c.awaited, c.struck
		if awaited != "" {
			c.heard = append(c.heard, b[:n]...)
		}
		heard := c.heard
		c.line.mu.Unlock()
		switch {
		case severed:
			return 0, c.broken(err)
		case awaited != "" && bytes.Contains(heard, []byte(awaited)):
			c.lose(struck)
			return 0, c.broken(errLost)
		case unknownScript(b[:n]):
			// The server has done nothing, and is to be told the script's text.
			c.line.mu.Lock()
			c.awaited, c.struck, c.heard = "", nil, nil
			c.line.mu.Unlock()
			return n, nil
		case awaited == "" && !deaf:
			return n, nil
		}
	}
}

// unknownScript reports whether a reply says that the server does not have a script.
func unknownScript(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-NOSCRIPT")) }

var _ net.Conn = (*lineConn)(nil)
