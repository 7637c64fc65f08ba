// Bench measures redisidem and its alternatives side by side on the same server. Without arguments
// it runs a short, complete comparison on a private redis-server and prints the results.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
)

// cli is the command line.
type cli struct {
	Run     runCommand     `cmd:"" default:"withargs" help:"Compare the contenders (the default)."`
	Figures figuresCommand `cmd:"" help:"Measure the figures of docs/performance.md; exit status 1 when one falls short."`
	Compare compareCommand `cmd:"" help:"Compare two runs, with significance; exit status 1 when the later one is worse."`
	Report  reportCommand  `cmd:"" help:"Make the HTML report of a run."`
}

// errShort makes the program exit with status 1, after the results are printed.
var errShort = errors.New("a figure falls short, or a contender failed")

func main() {
	var c cli
	parser, err := kong.New(&c, kong.Name("bench"), kong.UsageOnError(),
		kong.Description("Measures redisidem and its alternatives, side by side on the same server."),
		kong.Vars{"scenarios": strings.Join(scenarioNames(), ", "), "contenders": strings.Join(contenderNames(), ", ")})
	if err != nil {
		fail(2, err)
	}
	redis.SetLogger(quiet{}) // go-redis logs a server that is still starting
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first interrupt ends the run in order, which a hanging server can delay. The second one
	// ends the program at once.
	context.AfterFunc(ctx, stop)
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		fail(2, err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run()
	stop()
	switch {
	case errors.Is(err, errShort):
		os.Exit(1)
	case err != nil:
		fail(2, err)
	}
}

// quiet is a logger for go-redis that prints nothing. Errors are returned.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// fail prints the error and exits with status.
func fail(status int, err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(status)
}
