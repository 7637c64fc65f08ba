package redisidem

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The bounds of an [Act].
const (
	maxActorBytes  = 64
	maxReasonBytes = 512
)

// Act says who acts on a key by hand, and why. The same script that acts writes both into the
// audit, with the key's ID, the server's time and what came of it: see [Inspector.Audit]. Refusals
// are written, too. If a call is repeated because its reply was lost, there is one entry, and the
// key is not acted on twice.
type Act struct {
	// Actor names the person or the program, in at most 64 bytes. Required.
	Actor string
	// Reason is for human readers, in at most 512 bytes. It is stored as it is, so it must not
	// contain what the audit should not keep. Required.
	Reason string
}

// audit checks the act and returns what is written about it.
func (a Act) audit(what string) (*protocol.Audit, error) {
	for _, f := range []struct {
		field, text string
		most        int
	}{{"Act.Actor", a.Actor, maxActorBytes}, {"Act.Reason", a.Reason, maxReasonBytes}} {
		switch {
		case strings.TrimSpace(f.text) == "":
			return nil, invalid(f.field, "must not be empty")
		case len(f.text) > f.most:
			return nil, invalid(f.field, "is %d bytes long, more than %d", len(f.text), f.most)
		case !utf8.ValidString(f.text) || strings.ContainsFunc(f.text, unicode.IsControl):
			return nil, invalid(f.field, "must be text in UTF-8 without control characters")
		}
	}
	return &protocol.Audit{Act: what, Actor: a.Actor, Reason: a.Reason}, nil
}

// Unlock takes the lease on a key away from its worker, as [Scope.Unlock] does. It is the lease
// that the caller has read: if the key was claimed, canceled or unlocked since, Unlock returns
// [ErrStale] and changes nothing. A worker that has committed a stage under the same lease loses
// it. It takes one round trip.
//
// It returns [ErrNotLocked] if no worker had a lease, and [ErrFinished] for a finished key. It also
// returns the errors of Scope.Unlock, and [ErrNotPermitted] if the Redis user may only read.
func (in *Inspector) Unlock(ctx context.Context, key *KeyInfo, a Act) error {
	audit, err := key.audit(a, "unlock")
	if err != nil {
		return err
	}
	return in.service.unlock(ctx, key.id, key.fence, audit)
}

// Cancel stops the flow of a key, as [Scope.Cancel] does. It takes two round trips. The flow may
// have advanced since the caller read the key, and is stopped where it is then. If the key was
// deleted and made again since, Cancel returns [ErrStale] and changes nothing.
//
// It also returns the errors of Scope.Cancel, and [ErrNotPermitted] if the Redis user may only
// read.
func (in *Inspector) Cancel(ctx context.Context, key *KeyInfo, a Act) error {
	audit, err := key.audit(a, "cancel")
	if err != nil {
		return err
	}
	if key.State == KeyUnreadable {
		return key.Err
	}
	if key.Flow == "" {
		return invalid("key", "belongs to no flow")
	}
	return in.service.cancel(ctx, key.id, key.seen(), key.Flow, audit)
}

// Requeue takes a key out of the dead letters, so that a [Completer] continues it at once, as
// [Scope.Requeue] does. It takes two round trips. If the key was claimed, canceled or updated since
// the caller read it, Requeue returns [ErrStale] and changes nothing.
//
// For all that match a [Filter], requeue the keys of an [Inspector.List] with the state [KeyDead],
// at a rate that the services behind the flow can bear: redisidem dead requeue does it so.
//
// It also returns the errors of Scope.Requeue, and [ErrNotPermitted] if the Redis user may only
// read.
func (in *Inspector) Requeue(ctx context.Context, key *KeyInfo, a Act) error {
	audit, err := key.audit(a, "requeue")
	if err != nil {
		return err
	}
	if key.State == KeyUnreadable {
		return key.Err
	}
	flow := protocol.FlowName(key.Flow)
	if flow == "" {
		return invalid("key", "belongs to no flow")
	}
	return in.service.requeue(ctx, key.id, flow, key.fence, audit)
}

// Resolve gives an unfinished key an outcome that was found out by hand, as [Scope.Update] does. It
// takes three round trips. The key must be as the caller has read it, and no worker may have its
// lease: [Inspector.Unlock] takes it away.
//
// Config.Codec must be that of the programs that use the key, so that they can read the outcome and
// others cannot. The values of the key show it. If the key has none, those of at most 100 other
// records do, which takes some more round trips. For another codec, and for none where values are
// encoded, Resolve returns an [*InvalidError] for the field Config.Codec, and changes nothing.
//
// It also returns the errors of Scope.Update, and [ErrNotPermitted] if the Redis user may only
// read. The outcome of a key with committed stages that can be undone needs [Outcome.Undo] or
// [Outcome.Leave].
func (in *Inspector) Resolve(ctx context.Context, key *KeyInfo, o Outcome, a Act) error {
	audit, err := key.audit(a, "resolve")
	if err != nil {
		return err
	}
	if key.State == KeyUnreadable {
		return key.Err
	}
	if err := in.checkCodec(ctx, key); err != nil {
		return err
	}
	// Without the record, so that update reads it: a KeyInfo of a list has no values.
	seen := &Key{
		Scope: key.Scope, Value: key.Value, RecoveryPoint: key.RecoveryPoint, Revision: key.Revision, CreatedAt: key.CreatedAt,
	}
	_, err = in.service.Scope(key.Scope).update(ctx, seen, o, audit)
	return err
}

// Delete removes a key whose lease is free, as [Scope.Delete] does. It takes one round trip. The
// key must be as the caller has read it, but a key whose record cannot be read is removed whatever
// the record holds.
//
// It returns the errors of Scope.Delete, and [ErrNotPermitted] if the Redis user may only read.
func (in *Inspector) Delete(ctx context.Context, key *KeyInfo, a Act) error {
	audit, err := key.audit(a, "delete")
	if err != nil {
		return err
	}
	return in.service.delete(ctx, key.id, key.seen(), key.Flow, audit)
}

// audit checks the key and an act on it.
func (k *KeyInfo) audit(a Act, what string) (*protocol.Audit, error) {
	if k == nil || k.id.Record == "" {
		return nil, errNotInspected
	}
	return a.audit(what)
}

// seen returns the state of the record that the caller has read.
func (k *KeyInfo) seen() protocol.Seen {
	return protocol.Seen{Revision: k.Revision, CreatedAt: k.CreatedAt}
}
