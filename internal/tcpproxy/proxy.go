// Package tcpproxy is a proxy between clients and a server that speaks any protocol over TCP, with
// or without TLS. A test uses it to lose answers: the server has done its work, and the client sees
// a connection that breaks.
package tcpproxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes connections on to a server. Methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	server   string
	tasks    sync.WaitGroup

	mu     sync.Mutex
	lose   int // answers that are still to be lost
	lost   int
	closed bool
	open   map[net.Conn]bool
}

// Start starts a proxy in front of the server at an address, on a free port of the loopback
// interface. It ends with the test.
func Start(t testing.TB, server string) *Proxy {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, server: server, open: make(map[net.Conn]bool)}
	p.tasks.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.tasks.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(p.stop)
	return p
}

// Addr returns the address for clients, host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Lose makes the proxy lose the next n answers: it closes the connection, with a reset for the
// client, when the server sends something. With HTTP/1.1 without TLS, Lose can be called before
// the request. In protocols in which a server also sends other data than answers, call it when the
// server has the request.
func (p *Proxy) Lose(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose += n
}

// Cut closes all present connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// Lost returns the number of answers that were lost.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// loses reports whether the present answer is to be lost, and counts it.
func (p *Proxy) loses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose == 0 {
		return false
	}
	p.lose--
	p.lost++
	return true
}

func (p *Proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.untrack(client)
	server, err := net.DialTimeout("tcp", p.server, 10*time.Second) //nolint:noctx // it has a timeout
	if err != nil || !p.track(server) {
		return
	}
	defer p.untrack(server)
	var requests sync.WaitGroup
	requests.Go(func() {
		_, _ = io.Copy(server, client) // an end is an end, whatever the reason
		_ = server.(*net.TCPConn).CloseWrite()
	})
	p.answer(client, server)
	_ = client.Close()
	requests.Wait()
}

// answer passes on what the server sends until its end, or until an answer is lost.
func (p *Proxy) answer(client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		if n > 0 && p.loses() {
			_ = client.(*net.TCPConn).SetLinger(0) // a reset
			return
		}
		if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// track returns false, and closes the connection, once the proxy has stopped.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// stop closes the proxy and its connections, and blocks until its goroutines have ended.
func (p *Proxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
	p.tasks.Wait()
}
