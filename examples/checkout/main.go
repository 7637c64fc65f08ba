// Checkout is a small shop: its carts are completed by a flow that a crash, a lost answer or a
// silent payment provider cannot make charge twice.
//
//	go run ./examples/checkout
//
// Without flags it is everything in one process: the shop, the payment provider and a Redis inside
// it. With REDIS_URL set it uses that Redis. The shop's tables are in the PostgreSQL of
// DATABASE_URL, or else in SQLite. README.md lists what to try, and walkthrough.sh tries it, with
// two shops behind one Redis.
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
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// namespace is the prefix of all names in Redis, which other programs may use, too.
const namespace = "checkout"

// settings are the command line's.
type settings struct {
	listen, provider, data, redis, database string
	onlyProvider                            bool
	lease, recoverAfter, timeout            time.Duration
	confirmWithin, askEvery                 time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:9000", "address to serve on")
	flag.StringVar(&s.provider, "provider", "", "URL of the payment provider; empty: there is one in this process")
	flag.StringVar(&s.data, "data", "", "directory of the SQLite databases, which several shops may share; empty: a fresh one")
	flag.BoolVar(&s.onlyProvider, "only-provider", false, "be the payment provider and nothing else")
	flag.DurationVar(&s.lease, "lease", 2*time.Second, "how long a shop that died keeps its carts locked")
	flag.DurationVar(&s.recoverAfter, "recover-after", 3*time.Second, "how long clients have to come back before their carts are completed without them")
	flag.DurationVar(&s.confirmWithin, "confirm-within", 15*time.Minute, "how long a cart may take, with the customer's confirmation of the payment; it is undone then")
	flag.DurationVar(&s.askEvery, "ask-every", 5*time.Second, "how often the provider is asked whether the customer has confirmed")
	flag.DurationVar(&s.timeout, "redis-timeout", redisidem.DefaultTimeout, "bound of each operation on Redis")
	flag.Parse()
	s.redis, s.database = os.Getenv("REDIS_URL"), os.Getenv("DATABASE_URL")
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
	db, err := openShop(ctx, s.database, s.data)
	if err != nil {
		return err
	}
	defer closing(db.close)

	c := &checkout{
		service: svc, shop: db, payments: &payments{url: s.provider, client: &http.Client{Timeout: 10 * time.Second}},
		recoverAfter: s.recoverAfter, confirmWithin: s.confirmWithin, askEvery: s.askEvery, crash: die,
	}
	if c.flow, err = hook.around(c.newFlow()); err != nil {
		return err
	}
	h, err := newServer(c, slog.Default())
	if err != nil {
		return err
	}
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{c.flow}, &redisidem.CompleterConfig{Interval: time.Second})
	if err != nil {
		return err
	}
	r, err := newRelay(db, slog.Default())
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { r.Run(background) })
	working.Go(func() { prune(background, db, svc) })
	working.Go(func() {
		if err := completer.Run(background); background.Err() == nil {
			slog.Error("completer", "error", err)
		}
	})
	err = serve(ctx, s.listen, "shop", h)
	stop()
	working.Wait()
	return err
}

// prune removes the rows of old idempotency keys once an hour.
func prune(ctx context.Context, db *shop, svc *redisidem.Service) {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for ctx.Err() == nil {
		if _, err := db.store.Prune(ctx, svc, 0); err != nil && ctx.Err() == nil {
			slog.Warn("prune", "error", err)
		}
		select {
		case <-hourly.C:
		case <-ctx.Done():
		}
	}
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
