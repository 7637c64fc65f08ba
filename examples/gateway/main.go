// Gateway shows the gateway in front of a service that knows nothing of idempotency keys: one command starts both.
//
//	go run ./examples/gateway
//
// The gateway brings its own Redis. With REDIS_URL set it uses that one instead. README.md tells what to try with curl.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	upstream, err := serveUpstream(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upstream.Close()) }()

	dir, err := os.MkdirTemp("", "redisidem-gateway")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "redisidem")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/redisidem/redisidem/cmd/redisidem")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the gateway, from the root of the repository: %w", err)
	}

	gateway := exec.CommandContext(ctx, program, "gateway", "--upstream", "http://"+upstream.Addr, "--listen", "127.0.0.1:8080",
		"--admin-listen", "127.0.0.1:8081", "--scope", "header:X-Tenant", "--log-format", "text")
	gateway.Stdout, gateway.Stderr = os.Stdout, os.Stderr
	gateway.Cancel = func() error { return gateway.Process.Signal(syscall.SIGTERM) }
	gateway.WaitDelay = 40 * time.Second
	fmt.Println("The gateway will serve on http://127.0.0.1:8080, in front of a shop that charges on each request.")
	if err := gateway.Run(); ctx.Err() == nil {
		return fmt.Errorf("the gateway ended: %w", err)
	}
	return nil
}

// serveUpstream starts the service behind the gateway: a shop that charges as often as it is asked to.
func serveUpstream(ctx context.Context) (*http.Server, error) {
	var charges atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charges", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Second): // long enough to send a second request meanwhile
		case <-r.Context().Done():
			return
		}
		n := charges.Add(1)
		fmt.Printf("shop: charge %d\n", n)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		if _, err := fmt.Fprintf(w, "{\"charge\":%d}\n", n); err != nil {
			fmt.Println("shop:", err)
		}
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Println("shop:", err)
		}
	}()
	return server, nil
}
