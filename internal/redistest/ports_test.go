package redistest

import (
	"net"
	"os"
	"testing"
	"time"
)

func TestStartTakesAnotherPortWhenOneIsTaken(t *testing.T) {
	t.Parallel()
	if err := Available(); err != nil {
		if os.Getenv("REDISIDEM_REQUIRE_SERVERS") == "1" { // package rediscase imports this one
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var thieves []net.Listener
	defer func() {
		for _, l := range thieves {
			_ = l.Close()
		}
	}()
	// Right before the start, another program takes the port for clients, and then the port for the
	// cluster bus.
	s, err := start(setup{ports: 2, arguments: func(ports []int, dir string) ([]string, error) {
		if len(thieves) < len(ports) {
			l, err := listenOwn(ports[len(thieves)])
			if err != nil {
				return nil, err
			}
			thieves = append(thieves, l)
		}
		return clusterArguments(ports, dir)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if len(thieves) != 2 {
		t.Errorf("%d tries", len(thieves)+1)
	}
}

func TestPortsAreHandedOutOnce(t *testing.T) {
	t.Parallel()
	var p ports
	defer func() {
		for _, l := range p.blocks {
			_ = l.Close()
		}
	}()
	seen := make(map[int]bool)
	for range 3 * blockSize {
		port, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d twice", port)
		}
		seen[port] = true
	}
	first, _ := p.take()
	p.give(first)
	for range len(p.free) - 1 {
		if port, err := p.take(); err != nil || port == first {
			t.Fatalf("got port %d again at once, %v", port, err)
		}
	}
	if port, err := p.take(); port != first {
		t.Errorf("got %d, %v, and not %d, which had been given back", port, err, first)
	}
}

func TestProxyWaitsUntilItsPortIsFree(t *testing.T) {
	t.Parallel()
	p, err := StartProxy(address(1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	p.Refuse()
	l, err := listen(p.port)
	if err != nil {
		t.Fatal(err)
	}
	released := time.AfterFunc(30*time.Millisecond, func() { _ = l.Close() })
	defer released.Stop()
	if err := p.Resume(); err != nil {
		t.Error(err)
	}
}
