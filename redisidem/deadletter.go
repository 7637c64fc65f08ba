package redisidem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// DeadLetter records when and why a [Completer] gave a key up. The key stays a dead letter until a
// stage is committed, by its client or by hand, or until [Scope.Requeue], [Scope.Cancel] or
// [Scope.Delete]. [Scope.Update] corrects a dead letter without ending it, unless the update
// finishes the key.
type DeadLetter struct {
	// At is the server's time when the key was given up.
	At time.Time
	// Reason says why the key was given up, for instance after how many attempts at which stage.
	// The stage's own error is in [Key.LastFailure].
	Reason string
}

// decodeDeadLetter reads "time revision attempts reason", the form in which the abandon script
// writes it.
func decodeDeadLetter(s string) (*DeadLetter, error) {
	parts := strings.SplitN(s, " ", 4)
	if len(parts) != 4 {
		return nil, damaged("%s has %d parts", fieldDeadLetter, len(parts))
	}
	at, err := parseTime(fieldDeadLetter, parts[0])
	_, err1 := parseCount(fieldDeadLetter, parts[1]) // only the script uses the revision
	return &DeadLetter{At: at, Reason: parts[3]}, errors.Join(err, err1)
}

// requeue holds how many attempts at a revision do not count for MaxAttempts. These are the
// attempts before the key was last requeued or canceled, and the attempts that a shutdown stopped.
// The field at is when the key was requeued, in 1970 if it never was.
type requeue struct {
	revision, attempts int64
	at                 time.Time
}

// decodeRequeue reads "revision attempts time", the form in which scripts write it.
func decodeRequeue(s string) (requeue, error) {
	parts := strings.Split(s, " ")
	if len(parts) != 3 {
		return requeue{}, damaged("%s has %d parts", fieldRequeued, len(parts))
	}
	n, err := parseCount(fieldRequeued, parts[0])
	m, err1 := parseCount(fieldRequeued, parts[1])
	at, err2 := parseTime(fieldRequeued, parts[2])
	return requeue{n, m, at}, errors.Join(err, err1, err2)
}

// refusals counts how often completers found at a revision that they have no program for the key.
type refusals struct{ revision, looks int64 }

// decodeRefusals reads "revision looks", the form in which the abandon script writes it.
func decodeRefusals(s string) (refusals, error) {
	revision, looks, _ := strings.Cut(s, " ")
	n, err := parseCount(fieldRefused, revision)
	m, err1 := parseCount(fieldRefused, looks)
	return refusals{n, m}, errors.Join(err, err1)
}

// DeadLetters yields the dead letters of a flow, given by its name without a version, in no
// particular order. Each key's DeadLetter field has the reason. It takes one round trip for each of
// the 1024 shards, a further one for about each 1000 dead letters of a shard, and one for each key.
//
// A key whose record cannot be read comes with [ErrDamaged] and has only its ID. A list that cannot
// be read comes with [ErrDamaged] and an empty key. The iteration continues after both. Any other
// error comes with a nil key and ends the iteration: [ErrInvalid], [ErrUnavailable] and
// [ErrClosed].
func (s *Service) DeadLetters(ctx context.Context, flow string) iter.Seq2[*Key, error] {
	return func(yield func(*Key, error) bool) {
		if !flowName.MatchString(flow) {
			yield(nil, invalid("flow", "must be the name of a flow: %q", flow))
			return
		}
		for shard := range protocol.Shards {
			prefix := protocol.ShardPrefix(s.cfg.Namespace, shard)
			members, err := s.members(ctx, protocol.DeadLetters(prefix, flow))
			switch {
			case errors.Is(err, ErrDamaged):
				if !yield(&Key{}, err) {
					return
				}
			case err != nil:
				yield(nil, err)
				return
			}
			for _, member := range members {
				key, err := s.retrievePlaced(ctx, prefix, member)
				switch {
				case errors.Is(err, ErrNotFound), err == nil && key.DeadLetter == nil:
					continue // the record has expired, or the key is not a dead letter any more
				case errors.Is(err, ErrDamaged):
					key = &Key{id: identity{Digest: member}}
				}
				if !yield(key, err) || key == nil {
					return
				}
			}
		}
	}
}

// members reads a list of dead letters.
func (s *Service) members(ctx context.Context, key string) ([]string, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	members, err := s.redis.Members(bounded, key)
	return members, explain(ctx, "dead letters", err)
}

// Requeue takes a key out of the dead letters. The key is due at once, for up to MaxAttempts
// further attempts of a [Completer]. The key is one that [Service.DeadLetters] yielded or that was
// retrieved. A key that is neither a dead letter nor in the due index becomes due, too. It takes
// one round trip, and another one to wake completers that rest.
//
// It returns [ErrNotFound] if the record does not exist, or if it is not a dead letter and a
// completer will continue it anyway. It returns [ErrStale] if the record belongs to another flow
// than key.Flow, and [ErrFinished] if the key is finished. It returns [ErrLocked] while a worker
// has the lease. It also returns [ErrInvalid], [ErrDamaged], [ErrUnavailable] and [ErrClosed].
func (sc *Scope) Requeue(ctx context.Context, key *Key) error {
	id, err := sc.identityOf(key)
	if err != nil {
		return err
	}
	flow := protocol.FlowName(key.Flow)
	if flow == "" {
		return invalid("key", "belongs to no flow")
	}
	return sc.service.requeue(ctx, id, flow, "", nil)
}

// requeue takes a key of the flow with that name out of the dead letters, if it has that fence. The
// fence "" stands for any. The audit is nil for a program's own call.
func (s *Service) requeue(ctx context.Context, id identity, flow, fence string, audit *protocol.Audit) error {
	r, err := s.ask(ctx, "requeue", s.redis.NewRequeue(id, flow, fence).Audited(id, audit))
	if err != nil {
		return err
	}
	if r.Status == protocol.StatusOK || r.Status == protocol.StatusAlive { // ALIVE may answer a repetition
		s.wakeCompleters(context.WithoutCancel(ctx), flow)
	}
	if r.Status != protocol.StatusOK {
		return s.refusal(id, r)
	}
	return nil
}

// errDeadLettered reports that a key became a dead letter.
var errDeadLettered = errors.New("redisidem: dead letter")

// refuse counts that this completer has no program for a key. The key is put off like one that
// failed, and becomes a dead letter after MaxAttempts refusals. Otherwise it would expire silently,
// whatever it has committed. The attempt does not count.
func (c *Completer) refuse(ctx context.Context, sc *Scope, cl claim, why error) error {
	lease, _, err := sc.claim(ctx, cl)
	if lease == nil {
		return err
	}
	defer func() { lease.span.end(why) }()
	ctx = lease.caller()
	key := lease.Key()
	if cl.flow.refusedOften(key.rareFields().refused, key.Revision) {
		letter := "no program for " + key.Flow
		if errors.Is(why, ErrUnknownRecoveryPoint) {
			letter += fmt.Sprintf(" at recovery point %q", key.RecoveryPoint)
		}
		return asDeadLettered(lease.abandonAsDeadLetter(ctx, protocol.Ending{Refused: true}, letter))
	}
	_, err = lease.abandonWith(ctx, why, protocol.Abandon{Ending: protocol.Ending{NothingDone: true, Unbegun: true, Refused: true}})
	return errors.Join(why, err)
}

// makeDeadLetter makes the key a dead letter and ends the lease.
func (l *Lease) makeDeadLetter(ctx context.Context, why string) error {
	return asDeadLettered(l.abandonAsDeadLetter(ctx, protocol.Ending{}, fmt.Sprintf("stage %q of %s: %s", l.Key().RecoveryPoint, l.flow, why)))
}

// refusalsIn returns the refusals, the revision and the recovery point in a record given as field,
// value, ... Fields that cannot be read count as zero.
func refusalsIn(pairs []string) (refused refusals, revision int64, point string) {
	for ; len(pairs) > 1; pairs = pairs[2:] {
		switch pairs[0] {
		case fieldControl:
			c, _ := decodeControl(pairs[1])
			revision = c.revision
		case fieldRefused:
			refused, _ = decodeRefusals(pairs[1])
		case fieldPoint:
			point = pairs[1]
		}
	}
	return refused, revision, point
}

// refuseUnread is refuse for a key whose record this process cannot read, for the reason why. r is
// the reply to the claim.
func (s *Service) refuseUnread(ctx context.Context, c claim, token string, r protocol.Reply, why error) error {
	a := protocol.Abandon{
		ID: c.id, Token: token, Recovery: c.flow.recovery(s.cfg.Retention), Ending: protocol.Ending{NothingDone: true, Unbegun: true, Refused: true},
	}
	refused, revision, point := refusalsIn(r.Texts)
	if !c.flow.refusedOften(refused, revision) {
		_, _ = s.sendAbandon(ctx, c.id, s.redis.NewAbandon(a), 0, nil) // retried in the background
		return why
	}
	id, _ := adopt(c.id, r.Texts, s.cfg.Namespace) // whose scope is empty if it cannot be read either
	tell := func(r protocol.Reply) {
		if r.DeadLettered() {
			s.observe(ctx, Event{Kind: EventDeadLettered, Key: id.Digest, Flow: c.flow.id, Scope: id.Scope, Stage: point, RecoveryPoint: point, Revision: revision, Err: why})
		}
	}
	a.DeadLetter = c.flow.id + ": the record cannot be read"
	r, err := s.sendAbandon(ctx, c.id, s.redis.NewAbandon(a), 0, tell)
	if err != nil {
		return explain(context.WithoutCancel(ctx), "abandon", err)
	}
	tell(r)
	return asDeadLettered(r.DeadLettered(), nil)
}

// asDeadLettered returns the result of an attempt to make a key a dead letter.
func asDeadLettered(buried bool, err error) error {
	switch {
	case err != nil:
		return err
	case !buried:
		return errPutOff // the lease was gone
	}
	return errDeadLettered
}

// deadLetterReason returns why a completer makes the key a dead letter, or "" if it does not. The
// time in which the flow was paused does not count: resumed is when that last ended.
func (l *Lease) deadLetterReason(resumed time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.key
	requeued := k.rareFields().requeued
	made, limit := l.attempt-1, l.flow.limit(requeued, k.Revision)
	if made >= limit && !l.exhaust(k, made, limit) {
		return requeued.count(made, k.Revision)
	}
	if l.failCause(k) != nil {
		return "" // the flow is failed, and only the attempts bound that
	}
	// Without a bound the record would never expire, because each claim prolongs it.
	cfg := &l.scope.service.cfg
	bound := cfg.Retention + cfg.Lease + l.flow.cfg.InterimFor
	since := latest(latest(k.CreatedAt, requeued.at), resumed)
	if age := k.LockedAt.Sub(since); k.hasInterim && age > max(bound, l.flow.cfg.Deadline) {
		return fmt.Sprintf("interim answers for %v", age)
	}
	// Pauses between counted attempts grow up to longestPause. That is more than this retention for
	// some records that were made with another one. The bound is for the average per attempt.
	bound = max(bound, l.flow.longestPause())
	if age := k.LockedAt.Sub(latest(since, k.UpdatedAt)); age/time.Duration(l.attempt) > bound {
		return fmt.Sprintf("nothing done for %v", age)
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count says how many attempts were made at a revision, and since when it counts them.
func (r requeue) count(made int, revision int64) string {
	since := ""
	if r.revision == revision && r.at.Unix() > 0 {
		made, since = made-int(r.attempts), " since it was requeued"
	}
	if made == 1 {
		return "1 attempt" + since
	}
	return fmt.Sprintf("%d attempts", made) + since
}
