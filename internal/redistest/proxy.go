package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a proxy between clients and a server that injects faults on demand. It reads requests
// and replies one by one, so a fault strikes exactly the intended request, even in a pipeline.
// Connections that subscribe to channels receive more replies than they send requests. On these,
// only the faults of requests work. Methods are safe for concurrent use.
type Proxy struct {
	upstream string
	port     int
	traps    traps
	requests atomic.Int64

	mu      sync.Mutex
	stopped bool
	end     context.CancelFunc // closes the listener and all connections; nil while refusing
	running sync.WaitGroup     // the goroutines of all of these

	settings sync.Mutex // guards the fields below; never held for long, unlike mu
	delay    time.Duration
	normal   chan struct{} // closed by Resume, which replaces it when it ends a disturbance
	stalled  [2]bool       // by direction
}

// direction is one of the two directions of a connection.
type direction int

const (
	toServer direction = iota
	toClient
)

// StartProxy starts a proxy in front of the server at an address. The server need not run yet. The
// caller must end the proxy with Stop.
func StartProxy(upstream string) (*Proxy, error) {
	port, err := taken.take()
	if err != nil {
		return nil, err
	}
	p := &Proxy{upstream: upstream, port: port, normal: make(chan struct{})}
	if err := p.listen(); err != nil {
		taken.give(port)
		return nil, err
	}
	return p, nil
}

// Addr returns the address for clients.
func (p *Proxy) Addr() string { return address(p.port) }

// Requests returns the number of requests that were forwarded to the server, including the requests
// that open connections.
func (p *Proxy) Requests() int64 { return p.requests.Load() }

// Once makes the fault strike the next request that contains the marker, on any connection. It
// returns a channel that is closed when the fault has struck. The marker is compared with the
// request's bytes, so case matters. go-redis sends command names in lower case, and "\r\nset\r\n"
// is found in SET but not in SETEX. Every request contains the empty marker. A fault that has found
// its request is used up, even if the connection breaks before it strikes.
func (p *Proxy) Once(f Fault, marker string) <-chan struct{} { return p.traps.set(f, marker) }

// StallReplies delays all replies from now on, on existing and new connections, until Resume. The
// server executes requests, and clients do not receive the replies meanwhile.
func (p *Proxy) StallReplies() { p.stall(toClient) }

// StallRequests delays all requests from now on, until Resume. Resume delivers them, including the
// requests of clients that have left.
func (p *Proxy) StallRequests() { p.stall(toServer) }

func (p *Proxy) stall(d direction) {
	p.settings.Lock()
	defer p.settings.Unlock()
	p.stalled[d] = true
}

// Delay delays every request and every reply by d from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.settings.Lock()
	defer p.settings.Unlock()
	p.delay = d
}

// Refuse closes all connections and refuses new ones, like an address without a server. It blocks
// until they are closed.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse()
}

func (p *Proxy) refuse() {
	if p.end != nil {
		p.end()
		p.running.Wait()
		p.end = nil
	}
}

// Resume ends the effects of Delay, Refuse, StallReplies, StallRequests and [HoldRequest]. Faults
// that have not found their request continue to wait for it. Resume returns an error if the proxy
// was stopped or cannot listen again.
func (p *Proxy) Resume() error {
	p.settings.Lock()
	p.delay, p.stalled = 0, [2]bool{}
	close(p.normal)
	p.normal = make(chan struct{})
	p.settings.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errors.New("redistest: resume of a stopped proxy")
	}
	if p.end != nil {
		return nil
	}
	return p.listen()
}

// Stop closes the proxy and all its connections. It blocks until its goroutines have ended. Later
// calls do nothing.
func (p *Proxy) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.refuse()
	p.stopped = true
	taken.give(p.port)
}

// gate returns a channel that must be closed before a message may pass in a direction. It returns
// nil if messages may pass.
func (p *Proxy) gate(d direction) <-chan struct{} {
	p.settings.Lock()
	defer p.settings.Unlock()
	if !p.stalled[d] {
		return nil
	}
	return p.normal
}

// resumed returns a channel that the next Resume closes.
func (p *Proxy) resumed() <-chan struct{} {
	p.settings.Lock()
	defer p.settings.Unlock()
	return p.normal
}

// due returns the time at which a message that is sent now must arrive.
func (p *Proxy) due() time.Time {
	p.settings.Lock()
	defer p.settings.Unlock()
	return time.Now().Add(p.delay)
}

// listen begins to accept connections. The caller holds mu or is the only user.
func (p *Proxy) listen() error {
	listener, err := listenOwn(p.port)
	if err != nil {
		return fmt.Errorf("redistest: proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	p.running.Go(func() {
		<-ctx.Done()
		_ = listener.Close()
	})
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(ctx, client) })
		}
	})
	return nil
}

// serve connects a client to the server. If the server does not accept, it closes the client's
// connection.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	server, err := dialer.DialContext(ctx, "tcp", p.upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	newLink(p, client, server).run(ctx)
}
