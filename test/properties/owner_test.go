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

// owner is a process: a service with a client and a cable of its own.
type owner struct {
	name    string
	scope   *redisidem.Scope
	service *redisidem.Service
	flow    *redisidem.Flow
	cable   *cable
	cut     bool // as the model sees it
}

func (o *owner) GoString() string { return o.name }

// cable is all that one process has of connections. It can be cut, and it can lose replies. It remembers the commits that went
// along, for somebody to send them once more.
type cable struct {
	dial func(context.Context, string, string) (net.Conn, error)

	mu      sync.Mutex
	cut     bool
	deaf    bool
	wires   map[*wire]struct{}
	commits [][]byte
}

func newCable(opt *redis.Options) *cable {
	c := &cable{dial: opt.Dialer, wires: make(map[*wire]struct{})}
	if c.dial == nil {
		c.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", opt.Addr)
		}
	}
	opt.Dialer = c.connect
	return c
}

// connect never fails, since a pool that cannot dial tries to in the background, and takes time to hear of the cable's mending.
func (c *cable) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // which ends with this call
	w := &wire{cable: c, dial: func() (net.Conn, error) { return c.dial(ctx, network, addr) }}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wires[w] = struct{}{}
	return w, nil
}

// set cuts the cable or mends it. Wires on which replies got lost are broken then. Of the others those notice the cut that are
// used meanwhile.
func (c *cable) set(cut, deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.deaf = cut, deaf
	for w := range c.wires {
		if w.deaf && !deaf {
			w.broken = true
			_ = w.conn.Close()
		}
	}
}

// sent returns the commits that were sent so far, as they were sent.
func (c *cable) sent() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// wire is one connection, which is made when something is sent for the first time.
type wire struct {
	cable *cable
	dial  func() (net.Conn, error)

	// Guarded by the cable's mu.
	conn   net.Conn
	deaf   bool
	broken bool
}

var errCut = errors.New("the cable is cut")

func (w *wire) Write(b []byte) (int, error) {
	conn, err := w.use(b)
	if err != nil {
		return 0, err
	}
	return conn.Write(b)
}

// use returns the connection for something to be sent.
func (w *wire) use(b []byte) (net.Conn, error) {
	c := w.cable
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

// made returns the connection, nil if there is none yet, and whether its replies get lost.
func (w *wire) made() (conn net.Conn, deaf bool) {
	w.cable.mu.Lock()
	defer w.cable.mu.Unlock()
	return w.conn, w.deaf
}

func (w *wire) Read(b []byte) (int, error) {
	for {
		conn, _ := w.made()
		if conn == nil {
			return 0, errCut
		}
		n, err := conn.Read(b)
		// A server that does not have the script has done nothing: it is to be told the text.
		if _, deaf := w.made(); err != nil || !deaf || bytes.Contains(b[:n], []byte("-NOSCRIPT")) {
			return n, err
		}
	}
}

func (w *wire) Close() error {
	w.cable.mu.Lock()
	defer w.cable.mu.Unlock()
	delete(w.cable.wires, w)
	w.broken = true
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

func (w *wire) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (w *wire) SetDeadline(t time.Time) error      { return w.set(t, net.Conn.SetDeadline) }
func (w *wire) SetReadDeadline(t time.Time) error  { return w.set(t, net.Conn.SetReadDeadline) }
func (w *wire) SetWriteDeadline(t time.Time) error { return w.set(t, net.Conn.SetWriteDeadline) }

func (w *wire) set(t time.Time, deadline func(net.Conn, time.Time) error) error {
	if conn, _ := w.made(); conn != nil {
		return deadline(conn, t)
	}
	return nil
}
