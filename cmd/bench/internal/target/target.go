// Package target is the server that the benchmark runs against, and what its own statistics say.
package target

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
)

// Server is the server, cluster or group under test.
type Server struct {
	// Title is such as "Redis 7.0.15", and Topology one of standalone, cluster, sentinel and embedded.
	Title, Topology string
	// Measured is false where figures mean nothing: on the embedded server, which is Go in this very process.
	Measured bool
	// Private is true when nobody else uses the server, so that it can be emptied.
	Private bool

	dial  func(*Link) (redis.UniversalClient, error)
	admin redis.UniversalClient // sees the server itself, not the slow way to it
	addr  string
	stops []func()
}

// Start finds the server of a URL, as redisidem.Open understands it, or starts a private one when url is empty. Where no
// redis-server is installed that is the embedded one. A latency above zero makes each round trip that much longer; it
// needs a single server. The caller must call Stop.
func Start(ctx context.Context, url string, latency time.Duration) (*Server, error) {
	s := &Server{Measured: true, Topology: "standalone"}
	err := s.find(ctx, url)
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

func (s *Server) find(_ context.Context, url string) error {
	if url != "" {
		return s.parse(url)
	}
	s.Private = true
	server, err := redistest.Start()
	switch {
	case err == nil:
		s.stops = append(s.stops, server.Stop)
		s.addr = server.Addr()
	case errors.Is(err, redistest.ErrNoServer):
		mini, err := miniredis.Run()
		if err != nil {
			return err
		}
		mini.ClockTTL(true)
		s.stops = append(s.stops, mini.Close)
		s.addr, s.Measured, s.Topology = mini.Addr(), false, "embedded"
	default:
		return err
	}
	s.dial = single(&redis.Options{Addr: s.addr})
	return nil
}

// parse takes what a URL says.
func (s *Server) parse(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("--redis: the URL cannot be parsed")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	u.Scheme = scheme
	switch kind {
	case "":
		opt, err := redis.ParseURL(u.String())
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		s.addr, s.dial = opt.Addr, single(opt)
	case "cluster":
		opt, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		s.Topology = kind
		s.dial = func(l *Link) (redis.UniversalClient, error) {
			o := *opt
			l.tune(&o.Dialer, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
			return redis.NewClusterClient(&o), nil
		}
	case "sentinel":
		opt, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		s.Topology = kind
		s.dial = func(l *Link) (redis.UniversalClient, error) {
			o := *opt
			l.tune(&o.Dialer, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
			return redis.NewFailoverClient(&o), nil
		}
	default:
		return fmt.Errorf("--redis: the scheme redis+%s is unknown: behind the plus is cluster or sentinel", kind)
	}
	return nil
}

func single(opt *redis.Options) func(*Link) (redis.UniversalClient, error) {
	return func(l *Link) (redis.UniversalClient, error) {
		o := *opt
		l.tune(&o.Dialer, &o.PoolSize, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.ContextTimeoutEnabled)
		o.MaxRetries = -1
		return redis.NewClient(&o), nil
	}
}

// introduce asks the server what it is.
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

// Stop ends what Start started.
func (s *Server) Stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
}

// Addr returns the address of a single server.
func (s *Server) Addr() (string, error) {
	if s.addr == "" {
		return "", errors.New("needs a single server")
	}
	return s.addr, nil
}

// Empty removes the keys of a run. prefix is what they begin with.
func (s *Server) Empty(ctx context.Context, prefix string) error {
	if s.Private {
		if err := s.admin.FlushAll(ctx).Err(); err != nil {
			return err
		}
		runtime.GC() // so that nobody pays for the one before
		return nil
	}
	return s.each(ctx, func(ctx context.Context, node *redis.Client) error {
		it := node.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		pipe := node.Pipeline()
		flush := func() error {
			if pipe.Len() == 0 {
				return nil
			}
			_, err := pipe.Exec(ctx)
			return err
		}
		for it.Next(ctx) {
			pipe.Unlink(ctx, it.Val())
			if pipe.Len() >= 1000 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return errors.Join(it.Err(), flush())
	})
}

// each runs f for each master.
func (s *Server) each(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch c := s.admin.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Client:
		return f(ctx, c)
	}
	return fmt.Errorf("no way to ask a %T", s.admin)
}
