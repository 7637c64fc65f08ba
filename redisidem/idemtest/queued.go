package idemtest

import (
	"net"
	"sync"
)

// queued is a connection on which writing never blocks, as on a network, which has room for what is under way. On a bare
// [net.Pipe] a client that writes a long pipeline and a server that answers its first command wait for each other.
type queued struct {
	net.Conn
	wake chan struct{}
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	queue []byte
	err   error // why nothing can be written any more
}

func newQueued(conn net.Conn) *queued {
	q := &queued{Conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.deliver()
	return q
}

func (q *queued) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	q.queue = append(q.queue, b...)
	select {
	case q.wake <- struct{}{}:
	default: // deliver knows already
	}
	return len(b), nil
}

// Close breaks the connection: what is under way does not arrive.
func (q *queued) Close() error {
	q.fail(net.ErrClosed)
	q.once.Do(func() { close(q.done) })
	return q.Conn.Close()
}

func (q *queued) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
}

// deliver writes what is queued until the connection breaks.
func (q *queued) deliver() {
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
