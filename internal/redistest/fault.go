package redistest

import (
	"bytes"
	"sync"
)

// Fault is something that a [Proxy] does to one request.
type Fault int

// The faults. In a pipeline the requests before the struck one are served and answered as ever.
const (
	// LoseRequest closes the connection instead of passing the request on. What comes behind it in a pipeline does not
	// reach the server either. It has struck when that is certain.
	LoseRequest Fault = iota + 1
	// LoseReply passes the request on and closes both sides when the reply is there, so the server has done what the
	// client never hears of. What comes behind it in a pipeline does not reach the server. It has struck when the reply
	// is there.
	LoseReply
	// MuteReply passes the request on and delivers neither its reply nor anything after it, on a connection that stays
	// open: the client gets a timeout. It has struck when the reply is there.
	MuteReply
	// HoldRequest keeps the request, and what comes behind it on the same connection, until Resume, and then passes it
	// on whether or not its client is still there: the late request of a client that has given up. It has struck when it
	// has the request.
	HoldRequest
	// Duplicate passes the request on twice, in a row, and delivers the first reply. It has struck when the second reply
	// is there.
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

// traps are the faults that wait, oldest first.
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

// spring returns the trap that this request steps into, which is used up, or nil.
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
