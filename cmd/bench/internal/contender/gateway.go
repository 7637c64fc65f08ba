package contender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

var (
	proxyBare = Kind{
		Name: "proxy", Title: "bare reverse proxy",
		About: "The bare handler behind a process with nothing but net/http/httputil's reverse proxy, which protects nothing.",
		Open:  behindProxy(here),
	}
	gatewayBare = Kind{
		Name: "gateway-bare", Title: "gateway, nothing protected",
		About: "The bare handler behind a process of cmd/redisidem whose routes protect nothing: a reverse proxy.",
		Own:   true,
		Open:  behindGateway(here, unprotected),
	}
	gatewayKind = Kind{
		Name: "gateway", Title: "gateway",
		About: "The bare handler behind a process of cmd/redisidem: key, fingerprint and answer are kept, repetitions are replayed.",
		Own:   true, Replays: true,
		Open: behindGateway(here, protected),
	}
)

// The routes of the gateways.
const (
	unprotected = "defaults: {protect: false}\n"
	protected   = "defaults: {key: required, interrupted: run}\n"
)

// Forwarders returns the bare reverse proxy, the gateway that protects nothing, and the gateway,
// each in front of an upstream in a process of its own. The upstream answers with size bytes, and
// does not run the work of a request.
func Forwarders(size int) []Kind {
	bare, open, closed := proxyBare, gatewayBare, gatewayKind
	bare.Open = behindProxy(apart(size))
	open.Open = behindGateway(apart(size), unprotected)
	closed.Open = behindGateway(apart(size), protected)
	return []Kind{bare, open, closed}
}

var (
	gatewayProgram = &program{source: "github.com/redisidem/redisidem/cmd/redisidem"}
	proxyProgram   = &program{source: "github.com/redisidem/redisidem/cmd/bench/internal/proxy"}

	upstreamProgram = &program{source: "github.com/redisidem/redisidem/cmd/bench/internal/upstream"}
)

// gateway is a process in front of a server.
type gateway struct {
	*httpContender
	process  *process
	upstream *process // the server, or nil if it is in this process
	dir      string   // of its configuration; may be empty
}

// start starts the process and returns its address.
func (g *gateway) start(ctx context.Context, p *program, args ...string) (url string, err error) {
	g.process, url, err = start(ctx, p, args...)
	return url, err
}

// upstreamOf makes the server that a gateway is in front of, and sets the gateway's url to it.
type upstreamOf func(ctx context.Context, dial Dial) (*gateway, error)

// here is a server in this process, whose handler does the work of a request.
func here(ctx context.Context, dial Dial) (*gateway, error) {
	inner, err := serve(ctx, dial, nil, func(h http.Handler) (http.Handler, error) { return h, nil })
	if err != nil {
		return nil, err
	}
	server, ok := inner.(*httpContender)
	if !ok {
		return nil, fmt.Errorf("the server is a %T", inner)
	}
	return &gateway{httpContender: server}, nil
}

// apart is a server in a process of its own, which answers with size bytes.
func apart(size int) upstreamOf {
	return func(ctx context.Context, dial Dial) (*gateway, error) {
		g := &gateway{httpContender: newHTTPContender(dial, nil)}
		var err error
		g.upstream, g.url, err = start(ctx, upstreamProgram, strconv.Itoa(size))
		return g, err
	}
}

// behind creates a contender whose requests go to the address that run returns. A process at that
// address forwards them to the upstream.
func behind(ctx context.Context, dial Dial, upstream upstreamOf, run func(*gateway) (url string, err error)) (Contender, error) {
	g, err := upstream(ctx, dial)
	if err != nil {
		return nil, err
	}
	url, err := run(g)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.url = url
	return g, nil
}

// behindProxy creates a contender whose requests go through the bare reverse proxy.
func behindProxy(upstream upstreamOf) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, _ string) (Contender, error) {
		return behind(ctx, dial, upstream, func(g *gateway) (string, error) { return g.start(ctx, proxyProgram, g.url) })
	}
}

// behindGateway creates a contender whose requests go through a gateway with these routes.
func behindGateway(upstream upstreamOf, routes string) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		addr, err := dial.Addr()
		if err != nil {
			return nil, err
		}
		return behind(ctx, dial, upstream, func(g *gateway) (url string, err error) {
			if g.dir, err = os.MkdirTemp("", "redisidem-bench"); err != nil {
				return "", err
			}
			file := filepath.Join(g.dir, "gateway.yaml")
			if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
				return "", err
			}
			return g.start(ctx, gatewayProgram, "gateway", "--upstream", g.url, "--listen", "127.0.0.1:0", "--admin-listen=",
				"--scope", "unscoped", "--config", file, "--redis", "redis://"+addr, "--namespace", prefix, "--redis-timeout", patience.String())
		})
	}
}

// Close implements [Contender].
func (g *gateway) Close() error {
	var err error
	for _, p := range []*process{g.process, g.upstream} {
		if p != nil {
			err = errors.Join(err, p.stop())
		}
	}
	if g.dir != "" {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	return errors.Join(err, g.httpContender.Close())
}
