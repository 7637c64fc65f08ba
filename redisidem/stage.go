package redisidem

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// StageFunc is the work between two recovery points. Its context is cancelled when the caller's is, and when the lease
// is lost: [context.Cause] then matches [ErrLeaseLost]. What it does outside Redis can happen more than once, when a
// process dies or stalls between doing it and committing: [Stage.Fence] and [Stage.OutboundKey] help to make that
// harmless.
//
// A returned error, a panic and [runtime.Goexit] leave the recovery point unchanged and count the attempt.
type StageFunc func(ctx context.Context, st *Stage) (Outcome, error)

// Stage is what a callback may ask about the stage it works on.
type Stage struct {
	lease   *Lease
	key     *Key
	attempt int
	undoes  *JournalEntry // what a compensation undoes
}

// Key returns the key as it stands at the beginning of the stage.
func (st *Stage) Key() *Key { return st.key }

// Fence returns the number of the lease the stage runs under; see [Lease.Fence].
func (st *Stage) Fence() int64 { return st.lease.fence }

// Attempt tells which run of this stage this is, counted from 1. If it is greater than 1, an earlier run began and did not
// commit: what it did outside is unknown. Of the runs that [FlowStage.Retry] makes, those of one lease count as one to the leases
// after it.
func (st *Stage) Attempt() int { return st.attempt }

// State decodes the state that an earlier stage left into v: into a *[]byte the bytes as they were stored, into anything
// else as JSON. It returns [ErrNoState] when there is none.
func (st *Stage) State(v any) error {
	if !st.key.hasState {
		return ErrNoState
	}
	if b, ok := v.(*[]byte); ok {
		*b = append([]byte(nil), st.key.state...)
		return nil
	}
	if err := json.Unmarshal(st.key.state, v); err != nil {
		return fmt.Errorf("%w: state left by an earlier stage: %w", ErrOtherType, err)
	}
	return nil
}

// Compensates returns the commit that a compensation is to undo. Outside of [FlowStage.Compensate] it is the zero value.
func (st *Stage) Compensates() JournalEntry {
	if st.undoes == nil {
		return JournalEntry{}
	}
	return *st.undoes
}

// ShardKey returns the name of a Redis key of the program's own for use in an [Effect]. It is in the key's shard, one of 1024,
// which live in one cluster slot each: keys of the same name in different shards are different Redis keys.
func (st *Stage) ShardKey(name string) string { return st.lease.id.ShardKey(name) }

// OutboundKey returns an idempotency key for a call to another service: the same for every run of
// this visit to the stage, on any machine, and another one when the stage is visited again. Calls
// to different operations from one stage need different names; an empty one is a name, too. It has
// the form of a UUID.
//
// What a key that is used again gets depends on how its record came to an end:
//
//   - Redis lost it, or its retention is over: the same outbound keys. The work may have been done, and the other service
//     recognises the repetition.
//   - [Scope.Delete] removed it: new ones, for Config.Retention from then on and as long as the records made within
//     that time exist. What an earlier record has called for, and may have called off, is not replayed. When Redis loses
//     the tombstone that the delete has left, or a record made in its place, they are those of the first record again.
//
// A record that is made anew also has others when the first of Config.FingerprintKeys is another
// one by then.
func (st *Stage) OutboundKey(name string) string {
	return st.outboundKey(st.key.RecoveryPoint, st.key.Revision, name)
}

// CommittedKey returns the key that OutboundKey gave to the run behind a journal entry: for a compensation, to call off what
// that run has called for.
func (st *Stage) CommittedKey(e JournalEntry, name string) string {
	return st.outboundKey(e.Stage, e.Revision, name)
}

func (st *Stage) outboundKey(point string, revision int64, name string) string {
	id := st.lease.id
	b := append([]byte(nil), "redisidem/outbound/1"...)
	b = protocol.AppendPart(b, id.Record)
	b = protocol.AppendPart(b, st.key.fingerprint)
	b = protocol.AppendPart(b, point)
	b = binary.BigEndian.AppendUint64(b, uint64(revision)) //nolint:gosec // it is counted from 0
	b = protocol.AppendPart(b, name)
	if st.key.generation > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(st.key.generation)) //nolint:gosec // it is counted from 0
	}
	sum := sha256.Sum256(b)
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8: a form of one's own (RFC 9562, section 5.8)
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// stage returns the view of the stage that the lease stands at.
func (l *Lease) stage() *Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Stage{lease: l, key: l.key, attempt: l.attempt}
}

// WorkStage takes the lease on a key as the caller sees it, runs the callback, and commits what it returns. Two round
// trips.
//
// If the record has advanced, was made again or is finished, the callback does not run and the
// current key is returned: a loop over recovery points just continues. The key returned is never
// nil; next to an error it is the key as last read.
//
// The callback's own error is returned as it is, joined with the cause if the lease was lost.
// Otherwise the error matches [ErrLocked] when another worker has the lease (for longer than
// [Scope.Wait]); [ErrNotFound]; [ErrFingerprintMismatch] when the value now stands for another
// request; [ErrFenced] when another worker claimed the key during the callback; [ErrLeaseLost] when
// the lease was gone before the callback could start; [ErrOutcomeUnknown]; [ErrNoProgress];
// [ErrNotKept] for an outcome that cannot be stored, now and whenever the key is used again;
// [ErrNested]; [ErrNotDurable], after the callback only when the result is stored; [ErrDamaged];
// [ErrUnavailable].
func (sc *Scope) WorkStage(ctx context.Context, key *Key, work StageFunc) (*Key, error) {
	if key == nil {
		return &Key{}, invalid("key", "must not be nil")
	}
	if work == nil {
		return key, invalid("work", "must not be nil")
	}
	id, err := sc.own(key)
	if err != nil {
		return key, err
	}
	if !key.unchanged() || key.id.Record != id.Record {
		// Not as a call of this library's made it, so it may be other than the record is.
		fresh, err := sc.service.retrieve(ctx, id)
		if err != nil {
			return key, err
		}
		switch {
		case key.fingerprint != "" && key.fingerprint != fresh.fingerprint:
			return key, ErrFingerprintMismatch
		case !fresh.isStill(key):
			return fresh, nil
		}
		key = fresh
	}
	if key.Finished() {
		return key.result()
	}
	return sc.work(ctx, key, claim{id: id, seen: key}, work)
}

// Do is InitializeRequest and WorkStage in one: it takes the lease on the key that a request brought, makes it if there is
// none, runs the callback from whatever recovery point the key is at, and commits. Two round trips the first time, one for
// a replay.
//
// The key returned is never nil. The errors are those of [Scope.InitializeRequest] and [Scope.WorkStage]; unlike the
// former it refuses an empty value.
func (sc *Scope) Do(ctx context.Context, value string, req Request, work StageFunc) (*Key, error) {
	if work == nil {
		return &Key{}, invalid("work", "must not be nil")
	}
	key, id, encoded, err := sc.cached(ctx, value, req)
	switch {
	case err != nil:
		return &Key{}, err
	case key != nil:
		return key.result()
	}
	return sc.do(ctx, id, encoded, work)
}

// do is apart from Do so that a replay from a copy does not pay for what only a claim needs.
func (sc *Scope) do(ctx context.Context, id identity, encoded encodedRequest, work StageFunc) (*Key, error) {
	key, err := sc.work(ctx, nil, claim{id: id, request: &encoded}, work)
	return orNamed(id, key), err
}

// orNamed returns the key, or when it is nil one of which only the name is known.
func orNamed(id identity, key *Key) *Key {
	if key == nil {
		return &Key{Value: id.Value, Scope: id.Scope, id: id}
	}
	return key
}

// work claims, runs the callback under the lease and commits. seen is the key to return when there is no better one.
func (sc *Scope) work(ctx context.Context, seen *Key, c claim, work StageFunc) (*Key, error) {
	lease, fresh, err := sc.claim(ctx, c)
	switch {
	case err != nil:
		if fresh != nil {
			seen = fresh
		}
		return seen, err
	case lease == nil:
		return fresh.result()
	}
	key, _, err := lease.run(ctx, work, false)
	return key, err
}

// run runs a callback under the lease, and commits what it returns. With keep, the lease is kept for the next stage if the
// outcome has one, which run reports. It ends however else the callback ends.
func (l *Lease) run(ctx context.Context, work StageFunc, keep bool) (*Key, bool, error) {
	returned := false
	defer func() {
		// A panic or runtime.Goexit is not held up: it goes on with its own value and stack.
		if !returned {
			_ = l.giveUp(ctx, nil)
		}
	}()
	st := l.stage()
	if err := l.unfit(); err != nil {
		returned = true
		_ = l.putBack(ctx, err)
		return st.key, false, err
	}
	outcome, err := work(l.ctx, st)
	key, held, err := l.conclude(ctx, st, outcome, err, keep)
	returned = true
	return key, held, err
}

// unfit returns why no callback may begin under the lease: its time is over, as when the process
// was frozen since it claimed, or its caller has left. What undoes a flow begins nevertheless: no
// client may leave it undone.
func (l *Lease) unfit() error {
	l.checkClock()
	switch {
	case l.isLost():
		return ErrLeaseLost
	case l.ctx.Err() == nil, l.undoing(l.Key()):
		return nil
	case l.wasKept():
		return ended(l.ctx) // it is not ErrUnavailable, which says that no callback has run
	}
	return unavailable(l.ctx, "claim", l.ctx.Err())
}

// conclude commits what a callback returned, or gives the lease back. What it calls can panic, too: how the outcome's values are
// marshalled is up to them.
func (l *Lease) conclude(ctx context.Context, st *Stage, outcome Outcome, err error, keep bool) (*Key, bool, error) {
	switch {
	case err == nil && outcome.idle && outcome.extra() != "":
		err = outcome.checkExtra()
	case err == nil && outcome.idle:
		return st.key, false, l.putBackIdle(ctx)
	case err == nil:
		key, held, commitErr := l.commit(ctx, outcome, keep, true)
		if held && commitErr == nil || !l.holds() {
			return key, held, commitErr
		}
		err = commitErr // an outcome that cannot be stored
	}
	l.checkClock()
	if cause := l.whyEnded(); errors.Is(cause, ErrLeaseLost) && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	_ = l.giveUp(ctx, err) // the callback's error matters more; the lease lapses by itself
	return l.Key(), false, err
}
