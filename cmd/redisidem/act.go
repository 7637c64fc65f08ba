package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// actFlags say who acts on keys, and why.
type actFlags struct {
	Actor     string        `env:"REDISIDEM_ACTOR,USER" help:"Who acts, for the audit. Default: the user of this process."`
	Reason    string        `help:"Why, for the audit. Required."`
	Yes       bool          `short:"y" help:"Do not ask."`
	Retention time.Duration `default:"24h" help:"Retention that the programs configure."`
}

func (f *actFlags) act() redisidem.Act {
	return redisidem.Act{Actor: cmp.Or(f.Actor, userName(user.Current)), Reason: f.Reason}
}

// userName returns the name of the user of this process, or its number. Containers have users
// without a name.
func userName(current func() (*user.User, error)) string {
	if u, err := current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// errNotConfirmed ends a command whose question was not answered with yes.
var errNotConfirmed = errors.New("nothing was done: not confirmed (--yes answers for scripts)")

// check returns an error if a flag is missing that every act needs.
func (f *actFlags) check() error {
	if f.Reason == "" {
		return usageError{errors.New("--reason is required: the audit says why")}
	}
	return nil
}

// confirm asks whether to go on, on standard error, until ctx ends.
func (f *actFlags) confirm(ctx context.Context, question string) error {
	if f.Yes {
		return nil
	}
	fmt.Fprint(os.Stderr, question, " [y/N] ")
	answer, err := untilEnd(ctx, func() (answer string, err error) {
		_, err = fmt.Fscanln(os.Stdin, &answer)
		return answer, err
	})
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr)
		return err
	}
	if answer = strings.ToLower(answer); err != nil || answer != "y" && answer != "yes" {
		fmt.Fprintln(os.Stderr)
		return errNotConfirmed
	}
	return nil
}

// untilEnd runs a read that may block for ever, and leaves it when ctx ends: a signal does not
// interrupt a read from a terminal.
func untilEnd[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("nothing was done: %w", context.Cause(ctx))
	}
}
