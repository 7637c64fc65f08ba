package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// BlackHole is an address at which dialling neither succeeds nor fails, as behind a firewall that
// drops packets. It is a listener that has a full queue and never accepts connections.
type BlackHole struct {
	listener net.Listener
	port     int
	queued   []net.Conn
	stop     sync.Once
}

// StartBlackHole starts a black hole. It returns once dialling the address hangs. The caller must
// end it with Stop. On systems without support it returns [errors.ErrUnsupported].
func StartBlackHole() (*BlackHole, error) {
	port, err := taken.take()
	if err != nil {
		return nil, err
	}
	listener, err := listenOwn(port)
	if err != nil {
		taken.give(port)
		return nil, fmt.Errorf("redistest: black hole: %w", err)
	}
	b := &BlackHole{listener: listener, port: port}
	if err := b.fill(); err != nil {
		b.Stop()
		return nil, fmt.Errorf("redistest: black hole: %w", err)
	}
	return b, nil
}

// fill makes the queue short and fills it.
func (b *BlackHole) fill() error {
	if err := shortenQueue(b.listener.(*net.TCPListener)); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: 200 * time.Millisecond}
	// The number of connections that such a queue takes depends on the system.
	for range 64 {
		conn, err := dialer.DialContext(context.Background(), "tcp", b.Addr())
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
		b.queued = append(b.queued, conn)
	}
	return errors.New("the queue does not fill up")
}

// Addr returns the address.
func (b *BlackHole) Addr() string { return address(b.port) }

// Stop ends the black hole. Afterwards, dialling the address is refused. Later calls do nothing.
func (b *BlackHole) Stop() {
	b.stop.Do(func() {
		for _, conn := range b.queued {
			_ = conn.Close()
		}
		_ = b.listener.Close()
		taken.give(b.port)
	})
}
