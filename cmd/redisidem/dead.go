package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
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
			switch f := k.LastFailure; {
			case f == nil:
			case f.Err != nil:
				r.note("its last failure cannot be read: " + reasonOf(f.Err))
			case f.Text != "":
				r.note(message(errors.New(f.Text)))
			}
		})
	})
}

// deadLetters yields the dead letters that match a filter, page by page. A key of nil comes with an
// error of the list, which ends. unread counts those to which the filter could not be applied.
func deadLetters(ctx context.Context, in *redisidem.Inspector, f redisidem.Filter, unread *int) iter.Seq2[*redisidem.KeyInfo, error] {
	return func(yield func(*redisidem.KeyInfo, error) bool) {
		var seen recent
		for page, err := range in.List(ctx, f, "") {
			if err != nil {
				yield(nil, err)
				return
			}
			*unread += page.Unread
			for _, k := range page.Keys {
				if seen.add(k.ID) && !yield(k, nil) {
					return
				}
			}
		}
	}
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
		return usage("--rate %d must be from 1 to %d", c.Rate, maxRate)
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

// all asks whether to act on all dead letters that match, and does it. Each key is printed once it
// is acted on, so that a process that was killed has said what it did. It goes on after a key that
// is refused, and fails in the end.
func (f *actFlags) all(
	ctx context.Context, store *storeFlags, filter redisidem.Filter, question, done string,
	do func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error,
) error {
	if err := f.check(); err != nil {
		return err
	}
	return store.inspect(ctx, f.Retention, func(in *redisidem.Inspector) (err error) {
		unread := 0
		letters := deadLetters(ctx, in, filter, &unread)
		if !f.Yes {
			asked, err := f.ask(ctx, letters, question)
			if err != nil {
				return err
			}
			letters = asked
		}
		r := newRows(store.Output, "ID DONE")
		acted, refused := 0, 0
		defer func() {
			progress("")
			if err == nil || acted > 0 {
				fmt.Fprintln(os.Stderr, count(acted, "dead letter"), done)
			}
		}()
		for k, err := range letters {
			if k == nil {
				return errors.Join(r.flush(), err)
			}
			err = do(in, ctx, k, f.act())
			word := done
			switch {
			case err == nil:
				acted++
			case isUnknown(err):
				word = "unknown, see the audit: " + message(err)
			case endsAll(err):
				return errors.Join(r.flush(), err)
			default:
				refused++
				word = message(err)
			}
			progress("")
			r.add(map[string]string{"id": k.ID, "done": word}, k.ID, cut(word, 90))
			if flushErr := r.flush(); flushErr != nil || endsAll(err) {
				return errors.Join(flushErr, err)
			}
			progress(fmt.Sprintf("%s %s, %d refused ", count(acted, "dead letter"), done, refused))
		}
		err = r.flush()
		if refused > 0 {
			err = errors.Join(err, fmt.Errorf("%d of %s were refused", refused, count(acted+refused, "dead letter")))
		}
		if unread > 0 {
			err = errors.Join(err, errUnread(unread))
		}
		return err
	})
}

// maxAsked is about how many dead letters a question can be. They are in memory meanwhile.
const maxAsked = 100_000

// ask asks whether to act on dead letters, if there are any, and returns them. They are kept as
// they were read before the question, so that one that has changed meanwhile is refused.
func (f *actFlags) ask(ctx context.Context, letters iter.Seq2[*redisidem.KeyInfo, error], question string) (iter.Seq2[*redisidem.KeyInfo, error], error) {
	stop := during("counting dead letters")
	var asked []*redisidem.KeyInfo
	for k, err := range letters {
		if err != nil {
			stop()
			return nil, err
		}
		if len(asked) == maxAsked {
			stop()
			return nil, fmt.Errorf("nothing was done: more than %d dead letters match. Narrow the filter, or give --yes", maxAsked)
		}
		asked = append(asked, k)
	}
	stop()
	if len(asked) > 0 {
		if err := f.confirm(ctx, fmt.Sprintf("%s %s?", question, count(len(asked), "dead letter"))); err != nil {
			return nil, err
		}
	}
	return func(yield func(*redisidem.KeyInfo, error) bool) {
		for _, k := range asked {
			if !yield(k, nil) {
				return
			}
		}
	}, nil
}

// isUnknown reports whether an act may have been done although it has returned an error. One that
// Redis has not permitted was not.
func isUnknown(err error) bool {
	if errors.Is(err, redisidem.ErrNotPermitted) {
		return false
	}
	return errors.Is(err, redisidem.ErrUnavailable) || errors.Is(err, context.Canceled)
}

// endsAll reports whether an error is about more than one key.
func endsAll(err error) bool {
	if invalid, ok := errors.AsType[*redisidem.InvalidError](err); ok && strings.HasPrefix(invalid.Field, "Act.") {
		return true
	}
	return isUnknown(err) || errors.Is(err, redisidem.ErrNotPermitted) || errors.Is(err, redisidem.ErrClosed)
}
