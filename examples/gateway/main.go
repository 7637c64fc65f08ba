// Gateway shows the gateway in front of a service that knows nothing of idempotency keys: one
// command starts both.
//
//	go run ./examples/gateway
//
// It brings a Redis of its own, which is still there when the gateway is killed. With REDIS_URL set
// the gateway uses that one instead. README.md lists what to try with curl.
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
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
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
	fmt.Println("Building the gateway, which takes up to a minute.")
	program := filepath.Join(dir, "redisidem")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/redisidem/redisidem/cmd/redisidem")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the gateway, from the root of the repository: %w", err)
	}

	redis := os.Getenv("REDIS_URL")
	if redis == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		server.ClockTTL(true) // or nothing would ever expire
		redis = "redis://" + server.Addr()
	}
	fmt.Println("The records are in " + redis + ", for the command redisidem.")
	fmt.Println("The gateway will serve on http://127.0.0.1:8080, in front of a shop that charges on each request. Try:")
	fmt.Println("  curl -i -X POST http://127.0.0.1:8080/charges -H 'Idempotency-Key: 8e03978e' -H 'X-Tenant: acme' -d cents=1200")
	for {
		killed, err := runGateway(ctx, program, "http://"+upstream.Addr, redis)
		switch {
		case ctx.Err() != nil:
			return nil
		case !killed:
			return fmt.Errorf("the gateway ended: %w", err)
		}
		fmt.Println("The gateway was killed. It starts again.")
	}
}

// pidFile contains the number of the gateway's process, so that it can be killed.
var pidFile = filepath.Join(os.TempDir(), "redisidem-gateway.pid")

// runGateway runs a gateway until it ends, and reports whether it was killed.
func runGateway(ctx context.Context, program, upstream, redis string) (killed bool, err error) {
	gateway := exec.CommandContext(ctx, program, "gateway", "--upstream", upstream, "--listen", "127.0.0.1:8080",
		"--admin-listen", "127.0.0.1:8081", "--scope", "header:X-Tenant", "--log-format", "text")
	gateway.Env = append(os.Environ(), "REDIS_URL="+redis)
	gateway.Stdout, gateway.Stderr = os.Stdout, os.Stderr
	gateway.Cancel = func() error { return gateway.Process.Signal(syscall.SIGTERM) }
	gateway.WaitDelay = 40 * time.Second
	if err := gateway.Start(); err != nil {
		return false, err
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(gateway.Process.Pid)), 0o600); err != nil {
		return false, errors.Join(err, gateway.Cancel(), gateway.Wait())
	}
	fmt.Printf("To kill it: kill -9 %d\n", gateway.Process.Pid)
	err = gateway.Wait()
	return gateway.ProcessState.ExitCode() == -1, errors.Join(err, os.Remove(pidFile))
}

// serveUpstream starts the service behind the gateway: a shop that charges as often as it is asked
// to.
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
		fmt.Printf("shop: charge %d, attempt %s\n", n, r.Header.Get("Idempotency-Attempt"))
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
