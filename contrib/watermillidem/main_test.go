package watermillidem_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds what a test waits for.
const patience = 30 * time.Second

// env is a queue in memory, and an embedded Redis.
type env struct {
	testing.TB
	redis *miniredis.Miniredis
	queue lasting
}

// lasting is a queue that outlives the routers that use it, as a broker does.
type lasting struct{ *gochannel.GoChannel }

// Close implements [message.Publisher] and [message.Subscriber].
func (lasting) Close() error { return nil }

func newEnv(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	e := &env{TB: t, redis: miniredis.RunT(t)}
	e.redis.ClockTTL(true)
	// A topic keeps its messages, so that a test can publish before a router runs.
	e.queue = lasting{gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)}
	t.Cleanup(func() { _ = e.queue.GoChannel.Close() })
	return e
}

// service returns a service as another process would have it.
func (e *env) service() *redisidem.Service {
	e.Helper()
	svc, err := redisidem.New(e.client(), &redisidem.Config{Lease: time.Second, Timeout: 5 * time.Second})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			e.Error(err)
		}
	})
	return svc
}

func (e *env) client() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: e.redis.Addr(), ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1})
	e.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (e *env) consumer(cfg *watermillidem.Config) *watermillidem.Consumer {
	e.Helper()
	c, err := watermillidem.New(e.service(), "billing", cfg)
	if err != nil {
		e.Fatal(err)
	}
	return c
}

// run runs a router until the test ends, or until the returned function is called.
func (e *env) run(add func(r *message.Router)) (stop func()) {
	e.Helper()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: patience}, watermill.NopLogger{})
	if err != nil {
		e.Fatal(err)
	}
	add(router)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := router.Run(ctx); err != nil {
			e.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	e.Cleanup(stop)
	select {
	case <-router.Running():
	case <-time.After(patience):
		e.Fatal("the router does not run")
	}
	return stop
}

func (e *env) publish(topic, uuid, payload string) {
	e.Helper()
	if err := e.queue.Publish(topic, message.NewMessage(uuid, []byte(payload))); err != nil {
		e.Error(err)
	}
}

// receive returns the next n messages of a topic, from its beginning.
func (e *env) receive(topic string, n int) (messages []*message.Message) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	arriving, err := e.queue.Subscribe(ctx, topic)
	if err != nil {
		e.Fatal(err)
	}
	for len(messages) < n {
		msg, ok := <-arriving
		if !ok {
			e.Fatalf("%d of %d messages of %s arrived", len(messages), n, topic)
		}
		msg.Ack()
		messages = append(messages, msg)
	}
	return messages
}
