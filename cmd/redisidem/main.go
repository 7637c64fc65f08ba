// Redisidem is a gateway that makes retries of requests to any HTTP service safe. It also shows
// operators every key and lets them act, and checks whether a Redis is fit for use.
//
// The exit status is 0 if the command did what it says, 1 if not, 2 for a command line that cannot
// be understood, lacks something or has a value out of its bounds, and 3 if there is no such key.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// cli is the command line.
type cli struct {
	Gateway gatewayCommand `cmd:"" help:"Serve as a reverse proxy in front of a service, and make its clients' retries safe."`
	Health  healthCommand  `cmd:"" help:"Ask a gateway for its health; exit status 1 if it is not well."`
	Check   checkCommand   `cmd:"" help:"Check whether a Redis is fit for use; exit status 1 if it is not."`
	Plan    planCommand    `cmd:"" help:"Calculate what a deployment needs: masters, memory, network and processes."`

	Keys    keysCommand    `cmd:"" help:"List, show and act on keys."`
	Dead    deadCommand    `cmd:"" help:"List, requeue and delete dead letters."`
	Scope   scopeCommand   `cmd:"" help:"Purge scopes, and show how much of their quotas they use."`
	Flows   flowsCommand   `cmd:"" help:"Show which versions of flows have unfinished keys, pause and resume flows."`
	Stats   statsCommand   `cmd:"" help:"Show how many keys are in each state."`
	Audit   auditCommand   `cmd:"" help:"Show what operators did to keys."`
	Tail    tailCommand    `cmd:"" help:"Show what happens: acts, dead letters, and keys that are abandoned or interrupted, until it is interrupted."`
	Routes  routesCommand  `cmd:"" help:"Show what became of a gateway's requests since it started, by route."`
	Console consoleCommand `cmd:"" help:"Serve pages for operators: find keys, read their journals, and act on them."`

	Completion completionCommand `cmd:"" help:"Print a script with which a shell completes command lines."`
	Man        manCommand        `cmd:"" help:"Print the manual page, in the format of man."`
	Version    versionCommand    `cmd:"" help:"Show the version of this program, its commit, and whether files differed from the commit."`
}

// The exit statuses.
const (
	statusFailed   = 1
	statusUsage    = 2
	statusNotFound = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if args[0] == "extproc" {
		args = append([]string{gatewayName, "--upstream", fromEnvoy}, args[1:]...)
	}
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		return fail(err)
	}
	if done, status := completed(parser); done {
		return status
	}
	redis.SetLogger(quiet{})
	log.SetOutput(io.Discard) // net/http logs unsolicited responses of a service there
	command, err := parser.Parse(args)
	if _, ok := errors.AsType[*fileError](err); ok {
		return fail(err)
	}
	if err != nil {
		fail(err)
		return statusUsage
	}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(); err != nil {
		return fail(err)
	}
	return 0
}

// newParser returns the parser of the command line.
func newParser(c *cli) (*kong.Kong, error) {
	return kong.New(c, kong.Name("redisidem"), kong.UsageOnError(),
		kong.Description("Makes retries of HTTP requests safe, with idempotency keys kept in Redis."), gatewayEnvironment())
}

// quiet discards the log of go-redis, since every failure is also returned as an error.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// fail prints an error and returns the exit status for it.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, "redisidem:", message(err))
	switch {
	case errors.Is(err, redisidem.ErrNotFound):
		return statusNotFound
	case isUsage(err):
		return statusUsage
	}
	return statusFailed
}

// usageError is an error about the command line.
type usageError struct{ error }

// Unwrap returns the error behind it.
func (e usageError) Unwrap() error { return e.error }

// usage returns an error about a flag or an argument.
func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// isUsage reports whether an error is about the command line. The library checks some of its
// values.
func isUsage(err error) bool {
	if _, ok := errors.AsType[usageError](err); ok {
		return true
	}
	invalid, ok := errors.AsType[*redisidem.InvalidError](err)
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(invalid.Field, ".")
	return slices.Contains([]string{"cursor", "id", "scope", "flow", "Filter", "Act"}, name)
}

// given is a text on the command line that must not be empty. In a script, an empty one is a
// variable that is not set, and a filter without it would match all keys.
type given string

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *given) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("must not be empty")
	}
	*g = given(text)
	return nil
}

// message returns the text of an error without the name of the library.
func message(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "redisidem: ")
	}
	return strings.Join(lines, "\n")
}
