package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// deadCommand is what operators do with dead letters.
type deadCommand struct {
	List    deadList    `cmd:"" default:"withargs" help:"List dead letters with their reasons, each with its last failure beneath."`
	Show    keysShow    `cmd:"" help:"Show all about a key, with its journal as a timeline."`
	Requeue deadRequeue `cmd:"" help:"Let completers continue all dead letters that match."`
	Delete  deadDelete  `cmd:"" help:"Delete all dead letters that match."`
}

type deadList struct {
	storeFlags
	filterFlags
	pageFlags
}

// Run lists dead letters.
func (c *deadList) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		r := newRows(c.Output, "ID DEAD SCOPE KEY REASON")
		return c.print(ctx, in, c.filter(redisidem.KeyDead), r, func(k *redisidem.KeyInfo) {
			r.add(newKeyRecord(k, false), k.ID, span(max(k.At.Sub(k.DeadLetter.At), 0)), cut(k.Scope, 14), cut(k.Value, 16), cut(k.DeadLetter.Reason, 44))
			if f := k.LastFailure; f != nil && f.Text != "" {
				r.note(message(errors.New(f.Text)))
			}
		})
	})
}

// deadLetters returns the dead letters that match a filter, each once.
func deadLetters(ctx context.Context, in *redisidem.Inspector, f redisidem.Filter) (keys []*redisidem.KeyInfo, err error) {
	seen := make(map[string]bool)
	for page, err := range in.List(ctx, f, "") {
		if err != nil {
			return keys, err
		}
		for _, k := range page.Keys {
			if !seen[k.ID] {
				seen[k.ID] = true
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

type deadRequeue struct {
	storeFlags
	actFlags
	filterFlags
	Rate int `default:"100" help:"How many are requeued in each second, so that completers and the services behind them get them little by little."`
}

// maxRate leaves a ticker an interval that it can keep.
const maxRate = 1_000_000

// Run requeues dead letters.
func (c *deadRequeue) Run(ctx context.Context) error {
	if c.Rate < 1 || c.Rate > maxRate {
		return fmt.Errorf("--rate %d must be from 1 to %d", c.Rate, maxRate)
	}
	next := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer next.Stop()
	return c.all(ctx, &c.storeFlags, c.filter(redisidem.KeyDead), "Requeue", "requeued",
		func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error {
			select {
			case <-next.C:
			case <-ctx.Done(): // the act reports it
			}
			return in.Requeue(ctx, key, a)
		})
}

type deadDelete struct {
	storeFlags
	actFlags
	filterFlags
}

// Run deletes dead letters.
func (c *deadDelete) Run(ctx context.Context) error {
	return c.all(ctx, &c.storeFlags, c.filter(redisidem.KeyDead), "Delete", "deleted", (*redisidem.Inspector).Delete)
}

// all asks whether to act on all keys that match, and does it. It goes on after a key that is
// refused, and fails in the end.
func (f *actFlags) all(
	ctx context.Context, store *storeFlags, filter redisidem.Filter, question, done string,
	do func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error,
) error {
	if err := f.check(); err != nil {
		return err
	}
	return store.inspect(ctx, f.Retention, func(in *redisidem.Inspector) error {
		keys, err := deadLetters(ctx, in, filter)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := f.confirm(fmt.Sprintf("%s %s?", question, count(len(keys), "dead letter"))); err != nil {
				return err
			}
		}
		r := newRows(store.Output, "ID DONE")
		refused := 0
		for _, k := range keys {
			word := done
			if err := do(in, ctx, k, f.act()); err != nil {
				if errors.Is(err, redisidem.ErrUnavailable) {
					return errors.Join(r.flush(), err)
				}
				refused++
				word = message(err)
			}
			r.add(map[string]string{"id": k.ID, "done": word}, k.ID, word)
		}
		if refused > 0 {
			err = fmt.Errorf("%d of %s were refused", refused, count(len(keys), "dead letter"))
		}
		return errors.Join(r.flush(), err)
	})
}
