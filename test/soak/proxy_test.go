//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// proxyVariable gives the proxy's process the address for its calls, the address of the server, and
// an address for each worker.
const proxyVariable = "REDISIDEM_TEST_PROXY"

// Proxy holds the proxies of all workers, in a process of their own. Toxiproxy leaves goroutines
// and buffers behind when toxics change under load, which would look like a leak of the workers.
// The test controls it through net/rpc.
type Proxy struct{ ways []*toxiproxy.Proxy }

// Order concerns one worker's path to the server. What names or describes a toxic.
type Order struct {
	Way  int
	What string
}

// serve is the main function of the proxy's process until the test ends.
func serve() {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	words := strings.Fields(os.Getenv(proxyVariable))
	master, upstream := words[0], words[1]
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	var proxy Proxy
	for i := range ways {
		proxy.ways = append(proxy.ways, toxiproxy.NewProxy(server, fmt.Sprint("way", i), words[2+i], upstream))
	}
	orders := rpc.NewServer()
	if err := orders.Register(&proxy); err != nil {
		panic(err)
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", master)
	if err != nil {
		panic(err)
	}
	orders.ServeConn(conn)
}

// Connect accepts connections, and returns the address.
func (p *Proxy) Connect(o Order, addr *string) error {
	// Another program may use the port for a moment.
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := p.ways[o.Way].Start()
		if err == nil || errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
			*addr = p.ways[o.Way].Listen
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("connect: %w", err)
		}
	}
}

// Cut closes all connections and refuses new ones.
func (p *Proxy) Cut(o Order, _ *struct{}) error {
	p.ways[o.Way].Stop()
	return nil
}

// Add adds a toxic in the format of toxiproxy's API.
func (p *Proxy) Add(o Order, _ *struct{}) error {
	_, err := p.ways[o.Way].Toxics.AddToxicJson(strings.NewReader(o.What))
	return err
}

// Remove removes the toxic of a name. The toxic may not exist, since another process may have had
// it.
func (p *Proxy) Remove(o Order, _ *struct{}) error {
	err := p.ways[o.Way].Toxics.RemoveToxic(context.Background(), o.What)
	if errors.Is(err, toxiproxy.ErrToxicNotFound) {
		return nil
	}
	return err
}
