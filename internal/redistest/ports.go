package redistest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Servers get ports below the range from which systems choose the ports of outgoing connections. A
// port of that range may be in use when a killed server needs it again. A client that keeps
// dialling such a port while no server listens may even connect to itself.
const (
	lowestPort = 12000
	blocks     = 200
	blockSize  = 100
)

// loopback is the only address that this package listens on.
const loopback = "127.0.0.1"

// taken holds the ports of this process.
var taken ports

// ports hands out ports in blocks. A block belongs to one process at a time: the process that
// listens on its first port. The tests of several packages therefore do not collide, even while a
// port is unused because its server is dead. Other programs may still use a port of the block.
type ports struct {
	mu     sync.Mutex
	blocks []net.Listener
	free   []int // in the order of their next use, so that a port is reused as late as possible
}

// take returns a free port.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for range p.free {
			port := p.free[0]
			p.free = p.free[1:]
			if l, err := listen(port); err == nil {
				_ = l.Close()
				return port, nil
			}
			p.free = append(p.free, port)
		}
		if err := p.grow(); err != nil {
			return 0, err
		}
	}
}

// give makes a port available again.
func (p *ports) give(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, port)
}

// grow reserves another block.
func (p *ports) grow() error {
	for _, block := range rand.Perm(blocks) {
		first := lowestPort + block*blockSize
		l, err := listen(first)
		if err != nil {
			continue
		}
		p.blocks = append(p.blocks, l)
		for port := first + 1; port < first+blockSize; port++ {
			p.free = append(p.free, port)
		}
		return nil
	}
	return errors.New("redistest: no free block of ports")
}

func listen(port int) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(context.Background(), "tcp", address(port))
}

// listenOwn listens on a port of this process's blocks. A process that is being started holds this
// process's sockets, even closed ones, until it executes its own program. Such a port can therefore
// be in use for a moment.
func listenOwn(port int) (net.Listener, error) {
	for tries := 1; ; tries++ {
		l, err := listen(port)
		if err == nil || tries == 200 || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
