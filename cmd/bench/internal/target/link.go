package target

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Link makes one contender's connections to the server and counts their traffic.
type Link struct {
	server  *Server
	callers int

	trips   atomic.Int64
	in, out atomic.Int64
	blind   atomic.Bool
}

// Link returns a link for a number of callers. It implements contender.Dial.
func (s *Server) Link(callers int) *Link { return &Link{server: s, callers: callers} }

// Client implements contender.Dial.
func (l *Link) Client(ctx context.Context) (redis.UniversalClient, error) {
	client, err := l.server.dial(l)
	if err != nil {
		return nil, err
	}
	if err := each(ctx, client, l.connect); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// SharedClient implements contender.Dial.
func (l *Link) SharedClient() (redis.UniversalClient, error) { return l.server.dial(l) }

// connect opens a connection for each caller, so that samples do not measure dialling. A pool dials
// only while all other connections are busy, so connect holds each until the last one is open. It
// opens them one after the other, because go-redis lets each held connection change the options of
// all.
func (l *Link) connect(ctx context.Context, node *redis.Client) error {
	conns := make([]*redis.Conn, l.callers)
	var err error
	for i := range conns {
		conns[i] = node.Conn()
		if err == nil {
			err = conns[i].Ping(ctx).Err()
		}
	}
	for _, conn := range conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// Addr implements contender.Dial. The traffic of connections to this address is not counted.
func (l *Link) Addr() (string, error) {
	addr, err := l.server.Addr()
	if err == nil {
		l.blind.Store(true)
	}
	return addr, err
}

// Blind reports whether there are connections whose traffic is not counted.
func (l *Link) Blind() bool { return l.blind.Load() }

// Callers implements contender.Dial.
func (l *Link) Callers() int { return l.callers }

// Trips returns the number of round trips so far. A round trip is a request after which its
// connection sends nothing until a reply arrives.
func (l *Link) Trips() int64 { return l.trips.Load() }

// Bytes returns the bytes sent to the server and received from it so far.
func (l *Link) Bytes() (in, out int64) { return l.in.Load(), l.out.Load() }

// tune sets the options that a benchmark needs: a connection for each caller, long timeouts, and
// the counting. secure is nil without TLS.
func (l *Link) tune(dialer *func(context.Context, string, string) (net.Conn, error), secure *tls.Config, pool *int,
	read, write, wait *time.Duration, contextTimeout *bool,
) {
	const patience = 30 * time.Second
	*dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return l.wrap(ctx, conn, secure)
	}
	*pool = l.callers + 8
	*read, *write, *wait = patience, patience, patience
	*contextTimeout = true
}

// wrap counts the traffic of a connection. It also sets up TLS, which go-redis leaves to a custom
// dialer.
func (l *Link) wrap(ctx context.Context, conn net.Conn, secure *tls.Config) (net.Conn, error) {
	c := &counted{Conn: conn, link: l}
	if secure == nil {
		return c, nil
	}
	t := tls.Client(c, secure)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return t, nil
}

type counted struct {
	net.Conn
	link   *Link
	asking atomic.Bool
}

func (c *counted) Write(b []byte) (int, error) {
	if !c.asking.Swap(true) {
		c.link.trips.Add(1)
	}
	n, err := c.Conn.Write(b)
	c.link.in.Add(int64(n))
	return n, err
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.asking.Store(false)
	c.link.out.Add(int64(n))
	return n, err
}

// SyscallConn gives go-redis access to the socket. go-redis checks before each use whether an idle
// connection is still good. Without this check, clients would be faster here than elsewhere.
func (c *counted) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
