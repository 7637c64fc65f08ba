package redisidem

import (
	"context"
	"errors"
)

// WorkFlow takes the lease on a key and runs a flow from the key's recovery point until there is an
// answer. It commits each stage and keeps the lease, and gives the lease back with the last commit.
// It takes one round trip more than there are stages.
//
// The key may be a view of any age: only its name and its fingerprint count, and the flow continues
// at the record's recovery point. A finished key is returned as it is. The returned key is never
// nil; with an error it is the key as last read. After [NothingDone] it is the key as the stage
// found it, and is not Answered.
//
// A stage's own error is returned in a [*StageError] when its retries are used up. The key then
// stays at that stage. WorkFlow also returns the errors of [Scope.WorkStage], and these:
//
//   - [*FlowError] for a key of another flow or version. The record is left as it is.
//   - [ErrUnknownRecoveryPoint] for a key at a point that the flow does not have; a newer program
//     may have it. The record is left as it is.
//   - The context's error if it ends between two stages. The next stage does not begin.
//   - [ErrCanceled] or [ErrFenced] if the key was canceled during the call. The next call gets the
//     answer of the canceled flow.
//   - [ErrOutcomeUnknown], [*CompensationError] and [*EffectError].
//   - [*PausedError] if an operator has paused the flow for clients, and it is Pausable.
//   - [ErrNoProgress] if a stage is entered more often than its MaxVisits.
func (sc *Scope) WorkFlow(ctx context.Context, key *Key, flow *Flow) (*Key, error) {
	if key == nil {
		return &Key{}, invalid("key", "must not be nil")
	}
	if flow == nil {
		return key, invalid("flow", "must not be nil")
	}
	id, err := sc.identityOf(key)
	if err != nil {
		return key, err
	}
	if key.Finished() && key.unchanged() {
		return key.result()
	}
	return sc.runFlow(ctx, key, claim{id: id, onlyFingerprint: key.fingerprint, flow: flow})
}

// DoFlow is [Scope.InitializeRequest] and [Scope.WorkFlow] in one: it creates the key of a request
// if it does not exist, and runs the flow. It takes one round trip more than there are stages, and
// one for a replay.
//
// The returned key is never nil. The errors are those of these two methods. Unlike
// InitializeRequest, DoFlow refuses an empty value.
func (sc *Scope) DoFlow(ctx context.Context, value string, req Request, flow *Flow) (*Key, error) {
	if flow == nil {
		return &Key{}, invalid("flow", "must not be nil")
	}
	key, id, encoded, err := sc.cached(ctx, value, req)
	switch {
	case err != nil:
		return &Key{}, err
	case key != nil:
		return key.result()
	}
	key, err = sc.runFlow(ctx, nil, claim{id: id, request: &encoded, flow: flow})
	return orOnlyNamed(id, key), err
}

// runFlow claims the key and runs the flow, in the version that the key belongs to. Without a
// fresher key it returns seen.
func (sc *Scope) runFlow(ctx context.Context, seen *Key, c claim) (*Key, error) {
	newest := c.flow
	var lease *Lease
	var fresh *Key
	var err error
	// A key goes to later versions only, so each of them is claimed for at most once.
	for range len(newest.earlier) + 2 {
		if why := sc.service.pausedForClients(ctx, c.flow); why != nil {
			key, runs, err := sc.answerPaused(ctx, seen, c, newest, why)
			if runs == nil {
				return key, err
			}
			c.flow = runs
		}
		lease, fresh, err = sc.claim(ctx, c)
		if c.flow = newest.versionOf(err); c.flow == nil {
			break
		}
	}
	switch {
	case err != nil:
		if fresh != nil {
			seen = fresh
		}
		return seen, err
	case lease == nil:
		return fresh.result()
	}
	return lease.runFlow(ctx, newest, func(f *Flow) bool { return sc.service.pausedForClients(ctx, f) != nil })
}

// runFlow runs the lease's flow until the lease ends. The key of an earlier version is adopted if
// newest, or an earlier version of it, adopts it and is not paused.
func (l *Lease) runFlow(ctx context.Context, newest *Flow, paused func(*Flow) bool) (*Key, error) {
	visits := make(map[string]int)
	last := ""
	for {
		key, held, err := l.runStage(ctx, func(ctx context.Context, st *Stage) (Outcome, error) {
			if o, ok, err := l.adopt(ctx, st, newest, paused); ok || err != nil {
				return o, err
			}
			point := st.key.RecoveryPoint
			if point != last { // a stage that names itself is still the same visit
				visits[point]++
			}
			last = point
			if l.undoing(st.key) {
				ctx, stop := l.withoutCaller(ctx)
				defer stop(ErrLeaseEnded)
				return l.flow.runAt(ctx, st, visits[point])
			}
			return l.flow.runAt(ctx, st, visits[point])
		}, true)
		switch {
		case err != nil || key.Answered():
			return key, err
		case !held && l.wasIdle():
			return key, nil
		case !held:
			// The commit is stored, but the lease had lapsed, and another worker may have the key.
			if cause := l.whyEnded(); errors.Is(cause, ErrLeaseLost) {
				return key, cause
			}
			return key, ErrLeaseLost
		}
	}
}
