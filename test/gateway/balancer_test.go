//go:build unix

package gateway

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer passes connections on to the gateways that are ready, in turn. It does not look into
// them. Like the load balancers of the field it learns from probes of /readyz who is ready.
type balancer struct {
	listener net.Listener
	tasks    sync.WaitGroup
	// refused counts connections that a gateway refused although it was ready at its last probe.
	refused atomic.Int64
	// unserved counts connections that no gateway accepted.
	unserved atomic.Int64

	mu       sync.Mutex
	backends []*backend
	next     int
	open     map[net.Conn]bool
	closed   bool
}

// backend is a gateway behind a balancer.
type backend struct {
	*process
	addr  string
	ready atomic.Bool
}

// probeInterval is the time between two probes of a gateway.
const probeInterval = 20 * time.Millisecond

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener, open: make(map[net.Conn]bool)}
	b.tasks.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			b.tasks.Go(func() { b.serve(client) })
		}
	})
	t.Cleanup(b.close)
	return b
}

// url is the address for clients.
func (b *balancer) url(scheme string) string { return scheme + "://" + b.listener.Addr().String() }

// add adds a gateway, and blocks until it is ready.
func (b *balancer) add(t testing.TB, p *process) {
	t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	e := &backend{process: p, addr: u.Host}
	b.mu.Lock()
	b.backends = append(b.backends, e)
	b.mu.Unlock()
	b.tasks.Go(func() { b.probe(e) })
	until(t, "a gateway that started is ready", e.ready.Load)
}

// probe probes a gateway until its process has ended.
func (b *balancer) probe(e *backend) {
	for ticker := time.NewTicker(probeInterval); ; {
		status, _, err := e.page("/readyz")
		e.ready.Store(err == nil && status == http.StatusOK)
		select {
		case <-ticker.C:
		case <-e.ended:
			ticker.Stop()
			b.mu.Lock()
			b.backends = slices.DeleteFunc(b.backends, func(other *backend) bool { return other == e })
			b.mu.Unlock()
			return
		}
	}
}

// ready returns the gateways that are ready, another one first each time.
func (b *balancer) ready() (backends []*backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	for i := range b.backends {
		if e := b.backends[(b.next+i)%len(b.backends)]; e.ready.Load() {
			backends = append(backends, e)
		}
	}
	return backends
}

func (b *balancer) serve(client net.Conn) {
	if !b.track(client) {
		return
	}
	defer b.untrack(client)
	server := b.dial()
	if server == nil || !b.track(server) {
		return
	}
	defer b.untrack(server)
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client) // an end is an end, whatever the reason
		_ = server.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	up.Wait()
}

// dial returns a connection to a gateway, or nil if none accepts one.
func (b *balancer) dial() net.Conn {
	for _, e := range b.ready() {
		server, err := net.DialTimeout("tcp", e.addr, time.Second)
		if err == nil {
			return server
		}
		b.refused.Add(1)
	}
	b.unserved.Add(1)
	return nil
}

// track returns false, and closes the connection, once the balancer is closed.
func (b *balancer) track(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = c.Close()
		return false
	}
	b.open[c] = true
	return true
}

func (b *balancer) untrack(c net.Conn) {
	_ = c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}

// close closes all connections, ends the gateways, and blocks until nothing is left.
func (b *balancer) close() {
	_ = b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.open {
		_ = c.Close()
	}
	backends := slices.Clone(b.backends)
	b.mu.Unlock()
	for _, e := range backends {
		e.kill()
	}
	b.tasks.Wait()
}
