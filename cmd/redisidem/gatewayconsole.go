package main

import (
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"sync"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// consoleField is the field of the configuration file with the settings of the console, and the
// flag that serves it.
const consoleField = "console"

// gatewayConsole adds the console to the gateway's listener for operators.
type gatewayConsole struct {
	Enabled       bool `yaml:"enabled" name:"console" help:"Serve the console at /console/ of the admin listener."`
	consoleAccess `yaml:",inline" prefix:"console-"`
}

// config returns the configuration of the console. It reports false if none is wanted.
func (c *gatewayConsole) config(listen string) (cfg console.Config, wanted bool, err error) {
	switch {
	case !c.Enabled && !reflect.ValueOf(c.consoleAccess).IsZero():
		return cfg, false, errors.New("the flags that begin with --console- need --console")
	case !c.Enabled:
		return cfg, false, nil
	case listen == "":
		return cfg, false, errors.New("--console needs --admin-listen")
	}
	cfg, err = c.consoleAccess.config("console-", listen)
	return cfg, true, err
}

// open returns the console, or nil if none is wanted.
func (c *gatewayConsole) open(listen string, service *redisidem.Service, activity *console.Activity, log *slog.Logger) (*consolePages, error) {
	cfg, wanted, err := c.config(listen)
	if err != nil || !wanted {
		return nil, err
	}
	if c.TokenFile+c.BasicAuthFile != "" && !isLoopback(listen) {
		log.Warn("secrets of operators are sent to --admin-listen without encryption: let it listen on loopback, behind a proxy with TLS")
	}
	cfg.Logger, cfg.Activity = log, activity
	p := &consolePages{cfg: cfg}
	p.current, err = p.prepare(service)
	return p, err
}

// consolePages is the console of a gateway, whose service a reload replaces.
type consolePages struct {
	cfg console.Config

	mu      sync.Mutex
	current *console.Console
	closed  bool
}

// prepare makes a console of a service, for replace. It is nil if p is.
func (p *consolePages) prepare(service *redisidem.Service) (*console.Console, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // none is wanted
	}
	cfg := p.cfg
	cfg.Check = service.Check
	return console.New(redisidem.NewInspector(service), cfg)
}

// replace gives all further requests to a console. Live pages of the one before end, and their
// browsers connect again. A nil p has none.
func (p *consolePages) replace(next *console.Console) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current.Close()
	if p.closed {
		next.Close()
	}
	p.current = next
}

// ServeHTTP serves the console with its present service.
func (p *consolePages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	current := p.current
	p.mu.Unlock()
	current.ServeHTTP(w, r)
}

// Close ends the live pages: see [console.Console.Close].
func (p *consolePages) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.current.Close()
}

// newAdminServer returns the server for operators, with the console unless it is nil.
func newAdminServer(admin http.Handler, pages *consolePages, log *slog.Logger) *http.Server {
	if pages == nil {
		return newServer(admin, log)
	}
	server := newServer(mount(pages, "/console", admin), log)
	server.RegisterOnShutdown(pages.Close)
	return server
}
