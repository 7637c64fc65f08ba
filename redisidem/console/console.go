package console

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// The defaults and bounds of [Config].
const (
	// DefaultRefresh is the Refresh of a zero Config.
	DefaultRefresh = 5 * time.Second
	minRefresh     = 10 * time.Millisecond
	maxRefresh     = time.Hour
)

// Config configures a [Console].
type Config struct {
	// Authorize identifies who sent a request. Required.
	Authorize Authorize
	// Challenge is the WWW-Authenticate field of answers to requests without valid credentials,
	// such as `Basic realm="console"`. Empty means none.
	Challenge string
	// Write lets operators act on keys and read values. Reading is written into the audit, so it
	// needs Write, too.
	Write bool
	// Check is what the overview says about Redis, and is [redisidem.Service.Check] as a rule. Its
	// result is kept for a minute. That check makes a key of its own and needs the rights of a
	// program. Nil leaves it out.
	Check func(context.Context) (*redisidem.Report, error)
	// Activity is what the overview says about the work of this process: how many events of each
	// kind there were in the last minute, and how long they took. It must be an observer of the
	// service. Nil leaves it out.
	Activity *Activity
	// Refresh is how often the overview is read while it is open, from 10 ms to an hour; 0 means
	// DefaultRefresh. All open pages share what is read. If a read takes long, the next one waits
	// for 20 times as long, so that at most a twentieth of the time is spent with reads.
	Refresh time.Duration
	// Logger receives errors whose texts are not shown. Nil means slog.Default.
	Logger *slog.Logger
}

// Console is the handler. It is safe for concurrent use.
type Console struct {
	inspector *redisidem.Inspector
	cfg       Config
	origins   *http.CrossOriginProtection
	mux       *http.ServeMux

	overview *cached[overview]
	check    *cached[checked]
	flows    *cached[[]redisidem.OpenFlow]

	purgeTime time.Duration

	streams chan struct{}          // a place for each live page
	costly  map[Role]chan struct{} // a place for each page with costly reads
	closed  chan struct{}
	close   sync.Once
}

// New makes a Console. It sends nothing. It returns an error that matches [redisidem.ErrInvalid] if
// the inspector is nil, Authorize is not set, or Refresh is outside of its bounds.
func New(inspector *redisidem.Inspector, cfg Config) (*Console, error) {
	switch {
	case inspector == nil:
		return nil, &redisidem.InvalidError{Field: "inspector", Reason: "must not be nil"}
	case cfg.Authorize == nil:
		return nil, &redisidem.InvalidError{Field: "Config.Authorize", Reason: "must be set"}
	case cfg.Refresh == 0:
		cfg.Refresh = DefaultRefresh
	case cfg.Refresh < minRefresh || cfg.Refresh > maxRefresh:
		return nil, &redisidem.InvalidError{Field: "Config.Refresh", Reason: "must be from 10ms to 1h, or 0 for the default: " + cfg.Refresh.String()}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Console{
		inspector: inspector, cfg: cfg, origins: http.NewCrossOriginProtection(), mux: http.NewServeMux(),
		purgeTime: purgeTime, streams: make(chan struct{}, maxStreams), closed: make(chan struct{}),
	}
	c.costly = map[Role]chan struct{}{RoleViewer: make(chan struct{}, maxCostly), RoleOperator: make(chan struct{}, maxCostly)}
	c.overview = newCached(cfg.Refresh, c.closed, (&overviewReader{inspector: inspector}).read)
	c.check = newCached(time.Minute, c.closed, c.readCheck)
	c.flows = newCached(time.Minute, c.closed, inspector.OpenFlows)
	for pattern, show := range map[string]func(*visit) error{
		"GET /{$}": c.showOverview, "GET /live": c.showLive, "GET /find": c.showFind, "GET /keys": c.showKeys, "GET /keys/{id}": c.showKey,
		"GET /dead": c.showDead, "GET /flows": c.showFlows, "GET /flows/{act}": c.showFlowAct, "POST /flows/{act}": c.actOnFlow, "GET /audit": c.showAudit, "POST /acts/{act}": c.act,
		"GET /purge": c.showPurge, "POST /acts/purge": c.purge,
		"/": func(*visit) error { return errNoPage },
	} {
		c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.visit(w, r, show) })
	}
	c.mux.HandleFunc("GET /assets/{file}", showAsset) // without credentials, since it is public
	return c, nil
}

// Close ends the streams of live pages, and reads of which the result would be kept for several
// pages: a server that shuts down would wait for both. Pass it to [http.Server.RegisterOnShutdown].
// Further pages are served without being live. It may be called again.
func (c *Console) Close() { c.close.Do(func() { close(c.closed) }) }

// ServeHTTP serves the console. The URL's path is that behind the prefix: see [http.StripPrefix].
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // without a referrer, forms would have no origin
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	c.mux.ServeHTTP(w, r)
}

// contentPolicy allows what the console itself serves: no inline script or style, no frames, and no
// other site.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
