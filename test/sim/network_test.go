package sim

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// fault is the fate of a request.
type fault int

const (
	delivered   fault = iota
	lostRequest       // the connection breaks before the server has read the request
	lostReply         // the connection breaks after the server has applied the request
	muted             // applied, and the reply never arrives
	late              // no reply arrives; the server receives the request after its caller has left
	doubled           // answered, and the server receives it once more later
	refused           // the server returns an error and has done nothing
	torn              // the server refuses the first command of a pipeline, and runs the others
	halved            // the server receives only the first command of a pipeline, and the connection breaks
	faults
)

var faultNames = [faults]string{"delivered", "request lost", "reply lost", "muted", "late", "doubled", "refused", "torn", "halved"}

func (f fault) String() string { return faultNames[f] }

// refusals are the errors of servers that have done nothing and may soon accept the command.
var refusals = []string{
	"LOADING Redis is loading the dataset in memory",
	"READONLY You can't write against a read only replica.",
	"BUSY Redis is busy running a script.",
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	"CLUSTERDOWN The cluster is down",
	"TRYAGAIN Multiple keys request during rehashing of slot",
	"NOSCRIPT No matching script. Please use EVAL.",
}

const (
	quickest = 50 * time.Microsecond // latency of a message
	slowest  = 2 * time.Millisecond
	tardiest = 8 * time.Second // delay of a late request: more than two leases
)

// network holds all connections of one worker. Every message has its own latency, to the
// nanosecond. Two events happen at the same time only if one causes the other. The order of events
// thus depends on the seed and not on the scheduler.
type network struct {
	world  *world
	worker int
	turns  *turns
	cuts   []span // when the worker is cut off

	mu     sync.Mutex
	struck time.Time // the time of the last fault

	retired time.Time // when the worker began to shut down
}

// span is a period, relative to the beginning of the history.
type span struct{ from, to time.Duration }

func (w *network) cut() bool {
	if w.world.calm.Load() {
		return false
	}
	now := time.Since(w.world.began)
	for _, s := range w.cuts {
		if s.from <= now && now < s.to {
			return true
		}
	}
	return false
}

// strike records that a fault struck.
func (w *network) strike() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck = time.Now()
}

// retire records that the worker begins to shut down.
func (w *network) retire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retired = time.Now()
}

// retiredBefore reports whether the worker was shutting down at time t.
func (w *network) retiredBefore(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.retired.IsZero() && w.retired.Before(t)
}

// faultTail is how long the effects of a fault last. A pool that could not dial retries once a
// second.
const faultTail = 2 * time.Second

// struckSince reports whether a fault has struck the worker since t. A fault explains a failure.
func (w *network) struckSince(t time.Time) bool {
	t = t.Add(-faultTail)
	now := time.Since(w.world.began)
	for _, s := range w.cuts {
		if s.from <= now && t.Sub(w.world.began) <= s.to {
			return true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.struck.Before(t)
}

// random returns the source of the random choices about a message. The choices depend on the
// content and the time of the message, and not on earlier messages.
func (w *network) random(message []byte) *rand.Rand {
	h := fnv.New64a()
	for _, word := range wordsOf(message) {
		if len(word) > 30 && len(word) < 60 { // the name of a script or a key
			_, _ = h.Write(word)
		}
	}
	now := uint64(time.Since(w.world.began))
	return rand.New(rand.NewPCG(w.world.seed^h.Sum64(), now<<4|uint64(w.worker)))
}

// dial takes no time. go-redis dials for subscriptions while it holds a mutex, and a goroutine that
// waits for a mutex stops the fake time.
func (w *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if w.cut() {
		return nil, errors.New("connection refused")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inner, err := w.world.server.Dial()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: inner, network: w, closed: make(chan struct{})}, nil
}

func latency(r *rand.Rand) time.Duration { return quickest + upTo(slowest-quickest, r) }

// conn is one connection. The client sends each request in one piece, and reads the reply before it
// sends the next request.
type conn struct {
	net.Conn
	network *network

	mu       sync.Mutex
	deadline time.Time
	inbox    []byte        // is read before the data from the server
	back     time.Duration // latency of the reply
	silent   bool          // no more data arrives
	doomed   bool          // the reply is lost, and the connection breaks
	asked    string        // the name of the last request
	closing  sync.Once
	closed   chan struct{}
}

// slack separates the deadlines of connections from the deadlines of the contexts that they stem
// from. If two ended at the same time, the scheduler would decide which is seen first.
const slack = 1001 * time.Nanosecond

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetWriteDeadline(time.Time) error { return nil } // a write lasts at most the latency of a message

func (c *conn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		t = t.Add(slack)
	}
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *conn) Write(p []byte) (int, error) {
	w, length := c.network, len(p)
	r := w.random(p)
	name, commands := w.world.request(p)
	if name != "" { // subscription commands are sent under a mutex, too
		time.Sleep(latency(r))
	}
	f := w.fault(r, name, len(commands))
	for _, command := range commands {
		if token, record, completing := claimed(command); token != "" {
			w.world.observer.claims(w, token, f)
			if completing {
				w.turns.claims(w.world.keyOf(record))
			}
		}
	}
	if name != "" {
		w.world.log("worker %d sends %s: %v", w.worker, name, f)
	}
	c.mu.Lock()
	c.back, c.asked = latency(r), name
	c.mu.Unlock()
	switch f {
	default: // delivered
	case lostRequest:
		return len(p), c.Close()
	case halved:
		c.doom()
		p = commands[0]
	case lostReply:
		c.doom()
	case muted:
		c.mute()
	case late:
		c.mute()
		w.world.deliverLate(w.worker, name, bytes.Clone(p), upTo(tardiest, r))
		return len(p), nil
	case doubled:
		w.world.deliverLate(w.worker, name, bytes.Clone(p), upTo(tardiest, r))
	case refused, torn:
		text := refusals[r.IntN(len(refusals))]
		if bytes.Contains(bytes.ToLower(commands[0][:20]), []byte("\neval\r")) && strings.HasPrefix(text, "NOSCRIPT") {
			text = refusals[0]
		}
		n := len(commands)
		if f == torn {
			n = 1
		}
		c.mu.Lock()
		c.inbox = append(c.inbox, strings.Repeat("-"+text+"\r\n", n)...)
		c.mu.Unlock()
		if f == refused {
			return len(p), nil
		}
		if _, err := c.Conn.Write(bytes.Join(commands[1:], nil)); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	if _, err := c.Conn.Write(p); err != nil {
		return 0, err
	}
	return length, nil
}

// doom breaks the connection when the reply is in flight.
func (c *conn) doom() {
	c.mu.Lock()
	c.doomed = true
	c.mu.Unlock()
}

// fault chooses the fate of a request.
func (w *network) fault(r *rand.Rand, name string, commands int) fault {
	switch {
	case w.cut():
		return []fault{lostRequest, muted, late, lostReply}[r.IntN(4)]
	case name == "" || w.world.calm.Load() || r.Float64() >= w.world.rate:
		return delivered
	}
	w.strike()
	f := 1 + fault(r.IntN(int(faults)-1))
	if (f == torn || f == halved) && commands < 2 {
		f = refused
	}
	return f
}

// mute stops all data. It still reads from the server, which would block otherwise.
func (c *conn) mute() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return
	}
	c.silent = true
	_ = c.Conn.SetReadDeadline(time.Time{})
	go func() {
		var b [4096]byte
		for {
			if _, err := c.Conn.Read(b[:]); err != nil {
				return
			}
			c.network.world.observer.look()
		}
	}()
}

func (c *conn) Read(b []byte) (int, error) {
	c.mu.Lock()
	silent, doomed, deadline := c.silent, c.doomed, c.deadline
	if len(c.inbox) > 0 && !silent {
		n := copy(b, c.inbox)
		c.inbox = c.inbox[n:]
		c.mu.Unlock()
		return n, nil
	}
	c.mu.Unlock()
	if silent {
		return 0, c.wait(deadline)
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	c.network.world.observer.look()
	c.mu.Lock()
	back, asked := c.back, c.asked
	c.back = 0
	c.mu.Unlock()
	time.Sleep(back)
	switch {
	case doomed:
		_ = c.Close()
		return 0, io.EOF
	case c.network.cut():
		c.mute()
		return 0, c.wait(deadline)
	}
	c.network.turns.reads(asked, b[:n])
	return n, nil
}

// wait blocks like a read that receives no data.
func (c *conn) wait(deadline time.Time) error {
	if deadline.IsZero() {
		<-c.closed
		return net.ErrClosed
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-timer.C:
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	}
}

// deliverLate sends a request to the server after a delay, over a separate connection.
func (w *world) deliverLate(worker int, name string, request []byte, after time.Duration) {
	w.zombies.Go(func() {
		time.Sleep(after)
		c, err := w.server.Dial()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		w.log("worker %d's late %s arrives", worker, name)
		go func() { _, _ = c.Write(append(request, "*1\r\n$4\r\nPING\r\n"...)) }()
		var got []byte
		var b [4096]byte
		for !bytes.HasSuffix(got, []byte("+PONG\r\n")) {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			got = append(got, b[:n]...)
		}
		w.observer.look()
	})
}

// request returns the name of the script that a message calls, and its commands. The name is
// "obtain" for the lock alone, and "" for anything else.
func (w *world) request(p []byte) (name string, commands [][]byte) {
	for len(p) > 0 {
		words, n := parse(p)
		if len(words) == 0 {
			break
		}
		switch verb := strings.ToLower(string(words[0])); verb {
		case "set":
			name = "obtain"
		case "evalsha", "eval":
			name = "obtain"
			for _, s := range lua.All() {
				if string(words[1]) == s.SHA || string(words[1]) == s.Source {
					name = s.Name
				}
			}
			if verb == "eval" {
				name += " (text)"
			}
		}
		commands = append(commands, p[:n])
		p = p[n:]
	}
	return name, commands
}

// claimed returns the token and the record of a claim, and whether a completer claims. The token is
// "" for other commands.
func claimed(command []byte) (token, record string, completing bool) {
	words, _ := parse(command)
	if len(words) < 4 || string(words[1]) != lua.Claim.SHA && string(words[1]) != lua.Claim.Source {
		return "", "", false
	}
	keys, err := strconv.Atoi(string(words[2]))
	if err != nil || len(words) < keys+4 {
		return "", "", false
	}
	args := words[3+keys:]
	return string(args[0]), string(words[3]), len(args) > 7 && bytes.Contains(args[7], []byte("c"))
}

func wordsOf(p []byte) (all [][]byte) {
	for len(p) > 0 {
		words, n := parse(p)
		if n == 0 {
			break
		}
		all = append(all, words...)
		p = p[n:]
	}
	return all
}

// parse returns the words of the first command in p, and its length.
func parse(p []byte) (words [][]byte, length int) {
	rest := p
	number := func(mark byte) int {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok || len(line) < 2 || line[0] != mark {
			return -1
		}
		rest = after
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			return -1
		}
		return n
	}
	for range max(number('*'), 0) {
		n := number('$')
		if n < 0 || n+2 > len(rest) {
			return nil, 0
		}
		words = append(words, rest[:n])
		rest = rest[n+2:]
	}
	return words, len(p) - len(rest)
}

// upTo returns a random duration below a bound.
func upTo(d time.Duration, r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(d))) }
