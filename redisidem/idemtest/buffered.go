package idemtest

import (
	"net"
	"sync"
)

// bufferedConn is a connection on which Write never blocks, like a socket with a send buffer. On a
// bare [net.Pipe], a client that writes a long pipeline would deadlock with a server that answers
// its first command.
type bufferedConn struct {
	net.Conn
	wake chan struct{}
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	queue []byte
	err   error // of an earlier write
}

func newBuffered(conn net.Conn) *bufferedConn {
	q := &bufferedConn{Conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.deliver()
	return q
}

func (q *bufferedConn) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	q.queue = append(q.queue, b...)
	select {
	case q.wake <- struct{}{}:
	default: // deliver has been woken
	}
	return len(b), nil
}

// Close breaks the connection. Queued bytes do not arrive.
func (q *bufferedConn) Close() error {
	q.fail(net.ErrClosed)
	q.once.Do(func() { close(q.done) })
	return q.Conn.Close()
}

func (q *bufferedConn) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
}

// deliver writes the queued bytes until the connection breaks.
func (q *bufferedConn) deliver() {
	for {
		select {
		case <-q.wake:
		case <-q.done:
			return
		}
		q.mu.Lock()
		b := q.queue
		q.queue = nil
		q.mu.Unlock()
		if _, err := q.Conn.Write(b); err != nil {
			q.fail(err)
			return
		}
	}
}
