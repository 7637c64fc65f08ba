package redisidem

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Lease is the right to work on a key. It is renewed until it ends by Commit or Abandon, which the owner must call, or
// is lost. Its methods are safe for concurrent use.
//
// [Scope.WorkStage] and [Do] hold one around a callback; take one with [Scope.Lock] only where a callback does not fit.
type Lease struct {
	scope *Scope
	id    identity
	token string
	fence int64
	began time.Time // when the claim was sent
	outer *Lease    // the lease whose stage this one was claimed in
	flow  *Flow     // what works on the key, if it is known
	swept bool      // a completer has claimed it

	byHand bool // it is its program's to end, not a callback's

	ctx    context.Context
	cancel context.CancelCauseFunc

	committing sync.Mutex // one commit at a time: the next one extends what this one made

	mu      sync.Mutex
	key     *Key
	attempt int       // of this stage
	since   time.Time // when this stage began
	ended   bool
	retried bool                    // this stage ran more than once under this lease
	kept    bool                    // a stage was committed under it
	detach  context.CancelCauseFunc // ends the context of a compensation; nil while there is none
	idle    bool                    // it ended since there was nothing to do
	lost    error                   // why the context was cancelled
	sent    time.Time               // when the last claim, renewal or kept commit that succeeded was sent
	keeper  keeper
}

// leaseContext is the context key under which a stage's context carries its lease.
type leaseContext struct{}

// Lock takes the lease on the key of that value, for callers who have only its text. One round trip, and another one
// for Commit or Abandon. The lease's context descends from ctx.
//
// It returns [ErrNotFound] when there is no record, [ErrFinished] when the work is done, [ErrLocked] when another worker
// has the lease, [ErrNested] inside a stage of the same key, [ErrInvalid], [ErrDamaged], [ErrNotDurable] and
// [ErrUnavailable].
func (sc *Scope) Lock(ctx context.Context, value string) (*Lease, error) {
	id, err := sc.identify(value)
	if err != nil {
		return nil, err
	}
	lease, key, err := sc.claim(ctx, claim{id: id, byHand: true})
	if err == nil && key != nil {
		err = ErrFinished
	}
	return lease, err
}

// newLease makes the lease that a claim's OWN reply gives.
func (sc *Scope) newLease(ctx context.Context, c claim, token string, sent time.Time, outer *Lease, r reply) (*Lease, error) {
	fence, err := parseCount("fence", r.number(0))
	attempts, err1 := parseCount("attempts", r.number(1))
	attempt, err2 := parseCount("attempts of this revision", r.number(2))
	locked, err3 := parseTime(fieldLockedAt, r.number(3))
	if err := errors.Join(err, err1, err2, err3); err != nil {
		return nil, err
	}
	var key *Key
	if c.completing {
		if c.id, err = adopt(c.id, r.rest, sc.service.cfg.Namespace); err != nil {
			return nil, err
		}
		sc = sc.service.Scope(c.id.scope)
	}
	switch {
	case len(r.rest) > 0:
		key, err = decodeRecord(c.id, sc.service.vault, r.rest)
	case c.seen != nil:
		seen := *c.seen
		key = &seen
		if flow := r.number(4); flow != "" && flow != "-" {
			key.Flow = flow
		}
		if r.number(5) == "1" && key.DeadLetter == nil {
			key.DeadLetter = &DeadLetter{}
		}
	default:
		key, err = newKey(c.id, *c.request, r.number(3), r.number(4))
	}
	if err != nil {
		return nil, err
	}
	key.id, key.Attempts, key.LockedAt, key.interim, key.own = c.id, int(attempts), locked, false, false
	if c.flow != nil && !c.unable {
		key.Flow = c.flow.id
	}

	l := &Lease{
		scope: sc, id: c.id, token: token, fence: fence, attempt: int(attempt), outer: outer, flow: c.flow, key: key,
		swept: c.completing, byHand: c.byHand, began: sent, since: sent, sent: sent,
	}
	l.ctx, l.cancel = context.WithCancelCause(context.WithValue(ctx, leaseContext{}, l))
	sc.service.life.hold(l)
	l.startKeeper()
	return l, nil
}

// Key returns the key as it stands under this lease.
func (l *Lease) Key() *Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key
}

// Fence returns the lease's number. Later leases of the same key have larger ones, while the record survives and, if
// the servers' clocks are sane, beyond: hand it to systems that can refuse older numbers.
func (l *Lease) Fence() int64 { return l.fence }

// Context returns a context for the work: it descends from the one the lease was taken with, and is cancelled when the
// lease ends or is lost. [context.Cause] then tells why: an error that matches [ErrLeaseLost] when another worker may
// start.
func (l *Lease) Context() context.Context { return l.ctx }

// Renew gives the lease its full length again, which also happens by itself at every third of it. It returns
// the cause when the lease is lost, which matches [ErrLeaseLost], [ErrLeaseEnded], and [ErrUnavailable] when nobody knows; the lease is then
// still good for what was left of it.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	ended, lost := l.ended, l.lost
	l.mu.Unlock()
	switch {
	case ended:
		return ErrLeaseEnded
	case lost != nil:
		return lost // its work was called off: it must not keep the key from others
	}
	err := l.renew(context.WithoutCancel(ctx))
	if errors.Is(err, ErrLeaseLost) {
		l.lose(ErrLeaseLost)
	}
	if err == nil && l.isLost() { // meanwhile
		err = ErrLeaseLost
	}
	return explain(ctx, "renew", err)
}

// Commit applies an outcome and ends the lease. It returns the key as it stands then. The caller's cancellation does
// not stop it: what was done is to be stored.
//
// Besides the errors of [Scope.WorkStage] it returns [ErrLeaseEnded]. An outcome that is refused (ErrInvalid,
// ErrNoProgress, ErrUndecided) leaves the lease as it is: another one can be committed.
func (l *Lease) Commit(ctx context.Context, o Outcome) (*Key, error) {
	key, _, err := l.commit(ctx, o, false, false)
	return key, err
}

// CommitKeep applies an outcome and keeps the lease for the next stage. It reports whether the lease is still held: the
// result is stored even when it lapsed before, but then another worker may have the key already, and the lease has
// ended. The outcomes that end the work, Finish and Interim, end the lease as Commit does.
func (l *Lease) CommitKeep(ctx context.Context, o Outcome) (key *Key, held bool, err error) {
	return l.commit(ctx, o, true, false)
}

// commit commits an outcome. With worked, a callback has returned it, whose work is done and must
// not run again: an outcome that cannot be stored then ends the key as executed without its result.
func (l *Lease) commit(ctx context.Context, o Outcome, keep, worked bool) (*Key, bool, error) {
	l.committing.Lock()
	defer l.committing.Unlock()
	s := l.scope.service
	key := l.Key()
	e, err := l.encode(o, key)
	worked = worked && !strings.HasPrefix(key.RecoveryPoint, compensating) // which is to run until it succeeds
	if worked && isUnstorable(err) {
		e, err = l.encode(o.withoutResult(err), key)
	}
	if err != nil {
		return key, l.holds(), err
	}
	e.worked = worked
	l.checkClock()
	keep = keep && e.point != Finished && !e.interim && !l.isLost()
	if !keep && !l.end() || keep && !l.holds() {
		return key, false, ErrLeaseEnded
	}
	if !keep {
		defer l.leave()
	}

	sent := time.Now()
	c := l.commitCall(key, e, keep)
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.run(bounded, c)
	if err != nil && !errors.Is(err, ErrDamaged) {
		if keep && l.end() {
			defer l.leave()
		}
		return key, false, l.commitLater(ctx, c, e, err)
	}
	if err == nil && r.status == statusEffect && worked {
		if e, err = l.encode(o.withoutResult(effectError(e.effects, r)), key); err != nil {
			return key, l.holds(), err
		}
		if keep && e.point == Finished {
			if !l.end() {
				return key, false, ErrLeaseEnded
			}
			defer l.leave()
			keep = false
		}
		c = l.commitCall(key, e, keep)
		again, stop := s.detached(ctx)
		defer stop()
		if r, err = s.run(again, c); err != nil && !errors.Is(err, ErrDamaged) {
			if keep && l.end() {
				defer l.leave()
			}
			return key, false, l.commitLater(ctx, c, e, err)
		}
	}
	next, held, err := l.committed(ctx, key, e, keep, sent, r, err)
	switch {
	case held && l.isLost():
		// Lost by the clock while the commit was on its way, which held on to it: nobody works under it any more.
		held = false
		_ = l.putBack(ctx, ErrLeaseLost)
	case keep && !held && l.end():
		l.leave()
	}
	return next, held, err
}

// encode makes an outcome ready to be committed to the key.
func (l *Lease) encode(o Outcome, key *Key) (encodedOutcome, error) {
	if l.flow == nil {
		var err error
		if o, err = o.byHand(key); err != nil {
			return encodedOutcome{}, err
		}
	}
	s := l.scope.service
	e, err := o.encode(l.id, key.RecoveryPoint, s.cfg.MaxValueBytes)
	if err != nil {
		return e, err
	}
	e.undoable = l.flow.undoes(key.RecoveryPoint)
	err = e.keep(s.vault, l.id, key)
	return e, err
}

// isUnstorable reports whether an outcome is refused since it cannot be stored, and not since it is
// no way on from where the key is.
func isUnstorable(err error) bool {
	return err != nil && !errors.Is(err, ErrNoProgress) && !errors.Is(err, ErrUndecided) && !errors.Is(err, ErrOtherFlow)
}

// commitFlags is the number of the flags among the arguments of a commit.
const commitFlags = 6

func (l *Lease) commitCall(key *Key, e encodedOutcome, keep bool) call {
	s := l.scope.service
	flags := s.flags
	if keep {
		flags += flagKeep
	}
	switch l.journal(key, e) {
	case longJournal:
		flags += flagJournal
	case wholeJournal:
		flags += flagUndoing
	}
	keys := l.keys()
	if dead := key.DeadLetter != nil; dead || l.flow == nil && key.Flow != "" {
		keys = append(keys[:2], l.id.indexes(key.Flow)...)
		if dead {
			flags += flagRevived
		} else {
			keys = keys[:3]
		}
		if !l.flow.recoverable() {
			flags += flagByHand
		}
	}
	for _, effect := range e.effects {
		if effect.kind != "" {
			keys = append(keys, effect.key)
		}
	}
	c := newCall(lua.Commit, l.token, 11+outcomeWords, keys...)
	c.durable = true
	c.add(l.fence, key.Revision, l.attempt, key.Attempts, flags, s.lease, s.lifetime, key.RecoveryPoint, s.owner, l.due(key, e))
	words := len(c.words)
	c.add(nil)
	c.addOutcome(&e, key)
	c.words[words] = len(c.words) - words - 1
	c.addEffects(e.effects)
	return c
}

// keys returns the Redis keys that the calls of this lease take.
func (l *Lease) keys() []string { return l.id.keys(l.indexed()) }

// indexed is the lease's flow if the key is to stay in the flow's due index. A dead letter is not in it until a commit carries it on.
func (l *Lease) indexed() *Flow {
	if l.Key().DeadLetter != nil {
		return nil
	}
	return l.flow
}

// journal tells how many entries the key's journal has after a commit of the outcome. A flow that is not known here may compensate.
func (l *Lease) journal(key *Key, e encodedOutcome) int64 {
	switch {
	case l.flow == nil && key.Flow == "", l.flow != nil && !l.flow.compensates:
		return shortJournal
	case strings.HasPrefix(key.RecoveryPoint, compensating), strings.HasPrefix(e.point, compensating):
		return wholeJournal
	}
	return longJournal
}

// withoutKeep returns a commit's flags without the one that keeps the lease.
func (c *call) withoutKeep() string {
	flags, _ := c.words[c.arg(commitFlags)].(string)
	return strings.ReplaceAll(flags, flagKeep, "")
}

// due tells when a completer may look at the key after a commit of the outcome, as the commit script takes it.
func (l *Lease) due(key *Key, e encodedOutcome) any {
	cfg := &l.scope.service.cfg
	switch recoverable := l.flow.recoverable(); {
	case !recoverable && key.DeadLetter == nil && (l.flow != nil || key.Flow == ""):
		return ""
	case e.point == Finished:
		return "-"
	case !recoverable:
		return cfg.Lease.Milliseconds() // RecoverAfter is not known here
	case e.interim:
		return l.flow.cfg.InterimFor.Milliseconds()
	}
	return cfg.Lease.Milliseconds() + l.flow.recoverAfter(cfg.Retention)
}

// committed deals with the answer to a commit.
func (l *Lease) committed(ctx context.Context, key *Key, e encodedOutcome, keep bool, sent time.Time, r reply, err error) (
	*Key, bool, error,
) {
	s := l.scope.service
	if err != nil {
		return key, false, err
	}
	switch r.status {
	case statusOK:
	case statusFenced:
		if s.settled(r) != nil {
			return key, false, l.lostTrack(ctx)
		}
		l.lose(ErrFenced)
		return key, false, ErrFenced
	case statusGone, statusForgotten:
		return key, false, l.lostTrack(ctx)
	case statusEffect:
		s.release(ctx, l.id, l.token, "", 0)
		return key, false, effectError(e.effects, r)
	default:
		return key, false, r.unexpected(lua.Commit)
	}
	at, err := parseTime("time of the commit", r.number(1))
	if err != nil {
		return key, false, err
	}
	next := e.apply(key, JournalEntry{Fence: l.fence, Attempt: l.attempt, Owner: s.cfg.Owner, At: at}, l.journal(key, e))
	held := keep && r.number(0) == "1"

	done := l.event(Committed)
	l.mu.Lock()
	done.Duration = time.Since(l.since)
	done.RecoveryPoint, done.Revision = next.RecoveryPoint, next.Revision
	if e.notKept != nil {
		done.Err = e.notKept
	}
	if held {
		next.LockedAt = key.LockedAt
		l.attempt, l.retried, l.kept, l.since, l.sent = 1, false, true, time.Now(), sent
	}
	l.key = next
	l.mu.Unlock()

	s.observe(ctx, done)
	if keep && !held {
		l.lose(ErrLeaseLost)
	}
	notKept := next.NotKept()
	if notKept != nil && e.notKept != nil {
		notKept = e.notKept // with the reason
	}
	if err := s.settled(r); err != nil {
		return next, held, errors.Join(err, notKept)
	}
	if s.cache != nil && next.Finished() {
		s.listener.listen()
		s.cache.put(l.id.name, next, sent, s.cfg.Retention)
	}
	return next, held, notKept
}

// lostTrack tells that nobody will ever know whether a commit was stored: a try without an answer may have stored it in a
// record that is not there any more, or before all that the journal remembers; or too few replicas know of what refuses it, so that
// a late repetition could still be stored after a failover.
func (l *Lease) lostTrack(ctx context.Context) error {
	e := l.event(Unknown)
	e.Err = ErrCommitUnknown
	l.scope.service.observe(ctx, e)
	return ErrCommitUnknown
}

// Abandon gives the lease back without a result: the recovery point stays, the attempt counts. The caller's
// cancellation does not stop it. It returns [ErrLeaseEnded], or [ErrUnavailable] when Redis did not answer: the key then
// becomes free when the lease lapses.
func (l *Lease) Abandon(ctx context.Context) error { return l.giveUp(ctx, nil) }

// giveUp is Abandon with the reason. Work that a shutdown has cut short has not failed.
func (l *Lease) giveUp(ctx context.Context, reason error) error {
	flags := ""
	if errors.Is(context.Cause(l.ctx), errStopped) || errors.Is(l.whyEnded(), ErrClosed) {
		flags = flagSpared
	}
	_, err := l.abandon(ctx, reason, flags, "")
	return err
}

// putBack is giveUp for a lease under which the stage that is next has not begun. It does not
// count.
func (l *Lease) putBack(ctx context.Context, reason error) error {
	flags := flagIdle
	if !l.wasKept() {
		flags += flagUnbegun
	}
	_, err := l.abandon(ctx, reason, flags, "")
	return err
}

// wasKept reports whether a stage was committed under the lease.
func (l *Lease) wasKept() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// putBackIdle is Abandon for an attempt that did nothing. It counts nevertheless when an earlier
// run under this lease has failed: what that one did is unknown.
func (l *Lease) putBackIdle(ctx context.Context) error {
	l.mu.Lock()
	l.idle = true
	flags := flagIdle
	if l.retried {
		flags = ""
	}
	l.mu.Unlock()
	_, err := l.abandon(ctx, nil, flags, "")
	return err
}

// runAgain counts another run of the stage, and returns its number.
func (l *Lease) runAgain() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt++
	l.retried = true
	return l.attempt
}

// wasIdle reports whether the lease was put back.
func (l *Lease) wasIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle
}

// bury is putBack for a key that a completer gives up. It reports whether the lease was still there
// to be given up.
func (l *Lease) bury(ctx context.Context, flags, letter string) (bool, error) {
	return l.abandon(ctx, errors.New(letter), flagIdle+flagUnbegun+flags, letter)
}

func (l *Lease) abandon(ctx context.Context, reason error, flags, letter string) (buried bool, err error) {
	if !l.end() {
		return false, ErrLeaseEnded
	}
	defer l.leave()
	s := l.scope.service
	tell := func(kind EventKind) {
		e := l.event(kind)
		e.Duration, e.Err = time.Since(l.began), reason
		s.observe(ctx, e)
	}
	flow := l.indexed()
	if letter != "" {
		flow = l.flow
	}
	c := s.abandonCall(l.id, l.token, flow, flags, letter)
	var r reply
	if flags == "" {
		bounded, cancel := s.detached(ctx)
		defer cancel()
		r, err = s.run(bounded, c)
	} else {
		r, err = s.giveBack(ctx, l.id, c, 0, func(r reply) {
			if r.buried() {
				tell(Buried)
			}
		})
	}
	if buried = err == nil && r.buried(); buried {
		tell(Buried)
	} else {
		tell(Abandoned)
	}
	return buried, explain(context.WithoutCancel(ctx), "abandon", err)
}

// buried reports whether the answer to an abandon says that the key was given up.
func (r reply) buried() bool { return r.number(0) == "1" }

// abandonCall makes the invocation of the abandon script, for a key of a flow if that is known. A
// letter gives the key up, if the attempt still has the lease.
func (s *Service) abandonCall(id identity, token string, flow *Flow, flags, letter string) call {
	keys := id.keys(flow)
	if letter != "" {
		keys = append(keys, id.deadLetters(flow.cfg.Name))
	}
	c := newCall(lua.Abandon, token, 4, keys...)
	c.add(flags)
	if flow.recoverable() {
		c.add(flow.recoverAfter(s.cfg.Retention))
	}
	if letter != "" {
		c.add(letter, (s.cfg.Retention + s.cfg.Lease).Milliseconds())
	}
	return c
}

// holds reports whether the lease has not ended.
func (l *Lease) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended
}

// whyEnded returns why the lease's context has ended: the loss of the lease comes first, since a
// caller's leaving does not end a compensation. Nil while it has not.
func (l *Lease) whyEnded() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	return context.Cause(l.ctx)
}

// isLost reports whether the lease's context was cancelled because the lease is gone.
func (l *Lease) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost != nil
}

// end marks the lease as ended. Only the first caller gets true, and must call leave when the ending is done.
func (l *Lease) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.ended = true
	l.keeper.stop()
	return true
}

// undoing reports whether the lease runs a compensation that its caller's cancellation must not
// stop: a client that has left must not leave it undone. Under a completer's lease it may be called
// off, since a completer comes back to it. A callback that is not the flow's undoes nothing.
func (l *Lease) undoing(key *Key) bool {
	return !l.swept && l.flow != nil && strings.HasPrefix(key.RecoveryPoint, compensating)
}

// detached returns a context for a compensation, which the lease's loss ends and its caller's
// cancellation does not. Stop ends it.
func (l *Lease) detached(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.detach = stop
	if l.lost != nil {
		stop(l.lost)
	}
	return ctx, stop
}

func (l *Lease) leave() {
	l.cancel(ErrLeaseEnded)
	s := l.scope.service
	s.rooms.freed(l.id.record) // those who wait in this process need not wait for the news from Redis
	s.life.release(l)
}

// event returns an event about this lease.
func (l *Lease) event(kind EventKind) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Event{
		Kind: kind, Key: l.id.digest, RecoveryPoint: l.key.RecoveryPoint, Revision: l.key.Revision, Fence: l.fence,
		Attempt: l.attempt,
	}
}
