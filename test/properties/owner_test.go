package properties

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// owner is a process: a service with its own client and network.
type owner struct {
	name    string
	scope   *redisidem.Scope
	service *redisidem.Service
	flow    *redisidem.Flow
	network *network
	cut     bool // according to the model
}

func (o *owner) GoString() string { return o.name }

// network is the network of one process. It can be cut, and it can lose replies. It records the
// commits that pass, so that they can be repeated.
type network struct {
	dial func(context.Context, string, string) (net.Conn, error)

	mu      sync.Mutex
	cut     bool
	deaf    bool
	conns   map[*conn]struct{}
	commits [][]byte
}

func newNetwork(opt *redis.Options) *network {
	c := &network{dial: opt.Dialer, conns: make(map[*conn]struct{})}
	if c.dial == nil {
		c.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", opt.Addr)
		}
	}
	opt.Dialer = c.connect
	return c
}

// connect never fails. A pool that cannot dial retries in the background, and notices only later
// that the network is restored.
func (c *network) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // the caller's context ends with this call
	w := &conn{network: c, dial: func() (net.Conn, error) { return c.dial(ctx, network, addr) }}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[w] = struct{}{}
	return w, nil
}

// set cuts the network or restores it. Connections on which replies were lost break when the
// network is restored. Other connections notice the cut only when they are used meanwhile.
func (c *network) set(cut, deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.deaf = cut, deaf
	for w := range c.conns {
		if w.deaf && !deaf {
			w.broken = true
			_ = w.conn.Close()
		}
	}
}

// sent returns the commits that were sent so far, byte for byte.
func (c *network) sent() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// conn is one connection. It dials when it is first written to.
type conn struct {
	network *network
	dial    func() (net.Conn, error)

	// The network's mu guards these fields.
	conn   net.Conn
	deaf   bool
	broken bool
}

var errCut = errors.New("the network is cut")

func (w *conn) Write(b []byte) (int, error) {
	conn, err := w.use(b)
	if err != nil {
		return 0, err
	}
	return conn.Write(b)
}

// use returns the connection that b is sent on.
func (w *conn) use(b []byte) (net.Conn, error) {
	c := w.network
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut || w.broken {
		return nil, errCut
	}
	if w.conn == nil {
		var err error
		if w.conn, err = w.dial(); err != nil {
			return nil, err
		}
	}
	if bytes.Contains(b, []byte(lua.Commit.SHA)) {
		c.commits = append(c.commits, bytes.Clone(b))
	}
	// The commands that open a connection are answered, so that the next command is sent at all.
	w.deaf = w.deaf || c.deaf && bytes.Contains(b, []byte("eval"))
	return w.conn, nil
}

// made returns the connection, if there is one, and whether its replies are lost.
func (w *conn) made() (conn net.Conn, deaf bool) {
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	return w.conn, w.deaf
}

func (w *conn) Read(b []byte) (int, error) {
	for {
		conn, _ := w.made()
		if conn == nil {
			return 0, errCut
		}
		n, err := conn.Read(b)
		// A server without the script has done nothing. The client needs this reply to send the
		// source.
		if _, deaf := w.made(); err != nil || !deaf || bytes.Contains(b[:n], []byte("-NOSCRIPT")) {
			return n, err
		}
	}
}

func (w *conn) Close() error {
	w.network.mu.Lock()
	defer w.network.mu.Unlock()
	delete(w.network.conns, w)
	w.broken = true
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

func (w *conn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (w *conn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (w *conn) SetDeadline(t time.Time) error      { return w.set(t, net.Conn.SetDeadline) }
func (w *conn) SetReadDeadline(t time.Time) error  { return w.set(t, net.Conn.SetReadDeadline) }
func (w *conn) SetWriteDeadline(t time.Time) error { return w.set(t, net.Conn.SetWriteDeadline) }

func (w *conn) set(t time.Time, deadline func(net.Conn, time.Time) error) error {
	if conn, _ := w.made(); conn != nil {
		return deadline(conn, t)
	}
	return nil
}
