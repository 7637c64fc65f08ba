package consumer_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

func TestMain(m *testing.M) { leak.Main(m) }

// store is an embedded Redis, whose time passes only when all goroutines of its bubble wait.
type store struct {
	testing.TB
	server *miniredis.Miniredis
	trips  atomic.Int64 // commands and pipelines that were sent
}

// inBubble runs a test in fake time.
func inBubble(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{TB: t, server: miniredis.NewMiniRedis()}
		s.server.ClockTTL(true)
		t.Cleanup(s.server.Close)
		test(t, s)
	})
}

// crash has a process handle a message and die in the middle.
func (s *store) crash(id string) {
	s.Helper()
	var network faultnet.Network
	rdb := s.client()
	network.Attach(rdb)
	svc, err := redisidem.New(rdb, &redisidem.Config{CommitRetry: -1})
	if err != nil {
		s.Fatal(err)
	}
	_, err = newConsumer(s, svc, nil).Handle(s.Context(), consumer.Message{ID: id}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		network.RefuseWith(redis.ErrClosed)
		return redisidem.Outcome{}, errDied
	})
	if !errors.Is(err, errDied) {
		s.Fatal(err)
	}
	_ = svc.Close(context.Background()) // Redis does not hear of it
	_ = rdb.Close()
}

var errDied = errors.New("the process has died")

// service returns a service as another process would have it.
func (s *store) service(cfg redisidem.Config) *redisidem.Service {
	s.Helper()
	rdb := s.client()
	rdb.AddHook(counting{s})
	svc, err := redisidem.New(rdb, &cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := svc.Close(context.Background()); err != nil {
			s.Error(err)
		}
		_ = rdb.Close()
	})
	return svc
}

func (s *store) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) { return s.server.Dial() },
		ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// counting counts round trips.
type counting struct{ s *store }

func (c counting) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.s.trips.Add(1)
		return next(ctx, cmd)
	}
}

func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.s.trips.Add(1)
		return next(ctx, cmds)
	}
}

// letters are dead letters that a test has received.
type letters struct {
	ids    []string
	causes []error
	err    error // of the next ones
}

func (l *letters) receive(_ context.Context, m consumer.Message, cause error) error {
	l.ids, l.causes = append(l.ids, m.ID), append(l.causes, cause)
	return l.err
}

func newConsumer(t testing.TB, svc *redisidem.Service, cfg *consumer.Config) *consumer.Consumer {
	t.Helper()
	c, err := consumer.New(svc, "orders", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// work is work that counts its runs and then fails with err, if that is not nil.
type work struct {
	runs int
	err  error
}

func (w *work) run(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	w.runs++
	return redisidem.Finish(redisidem.JSON(0, st.Attempt())), w.err
}
