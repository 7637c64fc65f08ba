package idemtest

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/redisidem"
)

const (
	// patience is how long the end of a test waits for work in flight.
	patience = 10 * time.Second
	// defaultTimeout is the default of Config.Timeout in tests, since the machine may be busy with
	// other tests.
	defaultTimeout = 5 * time.Second
)

// Server is a Redis in the process of the test. Connections to it are made in memory, so it needs
// no port and works inside a bubble of testing/synctest. Its clock follows that of the test or the
// bubble, and can be advanced. It is safe for concurrent use.
type Server struct {
	tb      TB
	redis   *miniredis.Miniredis
	network faultnet.Network
	dial    faultnet.DialFunc

	mu    sync.Mutex
	ahead time.Duration // by how much the clock is ahead of the test's
}

// NewServer starts an empty server. It ends with the test.
func NewServer(tb TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, redis: miniredis.NewMiniRedis()}
	s.redis.ClockTTL(true)
	s.network.BeforeWrite = func([]byte) { s.tick() }
	s.dial = s.network.Wrap(func(context.Context, string, string) (net.Conn, error) {
		conn, err := s.redis.Dial()
		if err != nil {
			return nil, err
		}
		return newBuffered(conn), nil
	})
	tb.Cleanup(s.redis.Close)
	return s
}

// NewService returns a service on an embedded server of its own. Both end with the test. See
// [Server.Service] for cfg.
func NewService(tb TB, cfg *redisidem.Config) *redisidem.Service {
	tb.Helper()
	return NewServer(tb).Service(cfg)
}

// Service returns a new service with a client of its own, as another process would have it.
// Services of the same server and namespace work on the same keys. A nil cfg means all defaults.
// Timeout defaults to 5 s instead of 500 ms, because the machine may be busy with other tests. To
// test an outage, set it or use a bubble. An invalid cfg fails the test.
//
// The service is closed at the end of the test, which first ends an outage. The test fails if work
// under a lease is still in flight then and does not end within 10 s.
func (s *Server) Service(cfg *redisidem.Config) *redisidem.Service {
	s.tb.Helper()
	svc, err := redisidem.New(s.Client(), withTimeout(cfg))
	if err != nil {
		s.tb.Fatalf("idemtest: %v", err)
	}
	s.tb.Cleanup(func() {
		s.Restart() // a commit retry in the background can succeed now
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			s.tb.Errorf("idemtest: a service still has work in flight at the end of the test: %v", err)
		}
	})
	return svc
}

// withTimeout returns a copy of cfg with the default timeout, unless it has one.
func withTimeout(cfg *redisidem.Config) *redisidem.Config {
	var out redisidem.Config
	if cfg != nil {
		out = *cfg
	}
	if out.Timeout == 0 {
		out.Timeout = defaultTimeout
	}
	return &out
}

// Client returns a new client of the server, for a look at its keys or for a service of the test's
// own. It is closed at the end of the test.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(s.Options())
	s.tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Options returns new options for a client of the server. Change them and pass them to
// [redis.NewClient]. Their Dialer connects to the server. The caller must close the client.
func (s *Server) Options() *redis.Options {
	return &redis.Options{
		Addr:                  "embedded:6379", // a name for messages
		Dialer:                s.dial,
		ContextTimeoutEnabled: true,
		ReadTimeout:           defaultTimeout,
		WriteTimeout:          defaultTimeout,
		// The service's own retries know which commands are safe to repeat.
		MaxRetries:    -1,
		DialerRetries: 1,
		// The server supports neither.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// FastForward advances the clock of the server. Leases lapse, and keys whose retention is over are
// removed. The clock of the test does not change, and a service renews leases by that clock. A live
// worker whose lease lapses in this way finds out at its next renewal or commit.
func (s *Server) FastForward(d time.Duration) {
	s.mu.Lock()
	s.ahead += max(d, 0)
	s.mu.Unlock()
	s.tick()
}

// tick sets the clock of the server if it was advanced. Until then the server uses the clock of the
// test.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead > 0 {
		s.redis.SetTime(time.Now().UTC().Add(s.ahead))
	}
}

// Stop simulates a crashed server until [Server.Restart]. It breaks all connections and refuses new
// ones. Calls return [redisidem.ErrUnavailable] after their Config.Timeout, because a server may
// come back within it.
func (s *Server) Stop() { s.network.Set(faultnet.Refuse) }

// Hang simulates a firewall that drops packets until [Server.Restart]. Requests on old and new
// connections never arrive. Calls return [redisidem.ErrUnavailable] after their Config.Timeout.
func (s *Server) Hang() { s.network.Set(faultnet.Hang) }

// DropReplies executes all requests and drops the replies until [Server.Restart]. Calls return
// [redisidem.ErrUnavailable] although they had their effect. A stage that has done its work returns
// [redisidem.ErrOutcomeUnknown] although its result is stored.
func (s *Server) DropReplies() { s.network.Set(faultnet.DropReplies) }

// Restart ends an outage of any kind. The server still has all of its data. Connections on which
// something was lost break, and clients make new ones.
func (s *Server) Restart() { s.network.Set(faultnet.Normal) }
