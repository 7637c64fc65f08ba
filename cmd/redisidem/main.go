// Redisidem is a gateway that makes retries of requests to any HTTP service safe. It also checks
// whether a Redis is fit for use.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
)

// cli is the command line.
type cli struct {
	Gateway gatewayCommand `cmd:"" help:"Serve as a reverse proxy in front of a service, and make its clients' retries safe."`
	Check   checkCommand   `cmd:"" help:"Check whether a Redis is fit for use; exit status 1 if it is not."`
	Plan    planCommand    `cmd:"" help:"Calculate what a deployment needs: masters, memory, network and processes."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("redisidem"), kong.UsageOnError(),
		kong.Description("Makes retries of HTTP requests safe, with idempotency keys kept in Redis."))
	if err != nil {
		return fail(err)
	}
	redis.SetLogger(quiet{})
	log.SetOutput(io.Discard) // net/http logs unsolicited responses of a service there
	command, err := parser.Parse(args)
	if err != nil {
		return fail(err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(); err != nil {
		return fail(err)
	}
	return 0
}

// quiet discards the log of go-redis, since every failure is also returned as an error.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "redisidem:", err)
	return 1
}
