package redisidem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Reindexed is how far a rebuild of the indexes of a flow has come.
type Reindexed struct {
	// Records is how many records were looked at, of all flows. Entered is how many keys the
	// indexes had lost.
	Records, Entered int
	// Next continues in a later call; empty at the end.
	Next string
}

// Reindex enters the unfinished keys of a flow into the indexes that have lost them: those that
// completers find keys by, and the lists of dead letters. It is for a Redis that has lost an index
// and not the records, for instance because it was deleted. The keys themselves stay as they
// are. flow is the name of a flow, for all its versions. Completers may continue the entered keys
// after the time after, which is the flow's RecoverAfter as a rule.
//
// It yields its progress after each step; a caller that pauses in its loop bounds the load. cursor
// is empty, or the Next of an earlier call for the flow. It goes through the records of all flows:
// it costs what a list costs, and a script for each key that may be missing. Keys may be worked on
// meanwhile.
//
// The audit gets an entry when it begins and one when it ends or the loop is left, with the counts.
// They are under the ID that [Scope.ID] of the empty scope returns for the name.
//
// An error ends it and comes with the progress so far, whose Next repeats the step that failed. It
// is [ErrInvalid], [ErrUnavailable], [ErrDamaged] for an index that is not one, [ErrNotPermitted]
// or [ErrClosed].
func (in *Inspector) Reindex(ctx context.Context, flow string, after time.Duration, cursor string, a Act) iter.Seq2[Reindexed, error] {
	return func(yield func(Reindexed, error) bool) {
		p := Reindexed{Next: cursor}
		switch {
		case !flowName.MatchString(flow):
			yield(p, invalid("flow", "must be the name of a flow: %q", flow))
			return
		case after < 0:
			yield(p, invalid("after", "must not be negative: %v", after))
			return
		}
		err := in.recordMany(ctx, "reindex", "", flow, a, func(func(string) error) (string, error) {
			err := in.reindex(ctx, flow, after, &p, func() error { return goOn(yield(p, nil)) })
			return fmt.Sprintf("%d entered", p.Entered), err
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(p, err)
		}
	}
}

// reindex enters the keys of a flow, and counts in p. It calls report after each step.
func (in *Inspector) reindex(ctx context.Context, flow string, after time.Duration, p *Reindexed, report func() error) error {
	s := in.service
	unfinished := []KeyState{KeyInFlight, KeyDead, KeyAbandoned, KeyInterim, KeyInterrupted, KeyIdle}
	for page, err := range in.List(ctx, Filter{Flow: flow, States: unfinished}, p.Next) {
		if err != nil {
			return err
		}
		before := p.Entered
		for _, key := range page.Keys {
			if !key.Due.IsZero() {
				continue
			}
			index := key.id.DueIndex(flow)
			if key.DeadLetter != nil { // also while a worker has its lease
				index = key.id.DeadLetters(flow)
			}
			r, err := s.ask(ctx, "reindex", s.redis.NewReindex(key.id, index, after))
			if err != nil {
				return err
			}
			switch r.Status {
			case protocol.StatusOK:
				p.Entered++
			case protocol.StatusAlive, protocol.StatusGone, protocol.StatusDone, protocol.StatusOther:
				// It has changed since it was read.
			default:
				return r.Unexpected()
			}
		}
		if p.Entered > before {
			s.wakeCompleters(context.WithoutCancel(ctx), flow)
		}
		p.Records, p.Next = p.Records+page.Records, page.Next
		if err := report(); err != nil {
			return err
		}
	}
	return nil
}
