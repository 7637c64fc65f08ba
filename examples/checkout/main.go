// Checkout is a small shop: its carts are completed by a flow that a crash, a lost answer or a
// silent payment provider cannot make charge twice.
//
//	go run ./examples/checkout
//
// Without flags it is everything in one process: the shop, the payment provider and a Redis inside
// it. With REDIS_URL set it uses that Redis. README.md lists what to try, and walkthrough.sh tries
// it, with two shops behind one Redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// namespace is the prefix of all names in Redis, which other programs may use, too.
const namespace = "checkout"

// settings are the command line's.
type settings struct {
	listen, provider, data, redis string
	onlyProvider                  bool
	lease, recoverAfter, timeout  time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:9000", "address to serve on")
	flag.StringVar(&s.provider, "provider", "", "URL of the payment provider; empty: there is one in this process")
	flag.StringVar(&s.data, "data", "", "directory of the databases, which several shops may share; empty: a fresh one")
	flag.BoolVar(&s.onlyProvider, "only-provider", false, "be the payment provider and nothing else")
	flag.DurationVar(&s.lease, "lease", 2*time.Second, "how long a shop that died keeps its carts locked")
	flag.DurationVar(&s.recoverAfter, "recover-after", 3*time.Second, "how long clients have to come back before their carts are completed without them")
	flag.DurationVar(&s.timeout, "redis-timeout", redisidem.DefaultTimeout, "bound of each operation on Redis")
	flag.Parse()
	s.redis = os.Getenv("REDIS_URL")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, s settings) (err error) {
	if s.data == "" {
		if s.data, err = os.MkdirTemp("", "checkout"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.data)) }()
	}
	if s.onlyProvider {
		p, err := openProvider(ctx, filepath.Join(s.data, "provider.db"))
		if err != nil {
			return err
		}
		return errors.Join(serve(ctx, s.listen, "payment provider", p.handler()), p.close())
	}
	if s.provider == "" {
		stop, err := s.startProvider(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if s.redis == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		s.redis = "redis://" + server.Addr()
		fmt.Println("Redis: embedded in this program; set REDIS_URL to use another.")
	}
	return s.runShop(ctx)
}

// startProvider starts a payment provider in this process.
func (s *settings) startProvider(ctx context.Context) (stop func() error, err error) {
	p, err := openProvider(ctx, filepath.Join(s.data, "provider.db"))
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	s.provider = "http://" + listener.Addr().String()
	server := newHTTPServer(p.handler())
	go func() { _ = server.Serve(listener) }() // ends with Close
	fmt.Println("Payment provider on " + s.provider)
	return func() error { return errors.Join(server.Close(), p.close()) }, nil
}

// runShop serves the shop, completes carts whose clients do not come back, and relays events.
func (s *settings) runShop(ctx context.Context) (err error) {
	hook := newCrashes(os.Getenv(crashVariable))
	svc, err := redisidem.Open(ctx, s.redis, &redisidem.Config{
		Namespace: namespace, Lease: s.lease, Timeout: s.timeout, Observer: hook, Logger: slog.Default(),
	})
	if err != nil {
		return err
	}
	closing := func(stop func() error) { err = errors.Join(err, stop()) }
	defer closing(func() error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return svc.Close(last)
	})
	db, err := openShop(ctx, filepath.Join(s.data, "shop.db"))
	if err != nil {
		return err
	}
	defer closing(db.close)

	c := &checkout{
		shop: db, payments: &payments{url: s.provider, client: &http.Client{Timeout: 10 * time.Second}}, recoverAfter: s.recoverAfter, crash: die,
	}
	flow, err := hook.around(c.flow())
	if err != nil {
		return err
	}
	h, err := newServer(svc, db, flow, slog.Default())
	if err != nil {
		return err
	}
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{Interval: time.Second})
	if err != nil {
		return err
	}

	// The flow works with a cluster or Sentinel, too; the relay is made for a single server.
	opt, err := redis.ParseURL(s.redis)
	if err != nil {
		return errors.New("REDIS_URL must begin with redis:// or rediss:// here") // the parser's message may hold the password
	}
	opt.ContextTimeoutEnabled = true
	client := redis.NewClient(opt)
	defer closing(client.Close)
	r := newRelay(client, db, s.listen, namespace)
	background, stop := context.WithCancel(ctx)
	ended := make(chan struct{}, 2)
	go func() {
		r.run(background)
		ended <- struct{}{}
	}()
	go func() {
		if err := completer.Run(background); background.Err() == nil {
			slog.Error("completer", "error", err)
		}
		ended <- struct{}{}
	}()
	err = serve(ctx, s.listen, "shop", h)
	stop()
	<-ended
	<-ended
	return err
}

// newHTTPServer makes a server that a slow client cannot block. A completion takes some seconds if
// the provider is silent, so there is much time to write.
func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
}

// serve serves until ctx ends, and then lets requests end.
func serve(ctx context.Context, addr, what string, h http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := newHTTPServer(h)
	fmt.Println("Serving the " + what + " on http://" + listener.Addr().String())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return server.Shutdown(last)
}
