// Package target runs or connects to the server under test, and reads its statistics.
package target

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
)

// Server is the server, cluster or group under test.
type Server struct {
	// Title is a name such as "Redis 7.0.15". Topology is standalone, cluster, sentinel or
	// embedded.
	Title, Topology string
	// Measured is false on the embedded server. It runs in this process, so numbers are
	// meaningless.
	Measured bool
	// Private is true if the server belongs to this run alone, so that it can be emptied.
	Private bool

	dial  func(*Link) (redis.UniversalClient, error)
	admin redis.UniversalClient
	alone *redis.Options // of a single server; nil for a cluster or group
	stops []func()

	answers atomic.Int64 // bytes of replies to Stats
}

// ErrNoAddr is returned when a single address is not enough to reach the server.
var ErrNoAddr = errors.New("needs a single server on TCP, without TLS, password and database number")

// Start connects to the server of a URL, as redisidem.Open does. For an empty url it starts a
// private server, or the embedded one if redis-server is not installed. A latency above zero is
// added to each round trip, which needs a single server. The caller must call Stop.
func Start(ctx context.Context, url string, latency time.Duration) (*Server, error) {
	s := &Server{Measured: true, Topology: "standalone"}
	err := s.find(url)
	if err == nil && latency > 0 {
		err = s.slow(latency)
	}
	if err == nil {
		s.admin, err = s.dial(&Link{callers: 4})
	}
	if err == nil {
		s.stops = append(s.stops, func() { _ = s.admin.Close() })
		err = s.introduce(ctx)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) find(url string) error {
	if url != "" {
		return s.parse(url)
	}
	s.Private = true
	server, err := redistest.Start()
	switch {
	case err == nil:
		s.stops = append(s.stops, server.Stop)
		s.single(&redis.Options{Network: "tcp", Addr: server.Addr()})
	case errors.Is(err, redistest.ErrNoServer):
		mini, err := miniredis.Run()
		if err != nil {
			return err
		}
		mini.ClockTTL(true)
		s.stops = append(s.stops, mini.Close)
		s.Measured, s.Topology = false, "embedded"
		s.single(&redis.Options{Network: "tcp", Addr: mini.Addr()})
	default:
		return err
	}
	return nil
}

// parse parses a URL. Its errors do not contain the URL's password.
func (s *Server) parse(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("--redis: the URL cannot be parsed")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	switch {
	case !slices.Contains([]string{"redis", "rediss", "unix"}, scheme), kind != "" && scheme == "unix":
		return fmt.Errorf("--redis: the scheme must be redis or rediss, with +cluster or +sentinel behind it or not: %q", u.Scheme)
	case kind == "":
		opt, err := redis.ParseURL(raw)
		if err != nil {
			return badURL(u, err)
		}
		s.single(opt)
		return nil
	}
	u.Scheme = scheme
	s.Topology = kind
	switch kind {
	case "cluster":
		opt, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return badURL(u, err)
		}
		s.dial = func(l *Link) (redis.UniversalClient, error) {
			o := *opt
			l.tune(&o.Dialer, o.TLSConfig, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
			return redis.NewClusterClient(&o), nil
		}
	case "sentinel":
		opt, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return badURL(u, err)
		}
		if opt.MasterName == "" {
			return errors.New("--redis: the URL of a Sentinel group needs the parameter master_name")
		}
		s.dial = func(l *Link) (redis.UniversalClient, error) {
			o := *opt
			l.tune(&o.Dialer, o.TLSConfig, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
			return redis.NewFailoverClient(&o), nil
		}
	default:
		return fmt.Errorf("--redis: behind the plus of the scheme must be cluster or sentinel: %q", kind)
	}
	return nil
}

// badURL is the error for a URL that go-redis refuses.
func badURL(u *url.URL, err error) error {
	text := err.Error()
	if password, ok := u.User.Password(); ok && password != "" {
		text = strings.ReplaceAll(text, password, "xxxxx")
	}
	return errors.New("--redis: " + text)
}

// single sets the address of the single server.
func (s *Server) single(opt *redis.Options) {
	s.alone = opt
	s.dial = func(l *Link) (redis.UniversalClient, error) {
		o := *opt
		l.tune(&o.Dialer, o.TLSConfig, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
		o.MaxRetries = -1
		return redis.NewClient(&o), nil
	}
}

// introduce reads the version and topology from the server.
func (s *Server) introduce(ctx context.Context) error {
	if err := s.admin.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no answer from the server: %w", err)
	}
	if !s.Measured {
		s.Title = "miniredis, embedded"
		return nil
	}
	info, err := s.admin.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	values := parseInfo(info)
	s.Title = "Redis " + values["redis_version"]
	if v := values["valkey_version"]; v != "" {
		s.Title = "Valkey " + v
	}
	return nil
}

// Stop ends everything that Start has started.
func (s *Server) Stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
}

// Addr returns the address of a single server, if a client needs only the address. Otherwise the
// error matches [ErrNoAddr].
func (s *Server) Addr() (string, error) {
	o := s.alone
	if o == nil || o.Network != "tcp" || o.TLSConfig != nil || o.Username != "" || o.Password != "" || o.DB != 0 {
		return "", ErrNoAddr
	}
	return o.Addr, nil
}

// Empty removes the keys of a run, which begin with prefix. A private server loses all keys, so
// that its memory and its tables return to their initial state.
func (s *Server) Empty(ctx context.Context, prefix string) error {
	if s.Private {
		if err := s.admin.FlushAll(ctx).Err(); err != nil {
			return err
		}
		runtime.GC() // so that no contender pays for the previous one
		return nil
	}
	return each(ctx, s.admin, func(ctx context.Context, node *redis.Client) error {
		// Removing keys during a scan is safe: SCAN returns every key that exists throughout.
		return scan(ctx, node, prefix, func(names []string) (bool, error) {
			return true, remove(ctx, node, names, redis.Pipeliner.Unlink)
		})
	})
}

// Expire ends all leases of contenders whose keys begin with prefix, as if their time was over: it
// removes the keys with ":lock" in their name.
func (s *Server) Expire(ctx context.Context, prefix string) error {
	return each(ctx, s.admin, func(ctx context.Context, node *redis.Client) error {
		return scan(ctx, node, prefix, func(names []string) (bool, error) {
			locks := slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, ":lock") })
			return true, remove(ctx, node, locks, redis.Pipeliner.Unlink)
		})
	})
}

// scan calls f with names that begin with prefix. It ends when f returns false or all names were
// passed.
func scan(ctx context.Context, node *redis.Client, prefix string, f func(names []string) (more bool, err error)) error {
	for cursor := uint64(0); ; {
		names, next, err := node.Scan(ctx, cursor, prefix+"*", 1000).Result()
		if err != nil {
			return err
		}
		more, err := f(names)
		if err != nil || !more || next == 0 {
			return err
		}
		cursor = next
	}
}

// remove removes each key with its own command, because on a cluster they are in different slots.
func remove(ctx context.Context, node *redis.Client, names []string,
	command func(redis.Pipeliner, context.Context, ...string) *redis.IntCmd,
) error {
	if len(names) == 0 {
		return nil
	}
	_, err := node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, name := range names {
			command(pipe, ctx, name)
		}
		return nil
	})
	return err
}

// each runs f for each master that a client knows.
func each(ctx context.Context, client redis.UniversalClient, f func(context.Context, *redis.Client) error) error {
	switch c := client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Client:
		return f(ctx, c)
	}
	return fmt.Errorf("no way to ask a %T", client)
}
