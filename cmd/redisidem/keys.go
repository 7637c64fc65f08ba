package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// keysCommand is what operators do with keys.
type keysCommand struct {
	List    keysList    `cmd:"" default:"withargs" help:"List keys by state, scope, flow, age and attempts."`
	Show    keysShow    `cmd:"" help:"Show all about a key, with its journal as a timeline."`
	Unlock  keysUnlock  `cmd:"" help:"Take the lease on a key away from its worker."`
	Cancel  keysCancel  `cmd:"" help:"Stop the flow of a key: its stages are undone, and its answer says so."`
	Requeue keysRequeue `cmd:"" help:"Let a completer continue a dead letter."`
	Resolve keysResolve `cmd:"" help:"Give a stuck or interrupted key its final answer."`
	Delete  keysDelete  `cmd:"" help:"Delete a key: its next request runs the work again."`
}

// filterFlags say which keys a list has.
type filterFlags struct {
	Scope     given         `help:"Only keys of this scope."`
	Flow      given         `help:"Only keys of this flow: NAME or NAME/VERSION."`
	OlderThan time.Duration `placeholder:"DURATION" help:"Only keys that were created so long ago at least, such as 90m or 36h."`
	Attempts  int           `help:"Only keys with at least so many attempts."`
	Error     given         `placeholder:"TEXT" help:"Only keys whose last failure contains this text. A failure that cannot be decoded is an error."`
}

func (f *filterFlags) filter(states ...redisidem.KeyState) redisidem.Filter {
	return redisidem.Filter{
		States: states, Scope: string(f.Scope), Flow: string(f.Flow), OlderThan: f.OlderThan, Attempts: f.Attempts, Failure: string(f.Error),
	}
}

// keyStates are the states that --state names, separated by commas.
type keyStates []redisidem.KeyState

// UnmarshalText implements [encoding.TextUnmarshaler]. It adds to the states.
func (s *keyStates) UnmarshalText(text []byte) error {
	all := make(map[string]redisidem.KeyState)
	names := make([]string, 0, len(redisidem.KeyStates()))
	for _, state := range redisidem.KeyStates() {
		all[state.String()] = state
		names = append(names, state.String())
	}
	for name := range strings.SplitSeq(string(text), ",") {
		state, ok := all[name]
		switch {
		case name == "":
			return errors.New("must not be empty")
		case !ok:
			return fmt.Errorf("%s must be one of %s", name, strings.Join(names, ", "))
		}
		*s = append(*s, state)
	}
	return nil
}

// errUnread reports that a filter by error text could not be applied to some keys.
func errUnread(n int) error {
	return fmt.Errorf("%s a last failure that cannot be read, so --error cannot be applied: "+codecFlagsHelp, have(n, "key"))
}

type keysList struct {
	storeFlags
	filterFlags
	pageFlags
	State keyStates `placeholder:"STATE" predictor:"state" help:"Only keys in these states: idle, in-flight, abandoned, interrupted, interim, dead, finished, unreadable."`
}

// Run lists keys.
func (c *keysList) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		r := newRows(c.Output, "ID STATE AGE TRIES SCOPE KEY FLOW")
		return c.print(ctx, in, c.filter(c.State...), r, func(k *redisidem.KeyInfo) {
			r.add(newKeyRecord(k, false), k.ID, k.State.String(), ageOf(k), strconv.Itoa(k.Attempts), cut(k.Scope, 16), cut(k.Value, 20), cut(k.Flow, 14))
		})
	})
}

func ageOf(k *redisidem.KeyInfo) string {
	if k.CreatedAt.IsZero() {
		return "-"
	}
	return span(max(k.At.Sub(k.CreatedAt), 0))
}

type keysShow struct {
	storeFlags
	keyArgument
	Body bool `help:"Print params and response, too. They may contain personal data."`
}

// Run shows a key.
func (c *keysShow) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		key, err := c.get(ctx, in)
		if err != nil {
			return err
		}
		return showKey(key, c.Output, c.Body)
	})
}

type keysUnlock struct {
	storeFlags
	actFlags
	keyArgument
}

// Run unlocks a key.
func (c *keysUnlock) Run(ctx context.Context) error {
	return c.one(ctx, &c.storeFlags, &c.keyArgument, "Take the lease away from the worker of", "unlocked", (*redisidem.Inspector).Unlock)
}

type keysCancel struct {
	storeFlags
	actFlags
	keyArgument
}

// Run cancels a key.
func (c *keysCancel) Run(ctx context.Context) error {
	return c.one(ctx, &c.storeFlags, &c.keyArgument, "Cancel the flow of", "canceled", (*redisidem.Inspector).Cancel)
}

type keysRequeue struct {
	storeFlags
	actFlags
	keyArgument
}

// Run requeues a key.
func (c *keysRequeue) Run(ctx context.Context) error {
	requeue := func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error {
		err := in.Requeue(ctx, key, a)
		if !errors.Is(err, redisidem.ErrNotFound) {
			return err
		}
		// That a key is not a dead letter is not the same as that there is no such key.
		if _, stillErr := in.Find(ctx, key.ID); stillErr == nil {
			return fmt.Errorf("the key is %s, and not among the dead letters", key.State)
		}
		return err
	}
	return c.one(ctx, &c.storeFlags, &c.keyArgument, "Requeue", "requeued", requeue)
}

type keysDelete struct {
	storeFlags
	actFlags
	keyArgument
}

// Run deletes a key.
func (c *keysDelete) Run(ctx context.Context) error {
	return c.one(ctx, &c.storeFlags, &c.keyArgument, "Delete", "deleted", (*redisidem.Inspector).Delete)
}

// one asks whether to act on one key, and does it.
func (f *actFlags) one(
	ctx context.Context, store *storeFlags, key *keyArgument, question, done string,
	do func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error,
) error {
	if err := f.check(); err != nil {
		return err
	}
	return store.inspect(ctx, f.Retention, func(in *redisidem.Inspector) error {
		k, err := key.get(ctx, in)
		if err != nil {
			return err
		}
		if err := f.confirm(ctx, fmt.Sprintf("%s 1 key, %s (%s)?", question, k.ID, describe(k))); err != nil {
			return err
		}
		if err := do(in, ctx, k, f.act()); err != nil {
			return err
		}
		r := newRows(store.Output, "ID DONE")
		r.add(map[string]string{"id": k.ID, "done": done}, k.ID, done)
		return r.flush()
	})
}

// describe says in a few words which key it is.
func describe(k *redisidem.KeyInfo) string {
	if k.Scope == "" { // it is damaged
		return k.State.String()
	}
	return fmt.Sprintf("%s, %s of %s", k.State, cut(k.Value, 40), cut(k.Scope, 40))
}
