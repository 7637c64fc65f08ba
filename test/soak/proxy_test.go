//go:build unix

package soak

import (
	"context"
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

// proxyVariable tells the proxy's process where its orders come from, and where the server is.
const proxyVariable = "REDISIDEM_TEST_PROXY"

// Proxy is the proxy in a process of its own: toxiproxy leaves goroutines and buffers behind when toxics change under load, which
// would look as if the workers did. The test gives its orders by net/rpc.
type Proxy struct{ proxy *toxiproxy.Proxy }

// serve is what the proxy's process does until the test ends.
func serve() {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	master, upstream, _ := strings.Cut(os.Getenv(proxyVariable), " ")
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	orders := rpc.NewServer()
	if err := orders.Register(&Proxy{toxiproxy.NewProxy(server, "soak", "127.0.0.1:0", upstream)}); err != nil {
		panic(err)
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", master)
	if err != nil {
		panic(err)
	}
	orders.ServeConn(conn)
}

// Connect accepts connections, and tells where.
func (p *Proxy) Connect(_ string, addr *string) error {
	// Somebody else on this machine may have the port for a moment.
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := p.proxy.Start()
		if err == nil {
			*addr = p.proxy.Listen
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("connect: %w", err)
		}
	}
}

// Cut ends all connections and refuses new ones.
func (p *Proxy) Cut(string, *struct{}) error {
	p.proxy.Stop()
	return nil
}

// Add adds a toxic, as toxiproxy's API describes one.
func (p *Proxy) Add(toxic string, _ *struct{}) error {
	_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	return err
}

// Remove removes the toxic of that name.
func (p *Proxy) Remove(name string, _ *struct{}) error {
	return p.proxy.Toxics.RemoveToxic(context.Background(), name)
}
