package contender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

var (
	proxyBare = Kind{
		Name: "proxy", Title: "bare reverse proxy",
		About: "The bare handler behind a process with nothing but net/http/httputil's reverse proxy, which protects nothing.",
		Open: func(ctx context.Context, dial Dial, _ string) (Contender, error) {
			return behind(ctx, dial, func(g *gateway) (string, error) { return g.start(ctx, proxyProgram, g.url) })
		},
	}
	gatewayBare = Kind{
		Name: "gateway-bare", Title: "gateway, nothing protected",
		About: "The bare handler behind a process of cmd/redisidem whose routes protect nothing: a reverse proxy.",
		Own:   true,
		Open:  behindGateway("defaults: {protect: false}\n"),
	}
	gatewayKind = Kind{
		Name: "gateway", Title: "gateway",
		About: "The bare handler behind a process of cmd/redisidem: key, fingerprint and answer are kept, repetitions are replayed.",
		Own:   true, Replays: true,
		Open: behindGateway("defaults: {key: required}\n"),
	}
)

var (
	gatewayProgram = &program{source: "github.com/redisidem/redisidem/cmd/redisidem"}
	proxyProgram   = &program{source: "github.com/redisidem/redisidem/cmd/bench/internal/proxy"}
)

// gateway is a process in front of a server.
type gateway struct {
	*httpContender
	process *process
	dir     string // of its configuration; may be empty
}

// start starts the process and returns its address.
func (g *gateway) start(ctx context.Context, p *program, args ...string) (url string, err error) {
	g.process, url, err = start(ctx, p, args...)
	return url, err
}

// behind creates a contender whose requests go to the address that run returns. A process at that
// address forwards them to the contender's own server.
func behind(ctx context.Context, dial Dial, run func(*gateway) (url string, err error)) (Contender, error) {
	inner, err := serve(ctx, dial, nil, func(h http.Handler) (http.Handler, error) { return h, nil })
	if err != nil {
		return nil, err
	}
	server, ok := inner.(*httpContender)
	if !ok {
		return nil, fmt.Errorf("the server is a %T", inner)
	}
	g := &gateway{httpContender: server}
	url, err := run(g)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.url = url
	return g, nil
}

// behindGateway creates a contender whose requests go through a gateway with these routes.
func behindGateway(routes string) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		addr, err := dial.Addr()
		if err != nil {
			return nil, err
		}
		return behind(ctx, dial, func(g *gateway) (url string, err error) {
			if g.dir, err = os.MkdirTemp("", "redisidem-bench"); err != nil {
				return "", err
			}
			file := filepath.Join(g.dir, "routes.yaml")
			if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
				return "", err
			}
			return g.start(ctx, gatewayProgram, "gateway", "--upstream", g.url, "--listen", "127.0.0.1:0", "--admin-listen=",
				"--scope", "unscoped", "--routes", file, "--redis", "redis://"+addr, "--namespace", prefix, "--redis-timeout", patience.String())
		})
	}
}

// Close implements [Contender].
func (g *gateway) Close() error {
	var err error
	if g.process != nil {
		err = g.process.stop()
	}
	if g.dir != "" {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	return errors.Join(err, g.httpContender.Close())
}
