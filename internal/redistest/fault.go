package redistest

import (
	"bytes"
	"sync"
)

// Fault is a fault that a [Proxy] injects into one request.
type Fault int

// In a pipeline, the requests before the affected one are served and answered as usual.
const (
	// LoseRequest closes the connection instead of forwarding the request. Later requests of a
	// pipeline do not reach the server either. The fault has struck when that is certain.
	LoseRequest Fault = iota + 1
	// LoseReply forwards the request and closes both sides when the reply arrives. The server has
	// executed the request, and the client does not receive the reply. Later requests of a pipeline
	// do not reach the server. The fault has struck when the reply has arrived.
	LoseReply
	// MuteReply forwards the request and delivers neither its reply nor any later data. The
	// connection stays open, so the client times out. The fault has struck when the reply has
	// arrived.
	MuteReply
	// HoldRequest holds the request, and all later data on the same connection, until Resume. It
	// then forwards them even if the client has left, like the late request of a client that has
	// timed out. The fault has struck when the proxy has the request.
	HoldRequest
	// Duplicate forwards the request twice in a row and delivers the first reply. The fault has
	// struck when the second reply has arrived.
	Duplicate
)

// String returns the fault's name in lower case.
func (f Fault) String() string {
	names := [...]string{
		LoseRequest: "lose request", LoseReply: "lose reply", MuteReply: "mute reply", HoldRequest: "hold request",
		Duplicate: "duplicate",
	}
	if f <= 0 || int(f) >= len(names) {
		return "invalid"
	}
	return names[f]
}

// trap is a fault that waits for its request.
type trap struct {
	fault  Fault
	marker []byte
	struck chan struct{}
}

func (t *trap) strike() { close(t.struck) }

// traps are the waiting faults, oldest first.
type traps struct {
	mu   sync.Mutex
	list []*trap
}

func (t *traps) set(f Fault, marker string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := &trap{fault: f, marker: []byte(marker), struck: make(chan struct{})}
	t.list = append(t.list, one)
	return one.struck
}

// spring removes and returns the trap for this request, or returns nil.
func (t *traps) spring(request []byte) *trap {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, one := range t.list {
		if bytes.Contains(request, one.marker) {
			t.list = append(t.list[:i:i], t.list[i+1:]...)
			return one
		}
	}
	return nil
}
