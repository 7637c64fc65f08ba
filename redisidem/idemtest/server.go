package idemtest

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	// patience is how long the end of a test waits for what is still under way.
	patience = 10 * time.Second
	// relaxed is the Config.Timeout of services for tests that do not choose one: the machine may be busy with other tests.
	relaxed = 5 * time.Second
)

// Server is a Redis in the test's process. Connections to it are made in memory, so it needs no port and works inside a
// bubble of testing/synctest. Its clock is the test's, a bubble's fake one inside of a bubble, and can be put forward. Its
// methods are safe for concurrent use.
type Server struct {
	tb    TB
	redis *miniredis.Miniredis
	line  *line

	mu    sync.Mutex
	ahead time.Duration // of the test's clock
}

// NewServer starts an empty server that ends with the test.
func NewServer(tb TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, redis: miniredis.NewMiniRedis()}
	s.redis.ClockTTL(true)
	s.line = newLine(func(context.Context) (net.Conn, error) {
		conn, err := s.redis.Dial()
		if err != nil {
			return nil, err
		}
		return newQueued(conn), nil
	})
	s.line.sending = s.tick
	tb.Cleanup(s.redis.Close)
	return s
}

// NewService returns a service on an embedded server of its own, for tests that need nothing else. Both end with the test. See
// [Server.Service] for cfg.
func NewService(tb TB, cfg *redisidem.Config) *redisidem.Service {
	tb.Helper()
	return NewServer(tb).Service(cfg)
}

// Service returns a new service on the server, with a client of its own, as another process would have it: services of the
// same server and namespace work on the same keys. A nil cfg means all defaults, but for a Timeout of 5 s in place of 500 ms,
// since the machine may be busy with other tests: set it, or use a bubble, to test how an outage is dealt with. A cfg that is
// invalid fails the test.
//
// The service is closed with the test, which first ends an outage. The test fails when work under a lease is still going
// on then and does not end within 10 s.
func (s *Server) Service(cfg *redisidem.Config) *redisidem.Service {
	s.tb.Helper()
	svc, err := redisidem.New(s.Client(), patient(cfg))
	if err != nil {
		s.tb.Fatalf("idemtest: %v", err)
	}
	s.tb.Cleanup(func() {
		s.Restart() // a commit that is tried again in the background is to land now
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			s.tb.Errorf("idemtest: a service still has work under way at the end of the test: %v", err)
		}
	})
	return svc
}

// patient returns a copy of cfg with a relaxed timeout, unless it has one.
func patient(cfg *redisidem.Config) *redisidem.Config {
	var out redisidem.Config
	if cfg != nil {
		out = *cfg
	}
	if out.Timeout == 0 {
		out.Timeout = relaxed
	}
	return &out
}

// Client returns a new client of the server, for a look at what it holds or for a service of the test's own. It is closed
// with the test.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(s.Options())
	s.tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Options returns new options for a client of the server, to be changed and given to [redis.NewClient]: for those who make
// their client themselves. Whoever does closes it, too. They lead to the server through their Dialer.
func (s *Server) Options() *redis.Options {
	return &redis.Options{
		Addr:                  "embedded:6379", // a name for messages
		Dialer:                func(ctx context.Context, _, _ string) (net.Conn, error) { return s.line.dial(ctx) },
		ContextTimeoutEnabled: true,
		ReadTimeout:           relaxed,
		WriteTimeout:          relaxed,
		// The service's own repetitions know which commands are safe to repeat.
		MaxRetries:    -1,
		DialerRetries: 1,
		// The server knows neither.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// FastForward puts the server's clock forward: leases lapse, and keys whose retention is over are gone. The test's own
// clock, by which a service counts when it must renew a lease, stays: a worker that is alive while its lease lapses like
// that finds out at its next renewal or commit.
func (s *Server) FastForward(d time.Duration) {
	s.mu.Lock()
	s.ahead += max(d, 0)
	s.mu.Unlock()
	s.tick()
}

// tick tells the server what time it is. Until the clock was put forward it looks at the test's own.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead > 0 {
		s.redis.SetTime(time.Now().UTC().Add(s.ahead))
	}
}

// Stop breaks all connections and refuses new ones, as when a server has crashed, until [Server.Restart]: calls return
// [redisidem.ErrUnavailable] when their Config.Timeout is over, since a server may come back within it.
func (s *Server) Stop() { s.line.set(refusing) }

// Hang makes the server swallow all that is sent to it, on connections old and new, as behind a firewall that drops packets,
// until [Server.Restart]: calls return [redisidem.ErrUnavailable] when their Config.Timeout is over. What was sent meanwhile
// never arrives.
func (s *Server) Hang() { s.line.set(hanging) }

// DropReplies makes the server do what it is told while no caller hears of it, until [Server.Restart]: calls return
// [redisidem.ErrUnavailable] although they had their effect, and a stage that has done its work
// [redisidem.ErrOutcomeUnknown] although its result is stored.
func (s *Server) DropReplies() { s.line.set(muted) }

// Restart ends an outage of any kind. The server still has everything it was told. Connections on which something got lost
// are broken, as they would be in the end; clients make new ones by themselves.
func (s *Server) Restart() { s.line.set(passing) }
