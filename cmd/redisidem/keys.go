package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	Scope     string        `help:"Only keys of this scope."`
	Flow      string        `help:"Only keys of this flow: NAME or NAME/VERSION."`
	OlderThan time.Duration `placeholder:"DURATION" help:"Only keys that were created so long ago at least, such as 90m or 36h."`
	Attempts  int           `help:"Only keys with at least so many attempts."`
	Error     string        `placeholder:"TEXT" help:"Only keys whose last failure contains this text."`
}

func (f *filterFlags) filter(states ...redisidem.KeyState) redisidem.Filter {
	return redisidem.Filter{States: states, Scope: f.Scope, Flow: f.Flow, OlderThan: f.OlderThan, Attempts: f.Attempts, Failure: f.Error}
}

// parseStates reads the names of states.
func parseStates(names []string) (states []redisidem.KeyState, err error) {
	keyStates := redisidem.KeyStates()
	for _, name := range names {
		found := false
		all := make([]string, 0, len(keyStates))
		for _, state := range keyStates {
			all = append(all, state.String())
			if state.String() == name {
				states, found = append(states, state), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--state %s must be one of %s", name, strings.Join(all, ", "))
		}
	}
	return states, nil
}

// pageFlags say which part of a list is printed.
type pageFlags struct {
	Limit  int    `default:"50" help:"End with the page in which this many keys are reached, so that up to some hundred more are printed; 0 for no limit."`
	Cursor string `help:"Continue an earlier list, which has printed this."`
}

type keysList struct {
	storeFlags
	filterFlags
	pageFlags
	State []string `placeholder:"STATE" predictor:"state" help:"Only keys in these states: idle, in-flight, abandoned, interrupted, interim, dead, finished, unreadable."`
}

// Run lists keys.
func (c *keysList) Run(ctx context.Context) error {
	states, err := parseStates(c.State)
	if err != nil {
		return err
	}
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		r := newRows(c.Output, "ID STATE AGE TRIES SCOPE KEY FLOW")
		return c.print(ctx, in, c.filter(states...), r, func(k *redisidem.KeyInfo) {
			r.add(newKeyRecord(k, false), k.ID, k.State.String(), ageOf(k), strconv.Itoa(k.Attempts), cut(k.Scope, 16), cut(k.Value, 20), cut(k.Flow, 14))
		})
	})
}

// flushEvery is how long rows of a long list wait until they are printed.
const flushEvery = 300 * time.Millisecond

// print prints the keys that match a filter, each once, up to the end of the page with the key of
// number Limit. add prints one key as a row.
func (f *pageFlags) print(ctx context.Context, in *redisidem.Inspector, filter redisidem.Filter, r *rows, add func(k *redisidem.KeyInfo)) error {
	seen := make(map[string]bool)
	cursor, records, flushed := f.Cursor, 0, time.Now()
	var failed error
	for page, err := range in.List(ctx, filter, cursor) {
		if err != nil {
			failed = err
			break
		}
		for _, k := range page.Keys {
			if !seen[k.ID] {
				seen[k.ID] = true
				add(k)
			}
		}
		cursor, records = page.Next, records+page.Records
		if cursor == "" || f.Limit > 0 && len(seen) >= f.Limit {
			break
		}
		if time.Since(flushed) >= flushEvery {
			progress("")
			if failed = r.flush(); failed != nil {
				break
			}
			flushed = time.Now()
			progress(fmt.Sprintf("%s found in %s ", count(len(seen), "key"), count(records, "record")))
		}
	}
	progress("")
	err := errors.Join(failed, r.flush())
	if cursor != "" {
		fmt.Fprintf(os.Stderr, "%s; continue with --cursor %s\n", count(len(seen), "key"), cursor)
	} else if r.json == nil && err == nil {
		fmt.Fprintln(os.Stderr, count(len(seen), "key"))
	}
	return err
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
	return c.one(ctx, &c.storeFlags, &c.keyArgument, "Requeue", "requeued", (*redisidem.Inspector).Requeue)
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
		if err := f.confirm(fmt.Sprintf("%s 1 key, %s (%s)?", question, k.ID, describe(k))); err != nil {
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
