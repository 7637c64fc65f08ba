// Middleware shows idempotency keys inside a Go service, with net/http's own router and with chi.
//
//	go run ./examples/middleware
//	go run ./examples/middleware -router chi
//
// It brings its own Redis. With REDIS_URL set it uses that one instead. README.md lists what to try
// with curl.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

func main() {
	router := flag.String("router", "http", "the router: http or chi")
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *router, *listen, os.Getenv("REDIS_URL"))
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, router, listen, url string) (err error) {
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		url = "redis://" + server.Addr()
	}
	svc, err := redisidem.Open(ctx, url, nil)
	if err != nil {
		return err
	}
	h, err := newHandler(svc, router)
	if err != nil {
		return errors.Join(err, svc.Close(ctx))
	}
	server := &http.Server{Addr: listen, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		// Requests first, then what they have left to commit.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			log.Print(err)
		}
	}()
	fmt.Println("Serving on http://" + listen + ", with the router " + router + ".")
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, svc.Close(ctx))
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return svc.Close(last)
}
