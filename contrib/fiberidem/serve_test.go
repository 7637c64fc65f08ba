package fiberidem_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
)

// serve runs a server for the test, and returns its address.
func serve(t testing.TB, app *fiber.App) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	accepted := &connections{Listener: l}
	go func() { done <- app.Listener(accepted, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		accepted.close() // the server would wait for those over which no request has come
		err := errors.Join(app.ShutdownWithTimeout(20*time.Second), <-done)
		if err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// connections is a listener that can close what it has accepted.
type connections struct {
	net.Listener
	mu  sync.Mutex
	all []net.Conn
}

// Accept implements [net.Listener].
func (l *connections) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, conn)
	return conn, nil
}

func (l *connections) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.all {
		_ = conn.Close()
	}
}
