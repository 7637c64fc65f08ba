package target

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Link is one contender's way to the server. It counts what passes.
type Link struct {
	server  *Server
	callers int

	trips   atomic.Int64
	in, out atomic.Int64
}

// Link makes a way to the server for so many callers. It implements guard.Dial.
func (s *Server) Link(callers int) *Link { return &Link{server: s, callers: callers} }

// Client implements guard.Dial.
func (l *Link) Client() (redis.UniversalClient, error) { return l.server.dial(l) }

// Addr implements guard.Dial.
func (l *Link) Addr() (string, error) { return l.server.Addr() }

// Callers implements guard.Dial.
func (l *Link) Callers() int { return l.callers }

// Trips returns the round trips so far: requests behind which nothing was sent on their connection until an answer came.
func (l *Link) Trips() int64 { return l.trips.Load() }

// Bytes returns the bytes sent to the server and received from it so far.
func (l *Link) Bytes() (in, out int64) { return l.in.Load(), l.out.Load() }

// tune sets what a benchmark needs: a connection for each caller, time to spare, and the counting.
func (l *Link) tune(dialer *func(context.Context, string, string) (net.Conn, error), pool *int, read, write, wait *time.Duration,
	contextTimeout *bool,
) {
	const patience = 30 * time.Second
	*dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &counted{Conn: conn, link: l}, nil
	}
	*pool = l.callers + 8
	*read, *write, *wait = patience, patience, patience
	*contextTimeout = true
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
