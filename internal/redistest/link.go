package redistest

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"
)

// link is a client's connection through a [Proxy]. It has four goroutines. For each direction one
// reads messages and one delivers them, so that a delay does not limit the number of messages in
// flight.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	requests       chan message
	replies        chan message
	// left is closed when the client has closed its side.
	left chan struct{}

	mu       sync.Mutex
	asked    int           // requests forwarded
	answered int           // replies read
	last     int           // the number of the last reply to deliver, or -1 for no end
	struck   map[int]*trap // the traps for replies, by their number
}

// message is a request or reply in flight.
type message struct {
	bytes []byte
	due   time.Time
	hold  <-chan struct{} // if not nil, delivered after it is closed
}

func newLink(p *Proxy, client, server net.Conn) *link {
	const underWay = 1024
	return &link{
		proxy: p, client: client, server: server, left: make(chan struct{}), last: -1, struck: make(map[int]*trap),
		requests: make(chan message, underWay), replies: make(chan message, underWay),
	}
}

// run serves the link until ctx ends, or one side has closed it and all earlier data is delivered.
func (l *link) run(ctx context.Context) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var running sync.WaitGroup
	running.Go(func() { // unblocks the reads and writes of the others
		<-ctx.Done()
		_ = l.client.Close()
		_ = l.server.Close()
	})
	running.Go(func() {
		defer close(l.requests)
		l.readRequests(ctx)
	})
	running.Go(func() { l.deliverRequests(ctx) })
	running.Go(func() {
		defer close(l.replies)
		l.readReplies(ctx)
	})
	running.Go(func() {
		// The server has closed its side, or a fault ends the connection.
		defer end()
		l.deliverReplies(ctx)
	})
	running.Wait()
}

// readRequests reads from the client until it closes. After a fault that ends the connection it
// continues to read and discards the data. Closing a connection with unread data could also drop
// replies in flight.
func (l *link) readRequests(ctx context.Context) {
	r := bufio.NewReader(l.client)
	for passing := true; ; {
		request, err := readMessage(r)
		if err != nil {
			close(l.left)
			return
		}
		passing = passing && l.pass(ctx, message{bytes: request, due: l.proxy.due()})
	}
}

// pass forwards a request unless a fault strikes it. It reports whether more requests may follow.
func (l *link) pass(ctx context.Context, request message) bool {
	t := l.proxy.traps.spring(request.bytes)
	if t == nil {
		return l.ask(ctx, request, nil)
	}
	switch t.fault {
	case LoseRequest:
		l.endAfterReplies()
		t.strike()
		return false
	case LoseReply:
		_ = l.ask(ctx, request, t)
		return false
	case MuteReply:
		return l.ask(ctx, request, t)
	case HoldRequest:
		request.hold = l.proxy.resumed()
		t.strike()
		return l.ask(ctx, request, nil)
	case Duplicate:
		return l.ask(ctx, request, nil) && l.ask(ctx, request, t)
	default:
		return l.ask(ctx, request, nil)
	}
}

// ask forwards a request, with the trap for its reply, if there is one. It returns false if the
// link has ended.
func (l *link) ask(ctx context.Context, request message, t *trap) bool {
	l.mu.Lock()
	l.asked++
	if t != nil {
		l.struck[l.asked] = t
	}
	l.mu.Unlock()
	return send(ctx, l.requests, request)
}

// endAfterReplies ends the connection after the replies to all requests so far.
func (l *link) endAfterReplies() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = l.asked
	if l.answered == l.last {
		_ = l.server.SetReadDeadline(time.Now())
	}
}

// deliverRequests writes requests to the server. When the client has left and all requests are
// delivered, it closes the server's input.
func (l *link) deliverRequests(ctx context.Context) {
	for m := range l.requests {
		if !wait(ctx, m.hold) || !wait(ctx, l.proxy.gate(toServer)) || !waitUntil(ctx, m.due) {
			return
		}
		l.proxy.requests.Add(1)
		if _, err := l.server.Write(m.bytes); err != nil {
			return
		}
	}
	// Closing both directions could make the server drop requests that it has not read yet.
	if server, ok := l.server.(*net.TCPConn); ok {
		_ = server.CloseWrite()
	}
}

// readReplies reads from the server until it closes or a fault ends the connection.
func (l *link) readReplies(ctx context.Context) {
	r := bufio.NewReader(l.server)
	for muted := false; ; {
		reply, err := readMessage(r)
		if err != nil {
			return
		}
		var t *trap
		last := false
		if !pushed(reply) {
			t, last = l.answer()
		}
		if t != nil {
			t.strike()
			last = last || t.fault == LoseReply
			muted = muted || t.fault == MuteReply
		}
		// A trap for a reply always swallows it.
		if t == nil && !muted && !send(ctx, l.replies, message{bytes: reply, due: l.proxy.due()}) {
			return
		}
		if last {
			return
		}
	}
}

// answer counts a reply. It returns the trap for the reply, if there is one, and whether it is the
// last reply to deliver.
func (l *link) answer() (t *trap, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
	t = l.struck[l.answered]
	delete(l.struck, l.answered)
	return t, l.answered == l.last
}

// deliverReplies writes replies to the client.
func (l *link) deliverReplies(ctx context.Context) {
	broken := false
	for m := range l.replies {
		if broken {
			continue // until the server also closes
		}
		if gate := l.proxy.gate(toClient); gate != nil {
			select {
			case <-gate:
			case <-l.left:
			case <-ctx.Done():
				return
			}
		}
		if !waitUntil(ctx, m.due) {
			return
		}
		_, err := l.client.Write(m.bytes)
		broken = err != nil
	}
}

func send(ctx context.Context, queue chan<- message, m message) bool {
	select {
	case queue <- m:
		return true
	case <-ctx.Done():
		return false
	}
}

// wait waits until the channel is closed. It returns at once if the channel is nil. It returns
// false if ctx ends first.
func wait(ctx context.Context, closed <-chan struct{}) bool {
	if closed == nil {
		return ctx.Err() == nil
	}
	select {
	case <-closed:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitUntil waits until due. It returns false if ctx ends first.
func waitUntil(ctx context.Context, due time.Time) bool {
	d := time.Until(due)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
