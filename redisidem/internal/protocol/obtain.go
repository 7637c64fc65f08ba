package protocol

import (
	"context"
	"errors"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// Claimant is a token that asks for the lease on a key.
type Claimant struct {
	Token string
	// Open means that the token may have the lease, or may get it when a lost try arrives late. A
	// caller that does not use the lease must abandon it then.
	Open bool

	asked bool // a server may have seen the token
}

// Claim asks for the lease on a key: it takes the key's lock and runs the claim script. ctx must
// have a deadline.
func (c *Client) Claim(ctx context.Context, claim *Claim, by *Claimant) (Reply, error) {
	r, err := c.obtain(ctx, claim.ID.Lock, c.claimCall(claim, by.Token), by)
	if err == nil && r.Status == StatusLetter && len(r.Texts) > 0 {
		known := *claim
		known.deadLetterOf = r.Texts[0]
		if r, err = c.obtain(ctx, claim.ID.Lock, c.claimCall(&known, by.Token), by); err != nil || r.Status == StatusLetter {
			by.Open = true // it has the lock
		}
	}
	return r, err
}

// obtain takes a lock through redislock and sends the claim script in the same pipeline: one round
// trip. The claim's reply is the answer, even if the lock was not obtained.
func (c *Client) obtain(ctx context.Context, lock string, claim Call, by *Claimant) (Reply, error) {
	o := &lockThenClaim{client: c, claim: claim, fresh: !by.asked}
	by.asked = true
	err := Repeat(ctx, func(ctx context.Context) error {
		_, err := redislock.New(o).Obtain(ctx, lock, c.lease, &redislock.Options{Token: claim.nonce})
		switch {
		case errors.Is(err, redislock.ErrNotObtained):
			return nil
		case err == nil && o.reply.Status == StatusBusy:
			// The claim came before the lock, or long after it. They were separated, for example
			// because the client sent one of them again. The same token gets both.
			err = errAgain
		case redis.IsTryAgainError(err) && claim.lock != "":
			o.reply, err = c.claimInSteps(ctx, claim)
		}
		err = wrongType(err)
		by.Open = by.Open || err != nil && o.sent && !IsDamaged(err)
		return err
	})
	return o.reply, err
}

// lockThenClaim is the client that redislock works with. It sends the claim after each command of
// redislock, and reports the pair as failed if either fails. Redislock then sends its script as
// text, and the claim is sent as text as well.
//
// For a token that no server has seen, redislock's script does only SET NX PX. The first try sends
// this command in its place, which saves an eighth of a lifecycle's cost on the server. Repetitions
// need the script, because they may find that the lock is theirs.
type lockThenClaim struct {
	redis.Scripter // nil: redislock's Obtain uses only the methods below
	client         *Client
	claim          Call
	fresh          bool // no server has seen the token
	// sent means that a server may have seen the token, even if it does not know the script.
	sent  bool
	reply Reply
}

// EvalSha implements [redis.Scripter].
func (o *lockThenClaim) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if o.fresh && len(keys) == 1 && len(args) == 3 { // the token, its length, milliseconds
		o.fresh = false
		return o.pair(ctx, redis.NewCmd(ctx, "set", keys[0], args[0], "nx", "px", args[2]), false)
	}
	return o.pair(ctx, evaluation(ctx, "evalsha", sha, keys, args), false)
}

// Eval implements [redis.Scripter].
func (o *lockThenClaim) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return o.pair(ctx, evaluation(ctx, "eval", script, keys, args), true)
}

// pair sends the lock's command and then the claim.
func (o *lockThenClaim) pair(ctx context.Context, lock *redis.Cmd, text bool) *redis.Cmd {
	claim := o.claim.command(ctx, text)

	acks, err := o.client.send(ctx, o.claim.durable, o.claim.key, []redis.Cmder{lockCmd{lock}, claim})
	o.sent = o.sent || err == nil || !unsent(err)
	full := redis.IsOOMError(err) // then all commands have their results
	if full {
		err = claim.Err() // possibly NOSCRIPT, after which both are sent as text
	}
	if err == nil {
		o.reply, err = o.claim.read(claim)
		o.reply.Acks = acks
	}
	if full && err == nil {
		// Only a lease takes memory. All other replies to the claim hold without the lock.
		err = redis.Nil
		if o.reply.needsLock() {
			err = lock.Err()
		}
	}
	if err != nil {
		// After ctx has ended, go-redis may still write to the sent command, so this is a new one.
		failed := redis.NewCmd(ctx)
		failed.SetErr(err)
		return failed
	}
	return lock
}

// lockAlone is the client that redislock takes a lock through when no claim follows it.
type lockAlone struct {
	redis.Scripter // nil: redislock's Obtain uses only the methods below
	client         *Client
}

// EvalSha implements [redis.Scripter].
func (l lockAlone) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return l.eval(ctx, "evalsha", sha, keys, args)
}

// Eval implements [redis.Scripter].
func (l lockAlone) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return l.eval(ctx, "eval", script, keys, args)
}

func (l lockAlone) eval(ctx context.Context, verb, script string, keys []string, args []any) *redis.Cmd {
	cmd := evaluation(ctx, verb, script, keys, args)
	if err := l.client.sendOne(ctx, true, keys[0], cmd); err != nil {
		failed := redis.NewCmd(ctx, verb) // go-redis may still write to the one that was sent
		failed.SetErr(err)
		return failed
	}
	return cmd
}

// evaluation makes the command that redislock asks for.
func evaluation(ctx context.Context, verb, script string, keys []string, args []any) *redis.Cmd {
	words := make([]any, 0, 3+len(keys)+len(args))
	words = append(words, verb, script, len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	return redis.NewCmd(ctx, append(words, args...)...)
}
