//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/rpc"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// hanging is how long a call to the proxies may take before they are replaced.
const hanging = 5 * time.Second

// ways is the number of workers. Each has its own path to the server.
const ways = 3

// network is the network between the workers and the server: proxies with toxics that come and go.
type network struct {
	t        testing.TB
	life     time.Duration // of the proxies' process
	upstream string
	process  *child.Process
	proxy    *rpc.Client
	addrs    [ways]string // where each worker finds the server
	random   *rand.Rand
	number   map[string]int // how often each toxic was added
	next     int
}

// newNetwork starts a network that lasts for life.
func newNetwork(t testing.TB, life time.Duration, upstream string, seed uint64) *network {
	t.Helper()
	w := &network{
		t: t, life: life, upstream: upstream, random: rand.New(rand.NewPCG(seed, 1)), number: make(map[string]int),
	}
	for way := range ways {
		w.addrs[way] = "127.0.0.1:0"
	}
	w.start()
	t.Cleanup(func() { _ = w.proxy.Close() })
	return w
}

// start starts the proxies' process, and accepts connections.
func (w *network) start() {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	words := append([]string{listener.Addr().String(), w.upstream}, w.addrs[:]...)
	w.process, err = child.StartFor(w.t, w.life, "proxy", child.NewLedger(w.t), proxyVariable+"="+strings.Join(words, " "))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.proxy = rpc.NewClient(conn)
	w.connect()
}

// cut closes all connections and refuses new ones.
func (w *network) cut() {
	for way := range ways {
		w.order("Proxy.Cut", Order{Way: way}, &struct{}{})
	}
}

// connect ends a cut.
func (w *network) connect() {
	for way := range ways {
		w.order("Proxy.Connect", Order{Way: way}, &w.addrs[way])
	}
}

// order calls the proxies' process. Toxiproxy hangs or panics when a connection ends while its
// toxics change. Another process then replaces it, without toxics.
func (w *network) order(method string, o Order, reply any) {
	w.t.Helper()
	call := w.proxy.Go(method, o, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		var refused rpc.ServerError
		if call.Error == nil || errors.As(call.Error, &refused) {
			if call.Error != nil {
				w.t.Errorf("%s %+v: %v", method, o, call.Error)
			}
			return
		}
	case <-time.After(hanging):
	}
	w.number["lost proxy"]++
	w.process.Kill()
	_ = w.proxy.Close()
	w.start()
	if method == "Proxy.Cut" {
		w.order(method, o, reply)
	}
}

// between draws an integer from low to high.
func (w *network) between(low, high int) int { return low + w.random.IntN(high-low+1) }

// toxic draws a toxic: its type and its attributes in toxiproxy's format.
func (w *network) toxic() (kind, attributes string) {
	switch w.random.IntN(6) {
	case 0:
		return "latency", fmt.Sprintf(`{"latency":%d,"jitter":0}`, w.between(5, 150))
	case 1:
		return "latency", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, w.between(20, 80), w.between(5, 80))
	case 2:
		return "bandwidth", fmt.Sprintf(`{"rate":%d}`, w.between(8, 200))
	case 3:
		return "timeout", `{"timeout":0}` // the data never arrives, and the connection stays open
	case 4:
		return "reset_peer", fmt.Sprintf(`{"timeout":%d}`, w.between(0, 100))
	}
	return "slicer", fmt.Sprintf(`{"average_size":%d,"size_variation":8,"delay":%d}`, w.between(10, 64), w.between(10, 1000))
}

// storm adds and removes toxics until ctx ends, and sometimes cuts connections, on all paths to the
// server or on one. The network is clear afterwards.
func (w *network) storm(ctx context.Context) {
	for ctx.Err() == nil {
		struck := []int{0, 1, 2}
		if w.random.IntN(2) == 0 {
			struck = []int{w.random.IntN(ways)}
		}
		if w.random.IntN(5) == 0 {
			w.outage(ctx, struck)
		} else {
			w.episode(ctx, struck)
		}
		pause(ctx, time.Duration(w.between(0, 300))*time.Millisecond)
	}
}

// outage cuts some paths. A single path is sometimes cut for longer than a lease, so that other
// workers get its keys.
func (w *network) outage(ctx context.Context, struck []int) {
	w.number["cut"]++
	for _, way := range struck {
		w.order("Proxy.Cut", Order{Way: way}, &struct{}{})
	}
	pause(ctx, time.Duration(w.between(50, 2500/len(struck)))*time.Millisecond)
	for _, way := range struck {
		w.order("Proxy.Connect", Order{Way: way}, &w.addrs[way])
	}
}

// episode adds one or two toxics for a while, in either direction, to some or all connections.
func (w *network) episode(ctx context.Context, struck []int) {
	var names []string
	for range w.between(1, 2) {
		kind, attributes := w.toxic()
		w.number[kind]++
		w.next++
		name := fmt.Sprint(kind, w.next)
		names = append(names, name)
		direction := [...]string{"upstream", "downstream"}[w.random.IntN(2)]
		toxic := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"toxicity":%.2f,"attributes":%s}`,
			name, kind, direction, 0.3+0.7*w.random.Float64(), attributes)
		for _, way := range struck {
			w.order("Proxy.Add", Order{way, toxic}, &struct{}{})
		}
	}
	pause(ctx, time.Duration(w.between(100, 1500))*time.Millisecond)
	for _, name := range names {
		for _, way := range struck {
			w.order("Proxy.Remove", Order{way, name}, &struct{}{})
		}
	}
}

func (w *network) String() string {
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(w.number)) {
		words = append(words, fmt.Sprintf("%d %s", w.number[kind], kind))
	}
	return strings.Join(words, ", ")
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func TestNetworkGoesOnWhenTheProxiesHangOrDie(t *testing.T) {
	server := rediscase.Server(t)
	w := newNetwork(t, patience, server.Addr(), rung.Seed(t))
	before := w.addrs
	if err := w.process.Stop(); err != nil {
		t.Fatal(err)
	}
	w.connect()
	w.process.Kill()
	w.connect()
	if w.addrs != before || w.number["lost proxy"] != 2 {
		t.Errorf("the ways are %v, and were %v; %v", w.addrs, before, w)
	}
	for _, addr := range w.addrs {
		conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}
