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

// owner is a process: a service with a client and a network of its own.
type owner struct {
	name    string
	scope   *redisidem.Scope
	service *redisidem.Service
	flow    *redisidem.Flow
	network *network
	cut     bool // as the model sees it
}

func (o *owner) GoString() string { return o.name }

// network is all that one process has of connections. It can be cut, and it can lose replies. It
// remembers the commits that went along, to be sent once more.
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

// connect never fails, since a pool that cannot dial tries to in the background, and takes time to
// hear of the network's mending.
func (c *network) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // which ends with this call
	w := &conn{network: c, dial: func() (net.Conn, error) { return c.dial(ctx, network, addr) }}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[w] = struct{}{}
	return w, nil
}

// set cuts the network or mends it. Connections on which replies got lost are broken then. Of the
// others those notice the cut that are used meanwhile.
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

// sent returns the commits that were sent so far, as they were sent.
func (c *network) sent() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// conn is one connection, which is made when something is sent for the first time.
type conn struct {
	network *network
	dial    func() (net.Conn, error)

	// Guarded by the network's mu.
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

// use returns the connection for something to be sent.
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
	// What opens a connection is answered, so that the command behind it is sent at all.
	w.deaf = w.deaf || c.deaf && bytes.Contains(b, []byte("eval"))
	return w.conn, nil
}

// made returns the connection, or nil, and whether its replies get lost.
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
		// A server that does not have the script has done nothing: it needs the source.
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
