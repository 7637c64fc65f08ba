package redisidem

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Purged is how far a purge has come.
type Purged struct {
	// Records is how many records were looked at, of all scopes. Deleted is how many keys were
	// deleted, and Locked how many were left because a worker had the lease.
	Records, Deleted, Locked int
	// Unknown is how many records were left because they are damaged so that their scope cannot be
	// read. They may be of this scope: list the keys that are KeyUnreadable.
	Unknown int
	// Next continues the purge in a later call; empty at the end.
	Next string
}

// counts returns the counts as the audit has them.
func (p *Purged) counts() string {
	return fmt.Sprintf("%d deleted, %d locked, %d unknown", p.Deleted, p.Locked, p.Unknown)
}

// purgeStep is after how many records the audit gets an entry about a purge at the earliest. The
// steps grow with the purge, since the audit of a shard has room for some 256 entries: 100 million
// records make 50 of them.
const purgeStep = 1000

// Purge deletes all keys of a scope, whatever their state, except those on which a worker has the
// lease. It yields its progress after each step. cursor is empty, or the Next of an earlier purge
// of the scope. Nothing is deleted before the loop begins. To see what would be deleted, [List] the
// scope first.
//
// There is no index of a scope's keys, so a purge goes through the records of all scopes: it costs
// what a list costs, and a script for each key that it deletes. Keys that are made while it runs
// may be left: stop the tenant first, and purge again until nothing is deleted or locked. Each
// deleted key leaves a tombstone for Config.Retention: see [Scope.Delete]. Nothing is undone.
//
// The audit gets an entry when the purge begins and one when it ends or the loop is left, with the
// counts. Between them there is one for each 1000 records that were looked at, and later for each
// quarter more, with the counts so far and the cursor at which a purge that was killed goes on.
// They are under the ID that [Scope.ID] returns for an empty value, and do not contain the scope's
// name.
//
// An error ends the purge and comes with the progress so far, whose Next repeats the step that
// failed. It is [ErrInvalid], [ErrUnavailable], [ErrNotPermitted] or [ErrClosed].
func (in *Inspector) Purge(ctx context.Context, scope, cursor string, a Act) iter.Seq2[Purged, error] {
	return func(yield func(Purged, error) bool) {
		p := Purged{Next: cursor}
		if err := in.service.Scope(scope).validate("any"); err != nil {
			yield(p, err)
			return
		}
		recordAt := purgeStep
		err := in.recordMany(ctx, "purge", scope, "", a, func(progress func(string) error) (string, error) {
			err := in.purge(ctx, scope, &p, func() error {
				if p.Records >= recordAt && p.Next != "" {
					recordAt = p.Records + max(purgeStep, p.Records/4)
					if err := progress(fmt.Sprintf("at %d records, %s, cursor %s", p.Records, p.counts(), p.Next)); err != nil {
						return err
					}
				}
				return goOn(yield(p, nil))
			})
			return p.counts(), err
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(p, err)
		}
	}
}

// purge deletes the keys of a scope, and counts in p. It calls report after each step.
func (in *Inspector) purge(ctx context.Context, scope string, p *Purged, report func() error) error {
	for page, err := range in.List(ctx, Filter{Scope: scope}, p.Next) {
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			// Whatever became of the key since it was read: a purge means the scope.
			switch err := in.service.delete(ctx, key.id, protocol.Seen{}, key.Flow, nil); {
			case errors.Is(err, ErrLocked):
				p.Locked++
			case err != nil:
				return err
			default:
				p.Deleted++
			}
		}
		p.Records, p.Unknown, p.Next = p.Records+page.Records, p.Unknown+page.Unknown, page.Next
		if err := report(); err != nil {
			return err
		}
	}
	return nil
}
