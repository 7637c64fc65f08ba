package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/extproc"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// gatewayCommand runs the gateway.
type gatewayCommand struct {
	Config string `placeholder:"FILE" help:"Configuration file in YAML. Flags and environment variables override it."`

	settings

	Serve    gatewayServe    `cmd:"" default:"1" help:"Serve as a reverse proxy in front of a service. The word serve may be left out."`
	Validate gatewayValidate `cmd:"" help:"Check a configuration with all files that it names, and do not serve."`
	Schema   gatewaySchema   `cmd:"" help:"Print the JSON Schema of the configuration file."`
	OpenAPI  gatewayOpenAPI  `cmd:"" name:"openapi" help:"Print what an OpenAPI document of the service needs about keys, in YAML."`

	configName string                     // of the configuration file, if there is one
	configText []byte                     // of the configuration file when it was read
	file       *configfile.File           // nil without a configuration file
	content    configuration              // of the file
	fromFile   map[string]bool            // the settings whose values are those of the file
	keySets    map[string]*gateway.KeySet // by their URL
	activity   *console.Activity          // for the console; nil without one
	secrets    secrets                    // that were read
}

// gatewayServe is what the gateway command does without a further word.
type gatewayServe struct{}

// Run serves until ctx ends.
func (gatewayServe) Run(ctx context.Context, c *gatewayCommand, line *kong.Context) error {
	return c.run(ctx, line.Args)
}

// run serves until ctx ends. args is the command line, which a reload reads again.
func (c *gatewayCommand) run(ctx context.Context, args []string) (err error) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // without it a signal would end the process
	defer signal.Stop(hangups)
	log := newLog(c.LogFormat)
	metrics := gateway.NewMetrics()
	reloads := &reloader{running: c, log: log, done: metrics.Reloaded}
	reloads.watch(c)
	exports, end, err := startTelemetry(ctx, log)
	if err != nil {
		return err
	}
	defer end()
	a, err := c.assemble(log, metrics)
	if err != nil {
		return err
	}
	c.warnOfScope(log)
	listenerTLS := gateway.NewListenerTLS(a.tls)
	if c.Upstream != fromEnvoy { // certificates on its connections are Envoy's, and not those of clients
		a.gateway.ListenerTLS = listenerTLS
	}
	observers := []redisidem.Observer{metrics, exports.Observer}
	if c.Console.Enabled {
		c.activity = console.NewActivity()
		observers = append(observers, c.activity)
	}
	a.service.Observer, a.gateway.Traces = redisidem.Observers(observers...), exports.Traces
	values := newReplaceableCodec(a.service.Codec)
	if values != nil {
		a.service.Codec = values
	}
	g, pages, stop, err := c.open(ctx, a, log)
	if err != nil {
		return err
	}
	defer stop()
	service := a.gateway.Service
	if err := exports.Watch(service); err != nil {
		return errors.Join(err, service.Close(ctx))
	}
	passes, err := checkRedis(ctx, service, log)
	switch {
	case err == nil:
		g.RedisUsable()
	case !passes:
		return errors.Join(err, service.Close(ctx))
	default:
		log.Warn("redis cannot be used yet: only requests that need none are served", "error", err)
	}
	reloads.read = func() (*gatewayCommand, error) { return parseGateway(args) }
	reloads.apply = func(next *gatewayCommand) error {
		next.keySets = reloads.running.keySets
		return next.replace(reloads.running, &gatewayParts{g, service, values, listenerTLS, pages}, log, metrics)
	}
	reloading, endReloads := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		reloads.run(reloading, hangups)
	}()
	defer func() {
		endReloads()
		<-ended
	}()
	var trusted gateway.TrustedProxies
	if c.ProxyProtocol {
		trusted = a.gateway.TrustedProxies
	}
	return c.serve(ctx, g, service, err == nil, trusted, listenerTLS, pages, log)
}

// open opens the service, the gateway and its console, without a call to Redis. pages is nil
// without a console. stop ends the Redis of this process, if there is one.
func (c *gatewayCommand) open(
	ctx context.Context, a *assembled, log *slog.Logger,
) (g *gateway.Gateway, pages *consolePages, stop func(), err error) {
	service, endRedis, err := c.redisFlags.open(a.service, log)
	if err != nil {
		return nil, nil, nil, c.explain(settingOf(err))
	}
	a.gateway.Service = service
	stop = func() {
		if g != nil {
			g.LeaveQuota(ctx) // unless the end of serving has done it
		}
		endRedis()
	}
	if g, err = gateway.New(*a.gateway); err == nil {
		pages, err = c.openConsole(service, log)
	}
	if err != nil {
		err = errors.Join(c.explain(settingOf(err)), service.Close(ctx))
		stop()
		return nil, nil, nil, err
	}
	return g, pages, stop, nil
}

func (c *gatewayCommand) openConsole(service *redisidem.Service, log *slog.Logger) (*consolePages, error) {
	operators, err := c.operatorService(service)
	if err != nil {
		return nil, err
	}
	return c.Console.open(c.AdminListen, operators, c.activity, log)
}

// gatewayParts are the parts of a gateway that a reload changes.
type gatewayParts struct {
	gateway  *gateway.Gateway
	service  *redisidem.Service
	values   *replaceableCodec // nil if values are stored as they are
	listener *gateway.ListenerTLS
	console  *consolePages // nil without a console
}

// replace makes the configuration that of a gateway that serves with an earlier one.
func (c *gatewayCommand) replace(earlier *gatewayCommand, parts *gatewayParts, log *slog.Logger, metrics *gateway.Metrics) error {
	a, err := c.assemble(log, metrics)
	if err != nil {
		return err
	}
	if err := earlier.secrets.follow(&c.secrets); err != nil {
		return c.explain(err)
	}
	if err := parts.listener.Check(a.tls); err != nil {
		return err
	}
	a.gateway.Service = parts.service.WithFingerprintKeys(a.service.FingerprintKeys)
	operators, err := c.operatorService(a.gateway.Service)
	if err != nil {
		return err
	}
	console, err := parts.console.prepare(operators)
	if err != nil {
		return err
	}
	if err := parts.gateway.Reload(*a.gateway); err != nil {
		return c.explain(err)
	}
	parts.values.replace(a.service.Codec)
	parts.listener.Replace(a.tls)
	parts.console.replace(console)
	return nil
}

// operatorService returns a view of a service for operators. Their acts must not shorten the life
// of any route's records.
func (c *gatewayCommand) operatorService(service *redisidem.Service) (*redisidem.Service, error) {
	return service.WithRetention(c.content.LongestRetention(c.Retention))
}

// serve listens until ctx ends, a listener fails, or Redis turns out to be unfit. It then waits for
// requests and their commits to end. usable is whether Redis can be used
// already, and trusted are the proxies that speak the PROXY protocol.
func (c *gatewayCommand) serve(
	ctx context.Context, g *gateway.Gateway, service *redisidem.Service, usable bool, trusted gateway.TrustedProxies, listenerTLS *gateway.ListenerTLS,
	pages *consolePages, log *slog.Logger,
) error {
	server := newServer(c.handler(g, log), log)
	server.Protocols = clientProtocols()
	server.ReadTimeout, server.WriteTimeout = c.ReadTimeout, c.WriteTimeout
	if c.Upstream == fromEnvoy {
		server.ReadTimeout, server.WriteTimeout = 0, 0 // they would end a stream while the service is at work
	}
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return errors.Join(err, service.Close(ctx))
	}
	scheme := "http"
	if trusted != nil {
		listener = trusted.Listener(listener)
	}
	if listenerTLS != nil {
		listener, scheme = listenerTLS.Wrap(server, listener), "https"
	}
	failed := make(chan error, 3)
	go func() { failed <- server.Serve(listener) }()
	upstream, _, _ := strings.Cut(c.Upstream, "?") // a query may contain secrets
	log.Info("serving", "url", scheme+"://"+listener.Addr().String(), "upstream", upstream)

	admin := newAdminServer(g.Admin(), pages, log)
	if c.AdminListen != "" {
		adminListener, err := listen(ctx, c.AdminListen)
		if err != nil {
			return errors.Join(err, server.Close(), service.Close(ctx))
		}
		go func() { failed <- admin.Serve(adminListener) }()
		log.Info("serving operators", "url", "http://"+adminListener.Addr().String())
	}

	if !usable {
		go func() {
			switch err := awaitRedis(ctx, service, log); {
			case err == nil:
				g.RedisUsable()
			case ctx.Err() == nil:
				failed <- err
			}
		}()
	}

	select {
	case <-ctx.Done():
		log.Info("draining", "delay", c.DrainDelay.String())
		g.Drain()
		select {
		case <-time.After(c.DrainDelay):
			err = nil
		case err = <-failed:
		}
	case err = <-failed:
		g.Drain()
	}
	log.Info("shutting down", "timeout", c.ShutdownTimeout.String())
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
	defer cancel()
	// The requests end first, then their places, and then their commits. The admin listener serves
	// until the end.
	err = errors.Join(err, server.Shutdown(last))
	g.LeaveQuota(ctx)
	err = errors.Join(err, service.Close(last), admin.Shutdown(last))
	g.Close()
	log.Info("ended")
	return err
}

// handler returns the handler for clients, or for Envoy if it forwards the requests.
func (c *gatewayCommand) handler(g *gateway.Gateway, log *slog.Logger) http.Handler {
	if c.Upstream == fromEnvoy {
		return extproc.NewHandler(g.Handler(), log)
	}
	return g.Handler()
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, "tcp", addr)
}

// newServer returns a server that limits the time and the header size of its clients.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func newLog(format string) *slog.Logger {
	if format == "text" {
		return slog.New(gateway.TraceLog{Handler: slog.NewTextHandler(os.Stderr, nil)})
	}
	return slog.New(gateway.TraceLog{Handler: slog.NewJSONHandler(os.Stderr, nil)})
}
